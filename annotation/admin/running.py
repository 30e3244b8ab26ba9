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
from annotation.admin.launching import launch_view
from annotation.models import Job, ReportRun, User
from annotation.workflow import jobs
from annotation.workflow.accounts import record


@admin.register(Job)
class JobAdmin(RecordAdmin):
    list_display = ["kind", "bar", "created_by", "created_at", "finished_at", "outcome"]
    list_filter = ["kind", "state"]
    search_fields = ["message", "error", "created_by__username"]
    list_select_related = ["created_by"]
    actions = ["cancel"]
    actions_detail = ["cancel_this"]
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
    readonly_fields = fields

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        # Django shows list actions only to who may change; every field is read-only.
        return bool(request.user.is_superuser) and obj is None

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        """Offer what the job can still do: one that has ended has no button to cancel it."""
        running = Job.objects.filter(pk=object_id, state__in=[Job.QUEUED, Job.RUNNING]).exists()
        return super().get_actions_detail(request, object_id) if running else []

    def get_urls(self) -> list[URLPattern]:
        own = [path("launch/<slug:kind>/", self.admin_site.admin_view(launch_view), name="annotation_job_launch")]
        return own + super().get_urls()  # type: ignore[no-any-return]

    @admin.display(description="progress")
    def bar(self, job: Job) -> SafeString:
        return progress_bar(job)

    @admin.display(description="outcome")
    def outcome(self, job: Job) -> SafeString | str:
        if job.kind == "report":
            report = ReportRun.objects.filter(job=job).first()
            if report is not None and report.finished_at is not None:
                return format_html('<a class="outcome-link" href="/reports/{}/">read the report</a>', report.pk)
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
