"""The full metric report: tables in, one typed `Report` out; to files and back, byte for byte.

`build_report` computes sections 0 to 10 from plain tables. `write_tables` writes those tables and the settings as a
bundle, `recompute` reads a bundle (a folder or a zip) and gives the same report, `compare` says what changed between
two reports, number by number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from evaluation.comparison import Comparison, compare_systems
from evaluation.emotions import EMOTIONS, valence_groups
from evaluation.groups import REFERENCE_SYSTEM, GroupData, MetricOptions, split_groups
from evaluation.intervals import FEW_CLUSTERS, Estimate
from evaluation.metrics import GroupMetrics, group_metrics
from evaluation.patterns import CellDifference, compare_cells, corrected_shares
from evaluation.pooling import Pooling, pooling
from evaluation.rating_means import rating_means
from evaluation.report_bundle import ReportSettings, ReportTables, compare, read_bundle, write_tables
from evaluation.report_groups import DATASET, any_verified, named
from evaluation.report_metrics import alignment, diversity, flatness, headline
from evaluation.report_model import (
    Cell,
    Column,
    Names,
    Report,
    Section,
    Status,
    Table,
    dumps,
    warnings_of,
)
from evaluation.report_patterns import confusion, patterns
from evaluation.report_ratings import quality
from evaluation.report_reliability import reliability
from evaluation.report_response import response_table
from evaluation.report_systems import comparisons, discussion
from evaluation.tables import check_judgments, check_ratings, check_turns

__all__ = [
    "Report",
    "ReportSettings",
    "ReportTables",
    "build_report",
    "compare",
    "dumps",
    "read_bundle",
    "recompute",
    "write_tables",
]

SECOND_GROUPING: Final = "ekman"


# --- computing -------------------------------------------------------------------------------------------------------


def build_report(tables: ReportTables, settings: ReportSettings) -> Report:
    """Compute the full report, sections 0 to 10.

    Raises
    ------
    TableError
        When a table breaks its contract, naming row and column.
    """
    options = settings.options
    turns = _prepared(check_turns(tables.turns))
    judgments = check_judgments(tables.judgments) if len(tables.judgments) else tables.judgments
    ratings = check_ratings(tables.ratings, settings.scale) if len(tables.ratings) else tables.ratings
    ratings = _rated(ratings, turns, options)
    data = split_groups(turns, options)
    sizes: dict[str, Any] = {"replicates": settings.replicates, "seed": settings.seed}
    groups = [group_metrics(group, options, **sizes) for group in data]
    sizes["permutations"] = settings.permutations
    found, cells, shares = _comparisons(data, options, sizes)
    status = _status(groups)
    pooled = pooling(judgments, settings.arms, settings.pooling_margin, confidence=options.confidence)
    # Computed under keys, so that no title moves a number; from here on people read.
    names = settings.names
    keys = [(group.dataset, group.system) for group in groups]
    groups, other = _titled(groups, names), _titled(_second_grouping(turns, settings), names)
    shown = {(dataset, system): (names.dataset(dataset), names.system(system)) for dataset, system in keys}
    cells = {shown[key]: found for key, found in cells.items()}
    shares = {shown[key]: found for key, found in shares.items()}
    sections = (
        _provenance(groups, keys, tables, settings, status, turns, judgments, ratings, pooled),
        headline(groups, options, other, SECOND_GROUPING),
        alignment(groups, options),
        flatness(groups, options),
        diversity(groups, options),
        confusion(groups, options, names),
        patterns(groups, cells, shares, names.of(ratings), names.of(tables.cases)),
        reliability(
            turns,
            judgments,
            options,
            names,
            pooling=pooled,
            verified_arms=settings.verified_arms,
            replicates=settings.replicates,
            seed=settings.seed,
        ),
        quality(
            ratings,
            rating_means(ratings, turns, options, scale=settings.scale),
            names,
            randomised=settings.randomised,
            scale=settings.scale,
            replicates=settings.replicates,
            seed=settings.seed,
            confidence=options.confidence,
            sensitivity=settings.sensitivity,
        ),
        comparisons(found, any_verified(groups), options, names),
        discussion(groups, options),
    )
    chosen = {key: value for key, value in settings.to_json().items() if key != "provenance"}
    title = settings.title if status != "unverified" else f"{settings.title} (unverified)"
    return Report(title, status, chosen, settings.provenance, sections)


def _prepared(turns: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by key, so that the order of a file does not matter, and mark the reference's rows.

    ReDial comes first, as in the paper; other data sets follow by name.
    """
    keys = [turns[name].fillna("").astype(str) for name in ("dataset", "dialogue", "turn", "system")]
    place = pd.DataFrame(dict(zip("abcd", keys, strict=True)))
    place["n"] = pd.to_numeric(place["c"], errors="coerce")
    place.insert(0, "later", place["a"].str.lower() != "redial")
    order = place.sort_values(["later", "a", "b", "n", "c", "d"], kind="stable").index
    ordered = turns.loc[order].reset_index(drop=True)
    flag = ordered["is_reference"].fillna(False).astype(bool) if "is_reference" in ordered else False
    ordered["is_reference_row"] = flag | (ordered["system"] == REFERENCE_SYSTEM)
    return ordered


