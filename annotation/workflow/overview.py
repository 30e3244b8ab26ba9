"""The state of a campaign for the researcher who runs it: progress, people, agreement so far."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pandas as pd
from django.core.cache import cache
from django.db.models import Count, Max, Q
from django.utils import timezone

from annotation.models import Campaign, Item, Judgment, Membership, Role, Slot, User
from annotation.workflow.frames import judgment_rows
from evaluation.agreement import agreement
from evaluation.emotions import EMOTIONS
from evaluation.intervals import Estimate
from evaluation.label_table import AgreementOptions

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
    "no_data": "nobody has labelled anything yet",
    "no_pairs": "no item has two labels yet",
    "no_variation": "everybody has used one label only so far",
    "one_item": "only one item has two labels so far",
}


@dataclass(frozen=True, slots=True)
class Annotator:
    """One annotator's work so far. `hasty` says why her speed deserves a look, or is empty."""

    user: User
    pseudonym: str
    verified: int
    rated: int
    last: Any
    median_seconds: float | None
    gold_right: int
    gold_asked: int
    hasty: str


@dataclass(frozen=True, slots=True)
class CampaignState:
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


def campaign_state(campaign: Campaign) -> CampaignState:
    """Everything the campaign page shows. Recomputed when an answer has come in since, else from the cache."""
    answers = Judgment.objects.filter(item__campaign=campaign)
    stamp = answers.aggregate(last=Max("received_at"), count=Count("pk"))
    key = f"campaign-state:{campaign.pk}:{stamp['last']}:{stamp['count']}:{campaign.state}:{timezone.now():%H}"
    state: CampaignState | None = cache.get(key)
    if state is None:
        state = _campaign_state(campaign)
        cache.set(key, state, 600)
    return state


def _campaign_state(campaign: Campaign) -> CampaignState:
    rows = judgment_rows(campaign, as_of=timezone.now())
    labels = rows[(rows["action"] == Judgment.LABEL) & (rows["kind"] != "gold")]
    per_item = labels.groupby("item")["label"].agg(["size", "nunique"]) if len(labels) else None
    yesterday = timezone.now() - timedelta(days=1)
    last_day = Judgment.objects.filter(item__campaign=campaign, received_at__gte=yesterday).count()
    wanted = campaign.verify_total + campaign.rate_total - campaign.verify_done - campaign.rate_done
    return CampaignState(
        annotators=annotators_of(campaign, rows),
        agreement=label_agreement(campaign, labels),
        ratings=rating_agreement(campaign, rows),
        items=int(labels["item"].nunique()),
        double_labelled=int((per_item["size"] > 1).sum()) if per_item is not None else 0,
        unresolved=int(((per_item["size"] > 1) & (per_item["nunique"] > 1)).sum()) if per_item is not None else 0,
        needs_attention=Item.objects.filter(campaign=campaign, needs_attention=True).count(),
        set_aside=Judgment.objects.filter(item__campaign=campaign, set_aside=True).count(),
        leased=Slot.objects.filter(campaign=campaign, state=Slot.LEASED, leased_until__gt=timezone.now()).count(),
        last_day=last_day,
        days_left=round(wanted / last_day, 1) if last_day and wanted > 0 else None,
    )


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
            )
        )
    return found


def label_agreement(campaign: Campaign, labels: pd.DataFrame) -> list[tuple[str, Estimate, str]]:
    """Agreement of the annotators so far, dialogues as clusters; in assisted mode of the hidden arm only."""
    if labels.empty:
        return []
    table = labels[["item", "annotator", "label"]].copy()
    table["arm"] = labels["arm"].fillna("").to_numpy()
    table["dialogue"] = labels["item"].map(dialogues_of(campaign)).to_numpy()
    result = agreement(table, AgreementOptions(labels=EMOTIONS, replicates=500, seed=campaign.seed % 2**32))
    return [
        (title, result.coefficients[name], REASONS.get(result.coefficients[name].reason or "", ""))
        for name, title in SHOWN.items()
        if name in result.coefficients
    ]


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
        found.append((f"Ordinal α, {scale['name']}", alpha, REASONS.get(alpha.reason or "", "")))
    return found


def dialogues_of(campaign: Campaign) -> dict[int, int]:
    """Item to dialogue: the cluster of every interval."""
    return dict(
        Item.objects.filter(Q(campaign=campaign), sampled_turn__isnull=False).values_list(
            "pk", "sampled_turn__turn__dialogue_id"
        )
    )
