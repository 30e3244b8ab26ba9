"""The report as a typed tree: sections of tables and figures, and its one canonical form as JSON.

A renderer needs nothing but this tree. A cell is text, a number, nothing, or an `Estimate`; a figure carries the data
it draws. The JSON form is stable byte for byte: keys sorted, numbers rounded to 12 significant digits, no NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from evaluation.intervals import Estimate, round_significant

Status = Literal["unverified", "partly verified", "verified"]
FigureKind = Literal["bars", "stacked", "heatmap", "scatter", "forest", "reliability"]
ColumnKind = Literal["text", "count", "number", "percent", "p"]
FORMAT: Final = "attune-report/1"
HUMAN: Final = "human reference"
"""What the reference responses are called in tables: the human baseline."""

Cell = str | int | float | bool | None | Estimate

REASONS: Final[Mapping[str, str]] = {
    "no_data": "there is nothing to count",
    "no_pairs": "no item has two labels",
    "no_variation": "only one label, or one group, occurs",
    "one_item": "there is only one item",
    "one_dialogue": "there is only one dialogue",
    "few_dialogues": "there are too few dialogues",
    "unstable": "it is undefined in most resamples",
    "never_predicted": "the label was never given",
    "no_support": "the label never occurs in the truth",
    "class_absent": "the label occurs on neither side",
    "not_identified": "the other variables determine it completely",
    "no_convergence": "the fit did not converge, or warned of a singular covariance",
    "no_context": "the ratings name no turn",
    "one_response_per_context": "no turn has rated responses of two systems",
    "no_baseline": "there is no human reference to compare with",
    "no_replicates": "no resamples were asked for",
    "separate_draws": "the systems' turns were drawn apart",
    "few_annotators": "there are fewer than 8 annotators to resample",
    "no_dialogue": "the judgments name no dialogue",
    "not_two_annotators": "it is for two annotators",
    "no_se": "its standard error is not derived",
    "biased_upward": "in a sample it lies above the truth",
    "few_texts": "there are too few texts",
    "few_turns": "fewer than 5 verified turns have this user emotion",
    "one_text": "there is only one text",
}


def sentence(reason: str | None) -> str:
    """Say in plain words why a value is undefined; an unknown reason is given as it stands."""
    if not reason:
        return ""
    return f"Undefined, because {REASONS.get(reason, reason.replace('_', ' '))}."


@dataclass(frozen=True)
class Names:
    """What data sets and systems are called where people read; the tables behind a report know them by their keys.

    A key without a title stands for itself. Two keys of one title are told apart by the key in brackets.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    systems: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Names:
        """Read `{"datasets": {key: title}, "systems": {key: title}}`; a `ValueError` says what it is not."""
        parts = {kind: given.get(kind) or {} for kind in ("datasets", "systems")}
        if not all(isinstance(part, Mapping) for part in parts.values()) or set(given) - set(parts):
            raise ValueError("names are given as datasets and systems, each a mapping of key to title.")
        return cls(**{kind: {str(key): str(title) for key, title in part.items()} for kind, part in parts.items()})

    def to_json(self) -> dict[str, dict[str, str]]:
        """Give the names as plain data."""
        return {"datasets": dict(self.datasets), "systems": dict(self.systems)}

    def dataset(self, key: str) -> str:
        """Give the title of a data set."""
        return _title(self.datasets, key)

    def system(self, key: str) -> str:
        """Give the title of a system."""
        return _title(self.systems, key)

    def keys(self) -> dict[str, str]:
        """Give the way back: title -> key."""
        pairs = [(self.dataset(key), key) for key in self.datasets] + [(self.system(key), key) for key in self.systems]
        return dict(pairs)

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """Put titles in place of keys in the columns dataset and system of a table."""
        titled = {name: getattr(self, name) for name in ("dataset", "system") if name in table}
        return table.assign(
            **{
                name: [key if pd.isna(key) else title(str(key)) for key in table[name]]
                for name, title in titled.items()
            }
        )


