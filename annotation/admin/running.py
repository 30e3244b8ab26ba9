from __future__ import annotations

from typing import Any, cast

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action

from annotation.admin.base import RecordAdmin, confirmed, progress_bar
from annotation.admin.generation import outcome_of, told, totals_shown
from annotation.admin.launching import launch_view
from annotation.models import Job, ReportRun, User
from annotation.workflow import jobs
from annotation.workflow.accounts import record


@admin.register(Job)
class JobAdmin(RecordAdmin):
    list_display = ["named", "bar", "created_by", "created_at", "finished_at", "outcome"]
    list_filter = ["kind", "state"]
    search_fields = ["message", "error", "created_by__username", "parameters"]
    list_select_related = ["created_by"]
    actions = ["cancel"]
    actions_detail = ["cancel_this", "run_again"]
    fields = [
        "kind",
        "bar",
        "outcome",
        "error",
        "parameters",
        "result",
        "created_by",
        "created_at",
        "started_at",
        "finished_at",
        "worker",
        "attempts",
    ]
    generation_fields = [
        *("story", "bar", "totals", "error", "parameters", "created_by", "created_at", "started_at", "finished_at"),
        *("worker", "attempts"),
    ]
    readonly_fields = [*fields, "story", "totals"]

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        # Django shows list actions only to who may change; every field is read-only.
        return bool(request.user.is_superuser) and obj is None

    def get_fields(self, request: HttpRequest, obj: Job | None = None) -> list[str]:
        return self.generation_fields if obj is not None and obj.kind == "generate" else self.fields

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        """Offer what the job can still do: one that has ended has no button to cancel it, but may run again."""
        job = Job.objects.filter(pk=object_id).first()
        running = job is not None and not job.finished
        again = job is not None and job.finished and job.kind == "generate"
        offered = {"cancel_this": running, "run_again": again}
        found = super().get_actions_detail(request, object_id)
        return [one for one in found if any(on and name in one.action_name for name, on in offered.items())]

    def get_urls(self) -> list[URLPattern]:
        own = [path("launch/<slug:kind>/", self.admin_site.admin_view(launch_view), name="annotation_job_launch")]
        return own + super().get_urls()  # type: ignore[no-any-return]

    @admin.display(description="job", ordering="kind")
    def named(self, job: Job) -> str:
        return str(job).rpartition(": ")[0]

    @admin.display(description="what happened")
    def story(self, job: Job) -> SafeString:
        return format_html("<p><strong>{}</strong>. {}</p>", outcome_of(job).capitalize(), told(job))

    @admin.display(description="totals")
    def totals(self, job: Job) -> str:
        return totals_shown(job)

    @admin.display(description="progress")
    def bar(self, job: Job) -> SafeString:
        return progress_bar(job)

    @admin.display(description="outcome")
    def outcome(self, job: Job) -> SafeString | str:
        if job.kind == "report":
            report = ReportRun.objects.filter(job=job).first()
            if report is not None and report.finished_at is not None:
                return format_html('<a class="outcome-link" href="/reports/{}/">read the report</a>', report.pk)
        if job.kind == "generate":
            return told(job) if job.finished else ""
        return ", ".join(f"{key}: {value}" for key, value in job.result.items() if isinstance(value, int | str | float))

    @admin.action(description="Cancel")
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        for job in queryset:
            if jobs.request_cancel(job):
                record(cast(User, request.user), "cancel job", job)

    @action(description="Cancel", url_path="cancel", icon="cancel", permissions=["view"])  # type: ignore[untyped-decorator]
    @confirmed("Cancel the job", "Stop this job at its next step? What it has done so far stays.")
    def cancel_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        job = Job.objects.get(pk=object_id)
        if jobs.request_cancel(job):
            record(cast(User, request.user), "cancel job", job)
            messages.info(request, "The job stops at its next step.")
        else:
            messages.warning(request, "The job has already ended.")
        return redirect(f"/admin/annotation/job/{object_id}/change/")

    @action(description="Run again", url_path="again", icon="replay", permissions=["view"])  # type: ignore[untyped-decorator]
    def run_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(f"/admin/annotation/job/launch/generate/?again={object_id}")


@admin.register(ReportRun)
class ReportRunAdmin(RecordAdmin):
    list_display = ["title", "read", "campaign", "created_at", "finished_at", "withdrawn"]
    list_filter = ["campaign", "affected_by_withdrawal"]
    search_fields = ["title", "campaign__title"]
    list_select_related = ["campaign"]
    actions = ["compare"]
    exclude = ["results"]

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        # Django shows list actions only to who may change; every field is read-only.
        return bool(request.user.is_superuser) and obj is None

    @admin.display(description="")
    def read(self, report: ReportRun) -> SafeString:
        if not report.finished_at:
            return format_html("<span>{}</span>", "not finished")
        return format_html('<a class="outcome-link" href="/reports/{}/">read</a>', report.pk)

    @admin.display(description="withdrawal", ordering="affected_by_withdrawal")
    def withdrawn(self, report: ReportRun) -> str:
        return "a person whose labels it uses has withdrawn" if report.affected_by_withdrawal else "-"

    @admin.action(description="Compare two reports, number by number")
    def compare(self, request: HttpRequest, queryset: QuerySet[ReportRun]) -> HttpResponse | None:
        chosen = list(queryset.order_by("created_at"))
        if len(chosen) != 2:
            self.message_user(request, "Choose exactly two reports.", level="ERROR")
            return None
        return redirect(f"/reports/{chosen[0].pk}/against/{chosen[1].pk}/")
