"""What stands below a table: reasons and notes of its cells, each once, under a letter or a mark.

A note is said in general terms, without the numbers that differ from cell to cell; the numbers stand in the CSV.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from evaluation.rendering.cells import Table, is_estimate, reason_text

MARKS: Final = ("†", "‡", "§")
"""Set at values that rest on human labels alone, though they stand among corrected ones."""
_LAMBDA: Final = re.compile(r"^lambda = (-?\d+\.\d+)$")
_WORDS: Final = (
    (re.compile(r"^lambda = 0 because n = \d+ < (\d+)$"), r"human labels alone: λ = 0 because n < \1"),
    (
        re.compile(r"^lambda = 0 because \d+ dialogues < (\d+)$"),
        r"human labels alone: λ = 0 because there are fewer than \1 dialogues",
    ),
    (
        re.compile(r"^lambda = 0 because n = \d+ weighs as \d+ < (\d+)$"),
        r"human labels alone: λ = 0 because n weighs as fewer than \1",
    ),
    (re.compile(r"^lambda = 0$"), "human labels alone: λ = 0, the classifier's labels tell nothing more"),
    (re.compile(r"^few clusters$"), "fewer than 30 dialogues (Student's t, wide)"),
    (re.compile(r"^few (\w+)$"), r"few \1 (Student's t, wide)"),
    (
        re.compile(r"^undefined in \d+ of \d+ resamples, left out$"),
        "undefined in some of the resamples, which are left out",
    ),
    (re.compile(r"^undefined in \d+ of \d+ resamples: no interval$"), "undefined in most of the resamples"),
)
_ALONE: Final = "human labels alone"


def note_text(note: str) -> str:
    """Give a note in general terms."""
    for pattern, words in _WORDS:
        if pattern.match(note):
            return pattern.sub(words, note)
    return note.rstrip(".")


class Footnotes:
    """The footnotes of one table: a mark for each reason and note, in the order in which its cells come.

    Notes that every estimate of the table shares are said once, without a letter; lambdas as the range they have.
    """

    def __init__(self, table: Table, rows: int | None = None) -> None:
        cells = [
            value
            for row in table["rows"][:rows]
            for value in (row.get(column["key"]) for column in table["columns"])
            if is_estimate(value)
        ]
        self._letters: dict[str, str] = {}
        self._marks: dict[str, str] = {}
        cells = [cell for cell in cells if cell["value"] is not None]
        self._lambdas = [float(found[1]) for cell in cells for note in _given(cell) if (found := _LAMBDA.match(note))]
        valued = [{note_text(note) for note in _given(cell)} for cell in cells]
        common = set.intersection(*valued) if len(valued) > 1 else set()
        self._common = {note for note in common if not _LAMBDA.match(note) and not note.startswith(_ALONE)}

    def reason(self, reason: str | None) -> str:
        """Give the letter of a reason."""
        return self._letter(f"because {reason_text(reason)}")

    def notes(self, estimate: Mapping[str, Any]) -> list[str]:
        """Give the marks and letters of an estimate's notes; one without a value has its reason to say."""
        found: list[str] = []
        if estimate["value"] is None:
            return found
        for note in _given(estimate):
            words = note_text(note)
            if _LAMBDA.match(note) or words in self._common:
                continue
            if words.startswith(_ALONE):
                place = len(self._marks)
                found.append(self._marks.setdefault(words, MARKS[place] if place < len(MARKS) else f"†{place}"))
            else:
                found.append(self._letter(words))
        marks = [mark for mark in found if mark in self._marks.values()]
        return list(dict.fromkeys([*marks, *sorted(mark for mark in found if mark not in marks)]))

    def _letter(self, words: str) -> str:
        place = len(self._letters)
        return self._letters.setdefault(words, chr(97 + place) if place < 26 else str(place + 1))

    def lines(self) -> Iterator[tuple[str, str]]:
        """Give what stands below the table: a mark, empty where it is said of all, and a sentence."""
        for words, mark in self._marks.items():
            yield mark, f"{words}."
        for words, letter in self._letters.items():
            yield letter, f"{words}."
        for words in sorted(self._common):
            yield "", f"All values: {words}."
        if self._lambdas:
            low, high = min(self._lambdas), max(self._lambdas)
            said = f"λ = {low:.2f}" if round(low, 2) == round(high, 2) else f"λ from {low:.2f} to {high:.2f}"
            yield "", f"Other corrected values use {said}." if self._marks else f"Corrected values use {said}."


def _given(estimate: Mapping[str, Any]) -> list[str]:
    return [str(note) for note in estimate.get("notes") or ()]