def _title(titles: Mapping[str, str], key: str) -> str:
    title = titles.get(key, "").strip() or key
    alone = sum((other.strip() or name) == title for name, other in titles.items()) <= 1
    return title if alone else f"{title} ({key})"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: `kind` says how its numbers are written, `direction` what a higher number means."""

    key: str
    title: str
    kind: ColumnKind = "text"
    unit: str = ""
    direction: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: rows map column keys to cells. `paper_counterpart` names the table of the paper to compare with."""

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]
    caption: str = ""
    paper_counterpart: str = ""


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """A figure: everything that is drawn stands in `data`, its form given by `kind` (see `evaluation.figures`)."""

    id: str
    kind: FigureKind
    title: str
    alt: str
    data: Mapping[str, Any]
    caption: str = ""
    paper_counterpart: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the report; the caption says in plain words which way its numbers run."""

    id: str
    number: int
    title: str
    caption: str
    tables: tuple[Table, ...] = ()
    figures: tuple[FigureSpec, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The full metric report.

    Attributes
    ----------
    status
        `unverified` (no human label), `partly verified`, or `verified` (every scored turn).
    settings
        Seed, replicates, options and what else the numbers depend on.
    differences
        Filled by `recompute` where the bundle holds a report: what is not the same. Not part of the report itself.
    """

    title: str
    status: Status
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    sections: tuple[Section, ...]
    differences: tuple[str, ...] | None = field(default=None, compare=False)

    def content(self) -> dict[str, Any]:
        """Give the report as plain data, as `report.json` holds it."""
        return {
            "format": FORMAT,
            "title": self.title,
            "status": self.status,
            "settings": plain(self.settings),
            "provenance": plain(self.provenance),
            "sections": [plain_section(section) for section in self.sections],
        }

    def to_json(self) -> dict[str, Any]:
        """Give `content()`, and the differences from the stored report where there is one."""
        return self.content() | ({} if self.differences is None else {"differences": list(self.differences)})

    def table(self, identifier: str) -> Table:
        """Give the table of that identifier; a `KeyError` names those there are."""
        tables = {table.id: table for section in self.sections for table in section.tables}
        if identifier not in tables:
            raise KeyError(f"There is no table {identifier!r}; the tables are: {', '.join(tables)}.")
        return tables[identifier]


def dumps(report: Report) -> str:
    """Write a report in its canonical form: the bytes of `report.json`."""
    return json.dumps(report.content(), sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Turn any value of the tree into plain JSON data; NaN becomes null, numbers are rounded to 12 digits."""
    if isinstance(value, Estimate):
        body = value.to_json()
        return body | {"sentence": sentence(value.reason)} if value.value is None else body
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return round_significant(float(value)) if math.isfinite(value) else None
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"A report cannot hold a {type(value).__name__}.")


def plain_section(section: Section) -> dict[str, Any]:
    """Give a section as plain data."""
    return {
        "id": section.id,
        "number": section.number,
        "title": section.title,
        "caption": section.caption,
        "warnings": list(section.warnings),
        "tables": [_plain_table(table) for table in section.tables],
        "figures": [
            {
                "id": figure.id,
                "kind": figure.kind,
                "title": figure.title,
                "alt": figure.alt,
                "caption": figure.caption,
                "paper_counterpart": figure.paper_counterpart,
                "data": plain(figure.data),
            }
            for figure in section.figures
        ],
    }


def _plain_table(table: Table) -> dict[str, Any]:
    known = [column.key for column in table.columns]
    return {
        "id": table.id,
        "title": table.title,
        "caption": table.caption,
        "paper_counterpart": table.paper_counterpart,
        "columns": [
            {
                "key": column.key,
                "title": column.title,
                "kind": column.kind,
                "unit": column.unit,
                "direction": column.direction,
            }
            for column in table.columns
        ],
        "rows": [{key: plain(row.get(key)) for key in known} for row in table.rows],
    }


def warnings_of(parts: Sequence[str | None]) -> tuple[str, ...]:
    """Keep each warning once, in order, without the empty ones."""
    return tuple(dict.fromkeys(part for part in parts if part))