def _titled(groups: list[GroupMetrics], names: Names) -> list[GroupMetrics]:
    return [replace(one, dataset=names.dataset(one.dataset), system=names.system(one.system)) for one in groups]


def _status(groups: list[GroupMetrics]) -> Status:
    if not any_verified(groups):
        return "unverified"
    complete = all(group.verified_pairs >= group.scored_turns > 0 for group in groups)
    return "verified" if complete else "partly verified"


def _comparisons(
    data: list[GroupData], options: MetricOptions, sizes: dict[str, Any]
) -> tuple[
    list[Comparison],
    dict[tuple[str, str], list[CellDifference]],
    dict[tuple[str, str], dict[tuple[int, int], Estimate]],
]:
    found: list[Comparison] = []
    cells: dict[tuple[str, str], list[CellDifference]] = {}
    shares: dict[tuple[str, str], dict[tuple[int, int], Estimate]] = {}
    resamples = {key: sizes[key] for key in ("replicates", "seed")}
    for dataset in dict.fromkeys(group.dataset for group in data):
        members = [group for group in data if group.dataset == dataset]
        usable = [group for group in members if ((group.user >= 0) & (group.response >= 0)).any()]
        baseline = next((group for group in usable if group.is_reference), None)
        if len(usable) > 1:
            found += compare_systems(usable, options, **sizes)
        for group in usable:
            key = group.dataset, group.system
            shares[key] = corrected_shares(group, options, **resamples)
            if not group.is_reference:
                cells[key] = compare_cells(group, baseline, options, shares=shares[key], **sizes)
    return found, cells, shares


def _second_grouping(turns: pd.DataFrame, settings: ReportSettings) -> list[GroupMetrics]:
    """Compute the raw measures again under the second labelling, where the table carries one."""
    columns = {f"{role}_label": f"{role}_label_{SECOND_GROUPING}" for role in ("user", "response", "reference")}
    if not {columns["user_label"], columns["response_label"]} <= set(turns.columns):
        return []
    table = turns.drop(columns=[name for name in turns if str(name).endswith("_verified")])
    table = table.assign(**{name: table[other] for name, other in columns.items() if other in table})
    groups = split_groups(table, settings.options)
    return [group_metrics(g, settings.options, replicates=settings.replicates, seed=settings.seed) for g in groups]


