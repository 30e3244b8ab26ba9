"""Save what the corpora readers read: the same file twice changes nothing, and nothing is lost silently.

Rows are streamed in chunks, one short transaction each, so a kill leaves whole dialogues only and a second run finishes
the work. A dialogue known with another content is a conflict that is reported, never overwritten. With
`on_bad_row="abort"` the file is gone through once without writing, and nothing is imported if anything in it is wrong.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation import models
from annotation.corpora import Columns, CorpusError, open_corpus
from annotation.corpora import dialogue as records
from annotation.corpora.opening import Corpus, Format
from annotation.workflow.flagging import flags_of_imported
from annotation.workflow.import_report import ImportReport
from annotation.workflow.insertion import insert_rows
from annotation.workflow.joining import Place, place_responses
from annotation.workflow.systems import Systems

OnBadRow = Literal["skip", "abort"]
Progress = Callable[[int], None]

ROWS_PER_TRANSACTION: Final = 1000
_ATTEMPTS: Final = 4
_TITLES: Final = {"redial": "ReDial", "inspired": "INSPIRED", "crsarena": "CRSArena-Dial", "redial70": "ReDial (70)"}
_SLUG: Final = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


def import_dialogues(
    path: Path | str,
    *,
    dataset: str,
    split: str = "",
    format: Format = "auto",
    columns: Columns | None = None,
    on_bad_row: OnBadRow = "skip",
    progress: Progress | None = None,
    pause: float = 0.0,
) -> ImportReport:
    """Import dialogues with their turns and the reference responses (and, from a table, the systems' responses).

    `pause` is slept between transactions, in seconds: 0.05 where people annotate meanwhile on SQLite.

    Raises
    ------
    CorpusError
        The file cannot be used at all; nothing was imported.
    """
    if not _SLUG.match(dataset):
        raise CorpusError(f"{dataset!r} is no name for a data set: use 1 to 64 letters, digits, - and _.")
    if len(split) > 16:
        raise CorpusError(f"The split {split!r} is longer than 16 characters.")

    def opened() -> Corpus:
        corpus = open_corpus(path, format, columns=columns, split=split)
        if corpus.format == "responses":
            raise CorpusError(f"{corpus.path.name} holds responses, no dialogues; use import_responses.")
        return corpus

    def run(corpus: Corpus, report: ImportReport, write: bool) -> None:
        report.dataset = dataset
        target = models.Dataset.objects.filter(name=dataset).first()
        if target is None and write:
            target, _ = models.Dataset.objects.get_or_create(
                name=dataset, defaults={"title": _TITLES.get(dataset, dataset)}
            )
        systems = Systems()
        for chunk in _chunks(corpus.rows, report):
            dialogues = [row for row in chunk if isinstance(row, records.Dialogue)]
            responses = [row for row in chunk if isinstance(row, records.Response)]
            _save_dialogues(dialogues, target, systems, report, write)
            if write:  # a rehearsal has not saved the dialogues that a table's responses would join to
                _save_responses(responses, target, systems, report, write)
            _between(report, progress, pause if write else 0.0)

    return run_import("dialogues", opened, run, on_bad_row=on_bad_row)


def import_responses(
    path: Path | str,
    *,
    system: str | None = None,
    dataset: str | None = None,
    on_bad_row: OnBadRow = "skip",
    progress: Progress | None = None,
    pause: float = 0.0,
) -> ImportReport:
    """Import responses of systems to turns of dialogues that are there already.

    `system` overrides the name in the rows. `dataset` names where the dialogues are; without it the row's own data set
    is taken, else whichever data set knows the dialogue. A row that joins to no turn is reported.
    """
    target = models.Dataset.objects.filter(name=dataset).first() if dataset else None
    if dataset and target is None:
        known = ", ".join(models.Dataset.objects.values_list("name", flat=True)) or "none"
        raise CorpusError(f"There is no data set {dataset!r} (known: {known}); import its dialogues first.")

    def opened() -> Corpus:
        return open_corpus(path, "responses", system=system or "")

    def run(corpus: Corpus, report: ImportReport, write: bool) -> None:
        report.dataset = dataset or ""
        systems = Systems()
        for chunk in _chunks(corpus.rows, report):
            responses = [row for row in chunk if isinstance(row, records.Response)]
            _save_responses(responses, target, systems, report, write)
            _between(report, progress, pause if write else 0.0)

    return run_import("responses", opened, run, on_bad_row=on_bad_row)


class Opened(Protocol):
    """A file that a reader has opened."""

    @property
    def path(self) -> Path: ...
    @property
    def format(self) -> str: ...
    @property
    def sha256(self) -> str: ...


File = TypeVar("File", bound=Opened)


def run_import(
    kind: str,
    opened: Callable[[], File],
    run: Callable[[File, ImportReport, bool], None],
    *,
    on_bad_row: OnBadRow,
) -> ImportReport:
    """Frame of every import: the rehearsal of `abort`, the clock, and the ImportRun that tells of it."""
    began = time.monotonic()
    corpus = opened()
    passes = (False, True) if on_bad_row == "abort" else (True,)
    log = models.ImportRun.objects.create(file_name=corpus.path.name[:255], sha256=corpus.sha256, kind=kind)
    for write in passes:
        report = ImportReport(corpus.path.name, kind, corpus.format, "", corpus.sha256, run_id=log.pk)
        try:
            run(corpus if write is passes[0] else opened(), report, write)
        except CorpusError as error:
            log.problems = [*report.problems, {"file": report.file, "line": 0, "reason": str(error)}]
            log.finished_at = timezone.now()
            log.save(update_fields=["problems", "finished_at"])
            raise
        if not write and (report.skipped or report.conflicts):
            report.aborted = True
            report.kept = 0
            report.created.clear()
            break
    report.seconds = time.monotonic() - began
    log.dataset = models.Dataset.objects.filter(name=report.dataset).first()
    log.finished_at = timezone.now()
    log.counts, log.problems = report.counts(), report.problems
    log.save()
    return report


def _between(report: ImportReport, progress: Progress | None, pause: float) -> None:
    if progress is not None:
        progress(report.rows)
    if pause:
        time.sleep(pause)


def _chunks(
    rows: Iterable[records.Dialogue | records.Response | records.BadRow], report: ImportReport
) -> Iterator[list[records.Dialogue | records.Response]]:
    """Group rows into chunks of about `ROWS_PER_TRANSACTION` database rows; report what cannot be taken on the way."""
    chunk: list[records.Dialogue | records.Response] = []
    weight = 0
    for row in rows:
        if isinstance(row, records.BadRow):
            report.rows += 1
            report.problem(row.file, row.line, row.reason)
            continue
        if isinstance(row, records.Dialogue):
            report.rows += row.meta["messages"] + row.meta["empty_messages"]
            weight += 3 * len(row.utterances)
        else:
            report.rows += 1
            weight += 2
        chunk.append(row)
        if weight >= ROWS_PER_TRANSACTION:
            yield chunk
            chunk, weight = [], 0
    if chunk:
        yield chunk


# Dialogues --------------------------------------------------------------------------------------------------------


def _save_dialogues(
    chunk: Sequence[records.Dialogue],
    dataset: models.Dataset | None,
    systems: Systems,
    report: ImportReport,
    write: bool,
) -> None:
    usable: list[records.Dialogue] = []
    for dialogue in chunk:
        if len(dialogue.source_id) > 120 or len(dialogue.split) > 16:
            report.problem(
                dialogue.file, dialogue.line, "the dialogue id (120) or the split (16 characters) is too long"
            )
        else:
            usable.append(dialogue)
    digests = {dialogue.source_id: records.dialogue_digest(dialogue) for dialogue in usable}
    for attempt in range(_ATTEMPTS):
        known = _known(dataset, usable)
        fresh = [dialogue for dialogue in usable if dialogue.source_id not in known]
        if not write or not fresh:
            break
        assert dataset is not None
        # Systems are made outside: one made in a transaction that is rolled back would be remembered and not be there.
        for dialogue in fresh:
            systems.named(dialogue.recommender) if dialogue.recommender else systems.reference()
        try:
            with transaction.atomic():
                created = _create(fresh, dataset, digests, systems)
            report.created.update(created)
            break
        except IntegrityError:
            # Another import of the same dialogues was faster; look again at what is known now.
            if attempt == _ATTEMPTS - 1:
                raise
    for dialogue in usable:
        rows = dialogue.meta["messages"] + dialogue.meta["empty_messages"]
        if dialogue.source_id not in known:
            report.kept += rows
            for note in dialogue.notes:
                report.note(f"{dialogue.file}, line {dialogue.line}: {note}")
        elif known[dialogue.source_id] == digests[dialogue.source_id]:
            report.unchanged += rows
        else:
            report.problem(
                dialogue.file,
                dialogue.line,
                f"dialogue {dialogue.source_id} is known in {dataset} with another text; it was left as it is",
                conflict=True,
            )


def _known(dataset: models.Dataset | None, dialogues: Sequence[records.Dialogue]) -> dict[str, str]:
    if dataset is None or not dialogues:
        return {}
    found = models.Dialogue.objects.filter(dataset=dataset, source_id__in=[d.source_id for d in dialogues])
    return {source_id: meta.get("digest", "") for source_id, meta in found.values_list("source_id", "meta")}


def _create(
    dialogues: Sequence[records.Dialogue], dataset: models.Dataset, digests: dict[str, str], systems: Systems
) -> Counter[str]:
    """Write whole dialogues: texts, utterances, turns, and the responses their recommender gave."""
    insert_rows(
        models.Dialogue,
        ("dataset_id", "source_id", "split", "meta"),
        ((dataset.pk, d.source_id, d.split, {**d.meta, "digest": digests[d.source_id]}) for d in dialogues),
    )
    row_of = dict(
        models.Dialogue.objects.filter(dataset=dataset, source_id__in=[d.source_id for d in dialogues]).values_list(
            "source_id", "pk"
        )
    )
    spoken = [(row_of[d.source_id], u) for d in dialogues for u in d.utterances]
    text_of = _save_texts(u.plain for _, u in spoken)
    insert_rows(
        models.Utterance,
        ("dialogue_id", "position", "role", "text_id", "shown", "raw", "source_ids", "items"),
        ((row, u.position, u.role, text_of[u.plain], u.shown, u.raw, u.source_ids, u.items) for row, u in spoken),
    )
    own = models.Utterance.objects.filter(dialogue__in=row_of.values())
    utterance_of = {(row, position): pk for row, position, pk in own.values_list("dialogue_id", "position", "pk")}
    pairs = [
        (row_of[d.source_id], utterance_of[row_of[d.source_id], user.position], reply, d)
        for d in dialogues
        for user, reply in pairwise(d.utterances)
        if user.role == "user" and reply.role == "recommender"
    ]
    insert_rows(
        models.Turn,
        ("dialogue_id", "user_utterance_id", "position"),
        ((row, user, reply.position) for row, user, reply, _ in pairs),
    )
    turn_of = dict(models.Turn.objects.filter(dialogue__in=row_of.values()).values_list("user_utterance_id", "pk"))
    insert_rows(
        models.Response,
        ("turn_id", "system_id", "text_id", "shown", "raw", "source", "flags"),
        (
            (
                turn_of[user],
                systems.named(d.recommender) if d.recommender else systems.reference(),
                text_of[reply.plain],
                reply.shown,
                reply.raw,
                {"file": d.file, "line": d.line},
                flags_of_imported(reply.raw) if d.recommender else [],
            )
            for _, user, reply, d in pairs
        ),
    )
    return Counter(dialogues=len(dialogues), utterances=len(spoken), turns=len(pairs), responses=len(pairs))


def _save_texts(plains: Iterable[str]) -> dict[str, str]:
    """Store texts not yet known; return the digest of each. Sorted, so that two imports never wait on each other."""
    digest_of = {plain: records.text_digest(plain) for plain in plains}
    # The case of the first spelling met is kept, for classifiers that see case; the digest does not see it.
    content = {digest: records.fold(plain) for plain, digest in digest_of.items()}
    insert_rows(models.Text, ("digest", "content"), sorted(content.items()), ignore_conflicts=True)
    return digest_of


# Responses --------------------------------------------------------------------------------------------------------


def _save_responses(
    chunk: Sequence[records.Response],
    dataset: models.Dataset | None,
    systems: Systems,
    report: ImportReport,
    write: bool,
) -> None:
    if not chunk:
        return
    placed: list[tuple[records.Response, Place]] = []
    for response, place in zip(chunk, place_responses(chunk, dataset), strict=True):
        if isinstance(place, str):
            report.problem(response.file, response.line, place)
        elif systems.is_reference(response.system):
            reason = f"{response.system} is the human reference, whose responses come with the dialogues"
            report.problem(response.file, response.line, reason)
        else:
            placed.append((response, place))
    for attempt in range(_ATTEMPTS):
        outcome = _sort_out(placed, systems)
        if not write:
            break
        for response, _ in outcome.fresh:
            systems.named(response.system)
        try:
            with transaction.atomic():
                created, flags = _create_responses(outcome.fresh, systems)
            report.created.update(created)
            report.flags.update(flags)
            break
        except IntegrityError:
            if attempt == _ATTEMPTS - 1:
                raise
    report.kept += len(outcome.fresh)
    report.unchanged += outcome.unchanged
    for response, reason in outcome.conflicts:
        report.problem(response.file, response.line, reason, conflict=True)


@dataclass(slots=True)
class _Outcome:
    fresh: list[tuple[records.Response, Place]] = field(default_factory=list)
    conflicts: list[tuple[records.Response, str]] = field(default_factory=list)
    unchanged: int = 0


def _sort_out(placed: Sequence[tuple[records.Response, Place]], systems: Systems) -> _Outcome:
    """Part the responses into new, known with the same text, and known with another."""
    names = sorted({response.system for response, _ in placed})
    slugs = {name: systems.slug(name) for name in names}
    known = {
        (user, slug): raw
        for user, slug, raw in models.Response.objects.filter(
            turn__user_utterance__in=[place.user_utterance for _, place in placed],
            system__name__in=list(slugs.values()),
        ).values_list("turn__user_utterance", "system__name", "raw")
    }
    outcome = _Outcome()
    for response, place in placed:
        key = (place.user_utterance, slugs[response.system])
        if key not in known:
            known[key] = response.raw
            outcome.fresh.append((response, place))
        elif known[key] == response.raw or (place.part and response.raw in known[key]):
            outcome.unchanged += 1  # a part: one of several lines that the system sent in a row and that were merged
        else:
            outcome.conflicts.append(
                (response, f"{response.system} is known at this turn of {response.dialogue_id} with another text")
            )
    return outcome


def _create_responses(
    fresh: Sequence[tuple[records.Response, Place]], systems: Systems
) -> tuple[Counter[str], Counter[str]]:
    flags = [flags_of_imported(response.raw) for response, _ in fresh]
    text_of = _save_texts(response.plain for response, _ in fresh)
    turn_of: dict[int, int] = dict(
        models.Turn.objects.filter(user_utterance__in=[p.user_utterance for _, p in fresh]).values_list(
            "user_utterance_id", "pk"
        )
    )
    # A user's last words have no reference, hence no turn yet; a system that answered them brings it.
    new_turns = {
        place.user_utterance: (place.dialogue, place.user_utterance, place.position)
        for _, place in fresh
        if place.user_utterance not in turn_of
    }
    insert_rows(models.Turn, ("dialogue_id", "user_utterance_id", "position"), new_turns.values())
    turn_of |= dict(
        models.Turn.objects.filter(user_utterance__in=list(new_turns)).values_list("user_utterance_id", "pk")
    )
    insert_rows(
        models.Response,
        ("turn_id", "system_id", "text_id", "shown", "raw", "source", "flags"),
        (
            (
                turn_of[place.user_utterance],
                systems.named(response.system),
                text_of[response.plain],
                response.shown,
                response.raw,
                {"file": response.file, "line": response.line, **response.extra},
                found,
            )
            for (response, place), found in zip(fresh, flags, strict=True)
        ),
    )
    created = Counter({key: count for key, count in (("responses", len(fresh)), ("turns", len(new_turns))) if count})
    return created, Counter(flag for found in flags for flag in found)
