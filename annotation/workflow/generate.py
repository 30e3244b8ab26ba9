"""Have a system answer turns, and keep every answer as it comes in.

Requests run on threads (or in batches, for a local model); this thread alone writes, one short transaction per answer,
so a kill loses at most what was under way and a second run asks only for the rest. What did not come back is recorded
with its reason. Two runs of one system at once would ask twice; what is stored stays one response per turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db.models import Exists, OuterRef

from annotation.inference.answers import Completion, Failure, Outcome, flags_of
from annotation.inference.generator import GenerationError, Generator
from annotation.inference.parameters import Asking, GenerationParameters, Operator, build_generator, settle
from annotation.inference.prompts import Prompt, Role, Said, TemplateError, TurnData, render
from annotation.models import Dataset, Generation, Response, System, Turn, Utterance
from annotation.workflow.answers import AnswerCount, Ended, GenerationSummary, answer_counts, common_turns, store

__all__ = [
    "AnswerCount",
    "GenerationSummary",
    "answer_counts",
    "common_turns",
    "generate_responses",
    "job_parameters",
    "job_step",
    "operator_of_settings",
    "selected_turns",
]

ProgressCallback = Callable[[int, int, str], None]

WINDOW: Final = 256
"""Turns read at a time; a local model's batches are sorted by length within a window."""

LOOK_UP: Final = 0.5
"""Seconds after which the run looks up from waiting, to report and to hear of a cancellation."""


def operator_of_settings(*, at_the_console: bool = False) -> Operator:
    """Give what this installation allows (the settings that docs/generation.md names)."""
    return Operator(
        allow_private=settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS,
        allow_hub=settings.ATTUNE_ALLOW_HUB,
        template_folders=(Path(settings.ATTUNE_PROMPTS),) if settings.ATTUNE_PROMPTS else (),
        models_folder=Path(settings.ATTUNE_MODELS) if settings.ATTUNE_MODELS else None,
        at_the_console=at_the_console,
    )


def generate_responses(
    *,
    system: str,
    parameters: GenerationParameters,
    progress: ProgressCallback | None = None,
    operator: Operator | None = None,
    generator: Generator | None = None,
) -> GenerationSummary:
    """Ask a system at every chosen turn that it has not answered yet.

    Parameters
    ----------
    progress
        Told `(done, total, message)` after answers and twice a second; what it raises ends the run after the answers
        under way have come in and are stored, and is raised on.
    operator
        What the installation allows; that of the settings by default.
    generator
        A back end to use instead of the one that the parameters name.

    Raises
    ------
    GenerationError
        Before anything was asked: the parameters cannot be used. Once asking has begun, the summary says how it ended.
    """
    operator = operator or operator_of_settings()
    asking = settle(system, parameters, operator)
    turns = selected_turns(asking.parameters)
    known_system = System.objects.filter(name=asking.name).first()
    if known_system is not None and known_system.is_reference:
        raise GenerationError(f"{asking.name} is the human reference; nothing is generated for it.")
    summary = GenerationSummary(asking.name, asking.template.version, turns=len(turns))
    answered = _answered(known_system, turns) if known_system else set()
    todo = [turn for turn in turns if turn not in answered]
    summary.known, summary.left = len(turns) - len(todo), len(todo)
    if asking.parameters.dry_run:
        return _rehearse(asking, todo, summary)
    generator = generator or build_generator(asking, operator)
    if not todo:
        return summary
    row = _system_row(asking, generator)
    return _Run(asking, generator, row, summary, progress).over(todo)


def job_parameters(stored: dict[str, Any]) -> tuple[str, GenerationParameters]:
    """Read a job's parameters: `system`, and those of `GenerationParameters`, flat or in a part named `parameters`.

    A form calls this before it makes the job's row, so that nothing unusable, and no key, is ever stored there.

    Raises
    ------
    GenerationError
        What is wrong with them.
    """
    inner = stored.get("parameters") or {}
    if not isinstance(inner, dict):
        raise GenerationError("The parameters are a JSON object.")
    given = {**inner, **{name: value for name, value in stored.items() if name != "parameters"}}
    system = given.pop("system", "")
    if not isinstance(system, str) or not system:
        raise GenerationError("Name the system.")
    return system, GenerationParameters.from_mapping(given)


def job_step(parameters: dict[str, Any], progress: ProgressCallback | None = None) -> dict[str, Any]:
    """Do what a job's row asks for, and give its result.

    `parameters` as `job_parameters` reads them.

    Raises
    ------
    GenerationError
        Nothing could be asked, or the run had to stop early; the message says what was answered all the same.
    """
    system, given = job_parameters(parameters)
    summary = generate_responses(system=system, parameters=given, progress=progress)
    if summary.ended == "stopped":
        raise GenerationError(summary.sentence())
    return summary.as_dict()


