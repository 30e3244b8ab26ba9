"""A hand-made list of turns to verify: find each row's turn, and name every row that has none."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.files.base import File

from annotation.corpora import BadRow, CorpusError
from annotation.corpora.reading import check_file
from annotation.corpora.table import table_rows
from annotation.models import Dataset, Turn

NAMED: Final = 20
"""Rows named in a refusal; the others are counted."""

NEEDED: Final = ("dialogue", "turn")
_AT_ONCE: Final = 500


@dataclass(slots=True)
class Listed:
    """The turns of a list in its order, their inclusion probabilities (none, or one each), and what matched nothing."""

    turns: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    unmatched: list[BadRow] = field(default_factory=list)

    def trouble(self) -> str:
        """Say which rows are not taken, and why."""
        named = "; ".join(f"line {row.line}: {row.reason}" for row in self.unmatched[:NAMED])
        more = len(self.unmatched) - NAMED
        return f"{named}{f'; and {more} more rows' if more > 0 else ''}."


def read_list(file: File[Any], *, datasets: Sequence[Dataset]) -> Listed:
    """Read an uploaded table with the columns dialogue and turn, as exports have them.

    `dataset` may be left out where there is only one; `inclusion_probability` is there in every row or in none.

    Raises
    ------
    CorpusError
        The file is no table, too large, or without the columns that are needed.
    """
    most = settings.ATTUNE_UPLOAD_MAX_BYTES
    if (file.size or 0) > most:
        raise CorpusError(f"The file has {(file.size or 0) / 1e6:,.0f} MB; {most / 1e6:,.0f} MB are allowed.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list"
        with path.open("wb") as target:
            for chunk in file.chunks():
                target.write(chunk)
        try:
            check_file(path)
            rows = list(table_rows(path))
        except CorpusError as error:
            name = Path(file.name or "the list").name
            raise CorpusError(str(error).replace("list", name, 1)) from error
    return _matched(rows, datasets)


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    dataset: str
    dialogue: str
    turn: int
    chance: float | None


def _matched(rows: Sequence[tuple[int, dict[str, Any]] | BadRow], datasets: Sequence[Dataset]) -> Listed:
    found, names = Listed(), {dataset.name for dataset in datasets}
    asked: list[_Row] = []
    for row in rows:
        if isinstance(row, BadRow):
            found.unmatched.append(row)
            continue
        line, values = row
        if missing := [name for name in NEEDED if name not in values]:
            raise CorpusError(f"The list has no column {' and no column '.join(missing)}.")
        read = _read(line, values, names)
        if isinstance(read, str):
            found.unmatched.append(BadRow("", line, read))
        else:
            asked.append(read)
    known = _turns_at(asked, datasets)
    with_chance = any(one.chance is not None for one in asked)
    seen: set[int] = set()
    for one in asked:
        turn = known.get((one.dataset, one.dialogue, one.turn))
        if turn is None:
            reason = f"there is no turn {one.turn} in dialogue {one.dialogue} of {one.dataset}"
        elif turn in seen:
            reason = f"turn {one.turn} of dialogue {one.dialogue} is listed twice"
        elif with_chance and one.chance is None:
            reason = "no inclusion probability, where other rows have one"
        else:
            seen.add(turn)
            found.turns.append(turn)
            if one.chance is not None:
                found.probabilities.append(one.chance)
            continue
        found.unmatched.append(BadRow("", one.line, reason))
    found.unmatched.sort(key=lambda row: row.line)
    if not found.turns and not found.unmatched:
        raise CorpusError("The list has no row.")
    return found


def _read(line: int, values: dict[str, Any], names: set[str]) -> _Row | str:
    """The row as it is meant, or why it cannot be."""
    dataset = _text(values.get("dataset")) or (next(iter(names)) if len(names) == 1 else "")
    if not dataset:
        return "no data set named, and the campaign has several"
    if dataset not in names:
        return f"the campaign has no data set called {dataset}"
    dialogue, place = _text(values["dialogue"]), _text(values["turn"])
    if not dialogue or not place.isdecimal() or len(place) > 9:
        return "a dialogue and the number of a turn are wanted"
    written = _text(values.get("inclusion_probability"))
    if not written:
        return _Row(line, dataset, dialogue, int(place), None)
    try:
        chance = float(written)
    except ValueError:
        chance = math.nan
    if not 0 < chance <= 1:
        return f"{written[:40]} is no probability above 0 and at most 1"
    return _Row(line, dataset, dialogue, int(place), chance)


def _text(value: Any) -> str:
    """A cell as text; a spreadsheet gives 3 as 3.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _turns_at(asked: Sequence[_Row], datasets: Sequence[Dataset]) -> dict[tuple[str, str, int], int]:
    """Data set, dialogue and position to turn, for the dialogues that are asked for."""
    dialogues = sorted({row.dialogue for row in asked})
    known: dict[tuple[str, str, int], int] = {}
    for start in range(0, len(dialogues), _AT_ONCE):
        turns = Turn.objects.filter(
            dialogue__dataset__in=list(datasets), dialogue__source_id__in=dialogues[start : start + _AT_ONCE]
        )
        places = turns.values_list("dialogue__dataset__name", "dialogue__source_id", "position", "pk")
        known |= {(dataset, dialogue, position): pk for dataset, dialogue, position, pk in places}
    return known
