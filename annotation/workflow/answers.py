"""What came back from a system: stored once per turn, summed up over all runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Count, Q, Sum
from django.utils import timezone

from annotation.corpora.dialogue import fold, text_digest
from annotation.inference.answers import Completion, Failure, Outcome, storable
from annotation.inference.prompts import Prompt
from annotation.models import Generation, Response, System, Text

_STORE_ATTEMPTS: Final = 6


def store(
    system: System,
    turn: int,
    prompt: Prompt,
    outcome: Outcome,
    flags: Sequence[str],
    record: dict[str, Any],
    *,
    book: Callable[[bool], None] = lambda stored: None,
) -> bool:
    """Store what one turn came to, in one transaction. False: there was a response already, and it stays.

    `book` is called within the transaction, told whether the answer was stored: what it writes is there exactly when
    the answer is. A database that is away for a moment is waited for: the answer is paid for and lives only here.
    """
    for attempt in range(_STORE_ATTEMPTS):
        try:
            with transaction.atomic():
                stored = _store(system, turn, prompt, outcome, flags, record)
                book(stored)
                return stored
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


# Summing up -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """What asking a system came to over all its runs, by the record of each turn."""

    answered: int
    empty: int
    failed: int
    attempts: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    imported: int
    flags: Counter[str]
    failures: Counter[str]


def spent_on(system: System) -> Spent:
    """Sum up the records of a system's turns. Requests of turns that were never recorded (a run that was stopped) and
    tokens of attempts that failed are in no record."""
    rows = Generation.objects.filter(system=system)
    sums = rows.aggregate(
        answered=Count("pk", filter=Q(state=Generation.ANSWERED)),
        empty=Count("pk", filter=Q(state=Generation.EMPTY)),
        failed=Count("pk", filter=Q(state=Generation.FAILED)),
        attempts=Sum("attempts"),
        tokens_in=Sum("tokens_in"),
        tokens_out=Sum("tokens_out"),
        cost=Sum("cost"),
    )
    responses = Response.objects.filter(system=system)
    flags: Counter[str] = Counter()
    for given in responses.exclude(flags=[]).values_list("flags", flat=True).iterator(chunk_size=2000):
        flags.update(given)
    for given in rows.filter(state=Generation.EMPTY).values_list("flags", flat=True).iterator(chunk_size=2000):
        flags.update(given)
    failed = rows.filter(state=Generation.FAILED).order_by().values_list("error").annotate(count=Count("pk"))
    return Spent(
        **{name: sums[name] or 0 for name in ("answered", "empty", "failed", "attempts", "tokens_in", "tokens_out")},
        cost=sums["cost"],
        imported=responses.exclude(source__has_key="generated").count(),
        flags=flags,
        failures=Counter(dict(failed)),
    )
