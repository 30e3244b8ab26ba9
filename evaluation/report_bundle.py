"""What a report is computed from, and its way to files and back; what changed from one report to another.

`write_tables` writes tables and settings as a bundle, `read_bundle` reads one (a folder or a zip), `compare` says what
differs between two reports, number by number.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from evaluation.anchoring import DEFAULT_MARGIN
from evaluation.files import read_table
from evaluation.groups import MetricOptions
from evaluation.intervals import DEFAULT_REPLICATES
from evaluation.permutation import PERMUTATIONS
from evaluation.report_model import Names, Report
from evaluation.tables import TableError

TABLES: Final = ("turns", "judgments", "ratings", "cases", "responses")
FOLDERS: Final = ("tables", "data")
"""Where a bundle keeps its input tables: the first that exists."""
ARMS: Final = ("independent", "all")
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
        `independent`: labels given with the classifier's label in sight are left out; `all`: they are asked for, and
        count where the effect of the shown label lies inside +- `pooling_margin` (`evaluation.pooling`).
    verified_arms
        The arms whose labels made the verified labels of `turns`: `hidden`, `all`, or empty where that is not known.
    randomised
        Whether responses were assigned to turns at random: only then is a difference in ratings called an effect.
    scale
        Lowest and highest rating.
    sensitivity
        Whether the mixed and ordinal models are fitted (seconds each).
    provenance
        Shown in section 0 as it is given.
    names
        Titles of data sets and systems, in place of their keys wherever people read.
    """

    title: str = "Emotional alignment report"
    seed: int = 0
    replicates: int = DEFAULT_REPLICATES
    permutations: int = PERMUTATIONS
    options: MetricOptions = field(default_factory=MetricOptions)
    arms: str = "independent"
    pooling_margin: float = DEFAULT_MARGIN
    verified_arms: str = ""
    randomised: bool = False
    scale: tuple[int, int] = (1, 5)
    sensitivity: bool = True
    provenance: Mapping[str, Any] = field(default_factory=dict)
    names: Names = field(default_factory=Names)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> ReportSettings:
        """Read settings from plain data.

        Raises
        ------
        ValueError
            Naming what is unknown or cannot be.
        """
        if not isinstance(given, Mapping):
            raise ValueError(f"The report settings are one object of names and values, got {given!r}.")
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(given) - known):
            raise ValueError(f"Unknown report settings: {', '.join(unknown)}; known: {', '.join(sorted(known))}.")
        chosen = dict(given)
        _check_kinds(chosen)
        options = dict(chosen.get("options", {}))
        if wrong := sorted(set(options) - {one.name for one in fields(MetricOptions)}):
            names = ", ".join(one.name for one in fields(MetricOptions))
            raise ValueError(f"Unknown metric options: {', '.join(wrong)}; known: {names}.")
        chosen["options"] = MetricOptions(**options)
        chosen["names"] = Names.from_json(chosen.get("names", {}))
        if "scale" in chosen:
            chosen["scale"] = _scale(chosen["scale"])
        return cls(**chosen)

    def to_json(self) -> dict[str, Any]:
        """Give the settings as plain data."""
        plain = {"options": self.options.to_json(), "scale": list(self.scale), "names": self.names.to_json()}
        return {**asdict(self), **plain}


def _check_kinds(given: Mapping[str, Any]) -> None:
    """Say which setting is of another kind than it must be."""
    kinds: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "title": ("a text", lambda value: isinstance(value, str)),
        **dict.fromkeys(("seed", "replicates", "permutations"), ("a whole number, 0 or more", _is_count)),
        **dict.fromkeys(("options", "provenance", "names"), ("an object", lambda value: isinstance(value, Mapping))),
        **dict.fromkeys(("randomised", "sensitivity"), ("true or false", lambda value: isinstance(value, bool))),
        "arms": (" or ".join(ARMS), lambda value: value in ARMS),
        "verified_arms": ("a text", lambda value: isinstance(value, str)),
        "pooling_margin": ("a number", _is_number),
    }
    for name, (what, holds) in kinds.items():
        if name in given and not holds(given[name]):
            raise ValueError(f"The report setting {name} must be {what}, got {given[name]!r}.")
    confidence = given.get("options", {}).get("confidence", 0.95)
    if not _is_number(confidence):
        raise ValueError(f"The metric option confidence must be a number, got {confidence!r}.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _scale(given: Any) -> tuple[int, int]:
    """Read lowest and highest rating."""
    whole = isinstance(given, list | tuple) and len(given) == 2 and all(map(_is_number, given))
    if not whole or any(int(end) != end for end in given) or given[0] >= given[1]:
        raise ValueError(f"The report setting scale must be two whole numbers, lowest and highest, got {given!r}.")
    return int(given[0]), int(given[1])


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
    return ReportTables(**tables), settings, _read_stored(folder / "report.json")


def _read_stored(file: Path) -> str | None:
    """Read the stored report, if there is one. JSON that is no report is refused; other text is a difference."""
    if not file.is_file():
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TableError(f"report.json of the bundle is not UTF-8 text: {error}.") from error
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        return text
    try:
        _numbers(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TableError(
            "report.json of the bundle is no report (an object with settings and sections): "
            "take the file away to compute the numbers, or put the stored report in its place."
        ) from error
    return text


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
    # A title that was changed between two reports must not hide that a row is the same.
    keys = Names.from_json(plain["settings"].get("names") or {}).keys()
    for section in plain["sections"]:
        for table in section["tables"]:
            words = [column["key"] for column in table["columns"] if column["kind"] == "text"]
            seen: dict[str, int] = {}
            for row in table["rows"]:
                said = (keys.get(str(row[key]), str(row[key])) for key in words if row.get(key) is not None)
                name = " · ".join(dict.fromkeys(said))
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
