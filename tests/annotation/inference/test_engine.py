"""Batches: every text once, evenly filled, in the order asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotation.inference.engine import Batch, Engine, in_chunks, plan_batches


class Letters:
    """Tokenises a text into its letters."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode_batch(self, texts: list[str]) -> list[Any]:
        self.seen += texts

        class Row:
            def __init__(self, text: str) -> None:
                self.ids = [1, *[ord(c) for c in text]]

        return [Row(text) for text in texts]


class Sums:
    """Gives the sum of the ids and their number as two logits."""

    name = number_format = "sums"

    def run(self, batches: Iterator[Batch]) -> list[NDArray[np.float32]]:
        return [np.stack([ids.sum(1), (ids > 0).sum(1)], axis=1).astype(np.float32) for ids in batches]


def engine() -> Engine:
    return Engine(Letters(), Sums(), str.strip, 2, budget=64)


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 600))
def test_a_plan_holds_every_text_once_within_the_budget_and_of_one_length(lengths: list[int], budget: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    planned = plan_batches(array, budget=budget)
    assert sorted(i for rows in planned for i in rows) == list(range(len(lengths)))
    for rows in planned:
        assert len(set(array[rows])) == 1
        assert len(rows) == 1 or array[rows].sum() <= budget


@given(st.lists(st.text(alphabet="abc ", max_size=20), max_size=60))
def test_results_come_back_in_the_order_of_the_texts(texts: list[str]) -> None:
    found = engine().logits(texts)
    expected = [[1 + sum(ord(c) for c in text.strip()), 1 + len(text.strip())] for text in texts]
    assert found.shape == (len(texts), 2)
    assert np.array_equal(found, np.array(expected, dtype=np.float32).reshape(-1, 2))


def test_equal_texts_are_run_once() -> None:
    made = engine()
    found = made.logits(["b", "a", " b ", "b"])
    assert isinstance(made.tokeniser, Letters)
    assert sorted(made.tokeniser.seen) == ["a", "b"]
    assert np.array_equal(found[0], found[2])


def test_a_stream_is_cut_into_chunks_without_being_read_ahead() -> None:
    taken = []

    def source() -> Iterator[str]:
        for number in range(10):
            taken.append(number)
            yield str(number)

    chunks = in_chunks(source(), 4)
    assert next(chunks) == ["0", "1", "2", "3"]
    assert taken == [0, 1, 2, 3]
    assert [len(chunk) for chunk in chunks] == [4, 2]


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        next(in_chunks(["a"], 0))
