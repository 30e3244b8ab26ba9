"""A small fixed corpus with labels, for the golden test of the report. Its labels are made by this program: no person
gave any of them, and they say nothing about people. Whatever the report computes from it, `golden_tables` works out
again by another route."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from evaluation.report import Report, ReportSettings, ReportTables, build_report

LABELS = ("joy", "sadness", "anger", "fear", "surprise", "disgust", "neutral")
SHARES = (0.30, 0.08, 0.07, 0.05, 0.12, 0.04, 0.34)
SYSTEMS = ("a", "b", "c")
SIZES = {"ReDial": (32, 3), "INSPIRED": (10, 2)}  # dialogues, turns of each
REPLICATES = 600
PERMUTATIONS = 2000
SCALE = (1, 5)
OUTCOMES = ("personalization", "satisfaction")


def _label(rng: np.random.Generator, like: str | None = None, share: float = 0.0) -> str:
    return like if like is not None and rng.random() < share else str(rng.choice(LABELS, p=SHARES))


@cache
def turns() -> pd.DataFrame:
    """One row per turn and source; of ReDial half the turns are verified, each drawn with probability 0.5."""
    rng = np.random.default_rng(20)
    rows: list[dict[str, Any]] = []
    for dataset, (dialogues, length) in SIZES.items():
        for d in range(dialogues):
            for t in range(1, length + 1):
                user = _label(rng)
                human = _label(rng, user, 0.6)
                answers = {name: _label(rng, user, share) for name, share in zip(SYSTEMS, (0.5, 0.3, 0.1), strict=True)}
                drawn = dataset == "ReDial" and rng.random() < 0.5
                base = {
                    "dataset": dataset,
                    "dialogue": f"{dataset[0]}{d:02d}",
                    "turn": t,
                    "user_label": user,
                    "user_confidence": round(float(rng.uniform(0.4, 1)), 3),
                    "user_verified": _label(rng, user, 0.8) if drawn else None,
                    "inclusion_probability": 0.5 if drawn else None,
                    "reference_label": human,
                    "reference_verified": _label(rng, human, 0.8) if drawn else None,
                }
                for system, label in (*answers.items(), ("reference", human)):
                    missing = system == "c" and rng.random() < 0.1
                    seen = None if not drawn else _label(rng, label, 0.8)
                    rows.append(
                        {
                            **base,
                            "system": system,
                            "is_reference": system == "reference",
                            "response_label": None if missing else label,
                            "response_confidence": round(float(rng.uniform(0.4, 1)), 3),
                            "response_verified": None
                            if missing
                            else base["reference_verified"]
                            if system == "reference"
                            else seen,
                        }
                    )
    table = pd.DataFrame(rows)
    for role in ("user", "response", "reference"):
        # Another grouping of the classifier's labels: what it calls neutral there is surprise here.
        table[f"{role}_label_ekman"] = table[f"{role}_label"].replace("neutral", "surprise")
    return table


def judgments(*, arms: bool = False) -> pd.DataFrame:
    """Two annotators' labels of the verified texts; with arms, one label in two was given beside the classifier's."""
    rng = np.random.default_rng(21)
    rows = []
    for row in turns().itertuples():
        if pd.isna(row.user_verified):
            continue
        if row.system == "a":
            rows += _two(rng, row, "user", row.user_verified, row.user_label, arms)
        if pd.notna(row.response_verified):
            kind = "reference" if row.is_reference else "response"
            rows += _two(rng, row, kind, row.response_verified, row.response_label, arms)
    return pd.DataFrame(rows)


def _two(rng: np.random.Generator, row: Any, kind: str, near: str, machine: str, arms: bool) -> list[dict[str, Any]]:
    made = []
    for annotator in ("r1", "r2"):
        shown = arms and rng.random() < 0.5
        made.append(
            {
                "item": f"{row.dialogue}-{row.turn}-{kind}-{row.system if kind != 'user' else ''}",
                "annotator": annotator,
                "label": machine if shown and rng.random() < 0.3 else _label(rng, near, 0.7),
                "dialogue": row.dialogue,
                "dataset": row.dataset,
                "turn": row.turn,
                "kind": kind,
                "system": None if kind == "user" else row.system,
                "prelabel": machine,
                **({"arm": "shown" if shown else "hidden", "stratum": row.user_label} if arms else {}),
            }
        )
    return made


@cache
def ratings() -> pd.DataFrame:
    """Two raters' points for the responses of a and b at every verified turn, higher where the labels match."""
    rng = np.random.default_rng(22)
    rows = []
    for row in turns().itertuples():
        if pd.isna(row.user_verified) or row.system not in ("a", "b"):
            continue
        for outcome in OUTCOMES:
            level = 2.6 + 0.8 * (row.user_verified == row.response_verified)
            for rater in ("q1", "q2"):
                rows.append(
                    {
                        "item": f"{row.dialogue}-{row.turn}-{row.system}",
                        "annotator": rater,
                        "dialogue": row.dialogue,
                        "turn": row.turn,
                        "dataset": row.dataset,
                        "system": row.system,
                        "outcome": outcome,
                        "value": int(np.clip(round(rng.normal(level, 1)), *SCALE)),
                    }
                )
    return pd.DataFrame(rows)


RESPONSES = pd.DataFrame(
    {
        "dataset": ["ReDial", "INSPIRED"],
        "system": ["a", "a"],
        "turns": [96, 24],
        "answered": [96, 23],
        "common_turns": [90, 20],
    }
)
CASES = pd.DataFrame(
    {
        "pattern": ["joy → neutral"],
        "basis": ["human"],
        "confidence": [0.75],
        "turns_with_pattern": [3],
        "dataset": ["ReDial"],
        "system": ["a"],
        "dialogue": ["R00"],
        "turn": ["1"],
        "context": [None],
        "user_text": ["That was great!"],
        "response_text": ["Ok."],
        "user_labels": ["joy, joy"],
        "response_labels": ["neutral, joy"],
        "ratings": ["satisfaction 2.00 (n = 2)"],
    }
)
SETTINGS = ReportSettings(
    title="Golden", seed=7, replicates=REPLICATES, permutations=PERMUTATIONS, provenance={"who": ["x", "y"], "n": None}
)


@cache
def blind() -> Report:
    return build_report(ReportTables(turns(), judgments(), ratings(), RESPONSES, CASES), SETTINGS)


@cache
def assisted() -> Report:
    """The same corpus in a campaign that showed the pre-label at random: the one with an anchoring effect."""
    settings = ReportSettings(title="Assisted", seed=7, replicates=100, permutations=100, sensitivity=False)
    return build_report(ReportTables(turns(), judgments(arms=True), pd.DataFrame()), settings)
