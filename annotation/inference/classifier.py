"""Emotion classifiers: what one must offer, the default one, and the way to bring any other.

The fine probabilities are what is stored; how they become the seven emotions (grouping, mapping, temperature) is the
classifier's `LabelScheme`, a small value that can be written to a database and applied without loading the classifier.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from annotation.inference.base import ClassifierError
from annotation.inference.engine import in_chunks
from annotation.inference.text import normalise
from evaluation.emotions import (
    DEFAULT_GROUPING,
    EMOTIONS,
    GO_EMOTIONS,
    Grouping,
    check_mapping,
    group,
    grouping_named,
    mapping_matrix,
)

Probabilities = NDArray[np.float32]

Activation = Literal["softmax", "sigmoid"]

STORED_DTYPE: Final = np.dtype("<f2")
"""How fine probabilities are stored: little-endian float16, in the order of the classifier's labels."""


class MappingError(ClassifierError, ValueError):
    """A mapping from a classifier's labels to the emotions is wrong or incomplete; the message names the labels."""


@dataclass(frozen=True)
class LabelScheme:
    """How a classifier's fine probabilities become the seven emotions.

    Attributes
    ----------
    labels
        The fine labels in column order.
    mapping
        From each fine label to one of the seven emotions, or to one of the 28 GoEmotions labels (then the grouping
        decides); `None` when the labels are the 28 themselves.
    temperature
        One temperature per grouping name, fitted on the training data's dev split; 1.0 where none was fitted.
    activation
        `softmax` when a row of fine probabilities sums to 1; `sigmoid` when each label was judged on its own: a row
        is then divided by its sum first.
    """

    labels: tuple[str, ...]
    mapping: Mapping[str, str] | None = None
    temperature: Mapping[str, float] = field(default_factory=dict)
    activation: Activation = "softmax"

    def __post_init__(self) -> None:
        if self.activation not in ("softmax", "sigmoid"):
            raise ClassifierError(f"The activation is softmax or sigmoid, not {self.activation!r}.")
        if len(set(self.labels)) != len(self.labels):
            raise MappingError(f"The classifier's labels are not distinct: {', '.join(self.labels)}.")
        if self.mapping is None:
            if sorted(self.labels) != sorted(GO_EMOTIONS):
                raise MappingError(
                    "This classifier's labels are not the 28 of GoEmotions, so a mapping to the seven emotions is "
                    f"needed for each of: {', '.join(self.labels)} (the emotions: {', '.join(EMOTIONS)})."
                )
            return
        try:
            check_mapping(self.mapping, self.labels, tuple(dict.fromkeys((*EMOTIONS, *GO_EMOTIONS))))
        except ValueError as error:
            raise MappingError(str(error)) from error

    @property
    def unreachable(self) -> tuple[str, ...]:
        """The emotions that no label of this classifier leads to under the default grouping."""
        reached = self.matrix(DEFAULT_GROUPING).sum(0) > 0
        return tuple(emotion for emotion, is_reached in zip(EMOTIONS, reached, strict=True) if not is_reached)

    def matrix(self, grouping: str | Grouping) -> NDArray[np.float64]:
        """Give the 0/1 matrix from the fine labels to the seven emotions, shape (labels, 7)."""
        if self.mapping is not None and set(self.mapping.values()) <= set(EMOTIONS):
            return mapping_matrix(self.mapping, self.labels, EMOTIONS)
        fine = self.mapping or {label: label for label in self.labels}
        return mapping_matrix(fine, self.labels, GO_EMOTIONS) @ grouping_named(grouping).matrix

    def emotions(self, probabilities: NDArray[Any], grouping: str | Grouping = DEFAULT_GROUPING) -> Probabilities:
        """Give the seven calibrated probabilities of each row.

        Fine probabilities p are made to sum to 1, summed into the seven groups g, and sharpened or softened by the
        temperature T: g^(1/T) / sum g^(1/T) (Guo et al. 2017, *On Calibration of Modern Neural Networks*).

        Parameters
        ----------
        probabilities
            Shape (n, labels), or (labels,) for one text.

        Returns
        -------
        ndarray
            float32, shape (n, 7) or (7,), columns in the order of `EMOTIONS`.
        """
        fine = np.asarray(probabilities, dtype=np.float64)
        if fine.ndim == 0 or fine.shape[-1] != len(self.labels):
            raise ValueError(f"This classifier has {len(self.labels)} labels, but the array's shape is {fine.shape}.")
        total = fine.sum(-1, keepdims=True)
        # A row of zeros (every sigmoid underflowed) says nothing about any label.
        fine = np.where(total > 0, fine / np.where(total > 0, total, 1.0), 1.0 / len(self.labels))
        chosen = grouping_named(grouping)
        coarse = (
            group(fine, chosen) if self.labels == GO_EMOTIONS and self.mapping is None else fine @ self.matrix(chosen)
        )
        temperature = self.temperature.get(chosen.name, 1.0)
        if temperature != 1.0:
            coarse = coarse ** (1.0 / temperature)
            coarse = coarse / coarse.sum(-1, keepdims=True)
        return coarse.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Give the scheme as plain values, for a JSON column."""
        return {
            "labels": list(self.labels),
            "mapping": dict(self.mapping) if self.mapping is not None else None,
            "temperature": dict(self.temperature),
            "activation": self.activation,
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> LabelScheme:
        """Read what `to_json` wrote."""
        return cls(
            labels=tuple(facts["labels"]),
            mapping=facts.get("mapping"),
            temperature=dict(facts.get("temperature") or {}),
            activation=facts.get("activation", "softmax"),
        )


class Classifier(Protocol):
    """Anything that gives fine label probabilities for texts."""

    @property
    def name(self) -> str:
        """Short name, for lists and reports."""
        ...

    @property
    def revision(self) -> str:
        """Digest that changes whenever a label could: weights, number format and library, preprocessing, mapping."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The fine labels in column order."""
        ...

    @property
    def scheme(self) -> LabelScheme:
        """How the fine probabilities become the seven emotions."""
        ...

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """Give the fine probabilities, float32, shape (n, labels), in the order of the texts; empty texts are fine."""
        ...

    def emotions(self, probabilities: NDArray[Any], grouping: str | Grouping = DEFAULT_GROUPING) -> Probabilities:
        """Give the seven calibrated probabilities for rows of fine ones; shape (n, 7)."""
        ...


