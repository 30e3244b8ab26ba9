"""The full metric report: from the database to a finished, immutable bundle.

The bundle's tables are written first and the report is computed from those files, by the same code that `python -m
evaluation report BUNDLE` runs; so the numbers can be recomputed byte for byte without this product. Everything is made
in a temporary folder and copied to the storage; the run's row names the bundle in one last update. Killed at any moment
before that, a run shows nothing and can be started again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.staticfiles import finders
from django.db import transaction
from django.utils import timezone

from annotation.models import Campaign, Classifier, Dataset, Job, ReportRun, System, User
from annotation.workflow import bundles, exports, frames
from annotation.workflow.bundles import (
    ReportError,
    bundle_response,
    bundle_stream,
    compare,
    files,
    load_report,
    manifest,
    open_file,
    page_body,
)
from annotation.workflow.cases import choose_cases
from annotation.workflow.planning import count_look
from evaluation.anchoring import DEFAULT_MARGIN
from evaluation.emotions import DEFAULT_GROUPING, grouping_named
from evaluation.rendering import latex, page, sheets
from evaluation.rendering.cells import all_tables, file_name

__all__ = [
    "STEPS",
    "Parameters",
    "ReportError",
    "build_report",
    "bundle_response",
    "bundle_stream",
    "compare",
    "create_run",
    "files",
    "finish_run",
    "load_report",
    "manifest",
    "named",
    "open_file",
    "page_body",
    "report_for_job",
]

Progress = Callable[[int, int, str], None]
Named = TypeVar("Named", Dataset, System)
STEPS = (
    "reading the data",
    "writing the tables",
    "computing",
    "drawing the figures",
    "writing the page",
    "writing the PDF",
    "writing the workbook",
    "saving",
)
PACKAGES = ("numpy", "scipy", "pandas", "scikit-learn", "statsmodels", "matplotlib", "weasyprint", "openpyxl", "django")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a report is made of, besides its data. Unknown or impossible values are refused when the run is made."""

    grouping: str = ""
    splits: tuple[str, ...] = ()
    arms: frames.Arms = "independent"
    pooling_margin: float = DEFAULT_MARGIN
    replicates: int = 2000
    options: Mapping[str, Any] = field(default_factory=dict)
    pdf: bool = True

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Parameters:
        known = set(cls.__dataclass_fields__)
        if unknown := sorted(set(given) - known):
            raise ReportError(f"Unknown report parameters: {', '.join(unknown)}; known: {', '.join(sorted(known))}.")
        values = {**given, "splits": tuple(given.get("splits") or ())}
        made = cls(**values)
        if made.grouping:
            grouping_named(made.grouping)
        if made.arms not in ("independent", "all"):
            raise ReportError("The parameter arms is independent (labels given without the pre-label) or all.")
        if not isinstance(made.pooling_margin, int | float) or not 0 < made.pooling_margin < 1:
            raise ReportError("The pooling margin is a difference of shares: a number above 0 and below 1.")
        if not isinstance(made.replicates, int) or not 0 <= made.replicates <= 100_000:
            raise ReportError("The number of replicates is a whole number from 0 to 100,000.")
        return made


# --- building --------------------------------------------------------------------------------------------------------


def create_run(
    *,
    campaign: Campaign | None = None,
    datasets: Sequence[Dataset] = (),
    systems: Sequence[System] = (),
    parameters: Mapping[str, Any] | None = None,
    seed: int = 1,
    title: str = "",
    user: User | None = None,
    job: Job | None = None,
) -> ReportRun:
    """Write down what is to be reported: without data sets or systems named, the campaign's, else all there are.

    Judgments count up to this moment, however often the run is started again.
    """
    chosen = Parameters.of(parameters or {})
    sets = list(datasets) or list((campaign.datasets if campaign else Dataset.objects).order_by("name"))
    kept = list(systems) or list(
        (campaign.systems if campaign else System.objects.filter(is_reference=False)).order_by("name")
    )
    if not sets:
        raise ReportError("There is no data set to report on. Import dialogues first.")
    classifier = (campaign.classifier if campaign else None) or Classifier.objects.filter(is_default=True).first()
    if classifier is None:
        raise ReportError("Nothing has been pre-labelled yet. Run pre-labelling first.")
    stored = asdict(chosen) | {
        "grouping": chosen.grouping or (campaign.grouping if campaign else DEFAULT_GROUPING),
        "splits": list(chosen.splits),
        "datasets": [dataset.name for dataset in sets],
        "systems": [system.name for system in kept],
        "classifier": classifier.pk,
        "seed": int(seed),
    }
    name = title or f"{campaign.title if campaign else 'All data'}, {timezone.now():%d %B %Y}"
    return ReportRun.objects.create(
        job=job, campaign=campaign, title=name[:160], parameters=stored, created_by=user, as_of=timezone.now()
    )


