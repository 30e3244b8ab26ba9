"""The one door from the database to the statistics: rows become the tables that `evaluation.tables` names.

No ORM object is made per row: columns are read as tuples and joined as arrays, so a million responses fit. What a
report may use is decided here and nowhere else: judgments received until `as_of`, neither superseded nor set aside; in
assisted mode the labels given without seeing the pre-label; of a classifier that learned from verified labels the
prediction of the fold that did not see the dialogue. People appear under their campaign pseudonym only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from numpy.typing import NDArray

from annotation.models import (
    Adjudication,
    Campaign,
    Classifier,
    Dataset,
    Dialogue,
    Generation,
    Item,
    Judgment,
    Membership,
    Response,
    Role,
    SampledTurn,
    System,
    Turn,
)
from annotation.workflow.predictions import UNUSABLE_FLAGS, fold_of_dialogues, read_predictions
from evaluation.emotions import DEFAULT_GROUPING, EMOTIONS, GO_EMOTIONS

BATCH = 20_000
SECOND_GROUPING = "ekman"
"""The grouping whose labels stand beside those of a report made under another, so that both can be read."""

Arms = Literal["independent", "all"]


def classifier_of(campaign: Campaign) -> Classifier | None:
    """The classifier whose labels a campaign verifies: its own, else the default."""
    return campaign.classifier or Classifier.objects.filter(is_default=True).first()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of the database a report or export speaks of.

    `arms="independent"` uses only labels given without seeing the pre-label; `all` pools. `drawn_only` leaves out the
    turns that the campaign did not draw.
    """

    datasets: tuple[Dataset, ...]
    systems: tuple[System, ...]
    classifier: Classifier | None = None
    grouping: str = DEFAULT_GROUPING
    campaign: Campaign | None = None
    splits: tuple[str, ...] = ()
    arms: Arms = "independent"
    drawn_only: bool = False
    as_of: datetime = field(default_factory=timezone.now)

    @property
    def hidden_only(self) -> bool:
        """Labels given beside a shown pre-label are no independent ones, wherever they were given."""
        return self.campaign is not None and self.arms == "independent"


@dataclass(frozen=True, slots=True)
class Frames:
    """The tables of a report, in the form `evaluation.tables` checks, and counts of what was left out.

    `rows` is `turns` with the keys of the database, and `answers` every standing answer: for looking texts up.
    """

    rows: pd.DataFrame
    answers: pd.DataFrame
    turns: pd.DataFrame
    judgments: pd.DataFrame
    ratings: pd.DataFrame
    responses: pd.DataFrame
    counts: dict[str, int]


def build_frames(selection: Selection) -> Frames:
    """Read everything a report needs. The order of rows is fixed by the data, never by the database."""
    rows, outside = _within_frame(_turn_rows(selection), selection)
    judgments = judgment_rows(selection.campaign, as_of=selection.as_of) if selection.campaign else _no_judgments()
    verified = verified_items(selection.campaign, judgments, selection) if selection.campaign else _no_labels()
    turns = _with_verified(rows, verified, selection)
    counts = {
        "turns": int(rows["turn_pk"].nunique()),
        "rows": len(rows),
        "turns_outside_sampling_frame": outside,
        "judgments": len(judgments),
        "labels": int((judgments["action"] == Judgment.LABEL).sum()),
        "imported": int((judgments["device"] == "imported").sum()),
        "skips": int((judgments["action"] == Judgment.SKIP).sum()),
        "unresolved_items": int(verified["unresolved"].sum()),
        "verified_items": int(verified["label"].notna().sum()),
        **_left_out(selection),
    }
    return Frames(
        rows=turns,
        answers=judgments,
        turns=turns.drop(columns=_INTERNAL),
        judgments=_judgments_table(judgments, turns, selection),
        ratings=_ratings_table(judgments, turns),
        responses=response_status(selection),
        counts=counts,
    )


def drawn_turns(campaign: Campaign, judgments: pd.DataFrame, *, as_of: datetime) -> pd.DataFrame:
    """The `turns` table of the drawn turns alone, with the labels verified by then: as large as the sample."""
    selection = Selection(
        datasets=tuple(campaign.datasets.order_by("name")),
        systems=tuple(campaign.systems.order_by("name")),
        classifier=classifier_of(campaign),
        grouping=campaign.grouping,
        campaign=campaign,
        drawn_only=True,
        as_of=as_of,
    )
    verified = verified_items(campaign, judgments, selection)
    return _with_verified(_turn_rows(selection), verified, selection).drop(columns=_INTERNAL)


