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

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        record(cast(User, request.user), "change" if change else "add", obj, fields=list(form.changed_data))

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        record(cast(User, request.user), "delete", f"{obj._meta.model_name} {obj}")
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for obj in queryset:
            record(cast(User, request.user), "delete", f"{obj._meta.model_name} {obj}")
        super().delete_queryset(request, queryset)


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
        job.total or 1 if job.state == Job.DONE else job.done,
        jobs.note(job),
    )
