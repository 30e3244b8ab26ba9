"""Any other sequence-classification model as a classifier: safetensors only, no code from the model's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotation.inference.base import ClassifierError, sha256_of
from annotation.inference.classifier import Activation, LabelScheme, Probabilities, digest_of
from annotation.inference.default_classifier import MAX_TOKENS, softmax, usable_threads
from annotation.inference.engine import Batch, Engine
from annotation.inference.text import PREPROCESSING_VERSION, normalise, whole_characters
from evaluation.emotions import DEFAULT_GROUPING, Grouping

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_FILES: Final = ("*.safetensors", "*.json", "vocab.txt", "merges.txt", "*.model", "tokenizer*")


def folded(text: str) -> str:
    """Fold white space but keep the case: many models are cased."""
    return " ".join(whole_characters(text).split())


class _TransformersRuntime:
    """Runs a transformers model on batches of token ids."""

    def __init__(self, model: Any, *, device: str, threads: int) -> None:
        self.number_format = "fp32"
        self.name = f"transformers-{device}-fp32"
        self._model, self._device, self._threads = model.to(device).eval(), device, threads

    def run(self, batches: Iterator[Batch]) -> list[NDArray[np.float32]]:
        """Give the logits of every batch, in the order of the batches."""
        import torch

        torch.set_num_threads(self._threads)
        found = []
        with torch.inference_mode():
            for rows in batches:
                ids = torch.from_numpy(rows).to(self._device, torch.int64)
                # Without a mask some models guess one from the ids, and take what they know as padding for it.
                output = self._model(input_ids=ids, attention_mask=torch.ones_like(ids))
                found.append(output.logits.float().cpu().numpy())
        return found


class _TransformersTokeniser:
    """Gives a transformers tokeniser the face that the engine knows."""

    def __init__(self, tokeniser: Any, length: int) -> None:
        self._tokeniser, self._length = tokeniser, length

    def encode_batch(self, texts: list[str]) -> list[Any]:
        """Give one encoding with its `ids` for each text, special tokens included, cut at the model's length."""
        rows = self._tokeniser(texts, truncation=True, max_length=self._length, padding=False)["input_ids"]
        return [_Encoding(row) for row in rows]


class _Encoding:
    __slots__ = ("ids",)

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids


class TransformerClassifier:
    """A sequence-classification model of any architecture that the transformers package itself implements."""

    def __init__(self, engine: Engine, *, name: str, revision: str, scheme: LabelScheme) -> None:
        self.name = name
        self.revision = revision
        self.scheme = scheme
        self.labels = scheme.labels
        self.temperature = scheme.temperature
        self.runtime = engine.runtime.name
        self._engine = engine

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """Give the model's own probabilities, float32, shape (n, labels); order kept."""
        logits = self._engine.logits(texts)
        if self.scheme.activation == "sigmoid":
            return np.asarray(1.0 / (1.0 + np.exp(-logits.astype(np.float64))), dtype=np.float32)
        return softmax(logits)

    def emotions(self, probabilities: NDArray[Any], grouping: str | Grouping = DEFAULT_GROUPING) -> Probabilities:
        """Give the seven probabilities for rows of the model's own, shape (n, 7)."""
        return self.scheme.emotions(probabilities, grouping)

    @classmethod
    def load(
        cls,
        path_or_hub_id: Path | str,
        *,
        revision: str | None = None,
        mapping: Mapping[str, str] | None = None,
        activation: Activation = "softmax",
        allow_hub: bool = False,
        threads: int | None = None,
        temperature: Mapping[str, float] | None = None,
    ) -> TransformerClassifier:
        """Load as `classifier.load_transformer` describes."""
        folder = _folder(path_or_hub_id, revision, allow_hub)
        labels = _labels(folder)
        # The mapping is judged before the weights are read: a wrong one should be refused at once.
        scheme = LabelScheme(labels, mapping, dict(temperature or {}), activation)
        model, tokeniser = _load(folder)
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        runtime = _TransformersRuntime(model, device=device, threads=threads or usable_threads())
        longest = min(MAX_TOKENS, int(getattr(model.config, "max_position_embeddings", MAX_TOKENS)) - 2)
        uncased = bool(getattr(tokeniser, "do_lower_case", False))
        engine = Engine(
            tokeniser=_TransformersTokeniser(tokeniser, longest),
            runtime=runtime,
            prepare=normalise if uncased else folded,
            columns=len(labels),
        )
        files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".txt", ".model"))
        facts = [f"{path.name}:{sha256_of(path)}" for path in files]
        digest = digest_of(
            *facts, runtime.name, str(PREPROCESSING_VERSION), str(longest), json.dumps(scheme.to_json(), sort_keys=True)
        )
        name = str(path_or_hub_id) if folder != Path(path_or_hub_id) else folder.name
        return cls(engine, name=name, revision=digest, scheme=scheme)


def _folder(path_or_hub_id: Path | str, revision: str | None, allow_hub: bool) -> Path:
    folder = Path(path_or_hub_id)
    if folder.is_dir():
        return folder
    name = str(path_or_hub_id)
    if isinstance(path_or_hub_id, Path) or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ClassifierError(f"There is no folder {name}.")
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ClassifierError(
            f"A model from a hub needs its revision pinned to a full commit (40 hexadecimal digits); "
            f"{name} was given with {revision!r}."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=list(_FILES), local_files_only=not allow_hub)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        advice = "Check the name and the network." if allow_hub else "Allow the hub in the settings, or give a folder."
        raise ClassifierError(f"The model {name} at {revision} is not on this machine. {advice}") from error


def _labels(folder: Path) -> tuple[str, ...]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = {int(index): str(label) for index, label in config["id2label"].items()}
        return tuple(names[index] for index in range(len(names)))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ClassifierError(
            f"{folder} holds no sequence-classification model: config.json must name its labels (id2label)."
        ) from error


def _load(folder: Path) -> tuple[Any, Any]:
    if not any(folder.glob("*.safetensors")):
        raise ClassifierError(
            f"{folder} holds no .safetensors file. Other weight formats can run code when loaded and are refused; "
            f"convert the model first."
        )
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        tokeniser = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the package raises whatever its many loaders raise
        raise ClassifierError(f"The model in {folder} cannot be loaded: {error}") from error
    return model, tokeniser