# --- turns -----------------------------------------------------------------------------------------------------------

_INTERNAL = ["turn_pk", "response_pk", "dialogue_pk", "user_text", "response_text"]


def _turns_of(selection: Selection) -> QuerySet[Turn]:
    turns = Turn.objects.filter(dialogue__dataset__in=selection.datasets)
    if selection.drawn_only:
        turns = turns.filter(sampled__campaign=selection.campaign)
    return turns.filter(dialogue__split__in=selection.splits) if selection.splits else turns


def _responses_of(selection: Selection, systems: Iterable[System]) -> QuerySet[Response]:
    responses = Response.objects.filter(turn__dialogue__dataset__in=selection.datasets, system__in=list(systems))
    if selection.drawn_only:
        responses = responses.filter(turn__sampled__campaign=selection.campaign)
    return responses.filter(turn__dialogue__split__in=selection.splits) if selection.splits else responses


def _table(query: QuerySet[Any], columns: Mapping[str, str]) -> pd.DataFrame:
    """Read columns as tuples into a frame; `columns` maps the frame's names to the ORM's."""
    rows = query.values_list(*columns.values()).iterator(chunk_size=BATCH)
    return pd.DataFrame.from_records(list(rows), columns=list(columns))


def _turn_rows(selection: Selection) -> pd.DataFrame:
    """One row per turn and system that answered it, the reference among them, with classifier labels."""
    turns = _table(
        _turns_of(selection),
        {"turn_pk": "id", "turn": "position", "dialogue_pk": "dialogue_id", "user_text": "user_utterance__text_id"},
    )
    reference = System.objects.filter(is_reference=True).first()
    systems = [*selection.systems, *([reference] if reference and reference not in selection.systems else [])]
    responses = _table(
        _responses_of(selection, systems),
        {"response_pk": "id", "turn_pk": "turn_id", "system_pk": "system_id", "response_text": "text_id"},
    )
    unusable = _unusable_responses(selection, systems)
    rows = responses.merge(turns, on="turn_pk", how="inner")
    rows = rows.merge(_dialogues(selection), on="dialogue_pk", how="left")
    names = {system.pk: system.name for system in systems}
    rows["system"] = rows["system_pk"].map(names)
    rows["is_reference"] = rows["system_pk"] == (reference.pk if reference else -1)
    rows = rows.sort_values(["dataset", "dialogue", "turn", "is_reference", "system"], kind="stable", ignore_index=True)
    texts = {*rows["user_text"], *rows["response_text"]} if selection.drawn_only else None
    predicted = read_predictions(selection.classifier, selection.grouping, texts=texts)
    folds = fold_of_dialogues(selection.classifier, rows["dialogue_pk"].to_numpy())
    rows["user_label"], rows["user_confidence"] = _labelled(*predicted.of(rows["user_text"], folds))
    codes, confidence = predicted.of(rows["response_text"], folds)
    codes[rows["response_pk"].isin(unusable).to_numpy()] = -1
    rows["response_label"], rows["response_confidence"] = _labelled(codes, confidence)
    rows["reference_label"] = _of_reference(rows, "response_label")
    if selection.grouping != SECOND_GROUPING and _has_fine_labels(selection.classifier):
        other = read_predictions(selection.classifier, SECOND_GROUPING, texts=texts)
        rows[f"user_label_{SECOND_GROUPING}"], _ = _labelled(*other.of(rows["user_text"], folds))
        again, confidence = other.of(rows["response_text"], folds)
        again[codes == -1] = -1
        rows[f"response_label_{SECOND_GROUPING}"], _ = _labelled(again, confidence)
        rows[f"reference_label_{SECOND_GROUPING}"] = _of_reference(rows, f"response_label_{SECOND_GROUPING}")
    return rows.drop(columns="system_pk")


def _of_reference(rows: pd.DataFrame, column: str) -> pd.Series[Any]:
    """What the human reference of each row's turn has in a column."""
    said = rows.loc[rows["is_reference"]].set_index("turn_pk")[column]
    return rows["turn_pk"].map(said).astype(object)


def _has_fine_labels(classifier: Classifier | None) -> bool:
    return classifier is not None and tuple(classifier.labels) == GO_EMOTIONS


