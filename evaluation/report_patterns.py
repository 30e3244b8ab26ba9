"""Sections 5 and 6 of the report: which emotion answers which, and where that differs from what people do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from evaluation import counts as ct
from evaluation.counts import Floats
from evaluation.emotions import EMOTIONS
from evaluation.groups import MetricOptions
from evaluation.intervals import Estimate, undefined
from evaluation.metrics import GroupMetrics
from evaluation.patterns import CellDifference
from evaluation.report_groups import DATASET, PLACE, SYSTEM, datasets_of, groups_of, named, number_or_none, slug
from evaluation.report_model import Cell, Column, FigureSpec, Names, Section, Table, warnings_of

PAPER_PATTERNS: Final = (
    ("joy", "neutral", "Missed positive sentiment."),
    ("surprise", "fear", "Misread as threat or anxiety."),
    ("sadness", "joy", "Feels insensitive or dismissive."),
    ("anger", "neutral", "Lacks empathetic tone."),
    ("fear", "disgust", "Misinterprets concern."),
    ("disgust", "sadness", "Softens user's frustration."),
    ("neutral", "joy", "Overly enthusiastic tone."),
)
"""The misalignment patterns and comments of the paper's Table 1."""
PAPER_FIGURES: Final = {"redial": "Figure 3", "inspired": "Figure 4"}
MIN_VERIFIED: Final = 5
PATTERNS_SHOWN: Final = 10


# --- 5. confusion ----------------------------------------------------------------------------------------------------

MATRICES: Final = (
    ("alignment_raw", "user-response", "User emotion to response emotion, by the classifier", "user", "response"),
    ("alignment_verified", "user-response-verified", "User to response emotion, by human labels", "user", "response"),
    ("reference_raw", "reference-response", "Reference to system response emotion, by the classifier",
     "reference response", "response"),
)  # fmt: skip


def confusion(groups: Sequence[GroupMetrics], options: MetricOptions, names: Names) -> Section:
    """Give section 5: the confusion matrices, the counterparts of the paper's Figures 3 and 4."""
    tables, figures = [], []
    keys = names.keys()
    for dataset in datasets_of(groups):
        for name, identifier, title, rows, columns in MATRICES:
            members = [
                g
                for g in groups_of(groups, dataset)
                if g.confusions[name].sum() and not (name == "reference_raw" and g.is_reference)
            ]
            if not members:
                continue
            key = keys.get(dataset, dataset)
            paper = PAPER_FIGURES.get(key.lower(), "") if name == "alignment_raw" else ""
            tables.append(_matrix_table(members, name, slug(identifier, key), f"{title}: {dataset}", rows, paper))
            panels = [
                {
                    "title": named(group),
                    "rows": list(EMOTIONS),
                    "columns": list(EMOTIONS),
                    "values": ct.normalised(_weighed(group, name), _shown_by(options)),
                    "counts": group.confusions[name],
                }
                for group in members
            ]
            figures.append(
                FigureSpec(
                    slug(identifier, key),
                    "heatmap",
                    f"{title}: {dataset}",
                    f"Heat maps of {rows} emotion (rows) against {columns} emotion (columns), one for each of "
                    f"{', '.join(named(group) for group in members)}; numbers are in the table.",
                    {"panels": panels, "row_title": f"{rows} emotion (n)", "column_title": f"{columns} emotion"},
                    f"Cells are percent of {_basis(options)}{_weighing(name)}; the outlined diagonal is alignment. "
                    "A hatched row has no turn.",
                    paper,
                )
            )
    caption = (
        "Which emotion the responses carry, given the user's. Each row is one user emotion and adds up to 100 %; the "
        "diagonal is exact alignment. Three different matrices must not be mixed up: user against response (here: what "
        "the paper calls misalignment), reference against response, and human against classifier label of the same "
        "text (misclassification, in section 7)."
    )
    return Section("confusion", 5, "User to response emotions", caption, tuple(tables), tuple(figures))


def _shown_by(options: MetricOptions) -> Any:
    return "row" if options.confusion == "none" else options.confusion


def _basis(options: MetricOptions) -> str:
    return {"row": "the row", "column": "the column", "all": "all turns"}[_shown_by(options)]


