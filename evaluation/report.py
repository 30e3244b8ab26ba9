"""The full metric report: tables in, one typed `Report` out; to files and back, byte for byte.

`build_report` computes sections 0 to 10 from plain tables. `write_tables` writes those tables and the settings as a
bundle, `recompute` reads a bundle (a folder or a zip) and gives the same report, `compare` says what changed between
two reports, number by number.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from evaluation.comparison import PERMUTATIONS, CellDifference, Comparison, compare_cells, compare_systems
from evaluation.emotions import EMOTIONS, valence_groups
from evaluation.groups import REFERENCE_SYSTEM, GroupData, MetricOptions, split_groups
from evaluation.intervals import DEFAULT_REPLICATES, FEW_CLUSTERS
from evaluation.metrics import GroupMetrics, group_metrics
from evaluation.report_metrics import alignment, any_verified, diversity, flatness, headline, named
from evaluation.report_model import (
    Cell,
    Column,
    Report,
    Section,
    Status,
    Table,
    dumps,
    warnings_of,
)
from evaluation.report_patterns import confusion, patterns
from evaluation.report_people import quality, reliability
from evaluation.report_systems import comparisons, discussion
from evaluation.tables import TableError, check_judgments, check_ratings, check_turns, read_table

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

TABLES: Final = ("turns", "judgments", "ratings", "cases", "responses")
FOLDERS: Final = ("tables", "data")
"""Where a bundle keeps its input tables: the first that exists."""
SECOND_GROUPING: Final = "ekman"
_FORMULA_START: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r")


@dataclass(frozen=True)
class ReportTables:
    """The tables a report is computed from.

    Attributes
    ----------
    turns, judgments, ratings
        As `evaluation.tables` declares them. `turns` may carry `user_confidence`, `response_confidence` and
        `reference_confidence` (probability of the label given), and a second labelling `user_label_ekman`,
        `response_label_ekman`, `reference_label_ekman`.
    responses
        Counts by data set and system, shown as they are.
    cases
        Illustrative cases, carried through as they are; chosen by rule where they are made.
    """

    turns: pd.DataFrame
    judgments: pd.DataFrame = field(default_factory=pd.DataFrame)
    ratings: pd.DataFrame = field(default_factory=pd.DataFrame)
    responses: pd.DataFrame = field(default_factory=pd.DataFrame)
    cases: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class ReportSettings:
    """What the numbers depend on besides the tables.

    Attributes
    ----------
    options
        The places where the paper leaves a choice.
    arms
        `independent`: labels given with the classifier's label in sight are left out of agreement; `all`: they count.
    randomised
        Whether responses were assigned to turns at random: only then is a difference in ratings called an effect.
    scale
        Lowest and highest rating.
    sensitivity
        Whether the mixed and ordinal models are fitted (seconds each).
    provenance
        Shown in section 0 as it is given.
    """

    title: str = "Emotional alignment report"
    seed: int = 0
    replicates: int = DEFAULT_REPLICATES
    permutations: int = PERMUTATIONS
    options: MetricOptions = field(default_factory=MetricOptions)
    arms: str = "independent"
    randomised: bool = False
    scale: tuple[int, int] = (1, 5)
    sensitivity: bool = True
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> ReportSettings:
        """Read settings from plain data.

        Raises
        ------
        ValueError
            Naming what is unknown or cannot be.
        """
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(given) - known):
            raise ValueError(f"Unknown report settings: {', '.join(unknown)}; known: {', '.join(sorted(known))}.")
        chosen = dict(given)
        options = dict(chosen.get("options") or {})
        if wrong := sorted(set(options) - {one.name for one in fields(MetricOptions)}):
            names = ", ".join(one.name for one in fields(MetricOptions))
            raise ValueError(f"Unknown metric options: {', '.join(wrong)}; known: {names}.")
        chosen["options"] = MetricOptions(**options)
        if "scale" in chosen:
            chosen["scale"] = (int(chosen["scale"][0]), int(chosen["scale"][1]))
        return cls(**chosen)

    def to_json(self) -> dict[str, Any]:
        """Give the settings as plain data."""
        return {**asdict(self), "options": self.options.to_json(), "scale": list(self.scale)}


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
    found, cells = _comparisons(data, options, sizes)
    status = _status(groups)
    # The names of systems in tables: the reference is the human baseline.
    sections = (
        _provenance(groups, tables, settings, status, judgments, ratings),
        headline(groups, options, _second_grouping(turns, settings), SECOND_GROUPING),
        alignment(groups, options),
        flatness(groups, options),
        diversity(groups, options),
        confusion(groups, options),
        patterns(groups, cells, ratings, tables.cases),
        reliability(turns, judgments, options, arms=settings.arms, replicates=settings.replicates, seed=settings.seed),
        quality(
            ratings,
            randomised=settings.randomised,
            scale=settings.scale,
            replicates=settings.replicates,
            seed=settings.seed,
            confidence=options.confidence,
            sensitivity=settings.sensitivity,
        ),
        comparisons(found, any_verified(groups)),
        discussion(groups, options),
    )
    shown = {key: value for key, value in settings.to_json().items() if key != "provenance"}
    title = settings.title if status != "unverified" else f"{settings.title} (unverified)"
    return Report(title, status, shown, settings.provenance, sections)


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


def _status(groups: list[GroupMetrics]) -> Status:
    if not any_verified(groups):
        return "unverified"
    complete = all(group.verified_pairs >= group.scored_turns > 0 for group in groups)
    return "verified" if complete else "partly verified"


def _comparisons(
    data: list[GroupData], options: MetricOptions, sizes: dict[str, Any]
) -> tuple[list[Comparison], dict[tuple[str, str], list[CellDifference]]]:
    found: list[Comparison] = []
    cells: dict[tuple[str, str], list[CellDifference]] = {}
    for dataset in dict.fromkeys(group.dataset for group in data):
        members = [group for group in data if group.dataset == dataset]
        usable = [group for group in members if ((group.user >= 0) & (group.response >= 0)).any()]
        baseline = next((group for group in usable if group.is_reference), None)
        if len(usable) > 1:
            found += compare_systems(usable, options, **sizes)
        for group in usable:
            if not group.is_reference:
                cells[group.dataset, group.system] = compare_cells(group, baseline, options, **sizes)
    return found, cells


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
    tables: ReportTables,
    settings: ReportSettings,
    status: Status,
    judgments: pd.DataFrame,
    ratings: pd.DataFrame,
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
        }
        for group in groups
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
        ),
        tuple(rows),
        "A turn is left out when its user utterance or its response has no label.",
    )
    design = Table(
        "provenance",
        "Provenance and settings",
        (Column("field", "Field"), Column("value", "Value")),
        tuple(_flat({"settings": _shown_settings(settings), **settings.provenance})),
    )
    found = [data]
    if len(tables.responses):
        found.append(_responses_table(tables.responses))
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
    return {key: value for key, value in settings.to_json().items() if key not in ("provenance", "title")}


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
        Column(name, name.replace("_", " ").capitalize(), "text" if name in words else "count") for name in names
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


# --- bundles ---------------------------------------------------------------------------------------------------------


def write_tables(tables: ReportTables, settings: ReportSettings, folder: Path) -> None:
    """Write tables and settings of a report as a bundle, `tables/*.csv` and `settings.json`: the same bytes always."""
    place = folder / FOLDERS[0]
    place.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        table: pd.DataFrame = getattr(tables, name)
        text = _csv(table) if len(table.columns) else ""
        (place / f"{name}.csv").write_text(text, encoding="utf-8", newline="")
    plain = json.dumps(settings.to_json(), sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False)
    (folder / "settings.json").write_text(plain + "\n", encoding="utf-8", newline="")


def _csv(table: pd.DataFrame) -> str:
    """Write CSV with text that no spreadsheet takes for a formula; `_uninert` takes the apostrophe off again."""
    safe = table.copy()
    for name in safe.columns:
        if pd.api.types.is_bool_dtype(safe[name].dtype):
            safe[name] = safe[name].map({True: "true", False: "false"})
        elif not pd.api.types.is_numeric_dtype(safe[name].dtype):
            safe[name] = [None if pd.isna(value) else _inert(str(value)) for value in safe[name]]
    return str(safe.to_csv(index=False, lineterminator="\n"))


def _inert(text: str) -> str:
    stripped = text.lstrip()
    return f"'{text}" if text.startswith(_FORMULA_START) or stripped.startswith(_FORMULA_START) else text


def _uninert(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("'") and value[1:].lstrip().startswith(_FORMULA_START):
        return value[1:]
    return value


def read_bundle(bundle: str | Path) -> tuple[ReportTables, ReportSettings, str | None]:
    """Read a bundle, a folder or a zip of one: its tables, its settings, and its `report.json` if it has one.

    Raises
    ------
    TableError
        When it is no bundle, or a file of it cannot be read.
    """
    path = Path(bundle)
    if path.is_file():
        return _read_zip(path)
    if not path.is_dir():
        raise TableError(f"There is no bundle {path}: give the folder or .zip that a report was stored as.")
    return _read_folder(path)


def _read_zip(path: Path) -> tuple[ReportTables, ReportSettings, str | None]:
    import tempfile

    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise TableError(f"{path.name} is neither a folder nor a zip file.") from error
    with archive, tempfile.TemporaryDirectory(prefix="attune-bundle-") as scratch:
        names = [name for name in archive.namelist() if Path(name).name == "settings.json"]
        if not names:
            raise TableError(f"{path.name} holds no settings.json: it is not the bundle of a report.")
        root = min(names, key=len).removesuffix("settings.json")
        wanted = ["settings.json", "report.json", *(f"{f}/{name}.csv" for f in FOLDERS for name in TABLES)]
        for name in wanted:
            # Only names from this list are read, so an archive cannot write anywhere else.
            if root + name in archive.namelist():
                target = Path(scratch) / name
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(archive.read(root + name))
        return _read_folder(Path(scratch))


def _read_folder(folder: Path) -> tuple[ReportTables, ReportSettings, str | None]:
    file = folder / "settings.json"
    if not file.is_file():
        raise TableError(f"{folder} holds no settings.json: it is not the bundle of a report.")
    try:
        settings = ReportSettings.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise TableError(f"settings.json of the bundle cannot be read: {error}") from error
    place = next((folder / name for name in FOLDERS if (folder / name / "turns.csv").is_file()), None)
    if place is None:
        raise TableError(f"The bundle holds no {FOLDERS[0]}/turns.csv.")
    tables = {name: _read_optional(place / f"{name}.csv") for name in TABLES}
    stored = folder / "report.json"
    return ReportTables(**tables), settings, stored.read_text(encoding="utf-8") if stored.is_file() else None


def _read_optional(file: Path) -> pd.DataFrame:
    if not file.is_file() or not file.stat().st_size:
        return pd.DataFrame()
    table = read_table(file)
    for name in table.columns:
        codes, values = pd.factorize(table[name])
        cleaned = [_uninert(value) for value in values]
        if cleaned != list(values):
            table[name] = np.array([*cleaned, None], dtype=object)[codes]
    return table


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


# --- what changed ----------------------------------------------------------------------------------------------------


def compare(first: Report | Mapping[str, Any], second: Report | Mapping[str, Any]) -> pd.DataFrame:
    """Say what changed between two reports, number by number.

    Returns
    -------
    DataFrame
        One row a cell that differs: section, table, row (its texts), column, part (`value`, `low`, `high`, `n`, …),
        before, after (text; `absent` where only one report has it) and change (after - before, NaN where not numbers).
    """
    before, after = _numbers(first), _numbers(second)
    rows = []
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key, "absent"), after.get(key, "absent")
        if old == new:
            continue
        numeric = isinstance(old, int | float) and isinstance(new, int | float)
        change = float(new) - float(old) if numeric else float("nan")
        rows.append((*key, _text(old), _text(new), change))
    return pd.DataFrame(rows, columns=["section", "table", "row", "column", "part", "before", "after", "change"])


def _text(value: Any) -> str:
    return "undefined" if value is None else str(value)


def _numbers(report: Report | Mapping[str, Any]) -> dict[tuple[str, str, str, str, str], Any]:
    plain = report.content() if isinstance(report, Report) else report
    found: dict[tuple[str, str, str, str, str], Any] = {}
    for section in plain["sections"]:
        for table in section["tables"]:
            words = [column["key"] for column in table["columns"] if column["kind"] == "text"]
            seen: dict[str, int] = {}
            for row in table["rows"]:
                name = " · ".join(str(row[key]) for key in words if row.get(key) is not None)
                seen[name] = seen.get(name, 0) + 1
                label = name if seen[name] == 1 else f"{name} ({seen[name]})"
                for column in table["columns"]:
                    value = row.get(column["key"])
                    if column["key"] in words or value is None:
                        continue
                    for part, number in _parts(value):
                        found[section["id"], table["id"], label, column["key"], part] = number
    return found


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield "value", value
        return
    low, high = value.get("interval") or (None, None)
    parts = {"value": value.get("value"), "low": low, "high": high, "n": value.get("n"), "reason": value.get("reason")}
    yield from parts.items()


def zipped(folder: Path) -> bytes:
    """Give the files of a bundle as a zip with fixed times: the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            info = zipfile.ZipInfo(file.relative_to(folder).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, file.read_bytes())
    return buffer.getvalue()
