"""The labelled texts that the classifier learns from and is measured on, read from their published files."""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from annotation.inference.base import ClassifierError
from evaluation.emotions import EMPATHETIC_TO_GO, GO_EMOTIONS

NEUTRAL: Final = GO_EMOTIONS.index("neutral")

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class Examples:
    """Texts with what is known about their labels.

    Attributes
    ----------
    texts
        n texts.
    targets
        Shape (n, 28), float32: equal mass on every given label, rows sum to 1.
    weights
        Shape (n,), float32: how much a row counts in the loss.
    without_neutral
        Shape (n,), bool: rows of a data set that has no neutral label, whose silence about neutral teaches nothing.
    """

    texts: tuple[str, ...]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    without_neutral: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.texts)

    def __add__(self, other: Examples) -> Examples:
        return Examples(
            texts=self.texts + other.texts,
            targets=np.concatenate([self.targets, other.targets]),
            weights=np.concatenate([self.weights, other.weights]),
            without_neutral=np.concatenate([self.without_neutral, other.without_neutral]),
        )

    def weighted(self, weight: float) -> Examples:
        """Give the same rows with every weight multiplied by `weight`."""
        return replace(self, weights=(self.weights * weight).astype(np.float32))

    def chosen(self, rows: NDArray[np.int64]) -> Examples:
        """Give the rows at these positions, in this order."""
        return Examples(
            texts=tuple(self.texts[row] for row in rows),
            targets=self.targets[rows],
            weights=self.weights[rows],
            without_neutral=self.without_neutral[rows],
        )


def soft_targets(labels: list[list[int]]) -> NDArray[np.float32]:
    """Spread each row's mass of 1 equally over its given labels; shape (n, 28)."""
    targets = np.zeros((len(labels), len(GO_EMOTIONS)), dtype=np.float32)
    for row, given in enumerate(labels):
        targets[row, given] = 1.0 / len(given)
    return targets


def examples_of(texts: list[str], labels: list[list[int]], *, without_neutral: bool = False) -> Examples:
    """Make examples of weight 1 from texts and their GoEmotions label ids."""
    return Examples(
        texts=tuple(texts),
        targets=soft_targets(labels),
        weights=np.ones(len(texts), dtype=np.float32),
        without_neutral=np.full(len(texts), without_neutral),
    )


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return data.decode("utf-8").splitlines()


def _present(folder: Path, names: list[str], what: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ClassifierError(f"{what} was not found: {folder} holds none of {', '.join(names)}.")


def read_goemotions(folder: Path, split: Split) -> Examples:
    """Read one official split of GoEmotions (`text<TAB>ids<TAB>comment id`, no header, no quoting).

    `folder` is the one that holds `original/` (or the files themselves); `.tsv` and `.tsv.gz` are both read.
    """
    inner = folder / "original" if (folder / "original").is_dir() else folder
    path = _present(inner, [f"{split}.tsv", f"{split}.tsv.gz"], f"The {split} split of GoEmotions")
    texts, labels = [], []
    for number, line in enumerate(_lines(path), start=1):
        try:
            text, ids, _ = line.split("\t")
            given = [int(part) for part in ids.split(",")]
            if not all(0 <= label < len(GO_EMOTIONS) for label in given):
                raise ValueError(f"label ids are 0 to {len(GO_EMOTIONS) - 1}")
        except ValueError as error:
            raise ClassifierError(f"{path}, line {number}, is not a GoEmotions row: {error}") from error
        texts.append(text)
        labels.append(given)
    return examples_of(texts, labels)


def read_empathetic(folder: Path, split: Split = "train") -> Examples:
    """Read the speaker's first utterance of every EmpatheticDialogues conversation, under the 32 -> 28 mapping.

    Conversations whose emotion has no counterpart are left out. The set has no neutral label, so its rows carry
    `without_neutral`. Later utterances are not read: the label describes the situation, and the first tells it.
    """
    names = {"train": ["train_reconstructed.csv.gz", "train.csv"], "dev": ["valid.csv.gz", "valid.csv"]}
    path = _present(folder, names.get(split, ["test.csv.gz", "test.csv"]), f"The {split} split of EmpatheticDialogues")
    texts, labels = [], []
    for row in csv.DictReader(io.StringIO("\n".join(_lines(path)))):
        fine = EMPATHETIC_TO_GO.get(row["context"])
        if row["utterance_idx"] == "1" and fine is not None and row["utterance"]:
            texts.append(row["utterance"].replace("_comma_", ","))
            labels.append([GO_EMOTIONS.index(fine)])
    return examples_of(texts, labels, without_neutral=True)
