"""The full metric report: from the database to a finished, immutable bundle.

The bundle's tables are written first and the report is computed from those files, by the same code that `python -m
evaluation report BUNDLE` runs; so the numbers can be recomputed byte for byte without this product. Everything is made
in a temporary folder and copied to the storage; the run's row names the bundle in one last update. Killed at any moment
before that, a run shows nothing and can be started again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any, TypeVar

import pandas as pd
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from annotation.models import Campaign, Classifier, Dataset, Job, ReportRun, System, User
from annotation.workflow import exports, frames
from annotation.workflow.cases import choose_cases
from evaluation.emotions import DEFAULT_GROUPING, grouping_named
from evaluation.rendering import latex, page, sheets
from evaluation.rendering.cells import all_tables, file_name

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
KINDS = {
    ".html": "page",
    ".pdf": "PDF",
    ".xlsx": "workbook",
    ".json": "JSON",
    ".csv": "CSV",
    ".tex": "LaTeX",
    ".svg": "SVG",
    ".png": "PNG",
    ".md": "Markdown",
}


class ReportError(Exception):
    """A report cannot be made; the message says why and what to do. Nothing half-done is shown."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a report is made of, besides its data. Unknown or impossible values are refused when the run is made."""

    grouping: str = ""
    splits: tuple[str, ...] = ()
    arms: frames.Arms = "independent"
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
    with tempfile.TemporaryDirectory(prefix="attune-report-") as scratch:
        bundle = Path(scratch) / "report"
        try:
            results, provenance = _write_bundle(run, bundle, _Stepper(progress))
            stored = _store(run, bundle)
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
        _remove(stored)
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
    made = frames.build_frames(selection)
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
    _write_json(bundle / "settings.json", _settings(run, provenance))
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
    (bundle / "codebook.md").write_text(codebook(plain), encoding="utf-8")
    _write_manifest(bundle, provenance)
    steps.step()
    return {"title": plain["title"], "status": plain["status"]}, provenance


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


def _settings(run: ReportRun, provenance: Mapping[str, Any]) -> dict[str, Any]:
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
                "randomised": False,
                "scale": [1, points],
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
        "design": campaign.design,
        "seed": campaign.seed,
        "verify_overlap": campaign.verify_overlap,
        "rate_overlap": campaign.rate_overlap,
        "single_label_counts": campaign.allow_single,
        "separate_raters": campaign.separate_raters,
        "scales": campaign.scales,
        "sampled_turns": campaign.sampled_turns.count(),
        "guideline_versions": list(campaign.guidelines.order_by("version").values_list("version", flat=True)),
    }


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


# --- the bundle in the storage ---------------------------------------------------------------------------------------


def _store(run: ReportRun, bundle: Path) -> str:
    """Copy the bundle into a folder of its own; what an attempt that was killed left behind is removed first."""
    base = f"reports/{run.pk}"
    _remove(base)
    folder = f"{base}/{uuid.uuid4().hex[:8]}"
    try:
        for path in sorted(bundle.rglob("*")):
            if path.is_file():
                with path.open("rb") as stream:
                    default_storage.save(f"{folder}/{path.relative_to(bundle).as_posix()}", File(stream))
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(folder)
        raise
    return folder


def _remove(folder: str) -> None:
    try:
        folders, names = default_storage.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        default_storage.delete(f"{folder}/{name}")
    for name in folders:
        _remove(f"{folder}/{name}")
    with contextlib.suppress(OSError):
        default_storage.delete(folder)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file of a bundle: its name inside the bundle, what it is, and its size in bytes."""

    name: str
    kind: str
    bytes: int

    @property
    def top(self) -> bool:
        """Whether it is one of the whole-report files, shown first."""
        return self.name in TOP

    @property
    def label(self) -> str:
        return TOP.get(self.name, self.name)


TOP: Mapping[str, str] = {
    "report.pdf": "PDF",
    "report.html": "HTML page",
    "report.xlsx": "Workbook (XLSX)",
    "report.json": "JSON",
    "tables.tex": "LaTeX",
    "codebook.md": "Codebook",
    "manifest.json": "Manifest",
}


def manifest(run: ReportRun) -> dict[str, Any]:
    """The manifest of a finished run."""
    with default_storage.open(f"{run.bundle}/manifest.json") as stream:
        found: dict[str, Any] = json.loads(stream.read())
    return found


def files(run: ReportRun) -> list[BundleFile]:
    """The files of a finished run that people may want, the page's own markup left out."""
    if not run.bundle:
        return []
    listed = manifest(run)["files"]
    names = sorted((name for name in listed if name != "page.html"), key=lambda name: (name.count("/"), name))
    kinds = [KINDS.get(Path(name).suffix, "file") for name in names]
    return [BundleFile(name, kind, listed[name]["bytes"]) for name, kind in zip(names, kinds, strict=True)] + [
        BundleFile("manifest.json", "JSON", 0)
    ]


def open_file(run: ReportRun, name: str) -> IO[Any] | None:
    """Open a file of the bundle, or None: only names the manifest lists are ever looked up in the storage."""
    if not run.bundle or (name != "manifest.json" and name not in manifest(run)["files"]):
        return None
    try:
        opened: IO[Any] = default_storage.open(f"{run.bundle}/{name}")
    except FileNotFoundError:
        return None
    return opened


