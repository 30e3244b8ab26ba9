"""Start a job from a form: one page for every kind of long work."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from annotation import tasks
from annotation.admin.forms import GenerateForm, ImportForm, PrelabelForm, ReportForm, TrainForm
from annotation.models import User
from annotation.workflow import jobs, uploads
from annotation.workflow.accounts import record

FORMS: dict[str, tuple[str, str, type[forms.Form]]] = {
    "import": ("Import a file", "Import", ImportForm),
    "prelabel": ("Pre-label what has no prediction yet", "Pre-label", PrelabelForm),
    "generate": ("Generate responses of a system", "Generate", GenerateForm),
    "train": ("Learn from verified labels", "Learn", TrainForm),
    "report": ("Run the full metric report", "Run the report", ReportForm),
}


def launch_view(request: HttpRequest, kind: str) -> HttpResponse:
    if kind not in FORMS:
        raise Http404
    initial = {"campaign": request.GET["campaign"]} if "campaign" in request.GET else None
    return launch(request, kind, initial=initial)


def launch(request: HttpRequest, kind: str, *, initial: dict[str, Any] | None = None) -> HttpResponse:
    """Show the form; a valid one becomes a job row, the browser goes to the job's page and watches it."""
    user = cast(User, request.user)
    if not user.is_superuser:
        raise PermissionDenied
    title, verb, form_class = FORMS[kind]
    form = form_class(request.POST or None, request.FILES or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        job = jobs.create_job(kind=kind, parameters=parameters_of(kind, form), user=user)
        tasks.start(job)
        record(user, f"start {job.get_kind_display()}", job.pk)
        return redirect(f"/admin/annotation/job/{job.pk}/change/")
    context = {**admin.site.each_context(request), "title": title, "verb": verb, "form": form}
    return TemplateResponse(request, "admin/launch.html", context)


def parameters_of(kind: str, form: forms.Form) -> dict[str, Any]:
    """What the job's row keeps of the form."""
    values = dict(form.cleaned_data)
    if kind == "import":
        return uploads.keep_upload(values["file"], values)
    if kind in ("report", "train"):
        campaign = values.pop("campaign")
        values["campaign"] = campaign.name if campaign else None
    return values
