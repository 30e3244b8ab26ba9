"""Predictions as statistics read them: one buffer of float16, folded into seven emotions by the named grouping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annotation.inference.classifier import LabelScheme
from annotation.models import (
    Classifier,
    Prediction,
)

BATCH = 20_000
TEXTS_PER_QUERY = 5_000
UNUSABLE_FLAGS = frozenset({"empty", "failed", "error", "error_text"})
"""Flags of a response that has no text of the system to label: counted, never labelled."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a classifier says of texts: label codes in the order of EMOTIONS (-1: no prediction) and its confidence."""

    index: dict[int, pd.Index[Any]]
    codes: dict[int, NDArray[np.int8]]
    confidence: dict[int, NDArray[np.float32]]

    def of(self, digests: Any, folds: NDArray[np.int64] | None = None) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Look texts up, each in the fold of its dialogue (-1 where the classifier has no folds)."""
        texts = pd.Index(digests)
        codes = np.full(len(texts), -1, dtype=np.int8)
        confidence = np.full(len(texts), np.nan, dtype=np.float32)
        wanted = np.full(len(texts), -1, dtype=np.int64) if folds is None else folds
        for fold, index in self.index.items():
            here = np.flatnonzero(wanted == fold)
            found = index.get_indexer(texts[here])
            known = found >= 0
            codes[here[known]] = self.codes[fold][found[known]]
            confidence[here[known]] = self.confidence[fold][found[known]]
        return codes, confidence


def seven(classifier: Classifier, probabilities: NDArray[Any], grouping: str) -> NDArray[np.float32]:
    """Fold a classifier's own probabilities (n, labels) into the seven emotions, calibrated by its temperature."""
    scheme = LabelScheme.from_json({"labels": classifier.labels, **classifier.settings})
    return scheme.emotions(probabilities.astype(np.float32), grouping)


def read_predictions(classifier: Classifier | None, grouping: str, *, texts: Iterable[str] | None = None) -> Predicted:
    """Read the predictions of a classifier, all or of some texts: one buffer of float16, one matrix product."""
    if classifier is None:
        return Predicted({}, {}, {})
    digests: list[str] = []
    folds: list[int] = []
    blobs: list[bytes] = []
    for digest, fold, blob in _stored(classifier, texts):
        digests.append(digest)
        folds.append(fold)
        blobs.append(bytes(blob))
    if not digests:
        return Predicted({}, {}, {})
    stored = np.frombuffer(b"".join(blobs), dtype=np.float16).reshape(len(digests), len(classifier.labels))
    codes = np.empty(len(digests), dtype=np.int8)
    confidence = np.empty(len(digests), dtype=np.float32)
    for start in range(0, len(digests), 200_000):
        part = seven(classifier, stored[start : start + 200_000], grouping)
        codes[start : start + len(part)] = part.argmax(axis=1)
        confidence[start : start + len(part)] = part.max(axis=1)
    which, names = np.asarray(folds), np.asarray(digests, dtype=object)
    parts = {int(fold): which == fold for fold in np.unique(which)}
    return Predicted(
        {fold: pd.Index(names[mask]) for fold, mask in parts.items()},
        {fold: codes[mask] for fold, mask in parts.items()},
        {fold: confidence[mask] for fold, mask in parts.items()},
    )


def _stored(classifier: Classifier, texts: Iterable[str] | None) -> Iterator[tuple[str, int, bytes | memoryview[int]]]:
    query = Prediction.objects.filter(classifier=classifier).values_list("text_id", "fold", "probabilities")
    if texts is None:
        yield from query.iterator(chunk_size=BATCH)
        return
    wanted = sorted(set(texts))
    for start in range(0, len(wanted), TEXTS_PER_QUERY):
        yield from query.filter(text__in=wanted[start : start + TEXTS_PER_QUERY])


def fold_of_dialogues(classifier: Classifier | None, dialogues: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The fold whose training left each dialogue out; `None` where the classifier has seen no verified label."""
    folds = (classifier.settings.get("folds") or {}).get("dialogues") if classifier else None
    if not folds:
        return None
    known = {int(dialogue): int(fold) for dialogue, fold in folds.items()}
    # A dialogue that no fold trained on is seen by none: any fold would do, the first is taken.
    return np.array([known.get(int(dialogue), 0) for dialogue in dialogues], dtype=np.int64)
