"""What generation left behind, to look at: systems and the registry, responses, records of asking, a job's story."""

from __future__ import annotations

import os
from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet, TextField
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import action

from annotation.admin.base import AuditedAdmin, RecordAdmin
from annotation.admin.launching import launch
from annotation.inference.answers import FAILURE_KINDS, FLAGS
from annotation.inference.systems import RegistryError, registry
from annotation.models import Generation, Job, Response, System, Turn
from annotation.workflow.answers import spent_on
from annotation.workflow.generate import prompt_again
from annotation.workflow.leases import held_by
from annotation.workflow.totals import Totals

FLAG_WORDS: dict[str, str] = {str(flag): words for flag, words in FLAGS.items()}
KIND_WORDS: dict[str, str] = {str(kind): words for kind, words in FAILURE_KINDS.items()}

SHOWN = 160
"""Characters of an utterance that a list shows."""


def in_words(flags: list[str]) -> SafeString | str:
    """Flags by their names, each with what it says."""
    return (
        format_html_join(
            " ",
            '<span class="desk-chip" title="{}">{}</span>',
            ((FLAG_WORDS.get(flag, ""), flag.replace("_", " ")) for flag in flags),
        )
        or "-"
    )


def place_of(turn: Turn) -> str:
    return f"{turn.dialogue}, turn {turn.position}"


def shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN].rstrip()} …"


class FlagFilter(admin.SimpleListFilter):
    title = "flag"
    parameter_name = "flag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*((flag, flag.replace("_", " ")) for flag in FLAGS), ("any", "any flag"), ("none", "no flag")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen in ("any", "none"):
            return queryset.exclude(flags=[]) if chosen == "any" else queryset.filter(flags=[])
        if chosen is None:
            return queryset
        # SQLite cannot look into a list, so the flag is looked for in its text.
        with_text = queryset.annotate(flags_text=Cast("flags", TextField()))
        found: QuerySet[Any] = with_text.filter(flags_text__contains=f'"{chosen}"')
        return found


class TemplateFilter(admin.SimpleListFilter):
    title = "template"
    parameter_name = "template"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        known = Generation.objects.order_by("template").values_list("template", flat=True).distinct()
        return [*((name, name) for name in known), ("imported", "none: imported")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen == "imported":
            return queryset.exclude(source__has_key="generated")
        return queryset.filter(source__template=chosen) if chosen else queryset


def prompt_shown(generation: Generation | None) -> SafeString | str:
    """The prompt that was sent, rendered anew from the stored version of the template, or why it cannot be."""
    if generation is None:
        return "not known: imported"
    prompt, trouble = prompt_again(generation)
    if prompt is None:
        return trouble
    messages = ((message["role"], message["content"]) for message in prompt.messages)
    return format_html_join("", '<p class="desk-help">{}</p><pre class="desk-prompt">{}</pre>', messages)


class ResponseInline(TabularInline):  # type: ignore[misc]
    model = Response
    fields = ["system", "shown", "flagged"]
    readonly_fields = fields
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="flags")
    def flagged(self, response: Response) -> SafeString | str:
        return in_words(response.flags)


@admin.register(Response)
class ResponseAdmin(RecordAdmin):
    list_display = ["system", "place", "user", "said", "template", "case", "flagged"]
    list_filter = ["system", "turn__dialogue__dataset", FlagFilter, TemplateFilter]
    search_fields = ["shown", "turn__dialogue__source_id"]
    list_select_related = ["system", "turn__dialogue__dataset", "turn__user_utterance"]
    fields = [
        *("system", "place", "user_words", "shown", "flagged", "template", "case", "recommended"),
        *("prompt", "tokens", "asked", "came_back", "raw", "source"),
    ]
    readonly_fields = fields

    def get_fields(self, request: HttpRequest, obj: Response | None = None) -> list[str]:
        # What a generated response's source holds, the fields above say.
        generated = obj is not None and obj.source.get("generated")
        return [name for name in self.fields if not (generated and name == "source")]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Response]:
        queryset: QuerySet[Response] = super().get_queryset(request)
        return queryset.select_related("system", "turn__dialogue__dataset", "turn__user_utterance")

    @admin.display(description="turn")
    def place(self, response: Response) -> str:
        return place_of(response.turn)

    @admin.display(description="the user said")
    def user(self, response: Response) -> str:
        return shortened(response.turn.user_utterance.shown)

    @admin.display(description="the user said")
    def user_words(self, response: Response) -> str:
        return response.turn.user_utterance.shown

    @admin.display(description="response")
    def said(self, response: Response) -> str:
        return shortened(response.shown)

    @admin.display(description="template")
    def template(self, response: Response) -> str:
        return str(response.source.get("template", "")) or "imported"

    @admin.display(description="case")
    def case(self, response: Response) -> str:
        source = response.source
        return f"case {source['case']}, {source.get('recommendation', '')}" if "case" in source else "-"

    @admin.display(description="recommended")
    def recommended(self, response: Response) -> str:
        return ", ".join(map(str, response.source.get("recommended", []))) or "-"

    @admin.display(description="flags")
    def flagged(self, response: Response) -> SafeString | str:
        return in_words(response.flags)

    @admin.display(description="prompt")
    def prompt(self, response: Response) -> SafeString | str:
        return prompt_shown(Generation.objects.filter(turn=response.turn_id, system=response.system_id).first())

    @admin.display(description="tokens and cost")
    def tokens(self, response: Response) -> str:
        source = response.source
        if not source.get("generated"):
            return "not known: imported"
        told = [f"{source[name] if source.get(name) is not None else 'not told'} {words}" for name, words in TOKENS]
        cost = source.get("cost")
        return ", ".join([*told, "cost not known" if cost is None else f"{cost:.6f} US dollars"])

    @admin.display(description="asked for")
    def asked(self, response: Response) -> SafeString | str:
        return pairs(response.source.get("asked"))

    @admin.display(description="came back")
    def came_back(self, response: Response) -> SafeString | str:
        return pairs(response.source.get("came_back"))