# Which turns ------------------------------------------------------------------------------------------------------


def selected_turns(parameters: GenerationParameters) -> list[int]:
    """Give the keys of the chosen turns, dialogue by dialogue. A limit counts answered ones too, so it means the same
    turns whenever it is run.

    Raises
    ------
    GenerationError
        A data set that is not there, or nothing chosen.
    """
    turns = Turn.objects.all()
    if parameters.datasets:
        missing = set(parameters.datasets) - set(Dataset.objects.values_list("name", flat=True))
        if missing:
            raise GenerationError(f"There is no data set {', '.join(sorted(missing))}; import its dialogues first.")
        turns = turns.filter(dialogue__dataset__name__in=parameters.datasets)
    if parameters.split:
        turns = turns.filter(dialogue__split=parameters.split)
    if parameters.campaign:
        turns = turns.filter(sampled__campaign__name=parameters.campaign)
    if not parameters.without_reference:
        turns = turns.filter(Exists(Response.objects.filter(turn=OuterRef("pk"), system__is_reference=True)))
    chosen = list(turns.order_by("dialogue_id", "position").values_list("pk", flat=True)[: parameters.limit])
    if not chosen:
        raise GenerationError("No turn fits: look at the data sets, the split and the campaign.")
    return chosen


def _answered(system: System, turns: Sequence[int]) -> set[int]:
    """The turns with a response (generated or imported) or an empty answer. Failed ones are asked again."""
    found = set(Response.objects.filter(system=system).values_list("turn_id", flat=True))
    empty = Generation.objects.filter(system=system).exclude(state=Generation.FAILED)
    return (found | set(empty.values_list("turn_id", flat=True))) & set(turns)


def turn_data(turns: Sequence[int]) -> Iterator[tuple[int, TurnData]]:
    """Read what prompts need, in the order of the keys given, a window at a time."""
    keys = iter(turns)
    while window := list(islice(keys, WINDOW)):
        rows = {row.pk: row for row in Turn.objects.filter(pk__in=window)}
        spoken: dict[int, list[Utterance]] = {}
        wanted = Utterance.objects.filter(dialogue__in={row.dialogue_id for row in rows.values()})
        for utterance in wanted.order_by("dialogue_id", "position").only(
            "dialogue_id", "position", "role", "shown", "items"
        ):
            spoken.setdefault(utterance.dialogue_id, []).append(utterance)
        human = set(
            Response.objects.filter(turn__in=window, system__is_reference=True).values_list("turn_id", flat=True)
        )
        for key in window:
            if key in rows:
                yield key, _turn_data(rows[key], spoken[rows[key].dialogue_id], has_reference=key in human)


def _turn_data(turn: Turn, spoken: Sequence[Utterance], *, has_reference: bool) -> TurnData:
    said, reference = [], None
    for one in spoken:
        role: Role = "user" if one.role == "user" else "recommender"
        if one.position < turn.position:
            said.append(Said(role, one.shown, tuple(one.items)))
        elif one.position == turn.position and role == "recommender" and has_reference:
            reference = tuple(one.items)
    return TurnData(tuple(said), reference)


def _prompts(asking: Asking, turns: Iterable[int]) -> Iterator[tuple[int, Prompt]]:
    for key, data in turn_data(list(turns)):
        try:
            yield key, render(asking.template, data, history=asking.parameters.history)
        except TemplateError as error:
            raise GenerationError(str(error)) from None


# The dry run ------------------------------------------------------------------------------------------------------


def tokens_guessed(prompt: Prompt) -> int:
    """Guess a prompt's tokens, rather too many: a token for three characters, and sixteen for the chat's frame."""
    return prompt.characters // 3 + 16


def _rehearse(asking: Asking, todo: Sequence[int], summary: GenerationSummary) -> GenerationSummary:
    given = asking.parameters
    for key, prompt in _prompts(asking, todo):
        summary.cases[f"case {prompt.case.number}, {prompt.case.recommendation}"] += 1
        summary.tokens_in += tokens_guessed(prompt)
        if len(summary.examples) < given.examples:
            messages = [dict(message) for message in prompt.messages]
            summary.examples.append({"turn": key, "messages": messages, "digest": prompt.digest})
    summary.tokens_out = given.max_new_tokens * len(todo)
    summary.cost = given.cost(summary.tokens_in, summary.tokens_out)
    summary.ended = "dry run"
    return summary


