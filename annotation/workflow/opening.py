"""Open a campaign: draw its turns, make its items and slots, then open the doors.

Until everything is there the campaign stays a draft, and nobody is dealt anything. An opening that was killed is begun
anew: what it had made is removed first, so its outcome does not depend on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from django.db import connection, transaction
from django.db.models import Max, QuerySet
from django.utils import timezone
from numpy.typing import NDArray

from annotation.models import GOLD, Campaign, GoldQuestion, Item, Response, SampledTurn, Slot, System, Task, Turn
from annotation.workflow.insertion import insert_rows
from annotation.workflow.predictions import UNUSABLE_FLAGS, fold_of_dialogues, read_predictions
from evaluation.emotions import EMOTIONS
from evaluation.sampling import Design, draw

ROWS_PER_TRANSACTION: Final = 1000
SQLITE_PAUSE_SECONDS: Final = 0.05
"""Between two chunks: SQLite has one writer, and people are working in other campaigns meanwhile."""

STRATA: Final = ("dataset", "user_label", "response_label")
DESIGNS: Final[dict[str, Design]] = {
    "simple": "simple",
    "stratified": "proportional",
    "half": "half",
    "equal": "equal",
    "uncertainty": "uncertainty",
    "list": "list",
    "all": "all",
}
"""The designs of `evaluation.sampling.draw` that need nothing but the corpus, by the names researchers choose from."""

LEAST_UNCERTAINTY: Final = 0.01
NAMED: Final = 10
"""Listed turns named when they cannot be drawn; the others are counted."""

NO_PREDICTION: Final = "unlabelled"

Progress = Callable[[int, int], None]
Row = TypeVar("Row")


class OpeningError(Exception):
    """A campaign that cannot be opened as it is; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What an opening made. `excluded`: turns of the corpus left out because a system had no usable answer there."""

    turns: int
    eligible: int
    excluded: int
    items: int
    slots: int


def open_campaign(campaign: Campaign, *, progress: Progress | None = None) -> Opening:
    """Draw the sample by `campaign.design`, write items and slots, and set the campaign open.

    Keys of the design: `kind` (simple, stratified, half, equal, uncertainty, list, all); `size` in turns; `strata` (any
    of dataset, user_label, response_label); `response_system` (whose predicted label; the reference); `balanced` (the
    strata spread evenly over the order of work); `splits`; `complete_only` (only turns that every system answered;
    true); `turns` (ids, for a list) and `probabilities` (one each, where the list is a sample); `rate_reference` (rate
    the human response too; true); `rate_apart` (one response at a time; false).

    Raise `OpeningError` when the campaign is not a draft, or its design cannot be met.
    """
    campaign.refresh_from_db()
    if campaign.state != Campaign.DRAFT:
        raise OpeningError(
            f"“{campaign}” is {campaign.state}; only a draft can be opened. Use reopen for a closed one."
        )
    check_design(campaign)
    _remove_unfinished(campaign)
    frame, excluded = eligible_turns(campaign)
    drawn = draw_turns(campaign, frame)
    verify, rate = _plan_items(campaign, drawn)
    total = len(drawn) + len(verify) + len(rate)
    report = _Reporter(progress, total)
    sampled = _write_sample(campaign, drawn, report)
    slots = _write_items(campaign, verify, sampled, Task.VERIFY, report)
    slots += _write_items(campaign, rate, sampled, Task.RATE, report)
    write_gold_items(campaign)
    tell_planner()
    now = timezone.now()
    Campaign.objects.filter(pk=campaign.pk, state=Campaign.DRAFT).update(
        state=Campaign.OPEN,
        opened_at=now,
        verify_items=len(verify),
        verify_tail=len(verify),
        verify_total=len(verify) * campaign.verify_overlap,
        verify_done=0,
        rate_items=len(rate),
        rate_tail=len(rate),
        rate_total=len(rate) * campaign.rate_overlap,
        rate_done=0,
        gold_done=0,
    )
    campaign.refresh_from_db()
    return Opening(len(drawn), len(frame), excluded, len(verify) + len(rate), slots)


def tell_planner() -> None:
    """Let PostgreSQL look at tables that have just grown: until it does, each next item is sought the long way."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for model in (Slot, Item, SampledTurn):
                cursor.execute(f"ANALYZE {connection.ops.quote_name(model._meta.db_table)}")


def pause(campaign: Campaign) -> bool:
    """Deal nothing until it is reopened. Answers that still arrive are kept and set aside."""
    return _move(campaign, [Campaign.OPEN], Campaign.PAUSED)


def close(campaign: Campaign) -> bool:
    """End the campaign; items with some of their answers may now be adjudicated."""
    return _move(campaign, [Campaign.OPEN, Campaign.PAUSED], Campaign.CLOSED)


