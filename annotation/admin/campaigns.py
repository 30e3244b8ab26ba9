from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import action

from annotation import tasks
from annotation.admin.base import AuditedAdmin, RecordAdmin, confirmed
from annotation.admin.forms import CampaignForm
from annotation.admin.launching import launch
from annotation.admin.planning import plan_view
from annotation.models import (
    Adjudication,
    Campaign,
    GoldQuestion,
    Guideline,
    Item,
    Judgment,
    Membership,
    SampledTurn,
    Slot,
    User,
)
from annotation.workflow import jobs, opening, steering
from annotation.workflow.accounts import record
from annotation.workflow.codebook import give_codebook


class GuidelineFormSet(forms.BaseInlineFormSet):  # type: ignore[type-arg]
    """A version that a judgment names stays as it was when the judgment was given: a change is a new version."""

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if form.instance.pk is not None and form.instance.judgments.exists():
            for name in ("version", "markdown", "change_note"):
                form.fields[name].disabled = True
            form.fields["markdown"].help_text = "Answers were given under this version. A change is a new version."


class GuidelineInline(TabularInline):  # type: ignore[misc]
    model = Guideline
    formset = GuidelineFormSet
    fields = ["version", "markdown", "change_note"]
    extra = 0


class MembershipInline(TabularInline):  # type: ignore[misc]
    model = Membership
    fields = ["user", "role", "active"]
    autocomplete_fields = ["user"]
    extra = 0


class GoldInline(TabularInline):  # type: ignore[misc]
    model = GoldQuestion
    fields = ["use", "role", "text", "label", "explanation"]
    extra = 0