def _rated(ratings: pd.DataFrame, turns: pd.DataFrame, options: MetricOptions) -> pd.DataFrame:
    """Add the human-verified pattern of each rated response, and the flags where the table lacks them."""
    if not len(ratings) or "turn" not in ratings or "system" not in ratings:
        return ratings
    keys = ["dataset", "dialogue", "turn", "system"]
    if "user_verified" not in turns or "response_verified" not in turns:
        return ratings
    known = turns[turns["user_verified"].notna() & turns["response_verified"].notna()]
    columns = {name: known[name].fillna("").astype(str) for name in keys}
    lookup = pd.DataFrame(columns).assign(
        user=known["user_verified"].astype(object), response=known["response_verified"].astype(object)
    )
    wanted = pd.DataFrame(
        {name: (ratings[name].fillna("").astype(str) if name in ratings else "") for name in keys}, index=ratings.index
    )
    joined = wanted.merge(lookup, on=keys, how="left")
    both = joined["user"].notna().to_numpy()
    user, response = joined["user"].to_numpy(dtype=object), joined["response"].to_numpy(dtype=object)
    pattern = np.array(
        [f"{a} → {b}" if ok else None for a, b, ok in zip(user, response, both, strict=True)], dtype=object
    )
    valence = {str(emotion): group for emotion, group in valence_groups(options.surprise).items()}
    coarse = [
        valence[a] == valence[b] if ok and valence[a] is not None and valence[b] is not None else None
        for a, b, ok in zip(user, response, both, strict=True)
    ]
    added: dict[str, Any] = {"pattern": pattern}
    if "aligned_exact" not in ratings:
        exact = [a == b if ok else None for a, b, ok in zip(user, response, both, strict=True)]
        added["aligned_exact"] = pd.array(exact, dtype="boolean")
    if "aligned_coarse" not in ratings:
        added["aligned_coarse"] = pd.array(coarse, dtype="boolean")
    if "user_emotion" not in ratings:
        added["user_emotion"] = pd.Categorical(user, categories=list(EMOTIONS))
    return ratings.assign(**added)


# --- section 0 -------------------------------------------------------------------------------------------------------


def _provenance(
    groups: list[GroupMetrics],
    keys: list[tuple[str, str]],
    tables: ReportTables,
    settings: ReportSettings,
    status: Status,
    turns: pd.DataFrame,
    judgments: pd.DataFrame,
    ratings: pd.DataFrame,
    pooled: Pooling,
) -> Section:
    rows: list[dict[str, Cell]] = [
        {
            "dataset": group.dataset,
            "system": named(group),
            "dialogues": group.dialogues,
            "turns": group.turns,
            "scored": group.scored_turns,
            "excluded": group.turns - group.scored_turns,
            "verified": group.verified_pairs,
            "outside": group.verified_outside_draw,
            "dataset_key": dataset,
            "system_key": system,
        }
        for group, (dataset, system) in zip(groups, keys, strict=True)
    ]
    data = Table(
        "data",
        "What was measured",
        (
            Column("dataset", "Data set"),
            Column("system", "System"),
            Column("dialogues", "Dialogues", "count"),
            Column("turns", "Turns", "count"),
            Column("scored", "Scored (both labels)", "count"),
            Column("excluded", "Left out", "count"),
            Column("verified", "Verified by humans", "count"),
            Column("outside", "Verified but not drawn, left out", "count"),
            Column("dataset_key", "Key of the data set"),
            Column("system_key", "Key of the system"),
        ),
        tuple(rows),
        "A turn is left out when its user utterance or its response has no label. The keys name data set and system in "
        "the tables this report was computed from.",
    )
    # Only where somebody asked for both arms and there are two is there a decision to write down.
    decided = {"pooling": pooled.to_json()} if pooled.asked and pooled.effect is not None else {}
    design = Table(
        "provenance",
        "Provenance and settings",
        (Column("field", "Field"), Column("value", "Value")),
        tuple(_flat({"settings": _shown_settings(settings), **decided, **settings.provenance})),
    )
    found = [data]
    if len(tables.responses):
        found.append(_responses_table(settings.names.of(tables.responses)))
    if (answered := response_table(turns, judgments, keys, settings.names)) is not None:
        found.append(answered)
    people: list[dict[str, Cell]] = [
        {"what": "judgments", "n": len(judgments), "people": _people(judgments)},
        {"what": "ratings", "n": len(ratings), "people": _people(ratings)},
    ]
    found += [
        Table(
            "people",
            "What people did",
            (Column("what", "Table"), Column("n", "Rows", "count"), Column("people", "People", "count")),
            tuple(people),
        ),
        design,
    ]
    caption = (
        "What this report rests on: the data and what was left out of it, who labelled what, and every setting that "
        "moves a number. The same tables, settings and seed give the same report, byte for byte."
    )
    return Section(
        "provenance", 0, "Provenance and design", caption, tuple(found), (), _design_warnings(groups, status)
    )


