from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from annotation.models import Job, User
from annotation.workflow import jobs
from annotation.workflow.accounts import record


def superusers_only(request: HttpRequest) -> bool:
    """The admin shows every campaign, so being staff is not enough."""
    return bool(request.user.is_active and request.user.is_superuser)


admin.site.has_permission = superusers_only  # type: ignore[method-assign]

Act = Callable[[Any, HttpRequest, str], HttpResponse]


def confirmed(verb: str, question: str) -> Callable[[Act], Act]:
    """Ask before an act: the buttons of a row are links, and what a link opens must change nothing."""

    def decorate(act: Act) -> Act:
        @wraps(act)
        def asked(model_admin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
            if request.method == "POST":
                return act(model_admin, request, object_id)
            back = f"/admin/annotation/{model_admin.model._meta.model_name}/{object_id}/change/"
            given = {"title": verb, "verb": verb, "question": question, "back": back}
            return TemplateResponse(request, "admin/confirm.html", {**admin.site.each_context(request), **given})

        return asked

    return decorate


class AuditedAdmin(ModelAdmin):  # type: ignore[misc]
    """A model that administrators may edit; every change goes into the audit log."""

    compressed_fields = True
    warn_unsaved_form = True
    list_per_page = 50
    show_full_result_count = False

    # Django calls these for everything it does by the admin: forms, the rows inside them, passwords, deletions.

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        record(cast(User, request.user), "add", named(obj), what=message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        record(cast(User, request.user), "change", named(obj), what=message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            record(cast(User, request.user), "delete", named(obj))
        return super().log_deletions(request, queryset)


def named(obj: Model) -> str:
    return f"{obj._meta.model_name} {obj}"


class RecordAdmin(ModelAdmin):  # type: ignore[misc]
    """A model that only the work itself writes: to look at, not to edit."""

    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)


def progress_bar(job: Job) -> SafeString:
    """A bar that admin.js keeps up to date while the job runs."""
    return format_html(
        '<div class="job" data-job="{}" data-state="{}"><progress max="{}" value="{}"></progress>'
        '<span class="job-note">{}</span></div>',
        job.pk,
        job.state,
        job.total or 1,
        1 if job.state == Job.DONE and not job.total else job.done,
        jobs.note(job),
    )