@admin.register(Campaign)
class CampaignAdmin(AuditedAdmin):
    form = CampaignForm
    list_display = ["title", "state", "mode", "verified", "rated", "page", "created_at"]
    list_filter = ["state", "mode", "datasets"]
    search_fields = ["name", "title"]
    inlines = [GuidelineInline, MembershipInline, GoldInline]
    actions = ["report"]
    actions_detail = ["plan", "open", "pause", "close", "report_this", "learn"]
    readonly_fields = ["state", "opened_at", "verify_total", "verify_done", "rate_total", "rate_done", "looks"]
    fieldsets = [
        (None, {"fields": ["name", "title", "state", "datasets", "systems", "classifier", "grouping"]}),
        (
            "Sample",
            {
                "fields": [
                    "sampling",
                    "size",
                    "listed",
                    "strata",
                    "balanced",
                    "seed",
                    "verify_user",
                    "verify_responses",
                    "rate_responses",
                ]
            },
        ),
        (
            "Annotation",
            {
                "fields": [
                    "mode",
                    "hidden_share",
                    "verify_overlap",
                    "rate_overlap",
                    "allow_single",
                    "separate_raters",
                    "scales",
                    "lease_minutes",
                    "gold_every",
                    "require_practice",
                ]
            },
        ),
        ("Consent", {"fields": ["consent_text", "consent_version", "withdrawal"], "classes": ["collapse"]}),
        (
            "Progress",
            {
                "fields": ["opened_at", "verify_total", "verify_done", "rate_total", "rate_done", "looks"],
                "classes": ["collapse"],
            },
        ),
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fixed = [
            "name",
            "datasets",
            "systems",
            "classifier",
            "grouping",
            "seed",
            "verify_user",
            "verify_responses",
            "rate_responses",
            "mode",
            "hidden_share",
            "verify_overlap",
            "rate_overlap",
        ]
        opened = obj is not None and obj.opened_at is not None
        return [*self.readonly_fields, *(fixed if opened else [])]

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        if not change:
            cast(Campaign, obj).created_by = cast(User, request.user)
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if not change:
            give_codebook(form.instance)
        if form.instance.opened_at is not None:
            # Gold questions that were added while the campaign runs are mixed in from now on.
            opening.write_gold_items(form.instance)

    @admin.display(description="verified")
    def verified(self, campaign: Campaign) -> str:
        return f"{campaign.verify_done} of {campaign.verify_total}"

    @admin.display(description="rated")
    def rated(self, campaign: Campaign) -> str:
        return f"{campaign.rate_done} of {campaign.rate_total}"

    @admin.display(description="")
    def page(self, campaign: Campaign) -> SafeString:
        return format_html('<a href="/campaigns/{}/">campaign page</a>', campaign.name)

    @admin.action(description="Run the full metric report")
    def report(self, request: HttpRequest, queryset: QuerySet[Campaign]) -> HttpResponse | None:
        chosen = list(queryset)
        if len(chosen) != 1:
            self.message_user(request, "Choose exactly one campaign.", level="ERROR")
            return None
        return redirect(f"/admin/annotation/job/launch/report/?campaign={chosen[0].pk}")

    @action(description="Plan", url_path="plan", icon="straighten", permissions=["change"])  # type: ignore[untyped-decorator]
    def plan(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """How many turns to draw, before opening. Only reads."""
        return plan_view(request, get_object_or_404(Campaign, pk=object_id))

    @action(description="Open", url_path="open", icon="play_arrow", permissions=["change"])  # type: ignore[untyped-decorator]
    @confirmed("Open", "Draw the sample if that has not been done, and let people annotate?")
    def open(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Draw the sample (once), or let a paused or closed campaign go on."""
        campaign = get_object_or_404(Campaign, pk=object_id)
        if campaign.opened_at is None:
            job = jobs.create_job(kind="open", parameters={"campaign": campaign.name}, user=cast(User, request.user))
            tasks.start(job)
            record(cast(User, request.user), "open campaign", campaign)
            return redirect(f"/admin/annotation/job/{job.pk}/change/")
        return self._move(request, campaign, Campaign.OPEN)

    @action(description="Pause", url_path="pause", icon="pause", permissions=["change"])  # type: ignore[untyped-decorator]
    @confirmed("Pause", "Pause the campaign? Answers that still arrive are kept and set aside.")
    def pause(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._move(request, get_object_or_404(Campaign, pk=object_id), Campaign.PAUSED)

    @action(description="Close", url_path="close", icon="stop", permissions=["change"])  # type: ignore[untyped-decorator]
    @confirmed("Close", "Close the campaign? Answers that still arrive are kept and set aside.")
    def close(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._move(request, get_object_or_404(Campaign, pk=object_id), Campaign.CLOSED)

    @action(description="Run the full metric report", url_path="report", icon="summarize", permissions=["change"])  # type: ignore[untyped-decorator]
    def report_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return launch(request, "report", initial={"campaign": object_id})

    @action(description="Learn from verified labels", url_path="learn", icon="school", permissions=["change"])  # type: ignore[untyped-decorator]
    def learn(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return launch(request, "train", initial={"campaign": object_id})

    def _move(self, request: HttpRequest, campaign: Campaign, to: str) -> HttpResponse:
        if steering.move(campaign, to, by=cast(User, request.user)):
            self.message_user(request, f"{campaign} is {campaign.state} since {timezone.now():%H:%M}.")
        elif campaign.opened_at is None:
            self.message_user(request, "This campaign has not been opened yet.", level="ERROR")
        else:
            self.message_user(request, f"Nothing changed: {campaign} is {campaign.state}.", level="ERROR")
        return redirect(f"/admin/annotation/campaign/{campaign.pk}/change/")


@admin.register(SampledTurn)
class SampledTurnAdmin(RecordAdmin):
    list_display = ["campaign", "draw_order", "turn", "stratum", "inclusion_probability"]
    list_filter = ["campaign", "stratum"]
    search_fields = ["turn__dialogue__source_id"]
    list_select_related = ["campaign", "turn__dialogue__dataset"]


@admin.register(Item)
class ItemAdmin(RecordAdmin):
    list_display = ["campaign", "kind", "position", "needs_attention"]
    list_filter = ["campaign", "kind", "needs_attention"]
    search_fields = ["sampled_turn__turn__dialogue__source_id", "gold__text"]
    list_select_related = ["campaign"]


@admin.register(Slot)
class SlotAdmin(RecordAdmin):
    list_display = ["campaign", "task", "item", "number", "state", "annotator", "leased_until"]
    list_filter = ["campaign", "task", "state"]
    search_fields = ["annotator__username", "item__sampled_turn__turn__dialogue__source_id"]
    list_select_related = ["campaign", "annotator", "item"]


@admin.register(Judgment)
class JudgmentAdmin(RecordAdmin):
    list_display = [
        "received_at",
        "annotator",
        "action",
        "label",
        "prelabel_outcome",
        "active_ms",
        "flagged",
        "set_aside",
    ]
    ordering = ["-received_at"]
    list_filter = ["action", "label", "flagged", "set_aside", "item__campaign"]
    search_fields = ["comment", "annotator__username"]
    list_select_related = ["annotator"]


@admin.register(Adjudication)
class AdjudicationAdmin(RecordAdmin):
    list_display = ["received_at", "adjudicator", "item", "label", "standing"]
    list_filter = ["standing", "item__campaign"]
    search_fields = ["adjudicator__username", "label"]
    list_select_related = ["adjudicator", "item"]
