"""What asking a system came to: counts that add up over the workers of one job, and the words for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

Ended = Literal["complete", "capped", "stopped", "dry run", "given way", "interrupted"]


@dataclass(kw_only=True)
class Totals:
    """Counts and costs. `requests` are counted before they go out; `assumed` is what counts towards a cap although no
    back end told it: answers without token counts, and what was under way when a worker died."""

    answered: int = 0
    empty: int = 0
    failed: int = 0
    requests: int = 0
    repeats: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    answers_without_token_counts: int = 0
    tokens_assumed: int = 0
    cost: float | None = None
    cost_assumed: float = 0.0
    seconds: float = 0.0
    cases: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, more: Totals) -> None:
        for one in fields(Totals):
            mine, theirs = getattr(self, one.name), getattr(more, one.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            elif theirs is not None:
                setattr(self, one.name, (mine or 0) + theirs)

    def as_totals(self) -> dict[str, Any]:
        """Give the counts as JSON."""
        values = {one.name: getattr(self, one.name) for one in fields(Totals)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Read the counts out of a job's result; what is not there is nothing yet."""
        known: dict[str, Any] = {one.name: stored[one.name] for one in fields(Totals) if one.name in stored}
        read: dict[str, Any] = {name: Counter(one) if isinstance(one, dict) else one for name, one in known.items()}
        return cls(**read)


@dataclass
class GenerationSummary(Totals):
    """What a run came to. `turns` = `known` + `answered` + `empty` + `failed` + `left`, always.

    For a job these are the job's totals, whichever workers did the parts.
    """

    system: str
    template: str
    turns: int = 0
    known: int = 0
    left: int = 0
    adapted: list[str] = field(default_factory=list)
    ended: Ended = "complete"
    reason: str = ""
    examples: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Give the summary as a job's row stores it (JSON)."""
        return {
            **self.as_totals(),
            **{one.name: getattr(self, one.name) for one in fields(self) if one.name not in _TOTALS},
            "outcome": self.outcome(),
            "sentence": self.sentence(),
        }

    def as_known(self) -> dict[str, Any]:
        """Give what is known before anything is asked."""
        return {name: getattr(self, name) for name in ("system", "template", "turns", "known")}

    @property
    def nothing_answered(self) -> bool:
        """Whether asking came to no answer at all although turns were asked."""
        return bool(self.failed) and not (self.answered or self.empty)

    def outcome(self) -> str:
        """Say in a few words how it ended."""
        if self.ended == "dry run":
            return "dry run"
        if self.ended == "interrupted":
            return "cancelled"
        if self.nothing_answered:
            return "nothing answered"
        if self.ended in ("capped", "stopped"):
            return "stopped at the cap" if self.ended == "capped" else "stopped early"
        if self.ended == "given way":
            return "goes on"
        return f"done, {self.failed:,} turns failed" if self.failed else "done"

    def sentence(self) -> str:
        """Say in one sentence what happened."""
        if self.ended == "dry run":
            return (
                f"{self.left} of {self.turns} turns would be asked, {self.known} are known; about {self.tokens_in} "
                f"tokens in, at most {self.tokens_out} out{self._cost(' at most')}."
            )
        parts = [f"{self.answered} answered"]
        parts += [f"{count} {name}" for name, count in (("empty", self.empty), ("failed", self.failed)) if count]
        parts += [f"{self.known} known before"] if self.known else []
        parts += [f"{self.left} not asked"] if self.left else []
        tail = f" {self.reason}" if self.reason else ""
        return f"{', '.join(parts)}, of {self.turns} turns, with {self.requests} requests{self._cost('')}.{tail}"

    def _cost(self, most: str) -> str:
        return "" if self.cost is None else f", {self.cost:.4f} US dollars{most}"


_TOTALS = frozenset(one.name for one in fields(Totals))
