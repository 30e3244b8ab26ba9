"""Have a system answer turns: which ones, what is checked before anything is asked, and how a job goes on.

What was answered is never asked again, what failed is; a job that is taken over by another worker does not ask again
what failed for the one before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db.models import Exists, OuterRef

from annotation.inference.addresses import parse_address
from annotation.inference.generator import GenerationError, Generator
from annotation.inference.parameters import Asking, GenerationParameters, Operator, build_generator, settle
from annotation.inference.prompts import Prompt, Role, Said, TemplateError, TurnData, load_template, render
from annotation.models import Dataset, Generation, Job, Response, System, Turn, Utterance
from annotation.workflow.asking import WINDOW, ProgressCallback, Run, case_of, tokens_guessed
from annotation.workflow.leases import HeldError, Lease, held_by, holder_of
from annotation.workflow.ledger import Ledger
from annotation.workflow.published import check_model, check_reason
from annotation.workflow.totals import GenerationSummary

GREATEST: Final = 2**53
"""Whole numbers beyond this are no number of turns, tokens or requests, and no database takes them."""


@dataclass(frozen=True)
class Wanted:
    """What a job asks for: the system, how it is asked, and why another model may stand under its name."""

    system: str
    parameters: GenerationParameters
    as_is: str = ""


def operator_of_settings(*, at_the_console: bool = False) -> Operator:
    """Give what this installation allows (the settings that docs/generation.md names)."""
    return Operator(
        allow_private=settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS,
        allow_hub=settings.ATTUNE_ALLOW_HUB,
        template_folders=(Path(settings.ATTUNE_PROMPTS),) if settings.ATTUNE_PROMPTS else (),
        models_folder=Path(settings.ATTUNE_MODELS) if settings.ATTUNE_MODELS else None,
        at_the_console=at_the_console,
    )


def checked(wanted: Wanted, operator: Operator) -> Asking:
    """Settle what is wanted, or refuse it: what a form, the API and a run all ask before anything is stored or sent.

    Raises
    ------
    GenerationError
        The name, the template, the way to the system, or the model under its name cannot be used.
    """
    asking = settle(wanted.system, wanted.parameters, operator)
    check_model(asking, operator, as_is=wanted.as_is)
    known = System.objects.filter(name=asking.name).first()
    if known is not None and known.is_reference:
        raise GenerationError(f"{asking.name} is the human reference; nothing is generated for it.")
    return asking


def generate_responses(
    *,
    system: str,
    parameters: GenerationParameters,
    progress: ProgressCallback | None = None,
    operator: Operator | None = None,
    as_is: str = "",
    job: Job | None = None,
    give_way_at: float | None = None,
) -> GenerationSummary:
    """Ask a system at every chosen turn that it has not answered yet.

    Parameters
    ----------
    progress
        Told `(answered, asked for, message)` after answers and twice a second; what it raises ends the run after the
        answers under way have come in and are stored, and is raised on.
    operator
        What the installation allows; that of the settings by default.
    as_is
        Why another model may answer under a published name.
    job
        Whose row keeps the totals and caps, whichever worker goes on with it. Without one they are this call's.
    give_way_at
        The moment (of `time.monotonic`) after which nothing more is asked, so that other work comes between.

    Raises
    ------
    GenerationError
        Before anything was asked: the parameters cannot be used, or another run asks this system now. Once asking has
        begun, the summary says how it ended.
    """
    operator = operator or operator_of_settings()
    asking = checked(Wanted(system, parameters, as_is), operator)
    given = asking.parameters
    turns = selected_turns(given)
    if given.dry_run:
        return _rehearse(asking, turns, holder=holder_of(job))
    # The cap is kept over all workers of the job, so not by the back end.
    generator = build_generator(replace(asking, parameters=replace(given, cap_requests=None)), operator)
    row = _system_row(asking, generator, as_is)
    try:
        lease = Lease(row, holder_of(job))
    except HeldError as error:
        raise GenerationError(str(error)) from None
    summary = GenerationSummary(asking.name, asking.template.version, turns=len(turns))
    try:
        ledger = Ledger(job, given.cap_requests)
        todo = _begin(row, turns, summary, ledger, job)
        if todo:
            _keep_protocol(row, asking, generator, as_is)
        ledger.tell(summary.as_known())
        return Run(
            given=given,
            generator=generator,
            system=row,
            summary=summary,
            ledger=ledger,
            lease=lease,
            progress=progress,
            give_way_at=give_way_at,
            as_is=as_is,
        ).over(_first_checked(_prompts(asking, todo)))
    finally:
        if summary.ended != "given way":  # the job goes on in a moment: nobody should come between
            lease.release()


def _begin(
    system: System, turns: Sequence[int], summary: GenerationSummary, ledger: Ledger, job: Job | None
) -> list[int]:
    """Take the totals up where the job's last worker left them, and give the turns that are still to be asked."""
    summary.add(ledger.begin())
    done = _answered(system, turns)
    summary.known = max(0, len(done) - summary.answered - summary.empty)
    if summary.failed and job is not None and job.started_at is not None:
        failed = Generation.objects.filter(system=system, state=Generation.FAILED, finished_at__gte=job.started_at)
        done |= set(failed.values_list("turn_id", flat=True)) & set(turns)
    todo = [turn for turn in turns if turn not in done]
    summary.left = len(todo)
    return todo


