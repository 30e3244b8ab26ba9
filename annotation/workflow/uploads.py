"""Files that come in through a door of the web: kept until a worker reads them, checked as far as a door can."""

from __future__ import annotations

import re
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import connection

from annotation.corpora import Columns, CorpusError
from annotation.corpora.labels import LabelColumns
from annotation.models import Campaign
from annotation.workflow.import_report import ImportReport
from annotation.workflow.intake import import_dialogues, import_responses
from annotation.workflow.jobs import ProgressCallback
from annotation.workflow.label_intake import import_labels
from annotation.workflow.prelabel import WRITER_PAUSE

KINDS: Final = (("dialogues", "dialogues"), ("responses", "responses of a system"), ("labels", "labels and ratings"))


class UploadError(ValueError):
    """What a door was given cannot become an import; `field` says which part of it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def check_upload(given: Mapping[str, Any], size: int) -> None:
    """Refuse before anything is stored what no worker could import.

    Raises
    ------
    UploadError
        Naming the field and what to do.
    """
    if size > settings.ATTUNE_UPLOAD_MAX_BYTES:
        raise UploadError(
            "file",
            f"The file has {size / 1e6:,.0f} MB; {settings.ATTUNE_UPLOAD_MAX_BYTES / 1e6:,.0f} MB are allowed here. "
            "Import it with manage.py instead.",
        )
    if given["kind"] == "dialogues" and not given.get("dataset"):
        raise UploadError("dataset", "Dialogues need the name of their data set.")
    if given["kind"] == "labels":
        campaign = Campaign.objects.filter(name=given.get("campaign") or "").first()
        if campaign is None or campaign.opened_at is None:
            raise UploadError("campaign", "Labels and ratings need the campaign whose questions they answer, opened.")
    try:
        _columns(given)
    except CorpusError as error:
        raise UploadError("columns", str(error)) from error


def _columns(given: Mapping[str, Any]) -> Columns | LabelColumns | None:
    pairs = [line for line in str(given.get("columns") or "").splitlines() if line.strip()]
    if pairs and given["kind"] == "responses":
        raise CorpusError("A file of responses names its own columns: dialogue_id, turn_id, response, system.")
    return LabelColumns.parse(pairs) if given["kind"] == "labels" else Columns.parse(pairs)


def keep_upload(file: File[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Put an upload where every worker reaches it; give the parameters of its job."""
    names = ("kind", "dataset", "split", "system", "campaign", "columns", "strict")
    # The stored name is ours: a name from outside never becomes a path.
    stored = default_storage.save(f"uploads/{uuid.uuid4()}", file)
    return {**{name: given.get(name) for name in names}, "upload": stored, "file_name": file.name or "upload"}


def import_upload(given: Mapping[str, Any], progress: ProgressCallback) -> dict[str, Any]:
    """Read an upload from the storage; it is removed once it has been read, or cannot be."""
    # Readers name the file in their messages, but a name never becomes a path.
    name = re.sub(r"[^\w.-]+", "_", given["file_name"].rsplit("/", 1)[-1]).lstrip(".")[-120:] or "upload"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with default_storage.open(given["upload"]) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        try:
            report = _imported(path, given, progress)
        except CorpusError:  # reading it again would end the same way
            default_storage.delete(given["upload"])
            raise
    default_storage.delete(given["upload"])
    conspicuous = ", ".join(f"{count:,} {flag}" for flag, count in report.flags.most_common())
    told = {"conspicuous": conspicuous} if conspicuous else {}
    return {**report.counts(), **told, "problems": report.problems[:50]}


def _imported(path: Path, given: Mapping[str, Any], progress: ProgressCallback) -> ImportReport:
    columns = _columns(given)
    options: dict[str, Any] = {
        "on_bad_row": "abort" if given.get("strict") else "skip",
        "progress": lambda rows: progress(rows, 0, f"{rows:,} rows"),
    }
    if given["kind"] == "labels":
        assert not isinstance(columns, Columns)
        campaign = Campaign.objects.get(name=given["campaign"])
        return import_labels(path, campaign=campaign, columns=columns, **options)
    options["pause"] = WRITER_PAUSE if connection.vendor == "sqlite" else 0.0
    if given["kind"] == "dialogues":
        assert not isinstance(columns, LabelColumns)
        split = given.get("split") or ""
        return import_dialogues(path, dataset=given["dataset"], split=split, columns=columns, **options)
    return import_responses(path, system=given.get("system") or None, dataset=given.get("dataset") or None, **options)