def _matrix_table(
    members: Sequence[GroupMetrics], name: str, identifier: str, title: str, rows: str, paper: str
) -> Table:
    body: list[dict[str, Cell]] = []
    for group in members:
        matrix = group.confusions[name]
        shares = ct.normalised(_weighed(group, name))
        for code, emotion in enumerate(EMOTIONS):
            body.append(
                {
                    "system": named(group),
                    "row": emotion,
                    "turns": int(matrix[code].sum()),
                    **{e: int(matrix[code, PLACE[e]]) for e in EMOTIONS},
                    **{f"{e}_share": number_or_none(shares[code, PLACE[e]]) for e in EMOTIONS},
                }
            )
    columns = (
        SYSTEM,
        Column("row", f"{rows[0].upper()}{rows[1:]} emotion"),
        Column("turns", "Turns", "count"),
        *(Column(e, e, "count") for e in EMOTIONS),
        *(Column(f"{e}_share", f"{e} % of row", "percent") for e in EMOTIONS),
    )
    note = f"Counts of turns as drawn; percent of the row{_weighing(name)}." if _weighing(name) else ""
    return Table(f"confusion-{identifier}", title, columns, tuple(body), note, paper)


def _weighed(group: GroupMetrics, name: str) -> Floats:
    """Give the matrix that shares are taken from: human labels count the inverse of their inclusion probability."""
    weighted = group.weighted.get(name)
    return group.confusions[name] if weighted is None else weighted


def _weighing(name: str) -> str:
    return ", each turn counting the inverse of its inclusion probability" if name.endswith("_verified") else ""


# --- 6. misalignment patterns ----------------------------------------------------------------------------------------


def patterns(
    groups: Sequence[GroupMetrics],
    cells: Mapping[tuple[str, str], Sequence[CellDifference]],
    shares: Mapping[tuple[str, str], Mapping[tuple[int, int], Estimate]],
    ratings: pd.DataFrame,
    cases: pd.DataFrame,
) -> Section:
    """Give section 6: misalignment patterns against the human baseline (Table 1), and real cases (Table 3)."""
    rows: list[dict[str, Cell]] = []
    for group in groups:
        for cell in list(cells.get((group.dataset, group.system), ()))[:PATTERNS_SHOWN]:
            verified = int(group.confusions["alignment_verified"][cell.user, cell.response])
            pattern = f"{EMOTIONS[cell.user]} → {EMOTIONS[cell.response]}"
            rows.append(
                {
                    "dataset": group.dataset,
                    "system": named(group),
                    "pattern": pattern,
                    "turns": cell.turns,
                    "share": cell.share,
                    "corrected": cell.corrected,
                    "baseline": cell.baseline,
                    "difference": cell.difference,
                    "p": cell.p_adjusted,
                    "difference_corrected": cell.difference_corrected,
                    "verified": verified,
                    "confirmed": "yes" if verified >= MIN_VERIFIED else "no",
                    "ratings": _pattern_ratings(ratings, group, EMOTIONS[cell.user], EMOTIONS[cell.response]),
                }
            )
    observed = Table(
        "patterns",
        "Most frequent misalignments by system",
        (
            DATASET,
            SYSTEM,
            Column("pattern", "User → response"),
            Column("turns", "Turns, classifier", "count"),
            Column("share", "% of such user turns, classifier", "percent"),
            Column("corrected", "% corrected", "percent"),
            Column("baseline", "Human reference %, classifier", "percent"),
            Column("difference", "System - human, points, classifier", "percent"),
            Column("p", "p, Benjamini-Hochberg", "p"),
            Column("difference_corrected", "System - human, corrected", "percent"),
            Column("verified", "Human-verified turns", "count"),
            Column("confirmed", f"At least {MIN_VERIFIED} verified"),
            Column("ratings", "Mean ratings of verified turns"),
        ),
        tuple(rows),
        "Off-diagonal cells with 5 turns or more, most frequent first. The difference compares the same turns with "
        f"the human responses. With fewer than {MIN_VERIFIED} human-verified turns a pattern may be the classifier's "
        "doing. Corrected values rest on the verified turns with that user emotion, which n counts; fewer than "
        f"{MIN_VERIFIED} of them give none. Shares are those of this corpus, differences speak for further dialogues.",
    )
    tables = [_paper_patterns(groups, shares), observed]
    if len(cases):
        tables.append(_cases_table(cases))
    warnings = []
    if not len(cases):
        warnings.append("No illustrative cases were given with these tables.")
    elif "basis" in cases and not (cases["basis"] == "human").any():
        warnings.append("The cases rest on classifier labels: no person has confirmed these emotions.")
    caption = (
        "Where a response carries another emotion than the user, how often the human responses do the same, and real "
        "turns that show it. A positive difference means that the system does it more often than people do."
    )
    return Section("patterns", 6, "Misalignment patterns and cases", caption, tuple(tables), (), warnings_of(warnings))


