"""Agreement statistics of a campaign as a file of their own: per role, data set, system, label, pair and annotator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import pandas as pd
from django.utils import timezone

from annotation.models import Campaign
from annotation.workflow import frames
from annotation.workflow.exports import stamp
from annotation.workflow.planning import count_look
from evaluation.agreement import Agreement, AgreementOptions, agreement
from evaluation.emotions import EMOTIONS
from evaluation.intervals import Estimate
from evaluation.rendering import latex, sheets
from evaluation.rendering.sheets import csv_lines

Format = Literal["csv", "jsonl"]
BATCH = 2000


# --- agreement statistics --------------------------------------------------------------------------------------------

AGREEMENT_FORMATS = ("csv", "xlsx", "json", "latex")
_SCOPES = (
    ("all", ()),
    ("role", ("kind",)),
    ("data set", ("dataset",)),
    ("system", ("system",)),
    ("data set and role", ("dataset", "kind")),
    ("data set and system", ("dataset", "system")),
)


def agreement_report(
    campaign: Campaign,
    *,
    as_of: datetime | None = None,
    replicates: int = 2000,
    seed: int = 1,
    arms: frames.Arms = "independent",
) -> dict[str, Any]:
    """All agreement statistics of a campaign as a small report: overall and by role, data set and system, then per
    label, pair and annotator, then classifier beside human. Interval and n with each; undefined ones say why."""
    classifier = frames.classifier_of(campaign)
    selection = frames.Selection(
        datasets=tuple(campaign.datasets.order_by("name")),
        systems=tuple(campaign.systems.order_by("name")),
        classifier=classifier,
        grouping=campaign.grouping,
        campaign=campaign,
        arms=arms,
        as_of=as_of or timezone.now(),
    )
    count_look(campaign)
    judgments = frames.build_frames(selection).judgments
    options = AgreementOptions(
        labels=EMOTIONS,
        replicates=replicates,
        seed=seed,
        arms="all" if arms == "all" else "hidden",
        allow_single=campaign.allow_single,
    )
    scopes = list(_scoped(judgments))
    found = [(scope, group, agreement(rows, options)) for scope, group, rows in scopes]
    tables = [
        _coefficient_table(found),
        _per_label_table(found),
        _pair_table(found),
        _annotator_table(found),
        _classifier_table(found),
    ]
    return {
        "title": f"Agreement statistics: {campaign.title}",
        "status": f"{len(judgments)} labels of {judgments['annotator'].nunique()} annotators",
        "sections": [
            {
                "id": "agreement",
                "number": 1,
                "title": "Agreement",
                "caption": "95 % intervals from resampling whole dialogues. A missing value says why it is missing.",
                "warnings": [],
                "tables": tables,
                "figures": [],
            }
        ],
        "provenance": {
            "campaign": campaign.name,
            "mode": campaign.mode,
            "arms": "labels given without seeing the pre-label" if arms == "independent" else "all labels",
            "classifier": str(classifier) if classifier else None,
            "grouping": campaign.grouping,
            "as_of": stamp(selection.as_of),
            "replicates": replicates,
            "seed": seed,
        },
    }


def _scoped(judgments: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for scope, columns in _SCOPES:
        if not columns:
            yield scope, "all", judgments
            continue
        named = judgments.dropna(subset=list(columns))
        for key, rows in named.groupby(list(columns), sort=True):
            yield scope, " · ".join(str(part) for part in key), rows.reset_index(drop=True)


def _estimates(values: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    return {name: estimate.to_json() for name, estimate in values.items()}


def _tabular(identifier: str, title: str, rows: list[dict[str, Any]], caption: str = "") -> dict[str, Any]:
    """Rows as a table; its columns are the keys in the order they first appear."""
    keys = list(dict.fromkeys(key for row in rows for key in row)) or ["scope"]
    columns = [{"key": key, "title": key.replace("_", " "), "kind": _kind_of(key, rows)} for key in keys]
    return {"id": identifier, "title": title, "caption": caption, "columns": columns, "rows": rows}


def _kind_of(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    values = [row[key] for row in rows if row.get(key) is not None]
    if any(isinstance(value, Mapping) for value in values):
        return "estimate"
    return "count" if values and all(isinstance(value, int) for value in values) else "text"


_Found = Sequence[tuple[str, str, Agreement]]


def _coefficient_table(found: _Found) -> dict[str, Any]:
    rows = []
    for scope, group, result in found:
        facts = result.facts
        for name, estimate in result.coefficients.items():
            band = result.bands.get(name) or {}
            rows.append(
                {
                    "scope": scope,
                    "group": group,
                    "statistic": name,
                    "estimate": estimate.to_json(),
                    "items": facts["n_items"],
                    "annotators": facts["n_annotators"],
                    "dialogues": facts["n_dialogues"],
                    "band_of_lower_bound": f"{band['band']} ({band['scale']})" if band else None,
                }
            )
    return _tabular("agreement", "Agreement among annotators", rows)


def _per_label_table(found: _Found) -> dict[str, Any]:
    rows = [
        {"scope": scope, "group": group, "label": label, **_estimates(values)}
        for scope, group, result in found
        for label, values in result.per_label.items()
    ]
    return _tabular("agreement-per-label", "Agreement per label, each against the rest", rows)


def _pair_table(found: _Found) -> dict[str, Any]:
    rows = [
        {
            "scope": scope,
            "group": group,
            "annotator_a": pair.annotators[0],
            "annotator_b": pair.annotators[1],
            "items": pair.n,
            **_estimates(pair.values),
        }
        for scope, group, result in found
        for pair in result.pairs
    ]
    return _tabular("agreement-per-pair", "Agreement per pair of annotators", rows)


def _annotator_table(found: _Found) -> dict[str, Any]:
    rows = [
        {
            "scope": scope,
            "group": group,
            "annotator": one.annotator,
            "labels_given": sum(one.labels.values()),
            "without_others": one.alone,
            "others_tied": one.unresolved,
            **_estimates(one.values),
        }
        for scope, group, result in found
        for one in result.annotators
    ]
    caption = "Each annotator against the majority of the others."
    return _tabular("agreement-per-annotator", "Agreement per annotator", rows, caption)


def _classifier_table(found: _Found) -> dict[str, Any]:
    rows = []
    for scope, group, result in found:
        if result.classifier is None:
            continue
        parts = {
            "classifier against verified labels": result.classifier.values,
            "annotators among themselves": result.classifier.human,
            "against the majority of the other annotators": result.classifier.left_out,
        }
        for comparison, values in parts.items():
            for name, estimate in values.items():
                rows.append(
                    {
                        "scope": scope,
                        "group": group,
                        "comparison": comparison,
                        "statistic": name,
                        "estimate": estimate.to_json(),
                    }
                )
    return _tabular("agreement-classifier", "Classifier and annotators", rows)


def agreement_file(report: Mapping[str, Any], format: str) -> bytes:
    """An agreement report as one file: csv and latex hold all tables one after the other, xlsx one sheet a table.

    Raises `ValueError` for a format that does not exist.
    """
    tables = report["sections"][0]["tables"]
    if format == "csv":
        return _long_csv(tables).encode()
    if format == "xlsx":
        return sheets.workbook(report)
    if format == "json":
        return (json.dumps(report, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()
    if format == "latex":
        return "\n".join(latex.table_latex(table) for table in tables).encode()
    raise ValueError(f"There is no format called {format!r}; the formats are: {', '.join(AGREEMENT_FORMATS)}.")


LONG = ("table", "scope", "group", "of", "statistic", "value", "low", "high", "se", "n", "reason", "method")


def _long_csv(tables: Sequence[Mapping[str, Any]]) -> str:
    """One row per statistic: what R and pandas filter without knowing five layouts."""

    def rows() -> Iterator[list[Any]]:
        for table in tables:
            for row in table["rows"]:
                of = row.get("label") or row.get("annotator") or row.get("comparison")
                if "annotator_a" in row:
                    of = f"{row['annotator_a']} / {row['annotator_b']}"
                for key, value in row.items():
                    if isinstance(value, Mapping):
                        low, high = value["interval"] or (None, None)
                        name = row["statistic"] if key == "estimate" else key
                        yield [
                            table["id"],
                            row["scope"],
                            row["group"],
                            of,
                            name,
                            value["value"],
                            low,
                            high,
                            value["se"],
                            value["n"],
                            value["reason"],
                            value["method"],
                        ]

    return "".join(csv_lines(LONG, rows()))
