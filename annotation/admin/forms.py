from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from annotation.corpora import CorpusError
from annotation.corpora.labels import LABEL_PARTS
from annotation.corpora.table import COLUMN_PARTS
from annotation.models import Campaign, Dataset, System
from annotation.workflow import uploads
from annotation.workflow.listing import read_list
from annotation.workflow.planning import Assumptions
from evaluation.emotions import DEFAULT_GROUPING, GROUPINGS

SAMPLING = [
    ("simple", "simple random"),
    ("stratified", "stratified, proportional"),
    ("half", "half proportional, half equal over strata"),
    ("equal", "equal over strata"),
    ("uncertainty", "uncertain pre-labels more often"),
    ("list", "an uploaded list of turns"),
    ("all", "every turn"),
]
UNSIZED = ("list", "all")
STRATA = [
    ("dataset", "data set"),
    ("user_label", "predicted label of the user"),
    ("response_label", "predicted label of the response"),
]


class CampaignForm(forms.ModelForm):  # type: ignore[type-arg]
    """A campaign with its sampling design spelled out as fields; they become `Campaign.design`."""

    sampling = forms.ChoiceField(choices=SAMPLING, initial="half", widget=UnfoldAdminSelectWidget)
    size = forms.IntegerField(
        min_value=1,
        initial=150,
        required=False,
        help_text="Turns. Each becomes one item per utterance to verify, and one to rate. Save, then “Plan” says how "
        "many a wanted precision takes.",
        widget=UnfoldAdminIntegerFieldWidget,
    )
    listed = forms.FileField(
        required=False,
        label="List of turns",
        help_text="For a list: a table (CSV, TSV, JSONL, XLSX, Parquet) with the columns dialogue and turn, as exports "
        "have them; dataset where the campaign has several; inclusion_probability where the list is a sample.",
        widget=UnfoldAdminFileFieldWidget,
    )
    strata = forms.MultipleChoiceField(
        choices=STRATA,
        required=False,
        initial=["dataset", "user_label"],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    balanced = forms.BooleanField(
        required=False, help_text="Spread the strata evenly over the order of work.", widget=UnfoldBooleanSwitchWidget
    )
    grouping = forms.ChoiceField(
        choices=[(name, name) for name in GROUPINGS],
        initial=DEFAULT_GROUPING,
        help_text="How the 28 fine labels of the classifier become seven: docs/classifier.md.",
        widget=UnfoldAdminSelectWidget,
    )

    class Meta:
        model = Campaign
        fields = (
            *("name", "title", "datasets", "systems", "classifier", "grouping"),
            *("seed", "verify_user", "verify_responses", "rate_responses"),
            *("mode", "hidden_share", "verify_overlap", "rate_overlap", "allow_single", "separate_raters", "scales"),
            *("lease_minutes", "gold_every", "require_practice", "consent_text", "consent_version", "withdrawal"),
        )
        widgets: ClassVar = {
            "datasets": UnfoldAdminCheckboxSelectMultipleWidget,
            "systems": UnfoldAdminCheckboxSelectMultipleWidget,
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        design = self.instance.design or {}
        if design:
            self.initial["sampling"] = design.get("kind", "half")
            for name in ("size", "strata", "balanced"):
                if name in design:
                    self.initial[name] = design[name]
            if turns := design.get("turns"):
                self.fields["listed"].help_text = f"{len(turns)} turns are listed; another file replaces them."
        if self.instance.opened_at is not None:
            for name in ("sampling", "size", "listed", "strata", "balanced"):
                self.fields[name].disabled = True

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        kind = cleaned.get("sampling")
        if kind in ("stratified", "half", "equal") and not cleaned.get("strata"):
            self.add_error("strata", "A stratified sample needs at least one stratum.")
        if self.instance.opened_at is None and kind not in UNSIZED and not cleaned.get("size"):
            self.add_error("size", "Say how many turns to draw.")
        if self.instance.opened_at is None and kind == "list" and "datasets" in cleaned:
            self._clean_list(cleaned)
        return cleaned

    def _clean_list(self, cleaned: dict[str, Any]) -> None:
        """Find the turns of an uploaded list; one row that matches nothing, and the list is not taken."""
        file = cleaned.get("listed")
        if file is None:
            if not (self.instance.design or {}).get("turns"):
                self.add_error("listed", "Upload the list of turns.")
            return
        try:
            found = read_list(file, datasets=list(cleaned["datasets"]))
        except CorpusError as error:
            self.add_error("listed", str(error))
            return
        if found.unmatched:
            self.add_error("listed", found.trouble())
        cleaned["turns"], cleaned["probabilities"] = found.turns, found.probabilities

    def save(self, commit: bool = True) -> Campaign:
        if self.instance.opened_at is None:
            before, cleaned = self.instance.design or {}, self.cleaned_data
            # what the form does not know, such as splits, stays as a script has set it
            chosen = {name: before[name] for name in before if name not in ("size", "turns", "probabilities")}
            chosen |= {"kind": cleaned["sampling"], "strata": cleaned["strata"], "balanced": cleaned["balanced"]}
            if cleaned["sampling"] not in UNSIZED:
                chosen["size"] = cleaned["size"]
            elif cleaned["sampling"] == "list":
                listed = cleaned if "turns" in cleaned else before
                chosen["turns"] = listed["turns"]
                if listed.get("probabilities"):
                    chosen["probabilities"] = listed["probabilities"]
            self.instance.design = chosen
        campaign: Campaign = super().save(commit)
        return campaign


class PlanForm(forms.Form):
    """What a plan assumes; see `annotation.workflow.planning.Assumptions`."""

    half_widths = forms.CharField(
        label="Half-widths wanted",
        help_text="Value ± half-width of the 95 % interval; several, separated by spaces.",
        widget=UnfoldAdminTextInputWidget,
    )
    size = forms.IntegerField(min_value=1, required=False, label="Turns", widget=UnfoldAdminIntegerFieldWidget)
    rho = forms.FloatField(
        min_value=0,
        max_value=0.99,
        label="Correlation of human and classifier, alignment",
        help_text="What the correction gains. About 0.5 was measured for exact alignment; 0 for human labels alone.",
        widget=UnfoldAdminTextInputWidget,
    )
    rho_range = forms.FloatField(
        min_value=0,
        max_value=0.99,
        label="Correlation of human and classifier, expressive range",
        help_text="About 0.7 was measured.",
        widget=UnfoldAdminTextInputWidget,
    )
    accuracy = forms.FloatField(
        min_value=0.1, max_value=0.99, label="Accuracy of the classifier", widget=UnfoldAdminTextInputWidget
    )
    kappa = forms.FloatField(
        min_value=-0.5, max_value=0.99, label="Kappa of the annotators", widget=UnfoldAdminTextInputWidget
    )

    @staticmethod
    def defaults(campaign: Campaign) -> Assumptions:
        return Assumptions(size=(campaign.design or {}).get("size"))

    @classmethod
    def of(cls, campaign: Campaign) -> dict[str, Any]:
        """The form's first values for a campaign."""
        values = asdict(cls.defaults(campaign))
        return values | {"half_widths": " ".join(f"{x:g}" for x in values["half_widths"])}

    def clean_half_widths(self) -> tuple[float, ...]:
        try:
            widths = [float(part) for part in self.cleaned_data["half_widths"].replace(";", " ").split()]
        except ValueError as error:
            raise ValidationError("Numbers separated by spaces are wanted, such as 0.10 0.05.") from error
        if not 1 <= len(widths) <= 8 or not all(0.005 <= x <= 0.5 for x in widths):
            raise ValidationError("One to eight half-widths from 0.005 to 0.5 are wanted.")
        return tuple(widths)

    def assumptions(self) -> Assumptions:
        return Assumptions(**self.cleaned_data)


def names(model: type[Dataset] | type[System]) -> list[tuple[str, str]]:
    return [(row.name, str(row)) for row in model.objects.all()]


class ImportForm(forms.Form):
    kind = forms.ChoiceField(choices=uploads.KINDS, widget=UnfoldAdminSelectWidget)
    file = forms.FileField(
        help_text="Dialogues: ReDial (.jsonl, .gz, the official .zip), INSPIRED (.tsv), or any table of triplets. "
        "Responses: .jsonl, .csv, .gz. Labels and ratings: Label Studio JSON, doccano JSONL, or any table. "
        "A table is CSV, TSV, JSONL, Parquet or XLSX.",
        widget=UnfoldAdminFileFieldWidget,
    )
    dataset = forms.SlugField(
        required=False,
        help_text="Name of the data set, such as redial. Responses find theirs by their join keys when left empty.",
        widget=UnfoldAdminTextInputWidget,
    )
    split = forms.SlugField(
        required=False, help_text="Dialogues: when the file does not say it.", widget=UnfoldAdminTextInputWidget
    )
    system = forms.SlugField(
        required=False,
        help_text="Responses: the system's name, when the file does not say it.",
        widget=UnfoldAdminTextInputWidget,
    )
    campaign = forms.ModelChoiceField(
        Campaign.objects.filter(opened_at__isnull=False),
        required=False,
        to_field_name="name",
        help_text="Labels and ratings: the campaign whose questions they answer.",
        widget=UnfoldAdminSelectWidget,
    )
    columns = forms.CharField(
        required=False,
        help_text="A table: which column holds what, one part=column a line. "
        f"Dialogues: {', '.join(COLUMN_PARTS)}, and system:NAME for the responses of one system. "
        f"Labels and ratings: {', '.join(LABEL_PARTS)}, and rating:SCALE for one scale; "
        "left empty, the columns are those of our own exports.",
        widget=UnfoldAdminTextareaWidget(
            attrs={"rows": 5, "placeholder": "user=question\nreference=answer\nsystem:GPT=gpt_text"}
        ),
    )
    strict = forms.BooleanField(
        required=False, help_text="One bad row: import nothing.", widget=UnfoldBooleanSwitchWidget
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "kind" in cleaned and "file" in cleaned:
            campaign = cleaned.get("campaign")
            cleaned["campaign"] = campaign.name if campaign else None
            try:
                uploads.check_upload(cleaned, cleaned["file"].size)
            except uploads.UploadError as error:
                self.add_error(error.field, str(error))
        return cleaned


class CorpusForm(forms.Form):
    """Choose data sets and systems; nothing chosen means all."""

    datasets = forms.MultipleChoiceField(required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget)
    systems = forms.MultipleChoiceField(required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["datasets"].choices = names(Dataset)  # type: ignore[attr-defined]
        self.fields["systems"].choices = names(System)  # type: ignore[attr-defined]
        for name in ("datasets", "systems"):
            self.fields[name].help_text = "None chosen: all."


class PrelabelForm(CorpusForm):
    pass


def latest_answered() -> Campaign | None:
    """The campaign a report is most likely about: the latest opened one that has answers."""
    answered = Campaign.objects.filter(opened_at__isnull=False, verify_done__gt=0)
    return answered.order_by("-opened_at").first()


class ReportForm(CorpusForm):
    campaign = forms.ModelChoiceField(
        Campaign.objects.filter(opened_at__isnull=False),
        required=False,
        initial=latest_answered,
        help_text="Whose human labels correct the numbers. None: the report is titled unverified.",
        widget=UnfoldAdminSelectWidget,
    )
    title = forms.CharField(required=False, max_length=160, widget=UnfoldAdminTextInputWidget)
    replicates = forms.IntegerField(
        min_value=100,
        max_value=20_000,
        initial=2000,
        help_text="Of the bootstrap.",
        widget=UnfoldAdminIntegerFieldWidget,
    )
    seed = forms.IntegerField(min_value=0, initial=1, widget=UnfoldAdminIntegerFieldWidget)

    field_order = ("campaign", "title", "datasets", "systems", "replicates", "seed")


class TrainForm(forms.Form):
    campaign = forms.ModelChoiceField(
        Campaign.objects.filter(opened_at__isnull=False),
        help_text="Whose verified labels to learn from. Predictions are cross-fitted by dialogue and stored beside the "
        "old ones; nothing is switched.",
        widget=UnfoldAdminSelectWidget,
    )
    folds = forms.IntegerField(min_value=2, max_value=20, initial=5, widget=UnfoldAdminIntegerFieldWidget)
