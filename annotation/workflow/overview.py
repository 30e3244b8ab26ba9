"""The state of a campaign for the researcher who runs it: progress, people, agreement so far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import pandas as pd
from django.core.cache import cache
from django.db.models import Count, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotation.models import Campaign, Item, Judgment, Membership, Role, Slot, User
from annotation.workflow.frames import judgment_rows
from annotation.workflow.planning import answers_so_far, count_look, precision_now
from annotation.workflow.verification import set_aside
from evaluation.agreement import agreement
from evaluation.emotions import EMOTIONS
from evaluation.intervals import Estimate
from evaluation.label_table import AgreementOptions
from evaluation.precision import Precision, of_agreement

HASTY_MS = 1200
"""An answer faster than this hardly follows a reading in context: a reason to look, not a verdict."""

HASTY_SHARE = 0.25
SHOWN = {
    "percent_agreement": "Percent agreement",
    "krippendorff_alpha": "Krippendorff's α",
    "gwet_ac1": "Gwet's AC1",
    "fleiss_kappa": "Fleiss' κ",
}
REASONS = {
    "no_data": _("nobody has labelled anything yet"),
    "no_pairs": _("no item has two labels yet"),
    "no_variation": _("everybody has used one label only so far"),
    "one_item": _("only one item has two labels so far"),
}
WIDTH_REASONS = {
    "no_data": _("nothing is verified here yet"),
    "no_pairs": _("no item has two labels yet"),
    "no_variation": _("what is verified shows no spread yet"),
    "one_item": _("only one is verified so far"),
    "one_dialogue": _("all that is verified is of one dialogue"),
    "unstable": _("too few are verified for an interval"),
}
"""Why a width is undefined, by the reason of its estimate; any other means that what it takes is not verified."""


@dataclass(frozen=True, slots=True)
class Annotator:
    """One annotator's work so far. `hasty` says why her speed deserves a look, or is empty. `holding`: items dealt to
    her that she has not answered yet. `gone`: she has withdrawn, and cannot be let in again."""

    user: User
    pseudonym: str
    verified: int
    rated: int
    last: Any
    median_seconds: float | None
    gold_right: int
    gold_asked: int
    hasty: str
    active: bool = True
    gone: bool = False
    holding: int = 0


@dataclass(frozen=True, slots=True)
class CampaignState:
    """The state of a campaign. `planned`: the turns drawn; `looks`: how often intervals of new answers were shown."""

    annotators: list[Annotator]
    agreement: list[tuple[str, Estimate, str]]
    ratings: list[tuple[str, Estimate, str]]
    items: int
    double_labelled: int
    unresolved: int
    needs_attention: int
    set_aside: int
    leased: int
    last_day: int
    days_left: float | None
    precision: list[Precision]
    planned: int
    looks: int


def campaign_state(campaign: Campaign) -> CampaignState:
    """Everything the campaign page shows. Recomputed when an answer has come in since, else from the cache."""
    slots = Slot.objects.filter(campaign=campaign, state=Slot.LEASED, leased_until__gt=timezone.now())
    held = dict(slots.order_by().values_list("annotator").annotate(count=Count("pk")))
    aside = set_aside(campaign).count()
    members = Membership.objects.filter(campaign=campaign, role=Role.ANNOTATOR).order_by("pk")
    seen = f"{answers_so_far(campaign)} {aside} {list(members.values_list('pk', 'active'))} {timezone.now():%H}"
    key = f"campaign-state:{campaign.pk}:{blake2b(seen.encode(), digest_size=12).hexdigest()}"
    state: CampaignState | None = cache.get(key)
    if state is None:
        state = _campaign_state(campaign)
        cache.set(key, state, 600)
    return replace(
        state,
        annotators=[replace(one, holding=held.get(one.user.pk, 0)) for one in state.annotators],
        leased=sum(held.values()),
        set_aside=aside,
        looks=count_look(campaign),
    )


def _campaign_state(campaign: Campaign) -> CampaignState:
    now = timezone.now()
    rows = judgment_rows(campaign, as_of=now)
    labels = rows[(rows["action"] == Judgment.LABEL) & (rows["kind"] != "gold")]
    per_item = labels.groupby("item")["label"].agg(["size", "nunique"]) if len(labels) else None
    last_day = Judgment.objects.filter(item__campaign=campaign, received_at__gte=now - timedelta(days=1)).count()
    wanted = campaign.verify_total + campaign.rate_total - campaign.verify_done - campaign.rate_done
    coefficients = label_coefficients(campaign, labels)
    return CampaignState(
        annotators=annotators_of(campaign, rows),
        agreement=[
            (title, coefficients[name], _reason(coefficients[name]))
            for name, title in SHOWN.items()
            if name in coefficients
        ],
        ratings=rating_agreement(campaign, rows),
        items=int(labels["item"].nunique()),
        double_labelled=int((per_item["size"] > 1).sum()) if per_item is not None else 0,
        unresolved=int(((per_item["size"] > 1) & (per_item["nunique"] > 1)).sum()) if per_item is not None else 0,
        needs_attention=Item.objects.filter(campaign=campaign, needs_attention=True).count(),
        set_aside=0,
        leased=0,
        last_day=last_day,
        days_left=round(wanted / last_day, 1) if last_day and wanted > 0 else None,
        precision=precision_so_far(campaign, rows, coefficients, as_of=now),
        planned=campaign.sampled_turns.count(),
        looks=0,
    )


def precision_so_far(
    campaign: Campaign, rows: pd.DataFrame, coefficients: dict[str, Estimate], *, as_of: datetime
) -> list[Precision]:
    """How wide the headline intervals are by now; nothing before the first label."""
    if not coefficients:
        return []
    double = campaign.verify_items if campaign.verify_overlap > 1 else 0
    agreed = [
        of_agreement(name, coefficients[name], planned=double)
        for name in ("krippendorff_alpha", "fleiss_kappa")
        if double and name in coefficients
    ]
    return [*precision_now(campaign, rows, as_of=as_of), *agreed]


def _reason(estimate: Estimate) -> Any:
    return REASONS.get(estimate.reason or "", "")


def why_undefined(one: Precision) -> Any:
    """Say in words why a width is undefined."""
    return WIDTH_REASONS.get(one.reason or "", WIDTH_REASONS["no_data"])


def annotators_of(campaign: Campaign, rows: pd.DataFrame) -> list[Annotator]:
    found = []
    members = Membership.objects.filter(campaign=campaign, role=Role.ANNOTATOR).select_related("user")
    for member in members.order_by("-active", "user__username"):
        own = rows[rows["annotator"] == member.pseudonym]
        labelled = own[own["action"] == Judgment.LABEL]
        gold = labelled[labelled["gold_label"].notna()]
        times = pd.to_numeric(labelled["active_ms"], errors="coerce").dropna()
        hasty = float((times < HASTY_MS).mean()) if len(times) >= 10 else 0.0
        found.append(
            Annotator(
                user=member.user,
                pseudonym=member.pseudonym,
                verified=member.verify_done,
                rated=member.rate_done,
                last=own["received_at"].max() if len(own) else None,
                median_seconds=round(float(times.median()) / 1000, 1) if len(times) else None,
                gold_right=int((gold["label"] == gold["gold_label"]).sum()),
                gold_asked=len(gold),
                hasty=f"{hasty:.0%} of answers under {HASTY_MS / 1000:.1f} s" if hasty > HASTY_SHARE else "",
                active=member.active,
                gone=member.withdrawn_at is not None,
            )
        )
    return found


def label_coefficients(campaign: Campaign, labels: pd.DataFrame) -> dict[str, Estimate]:
    """Agreement of the annotators so far, dialogues as clusters; in assisted mode of the hidden arm only."""
    if labels.empty:
        return {}
    table = labels[["item", "annotator", "label"]].copy()
    table["arm"] = labels["arm"].fillna("").to_numpy()
    table["dialogue"] = labels["item"].map(dialogues_of(campaign)).to_numpy()
    options = AgreementOptions(labels=EMOTIONS, replicates=500, seed=campaign.seed % 2**32)
    found = agreement(table, options).coefficients
    return {name: found[name] for name in SHOWN if name in found}


def rating_agreement(campaign: Campaign, rows: pd.DataFrame) -> list[tuple[str, Estimate, str]]:
    """Ordinal alpha per scale: one rated response is one unit."""
    rated = rows[rows["action"] == Judgment.RATE]
    if rated.empty:
        return []
    places = dialogues_of(campaign)
    found = []
    for scale in campaign.scales:
        answers = [
            {
                "item": f"{item}:{response}",
                "annotator": who,
                "label": str(given[scale["name"]]),
                "dialogue": places[item],
            }
            for item, who, ratings in zip(rated["item"], rated["annotator"], rated["ratings"], strict=True)
            for response, given in ratings.items()
            if scale["name"] in given
        ]
        if not answers:
            continue
        points = tuple(str(point) for point in range(1, int(scale["points"]) + 1))
        options = AgreementOptions(labels=points, level="ordinal", replicates=500, seed=campaign.seed % 2**32)
        alpha = agreement(pd.DataFrame(answers), options).coefficients["krippendorff_alpha"]
        found.append((f"Ordinal α, {scale['name']}", alpha, _reason(alpha)))
    return found


def dialogues_of(campaign: Campaign) -> dict[int, int]:
    """Item to dialogue: the cluster of every interval."""
    return dict(
        Item.objects.filter(Q(campaign=campaign), sampled_turn__isnull=False).values_list(
            "pk", "sampled_turn__turn__dialogue_id"
        )
    )