def _first_checked(prompts: Iterator[tuple[int, Prompt]]) -> Iterator[tuple[int, Prompt]]:
    """Render the first prompt at once: a template that cannot be used is refused before anything is asked."""
    return chain(list(islice(prompts, 1)), prompts)


# Jobs -------------------------------------------------------------------------------------------------------------


def job_parameters(stored: dict[str, Any]) -> Wanted:
    """Read a job's parameters: `system`, `as_is`, and those of `GenerationParameters`, flat or in a part named
    `parameters`.

    Raises
    ------
    GenerationError
        What is wrong with them.
    """
    inner = stored.get("parameters") or {}
    if not isinstance(inner, dict):
        raise GenerationError("The parameters are a JSON object.")
    outer = {name: value for name, value in stored.items() if name != "parameters"}
    if twice := sorted(name[:40] for name in {*inner} & {*outer} if inner[name] != outer[name]):
        raise GenerationError(f"Given twice, with different values: {', '.join(twice)}.")
    given = {**inner, **outer}
    system, as_is = given.pop("system", ""), check_reason(given.pop("as_is", ""))
    if not isinstance(system, str) or not system:
        raise GenerationError("Name the system.")
    _refuse_unusable({**given, "system": system})
    return Wanted(system, GenerationParameters.from_mapping(given), as_is)


def _refuse_unusable(given: dict[str, Any]) -> None:
    """Refuse what would fail later, or in the database: numbers without bounds, characters that no name has."""
    for name, value in given.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        for one in values:
            if isinstance(one, int) and abs(one) > GREATEST:
                raise GenerationError(f"{str(name)[:40]} is too large a number.")
            if isinstance(one, float) and not math.isfinite(one):
                raise GenerationError(f"{str(name)[:40]} is no number.")
            if isinstance(one, str) and not one.isprintable():
                raise GenerationError(f"{str(name)[:40]} holds line breaks or characters that cannot be printed.")


def checked_job(stored: dict[str, Any]) -> Asking:
    """Refuse, before a row is made, what no worker could do; so nothing unusable, and no key, is ever stored.

    Raises
    ------
    GenerationError
        What is wrong, and what to do.
    """
    asking = checked(job_parameters(stored), operator_of_settings())
    selected_turns(asking.parameters)
    return asking