def _within_frame(rows: pd.DataFrame, selection: Selection) -> tuple[pd.DataFrame, int]:
    """Keep the turns the campaign's sample speaks for, and count the others: its weights say nothing about those."""
    campaign = selection.campaign
    if campaign is None or rows.empty:
        return rows, 0
    design = campaign.design or {}
    inside = rows["turn_pk"].isin(_frame_of(campaign, design))
    return rows[inside].reset_index(drop=True), int(rows.loc[~inside, "turn_pk"].nunique())


def _frame_of(campaign: Campaign, design: Mapping[str, Any]) -> set[int]:
    """The turns a campaign was drawn from, by the rule of its opening; those drawn are always among them."""
    drawn = set(SampledTurn.objects.filter(campaign=campaign).values_list("turn_id", flat=True))
    if design.get("kind") == "list" and not design.get("probabilities"):
        return drawn
    turns = Turn.objects.filter(dialogue__dataset__in=campaign.datasets.all())
    if design.get("splits"):
        turns = turns.filter(dialogue__split__in=design["splits"])
    asked = campaign.verify_responses or campaign.rate_responses
    if not (asked and design.get("complete_only", True)):
        return drawn | set(turns.values_list("id", flat=True).iterator(chunk_size=BATCH))
    systems = set(campaign.systems.values_list("pk", flat=True))
    systems |= set(System.objects.filter(is_reference=True).values_list("pk", flat=True))
    given = Response.objects.filter(system__in=systems, turn__dialogue__dataset__in=campaign.datasets.all())
    unusable = {
        pk
        for pk, flags in given.exclude(flags=[]).values_list("id", "flags").iterator(chunk_size=BATCH)
        if UNUSABLE_FLAGS.intersection(flags)
    }
    answered: dict[int, int] = {}
    for pk, turn in given.values_list("id", "turn_id").iterator(chunk_size=BATCH):
        if pk not in unusable:
            answered[turn] = answered.get(turn, 0) + 1
    complete = {turn for turn, count in answered.items() if count == len(systems)}
    if design.get("splits"):
        complete &= set(turns.values_list("id", flat=True).iterator(chunk_size=BATCH))
    return drawn | complete


def _labelled(codes: NDArray[np.int8], confidence: NDArray[np.float32]) -> tuple[Any, Any]:
    names = np.array([*EMOTIONS, None], dtype=object)
    sure = np.where(codes >= 0, np.round(confidence.astype(float), 4), np.nan)
    return names[codes], sure


def _dialogues(selection: Selection) -> pd.DataFrame:
    dialogues = Dialogue.objects.filter(dataset__in=selection.datasets)
    return _table(dialogues, {"dialogue_pk": "id", "dialogue": "source_id", "dataset": "dataset__name"})


def _unusable_responses(selection: Selection, systems: Sequence[System]) -> set[int]:
    flagged = _responses_of(selection, systems).exclude(flags=[]).values_list("id", "flags")
    return {pk for pk, flags in flagged.iterator(chunk_size=BATCH) if UNUSABLE_FLAGS.intersection(flags)}


# --- judgments and verified labels -----------------------------------------------------------------------------------

_JUDGMENT_COLUMNS = {
    "id": "id",
    "item": "item_id",
    "kind": "item__kind",
    "turn_pk": "item__sampled_turn__turn_id",
    "response_pk": "item__response_id",
    "gold_label": "item__gold__label",
    "gold_role": "item__gold__role",
    "annotator_pk": "annotator_id",
    "slot": "slot_id",
    "arm": "slot__arm",
    "prelabel": "slot__prelabel",
    "response_order": "slot__response_order",
    "leased_at": "slot__leased_at",
    "action": "action",
    "label": "label",
    "ratings": "ratings",
    "reason": "reason",
    "flagged": "flagged",
    "prelabel_outcome": "prelabel_outcome",
    "supersedes": "supersedes_id",
    "answered_at": "answered_at",
    "received_at": "received_at",
    "active_ms": "active_ms",
    "device": "device",
    "guideline": "guideline__version",
    "comment": "comment",
}


def _no_judgments() -> pd.DataFrame:
    return pd.DataFrame(columns=[*_JUDGMENT_COLUMNS, "annotator"]).drop(columns=["annotator_pk", "comment"])