# The run ----------------------------------------------------------------------------------------------------------


def _system_row(asking: Asking, generator: Generator) -> System:
    """Get or make the system's row, and refuse to mix two ways of asking under one name."""
    protocol = {
        **{key: value for key, value in generator.asked.items() if key not in ("stream", "batch_size")},
        "template": asking.template.version,
        "history": asking.parameters.history,
    }
    details: dict[str, Any] = {"protocol": protocol}
    if asking.entry is not None:
        details |= {
            "published_name": asking.entry.published_name,
            "open_weights": asking.entry.open_weights,
            "note": asking.entry.note,
        }
    row, _ = System.objects.get_or_create(
        name=asking.name, defaults={"title": asking.title[:120], "kind": "llm", "details": details}
    )
    before = row.details.get("protocol")
    begun = Generation.objects.filter(system=row).exists()
    if not begun and not asking.parameters.mixed and Response.objects.filter(system=row).exists():
        raise GenerationError(
            f"{row.name} has imported responses. Give the generated ones another name, or say that mixing is meant "
            "(mixed)."
        )
    if begun and before and before != protocol and not asking.parameters.mixed:
        changed = ", ".join(sorted(key for key in {*before, *protocol} if before.get(key) != protocol.get(key)))
        raise GenerationError(
            f"{row.name} was asked in another way before (different: {changed}). Give the system another name, or say "
            "that mixing is meant (mixed)."
        )
    if before != protocol:
        row.details = {**row.details, **details}
        row.save(update_fields=["details"])
    return row


@dataclass
class _Asked:
    """A batch under way, and the tokens and dollars that it may cost at most."""

    keys: list[int]
    prompts: list[Prompt]
    tokens: int
    cost: float