def job_step(
    parameters: dict[str, Any],
    progress: ProgressCallback | None = None,
    *,
    job: Job | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Do what a job's row asks for, for so many seconds at most, and give its result.

    Raises
    ------
    GenerationError
        Nothing could be asked, the run had to stop early, or nothing was answered; the message says what was answered
        all the same, and the job's row keeps the summary.
    """
    wanted = job_parameters(parameters)
    summary = generate_responses(
        system=wanted.system,
        parameters=wanted.parameters,
        progress=progress,
        as_is=wanted.as_is,
        job=job,
        give_way_at=None if seconds is None else time.monotonic() + seconds,
    )
    if summary.ended == "stopped" or summary.nothing_answered:
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


def prompt_again(generation: Generation) -> tuple[Prompt | None, str]:
    """Render once more what was asked at a turn; or say why it cannot be shown as it was."""
    name, version = generation.template.partition("@")[0], generation.template
    try:
        template = load_template(name, operator_of_settings().template_folders)
    except TemplateError as error:
        return None, f"The prompt cannot be shown: {error}"
    if template.version != version:
        return None, f"The prompt cannot be shown: the words of the template {name} are no longer those of {version}."
    data = dict(turn_data([generation.turn_id])).get(generation.turn_id)
    history = generation.asked.get("history", 0)
    try:
        prompt = render(template, data, history=history if isinstance(history, int) else 0) if data else None
    except TemplateError as error:
        return None, f"The prompt cannot be shown: {error}"
    if prompt is None or prompt.digest != generation.prompt_digest:
        return (
            None,
            "The prompt cannot be shown: rendered now it is another, so the dialogue or its titles changed.",
        )
    return prompt, ""


# The dry run ------------------------------------------------------------------------------------------------------


def _rehearse(asking: Asking, turns: Sequence[int], *, holder: str) -> GenerationSummary:
    """Render every prompt and ask nothing."""
    given = asking.parameters
    summary = GenerationSummary(asking.name, asking.template.version, turns=len(turns))
    row = System.objects.filter(name=asking.name).first()
    answered = _answered(row, turns) if row is not None else set()
    todo = [turn for turn in turns if turn not in answered]
    summary.known, summary.left = len(turns) - len(todo), len(todo)
    for key, prompt in _prompts(asking, todo):
        case = case_of(prompt)
        summary.cases[case] += 1
        summary.tokens_in += tokens_guessed(prompt)
        if summary.cases[case] <= given.examples:
            messages = [dict(message) for message in prompt.messages]
            summary.examples.append({"turn": key, "case": case, "messages": messages, "digest": prompt.digest})
    summary.tokens_out = given.max_new_tokens * len(todo)
    summary.cost = given.cost(summary.tokens_in, summary.tokens_out)
    summary.ended = "dry run"
    summary.warnings = [
        f"No titles were recognised in {name}, so every turn of it is case 1, no recommendation. Import it with a "
        "column of items (docs/corpora.md) if its references recommend some."
        for name in without_items(turns)
    ]
    if other := held_by(row, but=holder):
        summary.warnings.append(f"{asking.name} is being asked now by {other}; a second run is refused until then.")
    return summary


def without_items(turns: Sequence[int]) -> list[str]:
    """Name the data sets among these turns' in which no recommender utterance has a recognised title."""
    with_items = Utterance.objects.filter(dialogue__dataset=OuterRef("pk"), role="recommender").exclude(items=[])
    chosen: set[int] = set()
    for start in range(0, len(turns), 500):
        rows = Turn.objects.filter(pk__in=turns[start : start + 500])
        chosen.update(rows.order_by().values_list("dialogue__dataset", flat=True).distinct())
    found = Dataset.objects.filter(pk__in=chosen).exclude(Exists(with_items))
    return list(found.values_list("name", flat=True))


# The system's row -------------------------------------------------------------------------------------------------


def _protocol(asking: Asking, generator: Generator) -> dict[str, Any]:
    """How the system is asked: two ways do not belong under one name."""
    given = asking.parameters
    asked = {key: value for key, value in generator.asked.items() if key not in ("stream", "batch_size")}
    if given.backend == "endpoint":  # a local model is known by its weights, wherever its folder lies
        asked["address"] = parse_address(given.base_url).url
    return {**asked, "template": asking.template.version, "history": given.history}


def _details(asking: Asking, generator: Generator, as_is: str) -> dict[str, Any]:
    details: dict[str, Any] = {"protocol": _protocol(asking, generator)}
    if asking.entry is not None:
        details |= {
            "published_name": asking.entry.published_name,
            "open_weights": asking.entry.open_weights,
            "note": asking.entry.note,
        }
    if as_is:
        details["as_is"] = as_is
    return details


def _system_row(asking: Asking, generator: Generator, as_is: str) -> System:
    """Get or make the system's row."""
    details = _details(asking, generator, as_is)
    row, _ = System.objects.get_or_create(
        name=asking.name, defaults={"title": asking.title[:120], "kind": "llm", "details": details}
    )
    return row


def _keep_protocol(row: System, asking: Asking, generator: Generator, as_is: str) -> None:
    """Refuse to mix two ways of asking, or generated and imported responses, under one name; else keep the way."""
    details = _details(asking, generator, as_is)
    protocol = details["protocol"]
    row.refresh_from_db()
    before = row.details.get("protocol")
    begun = Generation.objects.filter(system=row).exists()
    if not begun and not asking.parameters.mixed and Response.objects.filter(system=row).exists():
        raise GenerationError(
            f"{row.name} has imported responses. Give the generated ones another name, or say that mixing is meant "
            "(mixed)."
        )
    # What an older version did not keep (an address, the digest of weights) cannot be compared.
    changed = sorted(key for key in before or {} if before[key] != protocol.get(key))
    if begun and changed and not asking.parameters.mixed:
        raise GenerationError(
            f"{row.name} was asked in another way before (different: {', '.join(changed)}). Give the system another "
            "name, or say that mixing is meant (mixed)."
        )
    if any(row.details.get(name) != value for name, value in details.items()):
        row.details = {**row.details, **details}
        row.save(update_fields=["details"])