def reopen(campaign: Campaign) -> bool:
    """Go on with a paused or closed campaign where it stood."""
    return _move(campaign, [Campaign.PAUSED, Campaign.CLOSED], Campaign.OPEN)


def _move(campaign: Campaign, before: Sequence[str], after: str) -> bool:
    moved = Campaign.objects.filter(pk=campaign.pk, state__in=before).exclude(opened_at=None).update(state=after)
    campaign.refresh_from_db(fields=["state"])
    return bool(moved)


def write_gold_items(campaign: Campaign) -> int:
    """Make the items of gold and attention questions that have none yet; they may be added while a campaign runs."""
    known = Item.objects.filter(campaign=campaign, kind=GOLD).values("gold")
    wanted = GoldQuestion.objects.filter(campaign=campaign, use__in=["gold", "attention"]).exclude(pk__in=known)
    rows = [Item(campaign=campaign, kind=GOLD, gold=question, position=0) for question in wanted.order_by("pk")]
    return len(Item.objects.bulk_create(rows))


def check_design(campaign: Campaign) -> None:
    """Refuse a design that names what does not exist, with what to choose instead."""
    design = campaign.design or {}
    kind = design.get("kind", "half")
    if kind not in DESIGNS:
        raise OpeningError(f"There is no sampling design called {kind!r}; choose one of: {', '.join(DESIGNS)}.")
    if kind == "list" and not design.get("turns"):
        raise OpeningError("A list design needs the ids of its turns under “turns”: upload the list.")
    if design.get("probabilities") and len(design["probabilities"]) != len(design.get("turns", [])):
        raise OpeningError("A list needs an inclusion probability for every turn, or none at all.")
    if kind not in ("list", "all") and (not isinstance(design.get("size"), int) or design["size"] < 1):
        raise OpeningError("Say how many turns to draw: the design's “size” must be a whole number above 0.")
    if unknown := [name for name in design.get("strata", []) if name not in STRATA]:
        raise OpeningError(f"Unknown strata: {', '.join(map(str, unknown))}; choose from: {', '.join(STRATA)}.")
    if kind in ("stratified", "half", "equal") and not design.get("strata"):
        raise OpeningError(f"A {kind} sample needs at least one of the strata: {', '.join(STRATA)}.")
    if not (campaign.verify_user or campaign.verify_responses or campaign.rate_responses):
        raise OpeningError("Nothing is to be verified and nothing to be rated. Switch at least one task on.")
    if not campaign.datasets.exists():
        raise OpeningError("The campaign has no data set. Choose at least one.")


# --- the frame and the draw -------------------------------------------------------------------------------------------


def _wants_responses(campaign: Campaign) -> bool:
    return campaign.verify_responses or campaign.rate_responses


def systems_of(campaign: Campaign) -> list[System]:
    """The systems whose responses are asked about: the chosen ones and, always, the human reference."""
    chosen = list(campaign.systems.order_by("pk"))
    reference = System.objects.filter(is_reference=True).first()
    return chosen if reference is None or reference in chosen else [reference, *chosen]


def _responses(campaign: Campaign) -> pd.DataFrame:
    """The usable responses of the campaign's systems: response, turn, system, text."""
    query = Response.objects.filter(
        system__in=systems_of(campaign), turn__dialogue__dataset__in=campaign.datasets.all()
    )
    rows = query.values_list("id", "turn_id", "system_id", "text_id", "flags").order_by("turn_id", "system_id")
    kept = [row[:4] for row in rows.iterator(chunk_size=20_000) if not UNUSABLE_FLAGS.intersection(row[4])]
    return pd.DataFrame.from_records(kept, columns=["response", "turn", "system", "text"])


def eligible_turns(campaign: Campaign) -> tuple[pd.DataFrame, int]:
    """Give the sampling frame (id, stratum, uncertainty, dataset, dialogue, text), and how many turns it leaves out."""
    design = campaign.design or {}
    turns = Turn.objects.filter(dialogue__dataset__in=campaign.datasets.all())
    if design.get("splits"):
        turns = turns.filter(dialogue__split__in=design["splits"])
    columns = {
        "id": "id",
        "dialogue": "dialogue_id",
        "dataset": "dialogue__dataset__name",
        "text": "user_utterance__text",
    }
    rows = turns.order_by("id").values_list(*columns.values()).iterator(chunk_size=20_000)
    frame = pd.DataFrame.from_records(list(rows), columns=list(columns))
    before = len(frame)
    responses = (
        _responses(campaign) if _wants_responses(campaign) or "response_label" in design.get("strata", []) else None
    )
    if responses is not None and _wants_responses(campaign) and design.get("complete_only", True):
        answered = responses.groupby("turn")["system"].nunique()
        full = answered.index[answered == len(systems_of(campaign))]
        frame = frame[frame["id"].isin(full)].reset_index(drop=True)
    if frame.empty:
        raise OpeningError(
            "No turn can be drawn: the data sets are empty, or no turn was answered by every chosen system. "
            "Import what is missing, choose other systems, or set “complete_only” to false."
        )
    frame["stratum"], frame["uncertainty"] = _strata(campaign, frame, responses)
    return frame, before - len(frame)