def judgment_rows(campaign: Campaign, *, as_of: datetime) -> pd.DataFrame:
    """The standing answers of a campaign as of a moment: neither superseded by then nor set aside, one per slot."""
    received = Judgment.objects.filter(item__campaign=campaign, received_at__lte=as_of, set_aside=False)
    rows = _table(received, _JUDGMENT_COLUMNS)
    if rows.empty:
        return _no_judgments()
    rows = rows[~rows["id"].isin(set(rows["supersedes"].dropna()))]
    rows = rows.sort_values(["item", "received_at", "id"], kind="stable", ignore_index=True)
    names = pseudonyms(campaign)
    rows["annotator"] = [
        names.get(int(person)) or stand_in(campaign, int(person)) if pd.notna(person) else f"withdrawn-{slot}"
        for person, slot in zip(rows["annotator_pk"], rows["slot"], strict=True)
    ]
    # One person, one answer per item: an answer sent again under another key counts as its correction.
    rows = rows.drop_duplicates(["item", "annotator"], keep="last", ignore_index=True)
    return rows.drop(columns=["annotator_pk", "comment"])


def pseudonyms(campaign: Campaign) -> dict[int, str]:
    """The name each member is exported under."""
    members = Membership.objects.filter(campaign=campaign).values_list("user_id", "role", "pseudonym")
    ranked = sorted(members, key=lambda member: member[1] == Role.ANNOTATOR)
    return {user: pseudonym for user, _, pseudonym in ranked}


def stand_in(campaign: Campaign, person: int) -> str:
    """The export name of someone who answered but is no member any more: keyed, so that it leads back to nobody."""
    digest = hashlib.sha256(f"{settings.SECRET_KEY}:{campaign.pk}:{person}".encode()).hexdigest()
    return f"r-{digest[:8]}"


def _no_labels() -> pd.DataFrame:
    names = ("item", "kind", "turn_pk", "response_pk", "label", "unresolved")
    return pd.DataFrame({name: [] for name in names}).astype({"label": object, "unresolved": bool})


