"""From many texts to few large, evenly filled batches, and back in the order asked for.

A recommendation corpus repeats itself and its utterances differ in length, so the plain way (one by one, or batches as
they come) spends most of its arithmetic on repeats and padding. Here every distinct text is run once, a batch holds
texts of one length only, so that there is no padding, and it is filled by tokens, not by rows. With nothing to mask
out, a text's numbers do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

TOKEN_BUDGET: Final = 2048
"""Tokens in one batch on a CPU: large enough to fill the matrix units, small enough to stay in the cache."""

SLICE: Final = 8192
"""Distinct texts tokenised and run at a time, which bounds the memory of one call."""

Batch = NDArray[np.int32]
"""Token ids of texts of one length, shape (rows, length)."""


class Runtime(Protocol):
    """Something that turns batches of token ids into logits."""

    name: str
    """Which library in which number format, for example `openvino-bf16`: part of a classifier's revision."""

    number_format: str

    def run(self, batches: Iterator[Batch]) -> list[NDArray[np.float32]]:
        """Give the logits, shape (rows, labels), of each batch in order."""
        ...


class Tokeniser(Protocol):
    """What `tokenizers.Tokenizer` offers and the engine needs."""

    def encode_batch(self, texts: list[str]) -> list[Any]:
        """Give one encoding, with its `ids`, for each text."""
        ...


def plan_batches(lengths: NDArray[np.int64], *, budget: int) -> list[NDArray[np.int64]]:
    """Cut texts into batches of one length each and at most `budget` tokens (but at least one text), longest first.

    Parameters
    ----------
    lengths
        Tokens of each text, shape (n,).

    Returns
    -------
    list of ndarray
        Positions of the texts of each batch; together every position exactly once.
    """
    order = np.argsort(-lengths, kind="stable")
    planned: list[NDArray[np.int64]] = []
    edges = np.flatnonzero(np.diff(lengths[order])) + 1
    for same in np.split(order, edges):
        if len(same) == 0:
            continue
        rows = max(1, budget // int(lengths[same[0]]))
        planned += [same[start : start + rows] for start in range(0, len(same), rows)]
    return planned


@dataclass(frozen=True)
class Engine:
    """Tokeniser, runtime and batch plan of one loaded classifier."""

    tokeniser: Tokeniser
    runtime: Runtime
    prepare: Callable[[str], str]
    columns: int
    budget: int = TOKEN_BUDGET

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Give the logits of the texts in their order, shape (n, columns); equal prepared texts are run once."""
        place: dict[str, int] = {}
        rows = np.empty(len(texts), dtype=np.int64)
        for index, text in enumerate(texts):
            rows[index] = place.setdefault(self.prepare(text), len(place))
        distinct = list(place)
        found = np.empty((len(distinct), self.columns), dtype=np.float32)
        for start in range(0, len(distinct), SLICE):
            found[start : start + SLICE] = self._run(distinct[start : start + SLICE])
        return found[rows]

    def _run(self, texts: list[str]) -> NDArray[np.float32]:
        ids = [encoding.ids for encoding in self.tokeniser.encode_batch(texts)]
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        planned = plan_batches(lengths, budget=self.budget)
        results = self.runtime.run(np.array([ids[i] for i in rows], dtype=np.int32) for rows in planned)
        found = np.empty((len(texts), self.columns), dtype=np.float32)
        for rows, result in zip(planned, results, strict=True):
            found[rows] = result
        return found


def in_chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Cut a stream into lists of at most `size`, holding one at a time."""
    if size < 1:
        raise ValueError(f"A chunk holds at least one text, not {size}.")
    stream = iter(texts)
    while chunk := list(islice(stream, size)):
        yield chunk