def _strata(
    campaign: Campaign, frame: pd.DataFrame, responses: pd.DataFrame | None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Name each turn's stratum, such as `redial · joy`, and say how unsure the classifier is of its user (0 to 1)."""
    design = campaign.design or {}
    named = design.get("strata", [])
    uncertainty = np.ones(len(frame))
    labels: dict[str, NDArray[Any]] = {"dataset": frame["dataset"].to_numpy(dtype=object)}
    if {"user_label", "response_label"}.intersection(named) or design.get("kind") == "uncertainty":
        if campaign.classifier is None:
            raise OpeningError(
                "This design uses predicted labels: choose the campaign's classifier, and pre-label first."
            )
        predicted = read_predictions(campaign.classifier, campaign.grouping)
        folds = fold_of_dialogues(campaign.classifier, frame["dialogue"].to_numpy())
        codes, confidence = predicted.of(frame["text"], folds)
        labels["user_label"] = _names(codes)
        uncertainty = np.maximum(np.where(np.isnan(confidence), 1.0, 1.0 - confidence), LEAST_UNCERTAINTY)
        if "response_label" in named and responses is not None:
            said = responses[responses["system"] == _response_system(campaign).pk].set_index("turn")["text"]
            codes, _ = predicted.of(frame["id"].map(said).fillna(""), folds)
            labels["response_label"] = _names(codes)
    parts = [labels[name] for name in STRATA if name in named]
    joined = [" · ".join(map(str, values)) for values in zip(*parts, strict=True)] if parts else [""] * len(frame)
    return np.array(joined, dtype=object), uncertainty


def _names(codes: NDArray[np.int8]) -> NDArray[Any]:
    return np.array([*EMOTIONS, NO_PREDICTION], dtype=object)[codes]


def _response_system(campaign: Campaign) -> System:
    wanted = (campaign.design or {}).get("response_system")
    found = System.objects.filter(name=wanted).first() if wanted else System.objects.filter(is_reference=True).first()
    if found is None:
        raise OpeningError(
            f"There is no system called {wanted!r}." if wanted else "The corpus has no reference responses."
        )
    return found


def draw_turns(campaign: Campaign, frame: pd.DataFrame) -> pd.DataFrame:
    """Draw turns by the design and the seed, writing nothing: id, stratum, inclusion_probability, order."""
    design = campaign.design or {}
    kind = DESIGNS[design.get("kind", "half")]
    size = None if kind in ("list", "all") else int(design["size"])
    chances = None
    if kind == "list":
        _check_listed(frame, design["turns"])
        chances = dict(zip(design["turns"], design.get("probabilities") or [], strict=False))
    try:
        return draw(frame, size, kind, campaign.seed, ids=design.get("turns"), chances=chances)
    except ValueError as error:
        raise OpeningError(f"{error} ({len(frame)} turns can be drawn in this campaign.)") from error


def _check_listed(frame: pd.DataFrame, listed: Sequence[int]) -> None:
    """Name the listed turns that cannot be drawn, in the words of the list."""
    outside = sorted(set(listed).difference(frame["id"]))
    if not outside:
        return
    found = Turn.objects.select_related("dialogue__dataset").in_bulk(outside[:NAMED])
    named = [
        f"turn {turn.position} of dialogue {turn.dialogue.source_id} ({turn.dialogue.dataset.name})"
        for turn in found.values()
    ]
    named += [f"turn id {pk}" for pk in outside[:NAMED] if pk not in found]
    more = f" and {len(outside) - NAMED} more" if len(outside) > NAMED else ""
    raise OpeningError(
        f"{len(outside)} listed turns are not in the frame (not in the campaign's data, or without a usable response "
        f"of a chosen system): {', '.join(named)}{more}."
    )


# --- items and slots --------------------------------------------------------------------------------------------------


def _plan_items(campaign: Campaign, drawn: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List the items to verify and to rate (turn, kind, response or 0), each task in its random order of positions."""
    design = campaign.design or {}
    turns = drawn["id"].to_numpy()
    verify: list[pd.DataFrame] = []
    rate: list[pd.DataFrame] = []
    if campaign.verify_user:
        verify.append(pd.DataFrame({"turn": turns, "kind": "user", "response": 0}))
    if _wants_responses(campaign):
        responses = _responses(campaign)
        responses = responses[responses["turn"].isin(turns)]
        if campaign.verify_responses:
            verify.append(responses[["turn", "response"]].assign(kind="response"))
        if campaign.rate_responses:
            if not design.get("rate_reference", True):
                reference = System.objects.filter(is_reference=True).values_list("pk", flat=True)
                responses = responses[~responses["system"].isin(list(reference))]
            apart = bool(design.get("rate_apart", False))
            single = pd.DataFrame({"turn": responses["turn"].unique(), "response": 0})
            rate.append((responses[["turn", "response"]] if apart else single).assign(kind="rate"))
    strata = drawn.set_index("id")["stratum"]
    return (
        _shuffled(verify, strata, campaign.seed, 1, balanced=bool(design.get("balanced"))),
        _shuffled(rate, strata, campaign.seed, 2, balanced=bool(design.get("balanced"))),
    )


def _shuffled(
    parts: Sequence[pd.DataFrame], strata: pd.Series[Any], seed: int, task: int, *, balanced: bool
) -> pd.DataFrame:
    """Put items in random order by seed. Balanced: every stretch of the order holds the strata in their proportions."""
    columns = ["turn", "kind", "response"]
    items = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
    items = items.sort_values(["turn", "kind", "response"], kind="stable", ignore_index=True)
    random = np.random.default_rng([seed, task])
    keys = random.random(len(items))
    if balanced and len(items):
        of = items["turn"].map(strata)
        rank = pd.Series(keys).groupby(of.to_numpy()).rank(method="first").to_numpy() - 1
        size = of.groupby(of.to_numpy()).transform("size").to_numpy()
        keys = (rank + random.random(len(items))) / size
    return items.iloc[np.argsort(keys, kind="stable")].reset_index(drop=True)


def _remove_unfinished(campaign: Campaign) -> None:
    """Remove what an opening that was killed left behind. No judgment can exist: a draft deals nothing."""
    for query in (
        Slot.objects.filter(campaign=campaign),
        Item.objects.filter(campaign=campaign),
        SampledTurn.objects.filter(campaign=campaign),
    ):
        _remove_in_chunks(query)


def _remove_in_chunks(query: QuerySet[Any, Any]) -> None:
    while chunk := list(query.order_by("pk").values_list("pk", flat=True)[:ROWS_PER_TRANSACTION]):
        with transaction.atomic():
            query.filter(pk__in=chunk).delete()


def _write_sample(campaign: Campaign, drawn: pd.DataFrame, report: _Reporter) -> dict[int, int]:
    """Write the drawn turns; return turn -> id of its row."""
    columns = ["campaign_id", "turn_id", "stratum", "inclusion_probability", "draw_order"]
    rows = zip(drawn["id"], drawn["stratum"], drawn["inclusion_probability"], drawn["order"], strict=True)
    for chunk in _chunks((campaign.pk, int(t), str(s)[:120], float(p), int(o)) for t, s, p, o in rows):
        with transaction.atomic():
            insert_rows(SampledTurn, columns, chunk)
        report.advance(len(chunk))
    return dict(SampledTurn.objects.filter(campaign=campaign).values_list("turn_id", "id"))


def _write_items(
    campaign: Campaign, items: pd.DataFrame, sampled: dict[int, int], task: Task, report: _Reporter
) -> int:
    """Write items in the order of their positions, each with its k slots; return the number of slots."""
    overlap = campaign.verify_overlap if task == Task.VERIFY else campaign.rate_overlap
    columns = ["campaign_id", "kind", "sampled_turn_id", "response_id", "position"]
    planned = zip(range(len(items)), items["turn"], items["kind"], items["response"], strict=True)
    last = Item.objects.aggregate(last=Max("pk"))["last"] or 0
    for chunk in _chunks(planned):
        with transaction.atomic():
            insert_rows(
                Item,
                columns,
                [
                    (campaign.pk, kind, sampled[int(turn)], int(response) or None, at)
                    for at, turn, kind, response in chunk
                ],
            )
            made = list(
                Item.objects.filter(campaign=campaign, pk__gt=last).order_by("pk").values_list("pk", "position")
            )
            last = made[-1][0]
            insert_rows(
                Slot,
                ["item_id", "campaign_id", "task", "position", "number"],
                [(pk, campaign.pk, task.value, at, number) for pk, at in made for number in range(1, overlap + 1)],
            )
        report.advance(len(chunk))
    return len(items) * overlap


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    chunk = list(islice(iterator, ROWS_PER_TRANSACTION))
    while chunk:
        yield chunk
        chunk = list(islice(iterator, ROWS_PER_TRANSACTION))
        if chunk and connection.vendor == "sqlite":
            time.sleep(SQLITE_PAUSE_SECONDS)


class _Reporter:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def advance(self, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress(self._done, self._total)
