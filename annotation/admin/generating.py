"""The form that starts a generation: every choice a field, checked by what the worker will check."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from annotation.admin.forms import names
from annotation.inference.generator import GenerationError
from annotation.inference.parameters import GenerationParameters
from annotation.inference.prompts import DEFAULT_TEMPLATE, template_names
from annotation.inference.systems import SystemEntry, registry
from annotation.models import Campaign, Dataset, Dialogue, System
from annotation.workflow import generate
from annotation.workflow.published import MAX_REASON
from annotation.workflow.totals import GenerationSummary

DEFAULTS: Final = GenerationParameters().as_mapping()


class Offered(UnfoldAdminTextInputWidget):  # type: ignore[misc]
    """A text field that offers what is known here; anything else may be written too."""

    def __init__(self, offers: Callable[[], Iterable[str]]) -> None:
        super().__init__()
        self.offers = offers

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        listed = f"{name}-offers"
        field = super().render(name, value, {**(attrs or {}), "list": listed}, renderer)
        options = format_html_join("", '<option value="{}"></option>', ((offer,) for offer in self.offers()))
        return format_html('{}<datalist id="{}">{}</datalist>', field, listed, options)


def key_names() -> list[str]:
    """The environment variables for keys that are set where the web server runs: names, never values."""
    return sorted(name for name in os.environ if name.endswith("_API_KEY"))


def registry_choices() -> list[tuple[str, str]]:
    return [("", "a system of your own"), *((entry.name, described(entry)) for entry in registry().systems)]


def described(entry: SystemEntry) -> str:
    """One line on a system of the registry: what is withdrawn since when, what can be asked instead."""
    gone = [f"withdrawn by {one.family.name} {one.retired:%Y-%m-%d}" for one in entry.served_by if one.retired]
    alive = [f"{one.model} at {one.family.name}" for one in entry.served_by if not one.retired]
    return f"{entry.title}: {entry.published_name} ({'; '.join(gone + alive) or 'served by nobody'})"


def folders() -> list[str]:
    root = generate.operator_of_settings().models_folder
    if root is None or not root.is_dir():
        return []
    return sorted(path.parent.relative_to(root).as_posix() for path in root.glob("**/config.json"))[:200]


def whole(label: str, low: int, high: int, help_text: str = "", initial: int | None = None) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        min_value=low,
        max_value=high,
        required=False,
        initial=initial,
        help_text=help_text,
        widget=UnfoldAdminIntegerFieldWidget,
    )


def number(label: str, low: float, high: float, help_text: str = "", initial: float | None = None) -> forms.FloatField:
    return forms.FloatField(
        label=label,
        min_value=low,
        max_value=high,
        required=False,
        initial=initial,
        help_text=help_text,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )


def switch(label: str, help_text: str) -> forms.BooleanField:
    return forms.BooleanField(label=label, required=False, help_text=help_text, widget=UnfoldBooleanSwitchWidget)


def text(label: str, offers: Callable[[], Iterable[str]] = list, help_text: str = "", most: int = 300) -> Any:
    return forms.CharField(label=label, required=False, max_length=most, help_text=help_text, widget=Offered(offers))


MANY: Final = 10**9


class GenerateForm(forms.Form):
    """The fields of `GenerationParameters`, in the order in which one decides them."""

    registered = forms.ChoiceField(
        label="System of the paper",
        choices=registry_choices,
        required=False,
        help_text="Whatever is asked under its name must be it. Withdrawn names can only be asked elsewhere.",
        widget=UnfoldAdminSelectWidget,
    )
    system = text(
        "Or a name of your own",
        lambda: System.objects.filter(is_reference=False).values_list("name", flat=True),
        "Letters, digits, - and _. A published name (llama-3.1-8b-instant) means the paper's system.",
        80,
    )
    as_is = text(
        "Another model under this name, because",
        help_text="Only where the same model goes by another name. The reason is kept with every answer.",
        most=MAX_REASON,
    )
    datasets = forms.MultipleChoiceField(label="Data sets", widget=UnfoldAdminCheckboxSelectMultipleWidget)
    split = text(
        "Split",
        lambda: Dialogue.objects.exclude(split="").order_by("split").values_list("split", flat=True).distinct(),
        "Empty: all.",
        16,
    )
    campaign = text(
        "Campaign", lambda: Campaign.objects.values_list("name", flat=True), "Only the turns sampled into it.", 80
    )
    limit = whole("Limit", 1, MANY, "Only the first so many turns, answered ones counted. Empty: all.")
    without_reference = switch("Turns without a human reference too", "No recommendation is known there: case 1.")
    backend = forms.ChoiceField(
        label="Back end",
        choices=[("endpoint", "an OpenAI-compatible endpoint"), ("local", "a model on this machine")],
        initial="endpoint",
        widget=UnfoldAdminSelectWidget,
    )
    base_url = text("Base URL", help_text="Such as https://host/v1. Empty: where the registry says.")
    model = text("Model", help_text="As the endpoint knows it. Empty: as the registry says.")
    key_env = text(
        "Variable with the key",
        key_names,
        "The name of an environment variable of the worker (…_API_KEY), never the key. Offered: those set here.",
        64,
    )
    model_folder = text("Folder of the local model", folders, "Below the folder that ATTUNE_MODELS names.")
    batch_size = whole("Batch size of a local model", 1, 512, initial=DEFAULTS["batch_size"])
    template = text(
        "Template",
        lambda: template_names(generate.operator_of_settings().template_folders),
        "The words of the prompts: docs/generation.md.",
        64,
    )
    history = whole("Earlier utterances shown", -1, 1000, "0 as in the paper; -1: all.", DEFAULTS["history"])
    max_new_tokens = whole("New tokens at most", 1, 8192, initial=DEFAULTS["max_new_tokens"])
    language = text("Language expected", help_text="Answers in another are flagged. Empty: no check.", most=8)
    mixed = switch("Mix two ways of asking", "Go on although earlier answers were asked for in another way.")
    concurrency = whole("Requests at once", 1, 64, initial=DEFAULTS["concurrency"])
    per_minute = number("Requests per minute", 0.01, 100_000, "Empty: as fast as answers come.")
    seconds = number("Seconds for one request", 1, 3600, initial=DEFAULTS["seconds"])
    attempts = whole("Attempts for one turn", 1, 20, initial=DEFAULTS["attempts"])
    give_up_after = whole("Failures in a row that end the run", 1, MANY, initial=DEFAULTS["give_up_after"])
    price_in = number("Price of a million tokens in", 0, 10_000, "US dollars; the cost is known only with both prices.")
    price_out = number("Price of a million tokens out", 0, 10_000)
    cap_requests = whole("Requests at most", 0, MANY, "Over the whole job, repeats counted.")
    cap_tokens = whole("Tokens at most", 0, MANY)
    cap_cost = number("US dollars at most", 0, 1_000_000, "Needs both prices.")

    SECTIONS: Final = (
        ("Which system", ("registered", "system", "as_is")),
        ("Which turns", ("datasets", "split", "campaign", "limit", "without_reference")),
        ("Who answers", ("backend", "base_url", "model", "key_env", "model_folder", "batch_size")),
        ("How it is asked", ("template", "history", "max_new_tokens", "language", "mixed")),
        ("Pace", ("concurrency", "per_minute", "seconds", "attempts", "give_up_after")),
        ("Cost and caps", ("price_in", "price_out", "cap_requests", "cap_tokens", "cap_cost")),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["datasets"].choices = names(Dataset)  # type: ignore[attr-defined]
        self.fields["template"].initial = DEFAULT_TEMPLATE
        self.fields["language"].initial = DEFAULTS["language"]

    def sections(self) -> list[tuple[str, list[forms.BoundField]]]:
        return [(title, [self[name] for name in shown]) for title, shown in self.SECTIONS]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        chosen, own = cleaned.get("registered") or "", cleaned.get("system") or ""
        if not chosen and not own:
            self.add_error("system", "Choose a system of the paper, or give the name of your own.")
        elif chosen and own and registry().find(own) != registry().find(chosen):
            self.add_error("system", "A system of the paper is chosen above; leave this empty, or choose none there.")
        if self.errors:
            return cleaned
        try:
            generate.checked_job(self.parameters())
        except GenerationError as error:
            raise ValidationError(str(error)) from error
        return cleaned

    def parameters(self) -> dict[str, Any]:
        """What the job's row keeps: the system, and whatever is not as always."""
        cleaned = self.cleaned_data
        known = {one.name for one in fields(GenerationParameters)}
        given = {name: value for name, value in cleaned.items() if name in known}
        given = {name: value for name, value in given.items() if value is not None and value != DEFAULTS[name]}
        # An emptied language says something: no check.
        given = {name: value for name, value in given.items() if value != "" or name == "language"}
        kept = {"system": cleaned.get("registered") or cleaned.get("system"), **given}
        return {**kept, "as_is": cleaned["as_is"]} if cleaned.get("as_is") else kept

    def look(self) -> GenerationSummary:
        """Render every prompt and ask nothing.

        Raises
        ------
        GenerationError
            The turns cannot be asked.
        """
        wanted = generate.job_parameters(self.parameters())
        return generate.generate_responses(
            system=wanted.system, parameters=replace(wanted.parameters, dry_run=True), as_is=wanted.as_is
        )


def first_values(stored: dict[str, Any]) -> dict[str, Any]:
    """Give the form's first values for the parameters of a job, or for a system's name."""
    try:
        wanted = generate.job_parameters(stored)
    except GenerationError:
        return {"system": str(stored.get("system", ""))}
    entry = registry().find(wanted.system)
    who = {"registered": entry.name} if entry is not None else {"system": wanted.system}
    return {**wanted.parameters.as_mapping(), **who, "as_is": wanted.as_is}
