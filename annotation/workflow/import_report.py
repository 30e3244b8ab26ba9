"""What one import did: counts, the rows that were not taken and why, what is conspicuous."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

KEPT_PROBLEMS: Final = 1000


@dataclass(slots=True)
class ImportReport:
    """What one import did. A row is a message of the source, a line of responses, a label or the ratings of one row."""

    file: str
    kind: str
    format: str
    dataset: str
    sha256: str
    rows: int = 0
    kept: int = 0
    unchanged: int = 0
    skipped: int = 0
    conflicts: int = 0
    aborted: bool = False
    seconds: float = 0.0
    created: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    note_count: int = 0
    run_id: int | None = None

    @property
    def rows_per_second(self) -> float:
        """Rows read per second of the whole import, checks included."""
        return self.rows / self.seconds if self.seconds else 0.0

    def problem(self, file: str, line: int, reason: str, *, conflict: bool = False) -> None:
        """Count a row that was not taken and keep its story (the first thousand)."""
        if conflict:
            self.conflicts += 1
        else:
            self.skipped += 1
        self.reasons[shape_of(reason)] += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append({"file": file, "line": line, "reason": reason})

    def note(self, text: str) -> None:
        """Keep something worth knowing about a row that was taken."""
        self.note_count += 1
        if len(self.notes) < KEPT_PROBLEMS:
            self.notes.append(text)

    def counts(self) -> dict[str, Any]:
        """The numbers, as an `ImportRun` stores them."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "unchanged": self.unchanged,
            "skipped": self.skipped,
            "conflicts": self.conflicts,
            "aborted": self.aborted,
            "notes": self.note_count,
            "seconds": round(self.seconds, 3),
            "created": dict(self.created),
            "reasons": dict(self.reasons.most_common(50)),
            "flags": dict(self.flags),
        }


def shape_of(reason: str) -> str:
    """Give a reason without its numbers: what many rows share."""
    return re.sub(r"\d+", "#", reason)[:160]