TOKENS = (("tokens_in", "tokens in"), ("tokens_out", "tokens out"))


def pairs(values: Any) -> SafeString | str:
    if not isinstance(values, dict) or not values:
        return "-"
    return format_html_join(", ", "{}: {}", ((name, value) for name, value in values.items()))


@admin.register(Generation)
class GenerationAdmin(RecordAdmin):
    list_display = [
        "system",
        "place",
        "state",
        "kind",
        "attempts",
        "tokens_in",
        "tokens_out",
        "case",
        "template",
        "flagged",
    ]
    list_filter = ["state", "system", "error", "turn__dialogue__dataset", FlagFilter, "template"]
    search_fields = ["turn__dialogue__source_id", "detail"]
    list_select_related = ["system", "turn__dialogue__dataset"]
    fields = [
        *(
            "system",
            "place",
            "user",
            "state",
            "kind",
            "detail",
            "attempts",
            "tokens_in",
            "tokens_out",
            "cost",
            "flagged",
        ),
        *("template", "case", "prompt", "asked_for", "back", "finished_at"),
    ]
    readonly_fields = fields

    @admin.display(description="turn")
    def place(self, generation: Generation) -> str:
        return place_of(generation.turn)

    @admin.display(description="the user said")
    def user(self, generation: Generation) -> str:
        return generation.turn.user_utterance.shown

    @admin.display(description="failure", ordering="error")
    def failure(self, generation: Generation) -> str:
        return generation.error.replace("_", " ") or "-"

    @admin.display(description="kind of failure")
    def kind(self, generation: Generation) -> str:
        words = KIND_WORDS.get(generation.error, "")
        return f"{generation.error.replace('_', ' ')}: {words}".strip(": ") or "-"

    @admin.display(description="case")
    def case(self, generation: Generation) -> str:
        case = generation.asked.get("case")
        return f"case {case}" if case else "-"

    @admin.display(description="flags")
    def flagged(self, generation: Generation) -> SafeString | str:
        return in_words(generation.flags)

    @admin.display(description="prompt")
    def prompt(self, generation: Generation) -> SafeString | str:
        return prompt_shown(generation)

    @admin.display(description="asked for")
    def asked_for(self, generation: Generation) -> SafeString | str:
        return pairs(generation.asked)

    @admin.display(description="came back")
    def back(self, generation: Generation) -> SafeString | str:
        return pairs(generation.came_back)