class _Run:
    """One run: keeps the back end busy, stores what comes in, minds the caps, and counts truthfully."""

    def __init__(
        self,
        asking: Asking,
        generator: Generator,
        system: System,
        summary: GenerationSummary,
        progress: ProgressCallback | None,
    ) -> None:
        self._asking = asking
        self._given = asking.parameters
        self._generator = generator
        self._system = system
        self._summary = summary
        self._progress = progress
        self._running: dict[Future[list[Outcome]], _Asked] = {}
        self._failures_in_a_row = 0
        self._unknown_tokens = 0

    def over(self, todo: Sequence[int]) -> GenerationSummary:
        """Ask at these turns until none is left or something ends the run."""
        began = time.monotonic()
        batches = self._batches(todo)
        pool = ThreadPoolExecutor(max_workers=self._generator.concurrency, thread_name_prefix="generate")
        try:
            self._tell()
            while self._fill(pool, batches) or self._running:
                self._take_in(timeout=LOOK_UP)
                self._tell()
        except BaseException:
            # Cancelled, interrupted, or a fault of ours: what was asked is paid for, so it is waited for and kept.
            self._generator.stop()
            while self._running:
                self._take_in(timeout=None)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._summary.seconds = round(time.monotonic() - began, 3)
            self._summary.requests = self._generator.requests
        return self._summary

    def _batches(self, todo: Sequence[int]) -> Iterator[list[tuple[int, Prompt]]]:
        size = self._generator.batch_size
        prompts = _prompts(self._asking, todo)
        while window := list(islice(prompts, max(WINDOW, size))):
            if size > 1:  # equal lengths pad little
                window.sort(key=lambda one: one[1].characters)
            for start in range(0, len(window), size):
                yield window[start : start + size]

    def _fill(self, pool: ThreadPoolExecutor, batches: Iterator[list[tuple[int, Prompt]]]) -> bool:
        """Submit until every thread has work. False: nothing more will be submitted."""
        while self._summary.ended == "complete" and len(self._running) < self._generator.concurrency:
            batch = next(batches, None)
            if batch is None:
                return False
            asked = _Asked([key for key, _ in batch], [prompt for _, prompt in batch], 0, 0.0)
            asked.tokens = sum(tokens_guessed(one) + self._given.max_new_tokens for one in asked.prompts)
            asked.cost = sum(
                self._given.cost(tokens_guessed(one), self._given.max_new_tokens) or 0.0 for one in asked.prompts
            )
            if not self._affordable(asked):
                return False
            self._running[pool.submit(self._generator.complete, asked.prompts)] = asked
        return self._summary.ended == "complete"

    def _affordable(self, asked: _Asked) -> bool:
        """Whether the caps hold even if everything under way and this batch cost the most they can."""
        given, running = self._given, self._running.values()
        spent = self._summary.tokens_in + self._summary.tokens_out + self._unknown_tokens
        tokens = spent + sum(one.tokens for one in running) + asked.tokens
        cost = (self._summary.cost or 0.0) + sum(one.cost for one in running) + asked.cost
        if given.cap_requests is not None and self._generator.requests >= given.cap_requests:
            self._end("capped", f"The cap of {given.cap_requests} requests is reached.")
        elif given.cap_tokens is not None and tokens > given.cap_tokens:
            self._end("capped", f"The cap of {given.cap_tokens} tokens would be passed.")
        elif given.cap_cost is not None and cost > given.cap_cost:
            self._end("capped", f"The cap of {given.cap_cost:g} US dollars would be passed.")
        return self._summary.ended == "complete"

    def _end(self, ended: Ended, reason: str) -> None:
        if self._summary.ended == "complete":
            self._summary.ended, self._summary.reason = ended, reason

    def _take_in(self, *, timeout: float | None) -> None:
        finished, _ = wait(self._running, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in finished:
            asked = self._running.pop(future)
            try:
                outcomes = future.result()
            except GenerationError as error:
                self._end("stopped", str(error))
                self._generator.stop()
                continue
            for key, prompt, outcome in zip(asked.keys, asked.prompts, outcomes, strict=True):
                self._take(key, prompt, outcome)

    def _take(self, key: int, prompt: Prompt, outcome: Outcome) -> None:
        self._summary.repeats += max(0, outcome.attempts - 1)
        if outcome.result is None:
            given = self._given.cap_requests
            if given is not None and self._generator.requests >= given:
                self._end("capped", f"The cap of {given} requests is reached.")
            return
        self._count_tokens(prompt, outcome.result)
        flags = self._flags(outcome.result)
        if not store(self._system, key, prompt, outcome, flags, self._record(outcome)):
            self._summary.known += 1
            self._summary.left -= 1
            return
        self._count(prompt, outcome, flags)

    def _flags(self, result: Completion | Failure) -> tuple[str, ...]:
        if isinstance(result, Failure):
            return ()
        return flags_of(result, limit=self._given.max_new_tokens, language=self._given.language)

    def _record(self, outcome: Outcome) -> dict[str, Any]:
        """What was asked beside what came back: servers accept more than they do."""
        asked = {**self._generator.asked, "history": self._given.history}
        came_back: dict[str, Any] = {}
        if isinstance(outcome.result, Completion):
            came_back = {
                "finish_reason": outcome.result.finish_reason,
                "model": outcome.result.model,
                "fingerprint": outcome.result.fingerprint,
                "not_accepted": list(outcome.adapted),
            }
            cost = self._given.cost(outcome.result.tokens_in, outcome.result.tokens_out)
            return {"asked": asked, "came_back": came_back, "cost": cost}
        return {"asked": asked, "came_back": came_back, "cost": None}

    def _count(self, prompt: Prompt, outcome: Outcome, flags: Sequence[str]) -> None:
        summary, result = self._summary, outcome.result
        summary.left -= 1
        summary.cases[f"case {prompt.case.number}, {prompt.case.recommendation}"] += 1
        if isinstance(result, Failure):
            summary.failed += 1
            summary.failures[result.kind] += 1
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= self._given.give_up_after:
                self._end("stopped", f"{self._failures_in_a_row} turns in a row failed, the last with {result.kind}.")
            return
        assert isinstance(result, Completion)
        self._failures_in_a_row = 0
        summary.answered += "empty" not in flags
        summary.empty += "empty" in flags
        summary.flags.update(flags)
        summary.adapted = sorted({*summary.adapted, *outcome.adapted})

    def _count_tokens(self, prompt: Prompt, result: Completion | Failure) -> None:
        """Count what was spent, also on an answer that someone else's had made superfluous."""
        if isinstance(result, Failure):
            return
        summary = self._summary
        summary.tokens_in += result.tokens_in or 0
        summary.tokens_out += result.tokens_out or 0
        if result.tokens_in is None or result.tokens_out is None:
            summary.answers_without_token_counts += 1
            self._unknown_tokens += tokens_guessed(prompt) + len(result.text) // 3
        cost = self._given.cost(result.tokens_in, result.tokens_out)
        if cost is not None:
            summary.cost = (summary.cost or 0.0) + cost

    def _tell(self) -> None:
        if self._progress is not None:
            summary = self._summary
            message = f"{summary.answered} answered"
            message += f", {summary.empty} empty" if summary.empty else ""
            message += f", {summary.failed} failed" if summary.failed else ""
            message += f", {summary.repeats} repeats" if summary.repeats else ""
            self._progress(summary.turns - summary.left, summary.turns, message)
