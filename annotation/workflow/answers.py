"""What came back from a system: stored once per turn, summed up per run, counted per system for a fair comparison."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.utils import timezone

from annotation.corpora.dialogue import fold, text_digest
from annotation.inference.answers import Completion, Failure, Outcome, storable
from annotation.inference.prompts import Prompt
from annotation.models import Generation, Response, System, Text, Turn

Ended = Literal["complete", "capped", "stopped", "dry run"]

_STORE_ATTEMPTS: Final = 6


@dataclass
class GenerationSummary:
    """What a run came to. `turns` = `known` + `answered` + `empty` + `failed` + `left`, always."""

    system: str
    template: str
    turns: int = 0
    known: int = 0
    answered: int = 0
    empty: int = 0
    failed: int = 0
    left: int = 0
    requests: int = 0
    repeats: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    answers_without_token_counts: int = 0
    cost: float | None = None
    cases: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    adapted: list[str] = field(default_factory=list)
    ended: Ended = "complete"
    reason: str = ""
    seconds: float = 0.0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Give the summary as a job's row stores it (JSON)."""
        return {**asdict(self), "cases": dict(self.cases), "flags": dict(self.flags), "failures": dict(self.failures)}

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


# Storing ----------------------------------------------------------------------------------------------------------


def store(
    system: System, turn: int, prompt: Prompt, outcome: Outcome, flags: Sequence[str], record: dict[str, Any]
) -> bool:
    """Store what one turn came to, in one transaction. False: there was a response already, and it stays.

    A database that is away for a moment is waited for: the answer is paid for and lives only here.
    """
    for attempt in range(_STORE_ATTEMPTS):
        try:
            with transaction.atomic():
                return _store(system, turn, prompt, outcome, flags, record)
        except IntegrityError:
            # Another run stored its answer between our look and our writing: look again.
            if attempt == _STORE_ATTEMPTS - 1:
                raise
        except (OperationalError, InterfaceError):
            if attempt == _STORE_ATTEMPTS - 1 or connection.in_atomic_block:
                raise
            connection.close()
            time.sleep(0.5 * 2**attempt)
    raise AssertionError("unreachable")


def has_response(system: System, turn: int) -> bool:
    """Say whether the system has a response at this turn, wherever it came from."""
    return Response.objects.filter(turn_id=turn, system=system).exists()


def _store(
    system: System, turn: int, prompt: Prompt, outcome: Outcome, flags: Sequence[str], record: dict[str, Any]
) -> bool:
    before = Generation.objects.filter(turn_id=turn, system=system).first()
    if has_response(system, turn) or (before is not None and before.state != Generation.FAILED):
        return False
    result = outcome.result
    values: dict[str, Any] = {
        "state": Generation.FAILED,
        "attempts": outcome.attempts + (before.attempts if before else 0),
        "error": "",
        "detail": "",
        "flags": list(flags),
        "template": prompt.template,
        "prompt_digest": prompt.digest,
        "finished_at": timezone.now(),
        **record,
    }
    if isinstance(result, Failure):
        values |= {"error": result.kind, "detail": result.detail[:200]}
    elif isinstance(result, Completion):
        state = Generation.EMPTY if "empty" in flags else Generation.ANSWERED
        values |= {"state": state, "tokens_in": result.tokens_in, "tokens_out": result.tokens_out}
        if state == Generation.ANSWERED:
            _create_response(system, turn, prompt, result, flags, values)
    Generation.objects.update_or_create(turn_id=turn, system=system, defaults=values)
    return True


def _create_response(
    system: System, turn: int, prompt: Prompt, result: Completion, flags: Sequence[str], values: dict[str, Any]
) -> None:
    raw = storable(result.text)
    plain = fold(raw)
    text, _ = Text.objects.get_or_create(digest=text_digest(plain), defaults={"content": plain})
    Response.objects.create(
        turn_id=turn,
        system=system,
        text=text,
        shown=raw.strip(),
        raw=raw,
        flags=list(flags),
        source={
            "generated": True,
            "template": prompt.template,
            "prompt_digest": prompt.digest,
            "case": prompt.case.number,
            "recommendation": prompt.case.recommendation,
            "recommended": list(prompt.case.items),
            "attempts": values["attempts"],
            "tokens_in": result.tokens_in,
            "tokens_out": result.tokens_out,
            "cost": values["cost"],
            "asked": values["asked"],
            "came_back": values["came_back"],
        },
    )


# Fairness ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerCount:
    """What one system did at a set of turns. `turns` = `answered` + `empty` + `failed` + `missing`.

    The flags are of the answered. Imported responses count as answered; what an imported system left empty or failed
    at is not known and counts as missing.
    """

    system: str
    turns: int
    answered: int
    truncated: int
    refusal: int
    error_text: int
    wrong_language: int
    empty: int
    failed: int
    missing: int


def answer_counts(systems: Iterable[System], turns: QuerySet[Turn]) -> list[AnswerCount]:
    """Count, per system, what came back at these turns (not a slice): the report's fairness table."""
    chosen = turns.order_by().values("pk")
    total = turns.count()
    return [_answer_count(system, chosen, total) for system in systems]


def _answer_count(system: System, chosen: Any, total: int) -> AnswerCount:
    responses = Response.objects.filter(system=system, turn__in=chosen)
    answered = responses.count()
    flags: Counter[str] = Counter()
    for given in responses.exclude(flags=[]).values_list("flags", flat=True).iterator(chunk_size=2000):
        flags.update(given)
    # A response that was imported after a failed attempt is an answer.
    others = Generation.objects.filter(system=system, turn__in=chosen).filter(
        ~Exists(Response.objects.filter(system=system, turn=OuterRef("turn")))
    )
    states = dict(others.order_by().values_list("state").annotate(count=Count("pk")))
    empty, failed = states.get(Generation.EMPTY, 0), states.get(Generation.FAILED, 0)
    return AnswerCount(
        system=system.name,
        turns=total,
        answered=answered,
        truncated=flags["truncated"],
        refusal=flags["refusal"],
        error_text=flags["error_text"],
        wrong_language=flags["wrong_language"],
        empty=empty,
        failed=failed,
        missing=total - answered - empty - failed,
    )


def common_turns(systems: Iterable[System], turns: QuerySet[Turn]) -> QuerySet[Turn]:
    """Keep the turns at which every one of these systems has a response: what systems are compared on."""
    for system in systems:
        turns = turns.filter(Exists(Response.objects.filter(system=system, turn=OuterRef("pk"))))
    return turns