def build_report(
    *,
    campaign: Campaign | None,
    datasets: Sequence[Dataset] = (),
    systems: Sequence[System] = (),
    parameters: Mapping[str, Any] | None = None,
    seed: int = 1,
    title: str = "",
    progress: Progress | None = None,
    user: User | None = None,
    job: Job | None = None,
    folder: Path | None = None,
) -> ReportRun:
    """Make a whole report and give its finished run; `folder` also leaves the bundle there.

    Called again for the same job, it goes on with that job's run; a finished run is given back as it is.
    """
    run = ReportRun.objects.filter(job=job).first() if job else None
    if run is None:
        run = create_run(
            campaign=campaign,
            datasets=datasets,
            systems=systems,
            parameters=parameters,
            seed=seed,
            title=title,
            user=user,
            job=job,
        )
    return finish_run(run, progress=progress, folder=folder)


def finish_run(run: ReportRun, *, progress: Progress | None = None, folder: Path | None = None) -> ReportRun:
    """Build the bundle of a run that has none."""
    if run.finished_at is not None:
        return run
    if run.campaign is not None:
        count_look(run.campaign)
    with tempfile.TemporaryDirectory(prefix="attune-report-") as scratch:
        bundle = Path(scratch) / "report"
        try:
            results, provenance = _write_bundle(run, bundle, _Stepper(progress))
            stored = bundles.store(run, bundle)
            if folder is not None:
                shutil.copytree(bundle, folder, dirs_exist_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ReportError(
                    "There is no space left for the report's files. Free some space and run the report again; "
                    "nothing of this attempt was kept."
                ) from error
            raise
    with transaction.atomic():
        done = ReportRun.objects.filter(pk=run.pk, finished_at__isnull=True).update(
            bundle=stored, results=results, provenance=provenance, finished_at=timezone.now()
        )
    if not done:
        # Another worker finished this run first; its bundle is the one that is shown.
        bundles.remove(stored)
    run.refresh_from_db()
    return run


class _Stepper:
    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._done = progress, 0

    def step(self) -> None:
        if self._progress is not None:
            self._progress(self._done, len(STEPS), STEPS[self._done])
        self._done += 1


def selection_of(run: ReportRun) -> frames.Selection:
    """The rows a run speaks of, from its stored parameters."""
    given = run.parameters
    return frames.Selection(
        datasets=tuple(Dataset.objects.filter(name__in=given["datasets"]).order_by("name")),
        systems=tuple(System.objects.filter(name__in=given["systems"]).order_by("name")),
        classifier=Classifier.objects.get(pk=given["classifier"]),
        grouping=given["grouping"],
        campaign=run.campaign,
        splits=tuple(given["splits"]),
        arms=given["arms"],
        as_of=run.as_of,
    )


def _write_bundle(run: ReportRun, bundle: Path, steps: _Stepper) -> tuple[dict[str, Any], dict[str, Any]]:
    # The web process needs neither the statistics of a report nor matplotlib; the worker that makes one does.
    from evaluation import report as reports
    from evaluation.figures import write_figures

    steps.step()
    selection = selection_of(run)
    selection, made = _gated(selection, run)
    if made.turns.empty:
        raise ReportError("The chosen data sets hold no turn with a response of the chosen systems.")
    if made.turns["response_label"].isna().all():
        raise ReportError("None of these texts has been pre-labelled by the chosen classifier. Pre-label them first.")
    steps.step()
    tables = reports.ReportTables(
        turns=made.turns,
        judgments=made.judgments,
        ratings=made.ratings,
        responses=made.responses,
        cases=choose_cases(made),
    )
    reports.write_tables(tables, reports.ReportSettings(), bundle)
    digests = {path.relative_to(bundle).as_posix(): sha256_of(path) for path in sorted((bundle / "tables").iterdir())}
    provenance = _provenance(run, selection, made, digests)
    _write_json(bundle / "settings.json", _settings(run, selection, provenance))
    steps.step()
    # From the files, not from memory: what anyone recomputes is what stands here.
    report = reports.recompute(bundle)
    text = reports.dumps(report)
    (bundle / "report.json").write_text(text, encoding="utf-8")
    plain: dict[str, Any] = json.loads(text)
    steps.step()
    drawn = write_figures(plain, bundle / "figures")
    steps.step()
    css = style_sheet()
    (bundle / "report.html").write_text(page.document(plain, drawn, css=css), encoding="utf-8")
    (bundle / "page.html").write_text(page.body(plain, drawn, files="files/"), encoding="utf-8")
    steps.step()
    if run.parameters["pdf"]:
        (bundle / "report.pdf").write_bytes(page.pdf(plain, drawn, css=css))
    steps.step()
    _write_tables(bundle, plain)
    _write_tidy(bundle, run)
    (bundle / "codebook.md").write_text(bundles.codebook(plain), encoding="utf-8")
    _write_manifest(bundle, provenance)
    steps.step()
    return {"title": plain["title"], "status": plain["status"]}, provenance


def _gated(selection: frames.Selection, run: ReportRun) -> tuple[frames.Selection, frames.Frames]:
    """The tables of a run. Where both arms were asked for but seeing the pre-label may have moved people by more than
    the margin, those of the hidden arm; the report decides the same from its table of judgments, and says so."""
    from evaluation.pooling import pooling

    made = frames.build_frames(selection)
    if selection.campaign is None or selection.arms != "all":
        return selection, made
    confidence = _settings(run, selection, {"datasets": (), "systems": ()})["options"]["confidence"]
    if pooling(made.judgments, selection.arms, _margin(run), confidence=confidence).pooled:
        return selection, made
    hidden = replace(selection, arms="independent")
    return hidden, frames.build_frames(hidden)


def _margin(run: ReportRun) -> float:
    # Runs of older versions know no margin.
    return float(run.parameters.get("pooling_margin", DEFAULT_MARGIN))


def _write_tables(bundle: Path, report: Mapping[str, Any]) -> None:
    (bundle / "report.xlsx").write_bytes(sheets.workbook(report))
    for folder in ("results", "latex"):
        (bundle / folder).mkdir(exist_ok=True)
    for _, table in all_tables(report):
        name = file_name(str(table["id"]))
        (bundle / "results" / f"{name}.csv").write_text(sheets.table_csv(table), encoding="utf-8")
        (bundle / "latex" / f"{name}.tex").write_text(latex.table_latex(table), encoding="utf-8")
    (bundle / "tables.tex").write_text(latex.document(report), encoding="utf-8")


def _write_tidy(bundle: Path, run: ReportRun) -> None:
    """Everything people said, one row each; without a campaign nobody said anything."""
    if run.campaign is None:
        return
    folder = bundle / "tidy"
    folder.mkdir()
    for name in exports.TABLES:
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(exports.export_lines(run.campaign, name, as_of=run.as_of))


def _write_manifest(bundle: Path, provenance: Mapping[str, Any]) -> None:
    names = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
    files = {name: {"bytes": (bundle / name).stat().st_size, "sha256": sha256_of(bundle / name)} for name in names}
    _write_json(bundle / "manifest.json", {"format": "attune-report/1", **provenance, "files": files})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def style_sheet() -> str:
    """The report's style sheet, for the files that carry it with them."""
    found = finders.find("annotation/report.css")
    if found is None:
        raise ReportError("The style sheet annotation/report.css is missing from this installation.")
    return Path(str(found)).read_text(encoding="utf-8")


# --- provenance ------------------------------------------------------------------------------------------------------


def _settings(run: ReportRun, selection: frames.Selection, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What the recomputation needs besides the tables."""
    from evaluation.report import ReportSettings

    scales = run.campaign.scales if run.campaign else []
    points = max((int(scale.get("points", 5)) for scale in scales), default=5)
    try:
        settings = ReportSettings.from_json(
            {
                "title": run.title,
                "seed": run.parameters["seed"],
                "replicates": run.parameters["replicates"],
                "options": dict(run.parameters["options"]),
                "arms": run.parameters["arms"],
                "pooling_margin": _margin(run),
                "verified_arms": ("hidden" if selection.hidden_only else "all") if run.campaign else "",
                "randomised": False,
                "scale": [1, points],
                "names": {
                    kind: {one["name"]: one["title"] for one in provenance[kind]} for kind in ("datasets", "systems")
                },
                "provenance": dict(provenance),
            }
        )
    except (ValueError, TypeError) as error:
        raise ReportError(f"These report options cannot be used: {error}") from error
    return settings.to_json()


def _provenance(
    run: ReportRun, selection: frames.Selection, made: frames.Frames, digests: Mapping[str, str]
) -> dict[str, Any]:
    classifier = selection.classifier
    assert classifier is not None
    return {
        "report": str(run.pk),
        "created_at": exports.stamp(run.created_at),
        "as_of": exports.stamp(run.as_of),
        "seed": run.parameters["seed"],
        "replicates": run.parameters["replicates"],
        "code": code_version(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "datasets": [_about_dataset(dataset) for dataset in selection.datasets],
        "systems": [{"name": system.name, "title": str(system), "kind": system.kind} for system in selection.systems],
        "splits": list(selection.splits),
        "classifier": {
            "name": classifier.name,
            "revision": classifier.revision,
            "grouping": _grouping_of(classifier, selection.grouping),
            "temperature": classifier.settings.get("temperature"),
        },
        "arms": selection.arms,
        "arms_asked_for": run.parameters["arms"],
        "campaign": _about_campaign(run.campaign) if run.campaign else None,
        "annotators": int(made.judgments["annotator"].nunique()),
        "raters": int(made.ratings["annotator"].nunique()),
        "counts": made.counts,
        "digests": dict(digests),
    }


def _about_dataset(dataset: Dataset) -> dict[str, Any]:
    runs = dataset.imports.exclude(finished_at=None).order_by("started_at")
    return {
        "name": dataset.name,
        "title": str(dataset),
        "licence": dataset.licence,
        "dialogues": dataset.dialogues.count(),
        "files": [{"name": made.file_name, "sha256": made.sha256, "kind": made.kind} for made in runs],
    }


def _about_campaign(campaign: Campaign) -> dict[str, Any]:
    return {
        "name": campaign.name,
        "title": campaign.title,
        "state": campaign.state,
        "mode": campaign.mode,
        "hidden_share": campaign.hidden_share if campaign.mode == Campaign.ASSISTED else None,
        "design": _about_design(campaign.design or {}),
        "seed": campaign.seed,
        "verify_overlap": campaign.verify_overlap,
        "rate_overlap": campaign.rate_overlap,
        "single_label_counts": campaign.allow_single,
        "separate_raters": campaign.separate_raters,
        "scales": campaign.scales,
        "sampled_turns": campaign.sampled_turns.count(),
        "looks": campaign.looks,
        "guideline_versions": list(campaign.guidelines.order_by("version").values_list("version", flat=True)),
    }


def _about_design(design: Mapping[str, Any]) -> dict[str, Any]:
    """A design without the row numbers of a list, which mean nothing outside: the tables name its turns."""
    told = {name: value for name, value in design.items() if name not in ("turns", "probabilities")}
    if design.get("turns"):
        told |= {"listed": len(design["turns"]), "probabilities_given": bool(design.get("probabilities"))}
    return told


def _grouping_of(classifier: Classifier, grouping: str) -> str:
    from evaluation.emotions import GO_EMOTIONS

    return (
        grouping_named(grouping).identifier
        if tuple(classifier.labels) == GO_EMOTIONS
        else "the classifier's own mapping"
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def code_version() -> str:
    """The revision of this code: from the environment, else from git, else unknown."""
    if named := os.environ.get("ATTUNE_REVISION"):
        return named
    try:
        found = subprocess.run(
            ["git", "-C", str(settings.ROOT), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


# --- as a job --------------------------------------------------------------------------------------------------------


def report_for_job(job: Job, progress: Progress | None = None) -> dict[str, Any]:
    """Do a job of kind report: its parameters name campaign, datasets, systems, title, seed, replicates and so on.

    Run again after a kill it goes on with the same run; gives what the job keeps as its result.
    """
    given = dict(job.parameters)
    name = given.pop("campaign", None)
    campaign = Campaign.objects.filter(name=name).first() if name else None
    if name and campaign is None:
        raise ReportError(f"There is no campaign called {name!r}.")
    run = build_report(
        campaign=campaign,
        datasets=named(Dataset, given.pop("datasets", None) or ()),
        systems=named(System, given.pop("systems", None) or ()),
        title=str(given.pop("title", "") or ""),
        seed=int(given.pop("seed", None) or 1),
        parameters=given,
        progress=progress,
        user=job.created_by,
        job=job,
    )
    return {"report": str(run.pk), "title": run.title}


def named(kind: type[Named], names: Sequence[str]) -> list[Named]:
    """The rows of these names, in the order of names; an unknown one is refused by name."""
    found = {row.name: row for row in kind.objects.filter(name__in=list(names))}
    if missing := [name for name in names if name not in found]:
        raise ReportError(f"There is no {kind.__name__.lower()} called: {', '.join(missing)}.")
    return [found[name] for name in names]