def _paper_patterns(
    groups: Sequence[GroupMetrics], shares: Mapping[tuple[str, str], Mapping[tuple[int, int], Estimate]]
) -> Table:
    rows: list[dict[str, Cell]] = []
    for user, response, comment in PAPER_PATTERNS:
        for group in groups:
            matrix = group.confusions["alignment_raw"]
            total = float(matrix[PLACE[user]].sum())
            hits = float(matrix[PLACE[user], PLACE[response]])
            human = group.confusions["alignment_verified"]
            rows.append(
                {
                    "user": user,
                    "response": response,
                    "comment": comment,
                    "dataset": group.dataset,
                    "system": named(group),
                    "turns": int(hits),
                    "share": hits / total if total else None,
                    "corrected": shares.get((group.dataset, group.system), {}).get(
                        (PLACE[user], PLACE[response]), undefined("no_data")
                    ),
                    "verified": int(human[PLACE[user], PLACE[response]]),
                    "verified_of": int(human[PLACE[user]].sum()),
                }
            )
    return Table(
        "paper-patterns",
        "The paper's seven misalignment patterns, counted",
        (
            Column("user", "User emotion"),
            Column("response", "Response emotion"),
            Column("comment", "The paper's comment"),
            DATASET,
            SYSTEM,
            Column("turns", "Turns, classifier", "count"),
            Column("share", "% of such user turns, classifier", "percent"),
            Column("corrected", "% corrected", "percent"),
            Column("verified", "Human-verified turns", "count"),
            Column("verified_of", "of verified turns with this user emotion", "count"),
        ),
        tuple(rows),
        "The comments are the paper's; it gives no counts.",
        "Table 1",
    )


def _column(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Give an optional column, empty where the table lacks it."""
    return table[name] if name in table else pd.Series("", index=table.index, dtype=object)


def _pattern_ratings(ratings: pd.DataFrame, group: GroupMetrics, user: str, response: str) -> str | None:
    if "pattern" not in ratings or not len(ratings):
        return None
    chosen = ratings[
        (_column(ratings, "dataset").fillna("") == group.dataset)
        & (ratings["system"] == group.system)
        & (ratings["pattern"] == f"{user} → {response}")
        & ratings["value"].notna()
    ]
    means = chosen.groupby("outcome", sort=True)["value"].agg(["mean", "count"])
    return "; ".join(f"{name} {row['mean']:.2f} (n = {int(row['count'])})" for name, row in means.iterrows()) or None


def _cases_table(cases: pd.DataFrame) -> Table:
    titles = {
        "pattern": "User → response",
        "basis": "Labels by",
        "confidence": "Confidence",
        "turns_with_pattern": "Turns with the pattern",
        "dataset": "Data set",
        "system": "System",
        "dialogue": "Dialogue",
        "turn": "Turn",
        "context": "Context",
        "user_text": "User utterance",
        "response_text": "Response",
        "user_labels": "Labels of the utterance",
        "response_labels": "Labels of the response",
        "ratings": "Mean ratings",
    }
    kinds: dict[str, Any] = {"confidence": "number", "turns_with_pattern": "count"}
    held = [name for name in titles if name in cases]
    rows = [
        {name: None if pd.isna(row[name]) else _case_value(name, row[name]) for name in held}
        for _, row in cases.iterrows()
    ]
    columns = tuple(Column(name, titles[name], kinds.get(name, "text")) for name in held)
    return Table(
        "cases",
        "Illustrative cases",
        columns,
        tuple(rows),
        "Chosen by rule, not by hand: the most frequent patterns; within a pattern the surest verified turns, spread "
        "over systems and dialogues.",
        "Table 3",
    )


def _case_value(name: str, value: Any) -> Cell:
    if name == "confidence":
        return float(value)
    return int(float(value)) if name == "turns_with_pattern" else str(value)
