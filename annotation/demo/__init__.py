"""The demo corpus: invented conversations in both formats, three invented systems."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class DemoPaths:
    """Where the demo's files lie."""

    redial: Path
    inspired: Path
    responses: tuple[Path, ...]


def paths() -> DemoPaths:
    """The files of the demo corpus, as they were installed."""
    return DemoPaths(
        redial=_HERE / "redial_demo.jsonl",
        inspired=_HERE / "inspired_demo.tsv",
        responses=tuple(_HERE / f"responses_demo-{name}.jsonl" for name in ("warm", "flat", "cheerful")),
    )
