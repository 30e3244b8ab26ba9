"""The model card: everything a reader must know of an adapter before trusting its labels, made with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotation.inference.assessment import (
    Assessment,
    as_table,
    assess,
    multi_label_macro_f1,
    reliability_figure,
    temperature_fitted,
)
from annotation.inference.base import (
    BASE_NAME,
    BASE_PACKAGE,
    BASE_PACKAGE_VERSION,
    BASE_WEIGHTS_SHA256,
    Base,
    sha256_of,
)
from annotation.inference.classifier import LabelScheme
from annotation.inference.corpus import Examples
from annotation.inference.default_classifier import MAX_TOKENS, PROBES, softmax
from annotation.inference.encoder import Adapter, Shape, load_weights
from annotation.inference.engine import TOKEN_BUDGET, Engine
from annotation.inference.text import PREPROCESSING_VERSION, prepare
from annotation.inference.torch_runtime import TorchRuntime
from annotation.inference.training import single_label
from evaluation.emotions import GROUPINGS

CARD_FORMAT: Final = 1


@dataclass(frozen=True)
class Scores:
    """What a published adapter reached on the test split."""

    groupings: Mapping[str, Assessment]
    multi_label_macro_f1: float
    multi_label_f1: list[float]


def reference_engine(base: Base, adapter: Adapter, threads: int | None = None) -> Engine:
    """Give the engine in fp32 arithmetic, against which every faster runtime is judged."""
    from tokenizers import Tokenizer

    tokeniser = Tokenizer.from_file(str(base.tokenizer))
    tokeniser.no_padding()
    tokeniser.enable_truncation(MAX_TOKENS)
    head = (adapter.head_weight, adapter.head_bias)
    runtime = TorchRuntime(
        adapter.merged(load_weights(base)), Shape.of(base), head, number_format="fp32", threads=threads
    )
    return Engine(tokeniser, runtime, prepare, len(adapter.labels), budget=TOKEN_BUDGET)


def fit_temperatures(fine: NDArray[np.float32], dev: Examples) -> dict[str, float]:
    """Fit one temperature per grouping on the dev rows that have one emotion under it."""
    found = {}
    for name, grouping in GROUPINGS.items():
        rows, truth = single_label(dev, name)
        found[name] = round(temperature_fitted(fine[rows] @ grouping.matrix, truth), 4)
    return found


def publish(
    adapter: Adapter,
    folder: Path,
    *,
    name: str,
    base: Base,
    dev: Examples,
    test: Examples,
    recipe: Mapping[str, Any],
    data: str,
    threads: int | None = None,
) -> Scores:
    """Write `adapter.safetensors`, `card.json` and the reliability figures, measured in fp32 on the test split.

    The temperature is fitted on dev; the test split is used for the reported figures alone.
    """
    path = folder / "adapter.safetensors"
    adapter.save(path)
    saved = Adapter.load(path)  # what is measured is what was stored, in float16
    engine = reference_engine(base, saved, threads)
    temperature = fit_temperatures(softmax(engine.logits(dev.texts)), dev)
    scheme = LabelScheme(saved.labels, temperature=temperature)
    fine = softmax(engine.logits(test.texts))
    groupings: dict[str, Assessment] = {}
    for grouping in GROUPINGS:
        rows, truth = single_label(test, grouping)
        groupings[grouping] = assess(scheme.emotions(fine[rows], grouping), truth, grouping=grouping)
        reliability_figure(groupings[grouping], folder / f"reliability-{grouping}.svg", f"GoEmotions test, {grouping}")
    macro, each = multi_label_macro_f1(fine, test.targets)
    facts = {
        "format": CARD_FORMAT,
        "name": name,
        "adapter_sha256": sha256_of(path),
        "base": {
            "name": BASE_NAME,
            "package": f"{BASE_PACKAGE}=={BASE_PACKAGE_VERSION}",
            "weights_sha256": BASE_WEIGHTS_SHA256,
        },
        "preprocessing_version": PREPROCESSING_VERSION,
        "max_tokens": MAX_TOKENS,
        "labels": list(saved.labels),
        "groupings": [grouping.identifier for grouping in GROUPINGS.values()],
        "temperature": temperature,
        "recipe": dict(recipe),
        "data": data,
        "test": {
            "multi_label_macro_f1_threshold_0.3": macro,
            "multi_label_f1": each,
            **{grouping: _short(found) for grouping, found in groupings.items()},
        },
        "probes": [[round(float(p), 6) for p in row] for row in softmax(engine.logits(PROBES))],
    }
    partial = folder / "card.json.partial"
    partial.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(folder / "card.json")
    return Scores(groupings, macro, each)


def _short(found: Assessment) -> dict[str, Any]:
    return {
        "n": found.n,
        "accuracy": dataclasses.asdict(found.accuracy),
        "macro_f1": dataclasses.asdict(found.macro_f1),
        "ece_15_bins": dataclasses.asdict(found.ece),
        "f1": {emotion: dataclasses.asdict(figures.f1) for emotion, figures in found.classes.items()},
        "confusion": found.confusion,
    }


def scores_table(scores: Scores) -> str:
    """Lay the scores out as text."""
    parts = [as_table(found) for found in scores.groupings.values()]
    parts.append(f"multi-label macro-F1 (threshold 0.3, ekman): {scores.multi_label_macro_f1:.4f}")
    return "\n\n".join(parts)