@admin.register(System)
class SystemAdmin(AuditedAdmin):
    list_display = ["name", "title", "kind", "is_reference", "responses_count"]
    list_filter = ["kind"]
    search_fields = ["name", "title"]
    actions_list = ["generate", "show_registry"]
    actions_detail = ["generate_this"]
    readonly_fields = ["registered", "spent", "now", "details"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[System]:
        queryset: QuerySet[System] = super().get_queryset(request)
        return queryset.annotate(count=Count("responses"))

    def get_urls(self) -> list[URLPattern]:
        own = [path("registry/", self.admin_site.admin_view(registry_view), name="annotation_system_registry")]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def get_fields(self, request: HttpRequest, obj: System | None = None) -> list[str]:
        own = ["name", "title", "kind", "is_reference"]
        return own if obj is None else [*own, *(() if obj.is_reference else ("spent", "now", "registered")), "details"]

    @admin.display(description="responses", ordering="count")
    def responses_count(self, system: Any) -> int:
        return int(system.count)

    @admin.display(description="the paper's registry")
    def registered(self, system: System) -> SafeString | str:
        entry = next((one for one in registry().systems if one.name == system.name), None)
        if entry is None:
            return "no system of the paper"
        return render_to_string("admin/registry_entry.html", {"row": registry_row(entry.name)})

    @admin.display(description="over all runs")
    def spent(self, system: System) -> SafeString | str:
        found = spent_on(system)
        given = {"spent": found, "system": system, **worded(found.flags, found.failures)}
        return render_to_string("admin/spent.html", given)

    @admin.display(description="asked now by")
    def now(self, system: System) -> str:
        return held_by(system) or "nobody"

    @action(description="Generate responses", url_path="generate", icon="auto_awesome", permissions=["add"])  # type: ignore[untyped-decorator]
    def generate(self, request: HttpRequest) -> HttpResponse:
        return launch(request, "generate")

    @action(description="The paper's systems", url_path="the-registry", icon="list_alt", permissions=["view"])  # type: ignore[untyped-decorator]
    def show_registry(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:annotation_system_registry")

    @action(description="Generate responses", url_path="generate-this", icon="auto_awesome", permissions=["view"])  # type: ignore[untyped-decorator]
    def generate_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        name = System.objects.filter(pk=object_id).values_list("name", flat=True).first() or ""
        return redirect(f"/admin/annotation/job/launch/generate/?system={name}")


def worded(flags: dict[str, int], failures: dict[str, int]) -> dict[str, Any]:
    """Counts of flags and kinds of failure, each with what it says; kinds of later versions too."""

    def rows(counts: dict[str, int], words: dict[str, str]) -> list[tuple[str, str, str, int]]:
        ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        return [(name, name.replace("_", " "), words.get(name, ""), count) for name, count in ordered]

    return {"flags": rows(flags, FLAG_WORDS), "failures": rows(failures, KIND_WORDS)}


# The registry -----------------------------------------------------------------------------------------------------


def registry_row(name: str) -> dict[str, Any]:
    entry = next(one for one in registry().systems if one.name == name)
    try:
        entry.serving()
        trouble = ""
    except RegistryError as error:
        trouble = str(error)
    servings = [
        {
            "title": one.family.title,
            "model": one.model,
            "retired": one.retired,
            "checked": one.checked,
            "key": one.family.key_env,
            "has_key": bool(os.environ.get(one.family.key_env, "").strip()),
        }
        for one in entry.served_by
    ]
    return {"entry": entry, "servings": servings, "trouble": trouble}


def registry_view(request: HttpRequest) -> HttpResponse:
    """The paper's six systems: who serves them, what is withdrawn, which key is missing."""
    rows = [registry_row(entry.name) for entry in registry().systems]
    given = {"title": "The paper's systems", "rows": rows}
    return TemplateResponse(request, "admin/registry.html", {**admin.site.each_context(request), **given})


# A job's story ----------------------------------------------------------------------------------------------------


def outcome_of(job: Job) -> str:
    """The state of a generation in a few words."""
    if job.state == Job.DONE:
        return str(job.result.get("outcome") or "done")
    if job.state == Job.FAILED:
        return str(job.result.get("outcome") or "failed").replace("goes on", "failed")
    return job.state


def told(job: Job) -> str:
    """The sentence of a generation: how it ended, or how far it is."""
    if job.state == Job.FAILED:
        return job.error
    if job.finished:
        return str(job.result.get("sentence") or outcome_of(job))
    return job.message or job.state


def totals_shown(job: Job) -> str:
    """The table of what a generation came to so far."""
    system = System.objects.filter(name=job.result.get("system", "")).first()
    totals = Totals.read(job.result)
    rows = [(words, job.result.get(name, 0)) for name, words in ROWS if name in job.result]
    given = {"rows": rows, "totals": totals, "system": system, "cases": sorted(totals.cases.items())}
    return render_to_string("admin/totals.html", {**given, **worded(totals.flags, totals.failures)})


ROWS = (
    ("turns", "turns chosen"),
    ("known", "known before, not asked"),
    ("answered", "answered"),
    ("empty", "answered without a word"),
    ("failed", "failed"),
    ("left", "not asked"),
    ("requests", "requests"),
    ("repeats", "of them repeats"),
    ("tokens_in", "tokens in"),
    ("tokens_out", "tokens out"),
    ("tokens_assumed", "tokens nobody told, guessed for the caps"),
)
