"""Start a job from a form: one page for every kind of long work."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from annotation import tasks
from annotation.admin.forms import ImportForm, PrelabelForm, ReportForm, TrainForm
from annotation.admin.generating import GenerateForm, first_values
from annotation.inference.generator import GenerationError
from annotation.models import Job, Turn, User
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
    initial: dict[str, Any] | None = None
    if kind == "generate":
        initial = first_generation(request)
    elif "campaign" in request.GET:
        initial = {"campaign": request.GET["campaign"]}
    return launch(request, kind, initial=initial)


def first_generation(request: HttpRequest) -> dict[str, Any] | None:
    """The parameters of a job that is to run again, or the system that someone came from."""
    if again := request.GET.get("again"):
        try:
            job = Job.objects.filter(pk=again, kind="generate").first()
        except ValidationError:  # no job has such a key
            job = None
        if job is None:
            raise Http404
        return first_values(job.parameters)
    return first_values({"system": request.GET["system"]}) if "system" in request.GET else None


def launch(request: HttpRequest, kind: str, *, initial: dict[str, Any] | None = None) -> HttpResponse:
    """Show the form; a valid one becomes a job row, the browser goes to the job's page and watches it."""
    user = cast(User, request.user)
    if not user.is_superuser:
        raise PermissionDenied
    title, verb, form_class = FORMS[kind]
    form = form_class(request.POST or None, request.FILES or None, initial=initial)
    act = request.POST.get("act", "start")
    if request.method == "POST" and form.is_valid() and act != "change":
        if isinstance(form, GenerateForm) and act == "look":
            return looked(request, form)
        job = jobs.create_job(kind=kind, parameters=parameters_of(kind, form), user=user)
        tasks.start(job)
        record(user, f"start {job.get_kind_display()}", job.pk)
        return redirect(f"/admin/annotation/job/{job.pk}/change/")
    sections = form.sections() if isinstance(form, GenerateForm) else None
    context = {"title": title, "verb": verb, "form": form, "sections": sections}
    return TemplateResponse(request, "admin/launch.html", {**admin.site.each_context(request), **context})


def looked(request: HttpRequest, form: GenerateForm) -> HttpResponse:
    """What a run would ask, to read before it costs anything; the form's values go with it."""
    try:
        summary = form.look()
    except GenerationError as error:
        form.add_error(None, str(error))
        context = {"title": FORMS["generate"][0], "verb": FORMS["generate"][1], "form": form}
        context["sections"] = form.sections()
        return TemplateResponse(request, "admin/launch.html", {**admin.site.each_context(request), **context})
    given = [
        (name, value)
        for name, values in request.POST.lists()
        if name not in ("act", "csrfmiddlewaretoken")
        for value in values
    ]
    shown = Turn.objects.filter(pk__in=[example["turn"] for example in summary.examples])
    places = {turn.pk: f"{turn.dialogue}, turn {turn.position}" for turn in shown.select_related("dialogue__dataset")}
    for example in summary.examples:
        example["place"] = places.get(example["turn"], "")
    context = {
        "title": f"{summary.system}: prompts and counts",
        "summary": summary,
        "cases": sorted(summary.cases.items()),
        "given": given,
    }
    return TemplateResponse(request, "admin/look.html", {**admin.site.each_context(request), **context})


def parameters_of(kind: str, form: forms.Form) -> dict[str, Any]:
    """What the job's row keeps of the form."""
    if isinstance(form, GenerateForm):
        return form.parameters()
    values = dict(form.cleaned_data)
    if kind == "import":
        return uploads.keep_upload(values["file"], values)
    if kind in ("report", "train"):
        campaign = values.pop("campaign")
        values["campaign"] = campaign.name if campaign else None
    return values