def classify_stream(classifier: Classifier, texts: Iterable[str], chunk: int = 20_000) -> Iterator[Probabilities]:
    """Classify a stream of any length with the memory of one chunk; yields one array (rows, labels) per chunk."""
    for part in in_chunks(texts, chunk):
        yield classifier.probabilities(part)


def pack(probabilities: NDArray[Any]) -> list[bytes]:
    """Give each row of fine probabilities as the bytes to store (little-endian float16)."""
    rows = np.ascontiguousarray(probabilities, dtype=STORED_DTYPE)
    return [row.tobytes() for row in rows]


def unpack(stored: Iterable[bytes | memoryview], columns: int) -> Probabilities:
    """Read stored rows back; float32, shape (n, columns). Rows of another length are a `ValueError`."""
    rows = [bytes(row) for row in stored]
    if any(len(row) != columns * STORED_DTYPE.itemsize for row in rows):
        raise ValueError(f"A stored prediction does not hold {columns} probabilities.")
    return np.frombuffer(b"".join(rows), dtype=STORED_DTYPE).reshape(len(rows), columns).astype(np.float32)


def digest_of(*parts: str) -> str:
    """Give a short digest over facts that decide a classifier's labels."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class LexiconClassifier:
    """A word list as a classifier, for tests and demonstrations of the protocol. Its labels are not to be trusted."""

    name = "lexicon"
    labels: tuple[str, ...] = tuple(EMOTIONS)

    def __init__(self, words: Mapping[str, str] | None = None) -> None:
        self.words = dict(
            words or {"love": "joy", "great": "joy", "sad": "sadness", "angry": "anger", "wow": "surprise"}
        )
        self.scheme = LabelScheme(self.labels, {label: label for label in self.labels})
        self.revision = digest_of("lexicon", json.dumps(self.words, sort_keys=True))

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """Give 0.9 to the emotion of the first listed word, or to neutral, and the rest to the others."""
        found = np.full((len(texts), len(EMOTIONS)), 0.1 / (len(EMOTIONS) - 1), dtype=np.float32)
        for row, text in enumerate(texts):
            known = (self.words[word] for word in normalise(text).split() if word in self.words)
            found[row, EMOTIONS.index(next(known, "neutral"))] = 0.9
        return found

    def emotions(self, probabilities: NDArray[Any], grouping: str | Grouping = DEFAULT_GROUPING) -> Probabilities:
        """Give the seven probabilities; the same under every grouping."""
        return self.scheme.emotions(probabilities, grouping)


def load_default(
    *,
    base: Path | str | None = None,
    adapter: Path | str | None = None,
    cache: Path | str | None = None,
    threads: int | None = None,
    runtime: str = "auto",
    allow_hub: bool = False,
) -> Classifier:
    """Load the committed classifier, or another adapter made by `train_classifier`, without any network.

    Parameters
    ----------
    base
        Folder of the base encoder; by default it is searched for (`base.find_base`).
    adapter
        An adapter file with its `card.json` beside it; by default the committed one.
    cache
        Folder for the compiled graph; by default the user's cache folder.
    threads
        CPU threads; by default every core this process may use.
    runtime
        `auto`, or one of `openvino-bf16`, `openvino-fp32`, `torch-bf16`, `torch-fp32`, `torch-cuda-bf16`.
    allow_hub
        Whether the base encoder may be downloaded from the hub at its pinned revision.

    Raises
    ------
    ClassifierError
        When the base encoder is missing or wrong, the adapter is damaged, or no runtime passes its self-test.
    """
    from annotation.inference.default_classifier import DefaultClassifier

    return DefaultClassifier.load(
        base=base, adapter=adapter, cache=cache, threads=threads, runtime=runtime, allow_hub=allow_hub
    )


def load_transformer(
    path_or_hub_id: Path | str,
    *,
    revision: str | None = None,
    mapping: Mapping[str, str] | None = None,
    activation: Activation = "softmax",
    allow_hub: bool = False,
    threads: int | None = None,
    temperature: Mapping[str, float] | None = None,
) -> Classifier:
    """Load any sequence-classification model: safetensors only, never code from the model's folder.

    Parameters
    ----------
    path_or_hub_id
        A local folder, or a hub name; a hub name needs `allow_hub` and a full commit as `revision`.
    mapping
        From each of the model's labels to one of the seven emotions or of the 28 GoEmotions labels. Not needed for a
        model whose labels are the 28 themselves.
    activation
        `softmax`, or `sigmoid` for multi-label models.

    Raises
    ------
    MappingError
        When the mapping does not fit the model's labels; names them.
    ClassifierError
        When the model cannot be loaded safely.
    """
    from annotation.inference.foreign import TransformerClassifier

    return TransformerClassifier.load(
        path_or_hub_id,
        revision=revision,
        mapping=mapping,
        activation=activation,
        allow_hub=allow_hub,
        threads=threads,
        temperature=temperature,
    )