def page_body(run: ReportRun) -> SafeString:
    """The report's markup for the product's page. It was written by `evaluation.rendering.page`, which escapes."""
    handle = open_file(run, "page.html")
    if handle is None:
        raise ReportError("The files of this report are not in the storage any more.")
    with handle:
        return SafeString(handle.read().decode("utf-8"))


def load_report(run: ReportRun) -> dict[str, Any]:
    """The report of a finished run as plain data."""
    handle = open_file(run, "report.json")
    if handle is None:
        raise ReportError("The files of this report are not in the storage any more.")
    with handle:
        found: dict[str, Any] = json.loads(handle.read())
    return found


class _Pieces:
    """What a zip writer writes into: keeps only what has not been sent yet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        return None

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts = []
        return taken


def bundle_stream(run: ReportRun) -> Iterator[bytes]:
    """The bundle as a zip archive, piece by piece; names come from the manifest this product wrote."""
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for entry in files(run):
            handle = open_file(run, entry.name)
            if handle is None:
                continue
            info = zipfile.ZipInfo(f"report/{entry.name}", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with handle, archive.open(info, "w", force_zip64=True) as member:
                while part := handle.read(1 << 18):
                    member.write(part)
                    yield pieces.take()
            yield pieces.take()
    yield pieces.take()


def bundle_response(run: ReportRun) -> StreamingHttpResponse:
    """The zip archive as a download."""
    response = StreamingHttpResponse(bundle_stream(run), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="attune-report-{str(run.pk)[:8]}.zip"'
    return response


# --- comparing two runs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """A number of two reports that is not the same in both."""

    section: str
    table: str
    row: str
    column: str
    before: str
    after: str
    difference: str


def compare(first: ReportRun, second: ReportRun) -> list[Difference]:
    """What changed from one run to another, number by number: values, interval bounds and counts that differ."""
    from evaluation.report import compare as compare_reports

    before, after = load_report(first), load_report(second)
    words = _titles(before) | _titles(after)
    found = []
    for row in compare_reports(before, after).itertuples(index=False):
        column = words.get(("column", row.table, row.column), row.column)
        found.append(
            Difference(
                section=words.get(("section", row.section, ""), row.section),
                table=words.get(("table", row.table, ""), row.table),
                row=row.row,
                column=column if row.part == "value" else f"{column}, {row.part}",
                before=row.before,
                after=row.after,
                difference="" if pd.isna(row.change) else f"{row.change:+.4g}".replace("-", "\u2212"),
            )
        )
    return found


def _titles(report: Mapping[str, Any]) -> dict[tuple[str, str, str], str]:
    found = {}
    for section, table in all_tables(report):
        found["section", section["id"], ""] = str(section["title"])
        found["table", table["id"], ""] = str(table["title"])
        for column in table["columns"]:
            found["column", table["id"], column["key"]] = str(column["title"])
    return found


# --- the codebook ----------------------------------------------------------------------------------------------------

INPUT_FIELDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "turns": (
        ("dataset, dialogue, turn, system", "Key: one row per turn and system; the human reference is a system too."),
        ("is_reference", "true for the human reference response."),
        (
            "user_label, response_label, reference_label",
            "The classifier's labels; empty: no usable text or prediction.",
        ),
        ("user_confidence, response_confidence", "The classifier's calibrated probability of its label."),
        ("user_verified, response_verified, reference_verified", "Verified labels; empty: not verified."),
        ("inclusion_probability, stratum", "Of the turn in the campaign's sample; empty: not drawn."),
    ),
    "judgments": (
        ("item, annotator, label", "One row per standing label; annotators are pseudonyms."),
        ("kind", "user, response or reference: whose words were labelled."),
        ("arm", "shown or hidden; empty in a blind campaign."),
        ("prelabel", "The classifier's label the judgment is compared with."),
        ("classifier_label", "The label of the report's classifier."),
        ("received_at, active_ms", "When it arrived (UTC), and milliseconds on the item."),
    ),
    "ratings": (
        ("item, annotator, outcome, value", "One row per rater, response and scale."),
        ("position", "Place among the responses shown together."),
        ("aligned_exact, user_emotion", "From verified labels only; empty where a side is not verified."),
    ),
    "cases": (("all columns", "The illustrative cases of section 6, chosen by the rule stated there."),),
    "responses": (("all columns", "Per system and data set: turns asked, answered, flagged, common to all systems."),),
}


def codebook(report: Mapping[str, Any]) -> str:
    """What every file and column of a bundle means, in Markdown."""
    parts = ["# Codebook", "", exports.CONVENTIONS, "", "## tables/: what the numbers are computed from", ""]
    for name, fields in INPUT_FIELDS.items():
        parts += [f"### tables/{name}.csv", "", "| column | meaning |", "| --- | --- |"]
        parts += [f"| {column} | {meaning} |" for column, meaning in fields] + [""]
    parts += [
        "`python -m evaluation report BUNDLE` computes `report.json` again from these and `settings.json`.",
        "",
        "## tidy/: everything people said",
        "",
        exports.codebook().split("\n", 4)[4],
        "## results/ and latex/: the report's tables",
        "",
        "An estimate in column `x` of a CSV stands as `x` (value), `x_low` and `x_high` (95 % interval), `x_se`, `x_n`",
        "and `x_reason` (why there is no value or no interval).",
        "",
        "| file | table |",
        "| --- | --- |",
    ]
    parts += [f"| {file_name(str(table['id']))} | {table['title']} |" for _, table in all_tables(report)]
    return "\n".join([*parts, ""])


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