def verified_items(campaign: Campaign, judgments: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """One row per verified or unresolved item: item, kind, turn_pk, response_pk, label (or None), unresolved."""
    usable = judgments[(judgments["action"] == Judgment.LABEL) & (judgments["kind"] != "gold")]
    if selection.hidden_only:
        usable = usable[usable["arm"] != "shown"]
    adjudicated = standing_adjudications(campaign, selection.as_of)
    labels = majority(usable["item"].to_numpy(), usable["label"].to_numpy(), allow_single=campaign.allow_single)
    items = pd.Index(labels.index.append(pd.Index(list(adjudicated))).unique())
    if items.empty:
        return _no_labels()
    known = _table(
        Item.objects.filter(campaign=campaign, kind__in=["user", "response"]),
        {"item": "id", "kind": "kind", "turn_pk": "sampled_turn__turn_id", "response_pk": "response_id"},
    )
    known = known[known["item"].isin(items)].sort_values("item", ignore_index=True)
    found = labels.reindex(known["item"])
    decided = known["item"].map(adjudicated)
    known["label"] = np.where(decided.notna(), decided, found["label"].to_numpy())
    known["label"] = known["label"].astype(object).where(known["label"].notna(), None)
    known["unresolved"] = known["label"].isna() & (found["labels"].fillna(0).to_numpy() >= 2)
    return known


def majority(items: NDArray[Any], labels: NDArray[Any], *, allow_single: bool) -> pd.DataFrame:
    """The majority of each item by the rule of `evaluation.aggregation.verified_label`, for all items at once.

    Index: item; columns: label (None where tied, or single and singles do not count) and labels, their number.
    """
    codes, names = pd.factorize(pd.Series(items, dtype="int64"))
    places = {emotion: place for place, emotion in enumerate(EMOTIONS)}
    counts = np.zeros((len(names), len(EMOTIONS)), dtype=np.int64)
    np.add.at(counts, (codes, np.array([places[label] for label in labels], dtype=np.int64)), 1)
    best = counts.max(axis=1, initial=0)
    total = counts.sum(axis=1)
    clear = ((counts == best[:, None]).sum(axis=1) == 1) & ((total >= 2) | allow_single)
    chosen = np.array([*EMOTIONS, None], dtype=object)[np.where(clear, counts.argmax(axis=1), -1)]
    index = pd.Index(names, name="item")
    return pd.DataFrame({"label": pd.Series(chosen, index=index, dtype=object), "labels": total}, index=index)


def standing_adjudications(campaign: Campaign, as_of: datetime) -> dict[int, str]:
    """The decision on each item that stood at a moment."""
    until = Adjudication.objects.filter(item__campaign=campaign, received_at__lte=as_of)
    rows = list(until.order_by("received_at").values_list("id", "item_id", "label", "supersedes_id"))
    replaced = {supersedes for _, _, _, supersedes in rows if supersedes}
    return {item: label for key, item, label, _ in rows if key not in replaced}


def _with_verified(rows: pd.DataFrame, verified: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    known = verified.dropna(subset=["label"])
    of_user = known[known["kind"] == "user"].set_index("turn_pk")["label"]
    of_response = known[known["kind"] == "response"].set_index("response_pk")["label"]
    turns = rows.copy()
    turns["user_verified"] = turns["turn_pk"].map(of_user).astype(object)
    turns["response_verified"] = turns["response_pk"].map(of_response).astype(object)
    turns["reference_verified"] = _of_reference(turns, "response_verified")
    drawn = (
        _table(
            SampledTurn.objects.filter(campaign=selection.campaign),
            {"turn_pk": "turn_id", "inclusion_probability": "inclusion_probability", "stratum": "stratum"},
        )
        if selection.campaign
        else pd.DataFrame(columns=["turn_pk", "inclusion_probability", "stratum"])
    ).set_index("turn_pk")
    turns["inclusion_probability"] = turns["turn_pk"].map(drawn["inclusion_probability"]).astype(float)
    turns["stratum"] = turns["turn_pk"].map(drawn["stratum"]).astype(object)
    return turns


def _left_out(selection: Selection) -> dict[str, int]:
    if selection.campaign is None:
        return {"superseded": 0, "set_aside": 0, "after_as_of": 0}
    everything = Judgment.objects.filter(item__campaign=selection.campaign)
    until = Q(received_at__lte=selection.as_of)
    return {
        "superseded": everything.filter(until, superseded__received_at__lte=selection.as_of).count(),
        "set_aside": everything.filter(until, set_aside=True).count(),
        "after_as_of": everything.exclude(until).count(),
    }


# --- tables of people's answers --------------------------------------------------------------------------------------

TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


def _places(turns: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Where a turn, and where a response, belongs: two frames by primary key."""
    columns = ["dialogue", "dataset", "turn", "stratum", "inclusion_probability", "user_label"]
    by_turn = turns.drop_duplicates("turn_pk").set_index("turn_pk")[columns]
    by_response = turns.set_index("response_pk")[["system", "is_reference", "response_label"]]
    return by_turn, by_response


def _judgments_table(judgments: pd.DataFrame, turns: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """The `judgments` table: one row per label, both arms, the arm named; gold questions are no data."""
    columns = ["item", "annotator", "label", "dialogue", "kind", "dataset", "system", "turn", "arm", "prelabel"]
    columns += ["gold_label", "classifier_label", "received_at", "active_ms", "inclusion_probability", "stratum"]
    labels = judgments[(judgments["action"] == Judgment.LABEL) & (judgments["kind"].isin(["user", "response"]))]
    by_turn, by_response = _places(turns)
    # Only judgments whose turn the report speaks of: a campaign may cover more data sets than the report.
    labels = labels[labels["turn_pk"].isin(by_turn.index)].copy()
    answered = labels["kind"] == "response"
    labels = labels[~answered | labels["response_pk"].isin(by_response.index)].copy()
    if labels.empty:
        return pd.DataFrame(columns=columns)
    for name in ("dialogue", "dataset", "turn", "stratum", "inclusion_probability"):
        labels[name] = labels["turn_pk"].map(by_turn[name])
    labels["system"] = labels["response_pk"].map(by_response["system"]).astype(object)
    reference = labels["response_pk"].map(by_response["is_reference"]).fillna(False).astype(bool)
    labels["kind"] = np.where(reference, "reference", labels["kind"])
    of_user = labels["turn_pk"].map(by_turn["user_label"]).astype(object)
    of_response = labels["response_pk"].map(by_response["response_label"]).astype(object)
    labels["classifier_label"] = np.where(labels["kind"] == "user", of_user, of_response)
    # What was (or could have been) shown is what anchoring is about; else the label of the report's classifier.
    assisted = selection.campaign is not None and selection.campaign.mode == Campaign.ASSISTED
    kept = labels["prelabel"].where(labels["prelabel"] != "", labels["classifier_label"])
    labels["prelabel"] = kept if assisted else labels["classifier_label"]
    decided = standing_adjudications(selection.campaign, selection.as_of) if selection.campaign else {}
    labels["gold_label"] = labels["item"].map(decided).astype(object)
    labels["received_at"] = pd.to_datetime(labels["received_at"], utc=True).dt.strftime(TIME)
    return labels[columns].reset_index(drop=True)


def _ratings_table(judgments: pd.DataFrame, turns: pd.DataFrame) -> pd.DataFrame:
    """The `ratings` table: one row per rater, response and scale; alignment flags from human labels only."""
    columns = ["item", "annotator", "dialogue", "turn", "dataset", "system", "outcome", "value", "position"]
    columns += ["aligned_exact", "user_emotion", "inclusion_probability"]
    spread = []
    rated = judgments[judgments["action"] == Judgment.RATE]
    for item, annotator, given, order in zip(
        rated["item"], rated["annotator"], rated["ratings"], rated["response_order"], strict=True
    ):
        shown = {str(response): place for place, response in enumerate(order or [], start=1)}
        for response, scales in given.items():
            for outcome, value in scales.items():
                spread.append((item, annotator, int(response), outcome, value, shown.get(str(response))))
    rows = pd.DataFrame(spread, columns=["item", "annotator", "response_pk", "outcome", "value", "position"])
    known = turns.set_index("response_pk")
    rows = rows[rows["response_pk"].isin(known.index)].copy()
    if rows.empty:
        return pd.DataFrame(columns=columns)
    for name in ("dialogue", "turn", "dataset", "system", "user_verified", "response_verified"):
        rows[name] = rows["response_pk"].map(known[name]).astype(object)
    rows["inclusion_probability"] = rows["response_pk"].map(known["inclusion_probability"]).astype(float)
    rows["item"] = rows["item"].astype(str) + "-" + rows["response_pk"].astype(str)
    both = rows["user_verified"].notna() & rows["response_verified"].notna()
    same = (rows["user_verified"] == rows["response_verified"]).astype(object)
    rows["aligned_exact"] = same.where(both, None)
    rows["user_emotion"] = rows["user_verified"]
    order = ["dataset", "dialogue", "turn", "system", "annotator", "outcome"]
    return rows.sort_values(order, kind="stable")[columns].reset_index(drop=True)


# --- the state of responses ------------------------------------------------------------------------------------------


def response_status(selection: Selection) -> pd.DataFrame:
    """Per data set and system: turns, answered, flagged by kind, failed, not asked, and common to all chosen systems.

    `turns` = `answered` + empty and failed ones without words + `not_asked`. Of an imported system only what came is
    known: what its file leaves out counts as not asked. An answer that is empty and truncated counts in both.
    """
    turns = _table(_turns_of(selection), {"turn_pk": "id", "dataset": "dialogue__dataset__name"})
    given = _table(
        _responses_of(selection, selection.systems),
        {"turn_pk": "turn_id", "system": "system__name", "dataset": "turn__dialogue__dataset__name", "flags": "flags"},
    )
    # Empty answers and failures of generation have no words, so they made no response.
    wordless = _table(
        Generation.objects.filter(
            ~Exists(Response.objects.filter(system=OuterRef("system"), turn=OuterRef("turn"))),
            turn__in=_turns_of(selection),
            system__in=selection.systems,
            state__in=[Generation.EMPTY, Generation.FAILED],
        ),
        {"system": "system__name", "dataset": "turn__dialogue__dataset__name", "state": "state", "flags": "flags"},
    )
    rows = []
    for dataset, asked in turns.groupby("dataset"):
        here = given[given["dataset"] == dataset]
        lost = wordless[wordless["dataset"] == dataset]
        chosen = sorted(system.name for system in selection.systems)
        answered = [set(here.loc[here["system"] == name, "turn_pk"]) for name in chosen]
        common = len(set.intersection(*answered)) if answered else 0
        for name in chosen:
            flags = here.loc[here["system"] == name, "flags"]
            without = lost[lost["system"] == name]
            empty = without.loc[without["state"] == Generation.EMPTY, "flags"]
            named = pd.Series([flag for kept in [*flags, *empty] for flag in set(kept)], dtype=object).value_counts()
            usable = sum(1 for kept in flags if not UNUSABLE_FLAGS.intersection(kept))
            rows.append(
                {
                    "dataset": dataset,
                    "system": name,
                    "turns": len(asked),
                    "answered": len(flags),
                    "usable": usable,
                    **{flag: int(named.get(flag, 0)) for flag in _FLAGS},
                    "failed": len(without) - len(empty),
                    "not_asked": len(asked) - len(flags) - len(without),
                    "common_turns": common,
                }
            )
    columns = ["dataset", "system", "turns", "answered", "usable", *_FLAGS, "failed", "not_asked", "common_turns"]
    return pd.DataFrame(rows, columns=columns)


_FLAGS = ("truncated", "empty", "refusal", "error_text", "wrong_language")