def _design_warnings(groups: list[GroupMetrics], status: Status) -> tuple[str, ...]:
    said: list[str | None] = []
    if status == "unverified":
        said.append("Unverified: every label is the classifier's. A classifier that is right in four of five cases can "
                    "misread alignment by 15 points.")  # fmt: skip
    for group in groups:
        if group.dialogues < FEW_CLUSTERS:
            said.append(f"{group.dataset}: only {group.dialogues} dialogues; intervals use Student's t and are wide.")
        if 0 < group.verified_pairs < 100:
            said.append(
                f"{named(group)} on {group.dataset}: {group.verified_pairs} verified turns; below 100 the corrected "
                "value is the human-only value."
            )
        if group.verified_outside_draw:
            said.append(
                f"{named(group)} on {group.dataset}: {group.verified_outside_draw} verified turns have no inclusion "
                "probability and are left out."
            )
    return warnings_of(said)


def _shown_settings(settings: ReportSettings) -> dict[str, Any]:
    return {key: value for key, value in settings.to_json().items() if key not in ("provenance", "title", "names")}


def _flat(value: Any, prefix: str = "") -> Iterator[dict[str, Cell]]:
    """Give nested plain data as rows of field and value."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _flat(value[key], f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping | list | tuple) for one in value):
        for place, one in enumerate(value, start=1):
            yield from _flat(one, f"{prefix} {place}")
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        yield {"field": prefix, "value": "–" if text is None or text == "" else str(text)}


def _people(table: pd.DataFrame) -> int:
    return int(table["annotator"].nunique()) if "annotator" in table else 0


def _responses_table(responses: pd.DataFrame) -> Table:
    names = [str(name) for name in responses.columns]
    words = [name for name in names if name in ("dataset", "system")]
    columns = tuple(
        DATASET
        if name == DATASET.key
        else Column(name, name.replace("_", " ").capitalize(), "text" if name in words else "count")
        for name in names
    )
    rows: list[dict[str, Cell]] = []
    for _, row in responses.iterrows():
        cells: dict[str, Cell] = {}
        for name in names:
            value = row[name]
            number = None if name in words or pd.isna(value) else pd.to_numeric(value, errors="coerce")
            known = number is not None and np.isfinite(number)
            cells[name] = int(number) if known and number is not None else None if pd.isna(value) else str(value)
        rows.append(cells)
    return Table(
        "responses",
        "Responses of the systems",
        columns,
        tuple(rows),
        "Systems that left out, cut short or refused more turns are not compared on the same footing: section 9 uses "
        "the turns that all of them answered.",
    )


def recompute(bundle: str | Path) -> Report:
    """Compute the report of a bundle again; where it holds a `report.json`, `differences` says what is not the same.

    Raises
    ------
    TableError
        When it is no bundle, or a table breaks its contract.
    """
    tables, settings, stored = read_bundle(bundle)
    report = build_report(tables, settings)
    if stored is None:
        return report
    if dumps(report) == stored:
        return replace(report, differences=())
    try:
        before = json.loads(stored)
    except ValueError:
        return replace(report, differences=("the stored report.json is not JSON",))
    changes = compare(before, report.content())
    lines = [f"{row.section} / {row.table} / {row.row} / {row.column}: {row.before} -> {row.after}"
             for row in changes.itertuples()]  # fmt: skip
    return replace(report, differences=tuple(lines or ["the text differs, no number does"]))
