"""The tables of the report worked out a second time, by other means: plain loops, scikit-learn, scipy, statsmodels.

Nothing here calls the statistics of `evaluation`. One function a table gives its rows; a cell is a plain value, `Value`
(an estimate with what is known of it) or `Undefined`. Intervals come from a formula where there is one, else from a
plain bootstrap of its own, which agrees with the report's up to the noise of both. Where the width comes from the
survey design, only the value is worked out here, and the interval must hold it; `tests/evaluation/test_coverage.py`
holds those widths to account by simulation.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score, precision_score, recall_score
from statsmodels.miscmodels.ordinal_model import OrderedModel
from statsmodels.stats.multitest import multipletests

from tests.evaluation import golden_corpus as corpus
from tests.evaluation.golden_corpus import LABELS, OUTCOMES, PERMUTATIONS, REPLICATES, SIZES, SYSTEMS

POSITIVE, NEGATIVE = {"joy"}, {"sadness", "anger", "fear", "disgust"}
PLACES = ("positive", "negative", "neutral", "own group", "excluded")
HUMAN = "human reference"
MEASURES = (
    "Exact alignment",
    "Coarse alignment",
    "Entropy H, bits",
    "Expressive range (flatness score)",
    "Macro-F1 against the reference",
)


@dataclass(frozen=True)
class Value:
    """An estimate: its value and n, and its bounds where this file can work them out."""

    value: float
    n: int | None = None
    bounds: tuple[float, float] | None = None
    within: float = 1e-9


@dataclass(frozen=True)
class Undefined:
    """A value that must be undefined, for one of these reasons."""

    reasons: tuple[str, ...] = ("no_data", "class_absent", "never_predicted", "no_support", "no_variation")


@dataclass(frozen=True)
class Noisy:
    """A number that rests on random draws: the report's and this file's agree up to the noise of both."""

    value: float
    within: float


Row = dict[str, Any]
Labels = list[Any]

# --- the rows behind a number ----------------------------------------------------------------------------------------


@cache
def group(dataset: str, system: str) -> pd.DataFrame:
    table = corpus.turns()
    return table[(table["dataset"] == dataset) & (table["system"] == system)].reset_index(drop=True)


def groups(reference: bool = True) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """ReDial first, as in the paper; within a data set by name, the human reference among the others."""
    for dataset in SIZES:
        for system in (*SYSTEMS, *(["reference"] if reference else [])):
            yield dataset, system, group(dataset, system)


def shown(system: str) -> str:
    return HUMAN if system == "reference" else system


def known(*columns: Iterable[Any]) -> list[tuple[Any, ...]]:
    return [row for row in zip(*columns, strict=True) if not any(pd.isna(cell) for cell in row)]


def valence(label: str, place: str) -> str | None:
    if label == "surprise":
        return {"own group": "surprise", "excluded": None}.get(place, place)
    return "positive" if label in POSITIVE else "negative" if label in NEGATIVE else "neutral"


def hits(pairs: list[tuple[Any, ...]], place: str | None) -> list[bool]:
    """Whether user and response match, for the pairs that count: exactly, or in valence under a place of surprise."""
    if place is None:
        return [user == response for user, response in pairs]
    coarse = [(valence(user, place), valence(response, place)) for user, response in pairs]
    return [a == b for a, b in coarse if a is not None and b is not None]


# --- intervals -------------------------------------------------------------------------------------------------------


def clipped(low: float, high: float, bounds: tuple[float, float] | None) -> tuple[float, float]:
    least, most = bounds or (-math.inf, math.inf)
    return min(max(low, least), most), min(max(high, least), most)


def share_of_dialogues(values: list[tuple[Any, float]], bounds: tuple[float, float] | None) -> Value:
    """A mean with the textbook variance of a ratio over dialogues: plain sums, t with one less than the dialogues."""
    numbers = [value for _, value in values]
    mean = sum(numbers) / len(numbers)
    deviations: dict[Any, float] = defaultdict(float)
    for dialogue, value in values:
        deviations[dialogue] += value - mean
    count = len(deviations)
    if count < 2:
        return Value(mean, len(numbers))
    squares = sum(deviation**2 for deviation in deviations.values())
    se = math.sqrt(count / (count - 1) * squares) / len(numbers)
    if se < 1e-12:
        return Value(mean, len(numbers))  # without spread the report says Wilson, or nothing: see test_intervals
    half = float(stats.t.ppf(0.975, count - 1)) * se
    return Value(mean, len(numbers), clipped(mean - half, mean + half, bounds))


@cache
def draws(dialogues: int) -> np.ndarray:
    return np.random.default_rng(99).integers(0, dialogues, (REPLICATES, dialogues))


@cache
def resampled(dataset: str, system: str, row: str, column: str) -> np.ndarray:
    """Matrices of counts in resamples of whole dialogues: those of the drawn dialogues, added up."""
    frame = group(dataset, system)
    each = np.array([matrix(own, row, column) for _, own in frame.groupby("dialogue")])
    return each[draws(len(each))].sum(axis=1)


def matrix(frame: pd.DataFrame, row: str, column: str) -> np.ndarray:
    pairs = known(frame[row], frame[column])
    if not pairs:
        return np.zeros((7, 7))
    return np.asarray(confusion_matrix(*zip(*pairs, strict=True), labels=list(LABELS)), dtype=float)


def bootstrapped(
    value: float,
    n: int,
    frame: pd.DataFrame,
    row: str,
    column: str,
    statistic: Callable[[np.ndarray], float],
    most: float = 1.0,
) -> Value:
    """A function of counts with the percentile interval, or with few dialogues t times the bootstrap's spread."""
    place = frame["dataset"].iloc[0], frame["system"].iloc[0]
    found = np.array([statistic(counts) for counts in resampled(*place, row, column)])
    found = found[np.isfinite(found)]
    if len(found) < REPLICATES / 2 or np.ptp(found) < 1e-12:
        return Value(value, n)
    spread, dialogues = float(found.std(ddof=1)), frame["dialogue"].nunique()
    if dialogues < 30:
        half = float(stats.t.ppf(0.975, dialogues - 1)) * spread
        low, high, noise = value - half, value + half, 0.2 * half
    else:
        low, high = np.quantile(found, [0.025, 0.975])
        noise = 0.45 * spread
    return Value(value, n, clipped(float(low), float(high), (0.0, most)), max(noise, 1e-9))


# --- statistics ------------------------------------------------------------------------------------------------------


def entropy(labels: Labels) -> float:
    return float(stats.entropy(list(Counter(labels).values()), base=2)) if labels else math.nan


def entropy_of(counts: np.ndarray) -> float:
    shares = [count / counts.sum() for count in counts.sum(axis=0) if count]
    return -sum(share * math.log2(share) for share in shares) if shares else math.nan


def miller_madow(labels: Labels) -> float:
    return entropy(labels) + (len(set(labels)) - 1) / (2 * len(labels) * math.log(2))


def scores(pairs: list[tuple[Any, ...]]) -> tuple[Labels, Labels]:
    truth, said = zip(*pairs, strict=True)
    return list(truth), list(said)


def macro(pairs: list[tuple[Any, ...]], labels: Iterable[str] | None = None) -> float:
    """Macro-F1 by scikit-learn, over the labels that occur on either side unless they are named."""
    truth, said = scores(pairs)
    chosen = sorted(set(truth) | set(said)) if labels is None else sorted(labels)
    return float(f1_score(truth, said, labels=chosen, average="macro", zero_division=0))


def macro_of(counts: np.ndarray) -> float:
    either = counts.sum(axis=0) + counts.sum(axis=1)
    found = [2 * counts[k, k] / either[k] for k in range(7) if either[k]]
    return float(np.mean(found)) if found else math.nan


# --- the three columns: raw, verified, corrected ---------------------------------------------------------------------


def three(key: str, raw: Any, verified: Any) -> Row:
    """Below 100 verified turns the corrected value is the human one, as the report says; so is its interval."""
    return {f"{key}_raw": raw, f"{key}_verified": verified, f"{key}_corrected": verified}


def pairs_of(frame: pd.DataFrame, kind: str = "label", suffix: str = "") -> list[tuple[Any, ...]]:
    return known(frame[f"user_{kind}{suffix}"], frame[f"response_{kind}{suffix}"])


def aligned(frame: pd.DataFrame, place: str | None, suffix: str = "") -> Any:
    rows = known(frame["dialogue"], frame[f"user_label{suffix}"], frame[f"response_label{suffix}"])
    counted = [
        (dialogue, float(hits([pair], place)[0])) for dialogue, *given in rows if hits([(pair := tuple(given))], place)
    ]
    return share_of_dialogues(counted, (0.0, 1.0)) if counted else Undefined()


def aligned_by_humans(frame: pd.DataFrame, place: str | None) -> Any:
    """All turns were drawn with the same probability, so the weighted mean is the plain one."""
    pairs = pairs_of(frame, "verified")
    found = hits(pairs, place)
    return Value(sum(found) / len(found)) if found else Undefined()


def alignment_three(frame: pd.DataFrame, key: str, place: str | None) -> Row:
    return three(key, aligned(frame, place), aligned_by_humans(frame, place))


def entropy_three(frame: pd.DataFrame, key: str, scale: float) -> Row:
    return three(key, entropy_cell(frame, scale), entropy_by_humans(frame, scale))


def entropy_cell(frame: pd.DataFrame, scale: float, suffix: str = "") -> Value:
    column = f"response_label{suffix}"
    labels = list(frame[column].dropna())
    return bootstrapped(
        entropy(labels) / scale,
        len(labels),
        frame,
        column,
        column,
        lambda counts: entropy_of(counts) / scale,
        math.log2(7) / scale,
    )


def entropy_by_humans(frame: pd.DataFrame, scale: float) -> Any:
    labels = list(frame["response_verified"].dropna())
    return Value(entropy(labels) / scale) if labels else Undefined()


def macro_cell(frame: pd.DataFrame, suffix: str = "") -> Value:
    truth, said = f"reference_label{suffix}", f"response_label{suffix}"
    pairs = known(frame[truth], frame[said])
    return bootstrapped(macro(pairs), len(pairs), frame, truth, said, macro_of)


def macro_by_humans(frame: pd.DataFrame) -> Any:
    pairs = known(frame["reference_verified"], frame["response_verified"])
    return Value(macro(pairs)) if pairs else Undefined()


# --- section 0 -------------------------------------------------------------------------------------------------------


def data() -> list[Row]:
    return [
        {
            "dataset": dataset,
            "system": shown(system),
            "dialogues": frame["dialogue"].nunique(),
            "turns": len(frame),
            "scored": len(pairs_of(frame)),
            "excluded": len(frame) - len(pairs_of(frame)),
            "verified": len(pairs_of(frame, "verified")),
            "outside": 0,
            "dataset_key": dataset,
            "system_key": system,
        }
        for dataset, system, frame in groups()
    ]


def response_rate() -> list[Row]:
    """Turn by turn: every drawn turn weighs the same here, and who labelled it stands in the judgments."""
    given = {
        (row.dialogue, str(row.turn), row.kind, row.system if isinstance(row.system, str) else None)
        for row in corpus.judgments().itertuples()
    }
    rows = []
    for dataset, system, frame in groups():
        kind = "reference" if system == "reference" else "response"
        drawn = [row for row in frame.itertuples() if pd.notna(row.inclusion_probability)]
        drawn = [row for row in drawn if pd.notna(row.user_label) and pd.notna(row.response_label)]
        if not drawn:
            continue
        resolved = [row for row in drawn if pd.notna(row.user_verified) and pd.notna(row.response_verified)]
        matched = [row for row in resolved if row.user_verified == row.response_verified]
        answered = [
            row
            for row in drawn
            if (row.dialogue, str(row.turn), "user", None) in given
            and (row.dialogue, str(row.turn), kind, system) in given
        ]
        rows.append(
            {
                "dataset": dataset,
                "system": shown(system),
                "stratum": "all",
                "drawn": len(drawn),
                "answered": len(answered),
                "resolved": len(resolved),
                "share": len(resolved) / len(drawn),
                "low": len(matched) / len(drawn),
                "high": (len(matched) + len(drawn) - len(resolved)) / len(drawn),
            }
        )
    return rows


def people() -> list[Row]:
    return [
        {"what": "judgments", "n": len(corpus.judgments()), "people": 2},
        {"what": "ratings", "n": len(corpus.ratings()), "people": 2},
    ]


def provenance() -> list[Row]:
    options = {
        "aggregation": "pooled",
        "confidence": "0.95",
        "confusion": "row",
        "entropy_correction": "plug_in",
        "entropy_unit": "bits",
        "f1_truth": "reference",
        "flatness_classes": "declared",
        "gold": "adjudicated_majority",
        "macro_f1": "present",
        "surprise": "positive",
        "target": "corpus",
        "turn": "pair",
        "undefined_f1": "null",
    }
    found = {
        "n": "–",
        "settings.arms": "independent",
        **{f"settings.options.{name}": value for name, value in options.items()},
        "settings.permutations": str(PERMUTATIONS),
        "settings.pooling_margin": "0.05",
        "settings.randomised": "False",
        "settings.replicates": str(REPLICATES),
        "settings.scale": "1, 5",
        "settings.seed": "7",
        "settings.sensitivity": "True",
        "settings.verified_arms": "–",
        "who": "x, y",
    }
    return [{"field": field, "value": value} for field, value in found.items()]


def as_given(table: pd.DataFrame) -> list[Row]:
    return [{name: None if pd.isna(cell) else cell for name, cell in row.items()} for row in table.to_dict("records")]


# --- sections 1 to 4 -------------------------------------------------------------------------------------------------


def headline() -> list[Row]:
    rows = []
    for dataset in SIZES:
        for measure in MEASURES:
            for system in (*SYSTEMS, "reference"):
                if measure == MEASURES[4] and system == "reference":
                    continue
                frame = group(dataset, system)
                cells = {
                    MEASURES[0]: lambda f: alignment_three(f, "value", None),
                    MEASURES[1]: lambda f: alignment_three(f, "value", "positive"),
                    MEASURES[2]: lambda f: entropy_three(f, "value", 1.0),
                    MEASURES[3]: lambda f: entropy_three(f, "value", math.log2(7)),
                    MEASURES[4]: lambda f: three("value", macro_cell(f), macro_by_humans(f)),
                }[measure](frame)
                rows.append({"dataset": dataset, "measure": measure, "system": shown(system), **cells})
    return rows


def groupings() -> list[Row]:
    rows = []
    for dataset, system, frame in groups():
        for measure in MEASURES:
            if measure == MEASURES[4] and system == "reference":
                continue
            cells = [
                {
                    MEASURES[0]: lambda f, s: aligned(f, None, s),
                    MEASURES[1]: lambda f, s: aligned(f, "positive", s),
                    MEASURES[2]: lambda f, s: entropy_cell(f, 1.0, s),
                    MEASURES[3]: lambda f, s: entropy_cell(f, math.log2(7), s),
                    MEASURES[4]: macro_cell,
                }[measure](frame, suffix)
                for suffix in ("", "_ekman")
            ]
            rows.append(
                {
                    "dataset": dataset,
                    "measure": measure,
                    "system": shown(system),
                    "campaign": cells[0],
                    "other": cells[1],
                }
            )
    return rows


def alignment() -> list[Row]:
    rows = []
    for dataset, system, frame in groups():
        spread = {
            kind: [sum(found) / len(found) for place in PLACES if (found := hits(pairs_of(frame, column), place))]
            for kind, column in (("raw", "label"), ("corrected", "verified"))
        }
        rows.append(
            {
                "dataset": dataset,
                "system": shown(system),
                "turns": len(pairs_of(frame)),
                "dialogues": frame["dialogue"].nunique(),
                "verified": len(pairs_of(frame, "verified")),
                **alignment_three(frame, "exact", None),
                **alignment_three(frame, "coarse", "positive"),
                **{f"coarse_low_{kind}": min(values, default=None) for kind, values in spread.items()},
                **{f"coarse_high_{kind}": max(values, default=None) for kind, values in spread.items()},
            }
        )
    return rows


def alignment_surprise() -> list[Row]:
    return [
        {"dataset": dataset, "system": shown(system), "place": place, **alignment_three(frame, "c", place)}
        for dataset, system, frame in groups()
        for place in PLACES
    ]


def flatness() -> list[Row]:
    rows = []
    for dataset, system, frame in groups():
        labels = list(frame["response_label"].dropna())
        rows.append(
            {
                "dataset": dataset,
                "system": shown(system),
                **entropy_three(frame, "entropy", 1.0),
                **entropy_three(frame, "flatness", math.log2(7)),
                "classes": len(set(labels)),
                "observed": Value(entropy(labels) / math.log2(len(set(labels))), len(labels)),
                "miller_madow": Value(miller_madow(labels), len(labels)),
            }
        )
    return rows


def label_distribution() -> list[Row]:
    rows = []
    for dataset, system, frame in groups():
        for by, column in (("classifier", "response_label"), ("corrected", "response_verified")):
            held = known(frame["dialogue"], frame[column])
            if not held:
                continue
            shares = {}
            for emotion in LABELS:
                marks = [(dialogue, float(label == emotion)) for dialogue, label in held]
                found = share_of_dialogues(marks, (0.0, 1.0))
                shares[emotion] = found if by == "classifier" else Value(found.value)
            rows.append({"dataset": dataset, "system": shown(system), "by": by, **shares})
    return rows


def f1() -> list[Row]:
    rows = []
    for dataset, system, frame in groups(reference=False):
        pairs = known(frame["reference_label"], frame["response_label"])
        truth, said = scores(pairs)
        human = known(frame["reference_verified"], frame["response_verified"])
        for place, emotion in enumerate(LABELS):
            of = {"labels": [emotion], "average": "macro", "zero_division": 0}

            def one(counts: np.ndarray, place: int = place) -> float:
                either = counts[place].sum() + counts[:, place].sum()
                return float(2 * counts[place, place] / either) if either else math.nan

            present = sum(emotion in pair for pair in pairs)  # what an F1 rests on: the turns with that emotion
            raw = f1_score(truth, said, **of)
            seen = [label for pair in human for label in pair]
            rows.append(
                {
                    "dataset": dataset,
                    "system": system,
                    "emotion": emotion,
                    "support": truth.count(emotion),
                    "predicted": said.count(emotion),
                    "precision": Value(precision_score(truth, said, **of), said.count(emotion))
                    if emotion in said
                    else Undefined(),
                    "recall": Value(recall_score(truth, said, **of), truth.count(emotion))
                    if emotion in truth
                    else Undefined(),
                    **three(
                        "f1",
                        bootstrapped(raw, present, frame, "reference_label", "response_label", one)
                        if present
                        else Undefined(),
                        Value(f1_score(*scores(human), **of)) if emotion in seen else Undefined(),
                    ),
                }
            )
    return rows


def macro_f1() -> list[Row]:
    rows = []
    for dataset, system, frame in groups(reference=False):
        pairs = known(frame["reference_label"], frame["response_label"])
        truth, said = scores(pairs)
        n = len(pairs)
        rows.append(
            {
                "dataset": dataset,
                "system": system,
                "classes": f"{len(set(truth) | set(said))} of 7",
                **three("macro", macro_cell(frame), macro_by_humans(frame)),
                "true_only": Value(macro(pairs, set(truth)), n),
                "all7": Value(macro(pairs, LABELS), n),
                "weighted": Value(f1_score(truth, said, average="weighted", zero_division=0), n),
                "accuracy": Value(sum(a == b for a, b in pairs) / n, n),
            }
        )
    return rows


# --- sections 5 and 6 ------------------------------------------------------------------------------------------------


def confusion(dataset: str, row: str, column: str, *, reference: bool) -> list[Row]:
    rows = []
    for system in (*SYSTEMS, *(["reference"] if reference else [])):
        counts = matrix(group(dataset, system), row, column)
        for place, emotion in enumerate(LABELS):
            total = counts[place].sum()
            rows.append(
                {
                    "system": shown(system),
                    "row": emotion,
                    "turns": int(total),
                    **{label: int(counts[place, k]) for k, label in enumerate(LABELS)},
                    **{f"{label}_share": counts[place, k] / total if total else None for k, label in enumerate(LABELS)},
                }
            )
    return rows


def paper_patterns() -> list[Row]:
    table_one = (
        ("joy", "neutral", "Missed positive sentiment."),
        ("surprise", "fear", "Misread as threat or anxiety."),
        ("sadness", "joy", "Feels insensitive or dismissive."),
        ("anger", "neutral", "Lacks empathetic tone."),
        ("fear", "disgust", "Misinterprets concern."),
        ("disgust", "sadness", "Softens user's frustration."),
        ("neutral", "joy", "Overly enthusiastic tone."),
    )
    rows = []
    for user, response, comment in table_one:
        for dataset, system, frame in groups():
            pairs, human = Counter(pairs_of(frame)), Counter(pairs_of(frame, "verified"))
            total = sum(count for (said, _), count in pairs.items() if said == user)
            rows.append(
                {
                    "user": user,
                    "response": response,
                    "comment": comment,
                    "dataset": dataset,
                    "system": shown(system),
                    "turns": pairs[user, response],
                    "share": pairs[user, response] / total if total else None,
                    "corrected": _share_by_humans(frame, user, response),
                    "verified": human[user, response],
                    "verified_of": sum(count for (said, _), count in human.items() if said == user),
                }
            )
    return rows


def _share_by_humans(frame: pd.DataFrame, user: str, response: str) -> Any:
    said = [given for felt, given in pairs_of(frame, "verified") if felt == user]
    return Value(said.count(response) / len(said), len(said)) if len(said) >= 5 else Undefined(("no_data", "few_turns"))


def _gap_by_humans(dataset: str, system: str, user: str, response: str) -> Any:
    """The system's share minus the human one, on the turns where people labelled both and the classifier too."""
    both = group(dataset, system).merge(group(dataset, "reference"), on=["dialogue", "turn"], suffixes=("", "_human"))
    both = both[both["user_label"].notna() & both["response_label"].notna() & both["response_label_human"].notna()]
    columns = ["user_verified", "response_verified", "response_verified_human"]
    felt = [row for row in known(*(both[name] for name in columns)) if row[0] == user]
    gaps = [(own == response) - (human == response) for _, own, human in felt]
    return Value(sum(gaps) / len(gaps), len(gaps)) if len(gaps) >= 5 else Undefined(("no_data", "few_turns"))


def patterns() -> list[Row]:
    rows = []
    for dataset, system, frame in groups(reference=False):
        counts = matrix(frame, "user_label", "response_label")
        human = matrix(frame, "user_verified", "response_verified")
        cells = [(a, b) for a in range(7) for b in range(7) if a != b and counts[a, b] >= 5]
        chances = {cell: _cell_chance(dataset, system, *cell) for cell in cells}
        adjusted = dict(zip(cells, _benjamini_hochberg([chances[cell][1] for cell in cells]), strict=True))
        for a, b in sorted(cells, key=lambda cell: (-counts[cell], cell))[:10]:
            (own, other), _ = chances[a, b]
            verified = int(human[a, b])
            pattern = f"{LABELS[a]} → {LABELS[b]}"
            rows.append(
                {
                    "dataset": dataset,
                    "system": system,
                    "pattern": pattern,
                    "turns": int(counts[a, b]),
                    "share": counts[a, b] / counts[a].sum(),
                    "corrected": _share_by_humans(frame, LABELS[a], LABELS[b]),
                    "difference_corrected": _gap_by_humans(dataset, system, LABELS[a], LABELS[b]),
                    "baseline": other,
                    "difference": Value(own - other),
                    "p": Noisy(adjusted[a, b], 0.08),
                    "verified": verified,
                    "confirmed": "yes" if verified >= 5 else "no",
                    "ratings": _mean_ratings(dataset, system, pattern),
                }
            )
    return rows


def _cell_chance(dataset: str, system: str, user: int, response: int) -> tuple[tuple[float, float], float]:
    """Row shares on the turns that system and human both answered; p by exchanging the two in random dialogues."""
    both = group(dataset, system).merge(group(dataset, "reference"), on=["dialogue", "turn"], suffixes=("", "_human"))
    both = both[both["user_label"].notna() & both["response_label"].notna() & both["response_label_human"].notna()]
    names = sorted(both["dialogue"].unique())
    sums = np.array(
        [
            [
                ((said := both[both["dialogue"] == name])["user_label"] == LABELS[user]).sum(),
                ((said["user_label"] == LABELS[user]) & (said["response_label"] == LABELS[response])).sum(),
                ((said["user_label"] == LABELS[user]) & (said["response_label_human"] == LABELS[response])).sum(),
            ]
            for name in names
        ],
        dtype=float,
    )
    total, own, other = sums.sum(axis=0)
    gap = sums[:, 1] - sums[:, 2]
    exact = len(names) <= 12
    signs = np.array(list(itertools.product([1, -1], repeat=len(names)))) if exact else _signs(len(names))
    extreme = (np.abs(signs @ gap) >= abs(gap.sum()) - 1e-9).sum()
    p = extreme / len(signs) if exact else (extreme + 1) / (len(signs) + 1)
    return (own / total, other / total), float(p)


@cache
def _signs(dialogues: int) -> np.ndarray:
    return np.random.default_rng(5).choice([1, -1], size=(20_000, dialogues))


def _benjamini_hochberg(chances: list[float]) -> list[float]:
    return list(multipletests(chances, method="fdr_bh")[1]) if chances else []


def _mean_ratings(dataset: str, system: str, pattern: str) -> str | None:
    frame = _rated()
    chosen = frame[(frame["dataset"] == dataset) & (frame["system"] == system) & (frame["pattern"] == pattern)]
    parts = []
    for outcome in OUTCOMES:
        values = chosen.loc[chosen["outcome"] == outcome, "value"]
        if len(values):
            parts.append(f"{outcome} {values.mean():.2f} (n = {len(values)})")
    return "; ".join(parts) or None


# --- section 7 -------------------------------------------------------------------------------------------------------


def _slices() -> list[tuple[str, pd.DataFrame]]:
    table = corpus.judgments()
    parts = [("all", table)]
    for column in ("kind", "system"):
        values = sorted(table[column].dropna().unique())
        word = {"kind": "role"}.get(column, column)
        parts += [(f"{word}: {value}", table[table[column] == value]) for value in values]
    return parts


def _wide(part: pd.DataFrame) -> pd.DataFrame:
    return part.pivot_table(index="item", columns="annotator", values="label", aggfunc="first").dropna()


def agreement() -> list[Row]:
    rows = []
    for words, part in _slices():
        wide = _wide(part)
        first, second = list(wide["r1"]), list(wide["r2"])
        n, pooled = len(wide), Counter(first + second)
        same = sum(a == b for a, b in zip(first, second, strict=True)) / n
        shares = {label: count / (2 * n) for label, count in pooled.items()}
        by_chance = sum(share**2 for share in shares.values())
        # Krippendorff: disagreement observed over disagreement expected when 2n labels are paired without replacement
        expected = 1 - sum(count * (count - 1) for count in pooled.values()) / (2 * n * (2 * n - 1))
        gwet = sum(share * (1 - share) for share in shares.values()) / (len(LABELS) - 1)
        rows.append(
            {
                "part": words,
                "items": n,
                "annotators": 2,
                "percent_agreement": Value(same, n),
                "krippendorff_alpha": Value(1 - (1 - same) / expected, n),
                "fleiss_kappa": Value((same - by_chance) / (1 - by_chance), n),
                "cohen_kappa": Value(cohen_kappa_score(first, second), n),
                "gwet_ac1": Value((same - gwet) / (1 - gwet), n),
                "band": _band,
            }
        )
    return rows


def _band(row: Row) -> str:
    """The words of Krippendorff (2004) for the lower bound, and for nothing else."""
    low = row["krippendorff_alpha"].interval[0]
    word = "reliable" if low >= 0.8 else "tentative" if low >= 0.667 else "not reliable"
    return f"{word} (Krippendorff 2004)"


def agreement_labels() -> list[Row]:
    wide = _wide(corpus.judgments())
    rows = []
    for emotion in LABELS:
        first, second = wide["r1"] == emotion, wide["r2"] == emotion
        given = first.sum() + second.sum()
        rows.append(
            {
                "emotion": emotion,
                "prevalence": Value(given / (2 * len(wide)), len(wide)),
                "specific_agreement": Value(2 * (first & second).sum() / given) if given else Undefined(),
                **_one_against_the_rest(first, second),
            }
        )
    return rows


def _one_against_the_rest(first: pd.Series, second: pd.Series) -> Row:
    """Alpha, Fleiss' kappa and AC1 of a yes-no label by two raters, from its shares."""
    n = len(first)
    same, yes = float((first == second).mean()), float((first.sum() + second.sum()) / (2 * n))
    by_chance = yes**2 + (1 - yes) ** 2
    mixed = 2 * yes * (1 - yes)
    if not mixed:
        return {"krippendorff_alpha": Undefined(), "fleiss_kappa": Undefined(), "gwet_ac1": Value(1.0, n)}
    return {
        "krippendorff_alpha": Value(1 - (1 - same) / (mixed * 2 * n / (2 * n - 1)), n),
        "fleiss_kappa": Value((same - by_chance) / (1 - by_chance), n),
        "gwet_ac1": Value((same - mixed) / (1 - mixed), n),
    }


def agreement_annotators() -> list[Row]:
    wide = _wide(corpus.judgments())
    same = (wide["r1"] == wide["r2"]).mean()
    kappa = cohen_kappa_score(wide["r1"], wide["r2"])
    return [
        {"annotator": name, "labels": len(wide), "percent": Value(same), "cohen": Value(kappa)} for name in ("r1", "r2")
    ]


@cache
def _texts(role: str) -> pd.DataFrame:
    table = corpus.turns()
    if role == "response":
        return table[~table["is_reference"]]
    return table.drop_duplicates(["dataset", "dialogue", "turn"])


def _joint(frame: pd.DataFrame, role: str) -> np.ndarray:
    """P(human, classifier): within a predicted label as the verified texts say, between them as the corpus says."""
    verified = frame[frame[f"{role}_verified"].notna() & frame[f"{role}_label"].notna()]
    counts = matrix(verified, f"{role}_verified", f"{role}_label")
    corpus_counts = frame[f"{role}_label"].value_counts()
    joint = np.zeros((7, 7))
    for k, label in enumerate(LABELS):
        if counts[:, k].sum():
            joint[:, k] = counts[:, k] / counts[:, k].sum() * corpus_counts.get(label, 0)
    return joint / joint.sum()


def _validated() -> Iterator[tuple[str, str, str, str, pd.DataFrame]]:
    for role, words in (
        ("user", "user utterance"),
        ("response", "system response"),
        ("reference", "reference response"),
    ):
        # Of INSPIRED no text is verified, so that nothing is said of it: all is ReDial.
        frame = _texts(role)
        frame = frame[frame["dataset"] == "ReDial"]
        yield role, words, "all", "all", frame
        yield role, words, "ReDial", "all", frame
        if role == "response":
            for system in SYSTEMS:
                yield role, words, "all", system, frame[frame["system"] == system]


def validation() -> list[Row]:
    rows = []
    for role, words, dataset, system, frame in _validated():
        joint = _joint(frame, role)
        right = float(np.trace(joint))
        by_chance = float(joint.sum(axis=1) @ joint.sum(axis=0))
        verified = frame[frame[f"{role}_verified"].notna() & frame[f"{role}_label"].notna()]
        n = len(verified)
        rows.append(
            {
                "role": words,
                "dataset": dataset,
                "system": system,
                "accuracy": Value(right, n),
                "cohen_kappa": Value((right - by_chance) / (1 - by_chance), n),
                "macro_f1": Value(macro_of(joint), n),
                # The table holds no confidence of the reference's own: only users and responses are calibrated.
                "calibration_error": None if role == "reference" else Value(_rms(frame, verified, role), n),
                "ece": None if role == "reference" else Value(_ece(frame, verified, role), n),
            }
        )
    return rows


def _ece(frame: pd.DataFrame, verified: pd.DataFrame, role: str) -> float:
    """Expected calibration error in ten bins (a, b], each text counting for the corpus texts of its predicted label."""
    held = verified[f"{role}_label"].value_counts()
    there = frame[f"{role}_label"].value_counts()
    weight = verified[f"{role}_label"].map(there) / verified[f"{role}_label"].map(held)
    right = verified[f"{role}_label"] == verified[f"{role}_verified"]
    sure = verified[f"{role}_confidence"].astype(float)
    bins = pd.cut(sure, np.arange(0, 1.01, 0.1), labels=False)
    gaps = (weight * (right.astype(float) - sure)).groupby(bins).sum().abs()
    return float(gaps.sum() / weight.sum())


def _rms(frame: pd.DataFrame, verified: pd.DataFrame, role: str) -> float:
    """Root of the squared gaps of the bins, less the variance of each, summed over texts or over whole dialogues."""
    held = verified[f"{role}_label"].value_counts()
    there = frame[f"{role}_label"].value_counts()
    texts = [
        {
            "label": label,
            "weight": there[label] / held[label],
            "unseen": 1 - held[label] / there[label],
            "gap": float(label == human) - sure,
            "bin": math.ceil(round(sure * 10, 9)) - 1,
            "dialogue": dialogue,
        }
        for label, human, sure, dialogue in zip(
            verified[f"{role}_label"],
            verified[f"{role}_verified"],
            verified[f"{role}_confidence"].astype(float),
            verified["dialogue"],
            strict=True,
        )
    ]
    bins: list[list[dict[str, Any]]] = [[]]
    for place in range(10):
        bins[-1] += [text for text in texts if text["bin"] == place]
        if len(bins[-1]) >= 10 and sum(text["bin"] > place for text in texts) >= 10:
            bins.append([])
    whole = len(texts) > 2 * len({text["dialogue"] for text in texts})
    found, total = 0.0, sum(text["weight"] for text in texts)
    for part in bins:
        mass = sum(text["weight"] for text in part)
        mean = sum(text["weight"] * text["gap"] for text in part) / mass
        sums: dict[Any, float] = defaultdict(float)
        for place, text in enumerate(part):
            spread = math.sqrt(text["unseen"] * len(part) / (len(part) - 1))
            sums[text["dialogue"] if whole else place] += text["weight"] * (text["gap"] - mean) * spread
        units = len({text["dialogue"] for text in texts})
        factor = units / (units - 1) if whole else 1.0
        noise = factor * sum(value**2 for value in sums.values()) / mass**2
        found += mass / total * (mean**2 - noise)
    return math.sqrt(max(0.0, found))


def validation_labels() -> list[Row]:
    rows = []
    for role, words, dataset, system, frame in _validated():
        if (dataset, system) != ("all", "all"):
            continue
        joint = _joint(frame, role)
        for k, emotion in enumerate(LABELS):
            truth, said, both = joint[k].sum(), joint[:, k].sum(), joint[k, k]
            rows.append(
                {
                    "role": words,
                    "emotion": emotion,
                    "prevalence": Value(truth),
                    "precision": Value(both / said) if said else Undefined(),
                    "recall": Value(both / truth) if truth else Undefined(),
                    "f1": Value(2 * both / (truth + said)) if truth + said else Undefined(),
                }
            )
    return rows


def validation_matrix() -> list[Row]:
    rows = []
    for role, words, dataset, system, frame in _validated():
        if (dataset, system) != ("all", "all"):
            continue
        counts = matrix(frame, f"{role}_verified", f"{role}_label")
        for k, emotion in enumerate(LABELS):
            cells = {label: int(counts[k, j]) for j, label in enumerate(LABELS)}
            rows.append({"role": words, "emotion": emotion, "n": int(counts[k].sum()), **cells})
    return rows


def anchoring() -> list[Row]:
    """Of the assisted report: agreement with the classifier, shown minus hidden, the mean over the two annotators."""
    table = corpus.judgments(arms=True).assign(agrees=lambda t: (t["label"] == t["prelabel"]).astype(float))

    def effect(part: pd.DataFrame) -> Any:
        gaps, variances = [], []
        for _, own in part.groupby("annotator"):
            arms = [own.loc[own["arm"] == arm, "agrees"] for arm in ("shown", "hidden")]
            if min(map(len, arms)) < 2:
                continue
            gaps.append(arms[0].mean() - arms[1].mean())
            variances.append(sum(arm.var(ddof=1) / len(arm) for arm in arms))
        if not gaps:
            return Undefined(("no_pairs",))
        value = float(np.mean(gaps))
        half = 1.959963984540054 * math.sqrt(sum(variances)) / len(gaps)
        return Value(value, None, clipped(value - half, value + half, (-1.0, 1.0)) if half else None)

    shown_arm = (table["arm"] == "shown").astype(float)
    design = pd.DataFrame({"shown": shown_arm, "r1": table["annotator"] == "r1", "r2": table["annotator"] == "r2"})
    logit = sm.Logit(table["agrees"], design.astype(float)).fit(disp=False)
    rows = [
        {"what": "effect on these annotators", "effect": effect(table)},
        {"what": "effect on annotators like these", "effect": Undefined(("few_annotators",))},
        {"what": "check: dialogues resampled", "effect": Value(effect(table).value)},
        {"what": "check: log odds ratio", "effect": Value(float(logit.params["shown"]), within=1e-5)},
    ]
    # Right or wrong says the other annotator, where she labelled blind.
    other = {"r1": "r2", "r2": "r1"}
    blind = {(row.item, row.annotator): row.label for row in table.itertuples() if row.arm == "hidden"}
    truth = [blind.get((row.item, other[row.annotator])) for row in table.itertuples()]
    table["right"] = [
        None if label is None else label == shown for label, shown in zip(truth, table["prelabel"], strict=True)
    ]
    rows.append({"what": "classifier right", "effect": effect(table[table["right"].eq(True)])})
    rows.append({"what": "classifier wrong", "effect": effect(table[table["right"].eq(False)])})
    for stratum in sorted(table["stratum"].unique()):
        rows.append({"what": f"stratum: {stratum}", "effect": effect(table[table["stratum"] == stratum])})
    for annotator in ("r1", "r2"):
        rows.append({"what": f"annotator: {annotator}", "effect": effect(table[table["annotator"] == annotator])})
    return rows


# --- section 8 -------------------------------------------------------------------------------------------------------


@cache
def _rated() -> pd.DataFrame:
    """Ratings with the human labels of their turn."""
    labels = corpus.turns()[["dataset", "dialogue", "turn", "system", "user_verified", "response_verified"]]
    frame = corpus.ratings().merge(labels, on=["dataset", "dialogue", "turn", "system"], how="left")
    frame["pattern"] = frame["user_verified"] + " → " + frame["response_verified"]
    frame["exact match"] = (frame["user_verified"] == frame["response_verified"]).astype(float)
    frame["coarse match"] = [
        float(valence(a, "positive") == valence(b, "positive"))
        for a, b in zip(frame["user_verified"], frame["response_verified"], strict=True)
    ]
    return frame


def rating_means() -> list[Row]:
    """Turns were drawn alike and no system has a hundred rated: both means are that of the turns' own means."""
    rows = []
    for system, outcome in itertools.product(("a", "b"), OUTCOMES):
        frame = _rated()[(_rated()["system"] == system) & (_rated()["outcome"] == outcome)]
        means = [float(np.mean(part["value"])) for _, part in frame.groupby(["dialogue", "turn"])]
        mean = Value(sum(means) / len(means), len(means))
        rows.append(
            {
                "dataset": "ReDial",
                "system": system,
                "outcome": outcome,
                "turns": len(means),
                "human": mean,
                "corrected": mean,
            }
        )
    return rows


def _each() -> Iterator[tuple[str, str, pd.DataFrame]]:
    for outcome in OUTCOMES:
        for flag in ("exact match", "coarse match"):
            part = _rated()[_rated()["outcome"] == outcome].reset_index(drop=True)
            yield outcome, flag, part.assign(flag=part[flag])


def rating_distribution() -> list[Row]:
    rows = []
    for outcome, flag, frame in _each():
        for state, on in (("aligned", 1.0), ("misaligned", 0.0)):
            values = list(frame.loc[frame["flag"] == on, "value"])
            counts = {f"v{point}": values.count(point) for point in range(1, 6)}
            rows.append({"outcome": outcome, "flag": flag, "state": state, "n": len(values), **counts})
    return rows


def rating_agreement() -> list[Row]:
    rows = []
    for outcome in OUTCOMES:
        frame = _rated()[_rated()["outcome"] == outcome]
        wide = frame.pivot_table(index="item", columns="annotator", values="value", aggfunc="first")
        first, second = wide["q1"].to_numpy(int), wide["q2"].to_numpy(int)
        rows.append(
            {
                "outcome": outcome,
                "items": len(wide),
                "annotators": 2,
                "alpha": Value(_ordinal_alpha(first, second), len(wide)),
                "ac2": Value(_quadratic_ac2(first, second), len(wide)),
            }
        )
    return rows


def _ordinal_alpha(first: np.ndarray, second: np.ndarray) -> float:
    """Krippendorff's alpha with his ordinal distance, summed over all pairs of values."""
    pooled = np.concatenate([first, second])
    count = {point: int((pooled == point).sum()) for point in range(1, 6)}

    def distance(a: int, b: int) -> float:
        low, high = min(a, b), max(a, b)
        return float((sum(count[k] for k in range(low, high + 1)) - (count[low] + count[high]) / 2) ** 2)

    observed = np.mean([distance(a, b) for a, b in zip(first, second, strict=True)])
    n = len(pooled)
    expected = sum(count[a] * count[b] * distance(a, b) for a in count for b in count if a != b) / (n * (n - 1))
    return float(1 - observed / expected)


def _quadratic_ac2(first: np.ndarray, second: np.ndarray) -> float:
    weight = {(a, b): 1 - (a - b) ** 2 / 16 for a in range(1, 6) for b in range(1, 6)}
    same = np.mean([weight[a, b] for a, b in zip(first, second, strict=True)])
    pooled = np.concatenate([first, second])
    shares = [(pooled == point).mean() for point in range(1, 6)]
    by_chance = sum(weight.values()) / (5 * 4) * sum(share * (1 - share) for share in shares)
    return float((same - by_chance) / (1 - by_chance))


def _least_squares(formula: str, frame: pd.DataFrame) -> tuple[Value, float, float]:
    """Statsmodels' least squares with its cluster-robust covariance (CR1) and t: the estimate, its p and its SE."""
    fit = smf.ols(formula, frame).fit(
        cov_type="cluster", cov_kwds={"groups": pd.factorize(frame["dialogue"])[0]}, use_t=True
    )
    low, high = fit.conf_int().loc["flag"]
    value = Value(float(fit.params["flag"]), len(frame), (float(low), float(high)), 1e-7)
    return value, float(fit.pvalues["flag"]), float(fit.bse["flag"])


CONTROLS = " + C(user_verified) + C(system) + C(annotator)"


def quality() -> list[Row]:
    found = [
        (outcome, flag, frame, *_least_squares(f"value ~ flag{CONTROLS}", frame)) for outcome, flag, frame in _each()
    ]
    adjusted = multipletests([p for *_, p, _ in found], method="holm")[1]
    rows = []
    for (outcome, flag, frame, difference, p, se), p_holm in zip(found, adjusted, strict=True):
        on, off = frame[frame["flag"] == 1.0], frame[frame["flag"] == 0.0]
        u = stats.mannwhitneyu(on["value"], off["value"]).statistic
        dialogues = frame["dialogue"].nunique()
        needed = float(stats.t.ppf(0.975, dialogues - 1) + stats.norm.ppf(0.8))
        rows.append(
            {
                "outcome": outcome,
                "flag": flag,
                "turns": len(frame[["dialogue", "turn", "system"]].drop_duplicates()),
                "annotators": 2,
                "aligned": share_of_dialogues(list(zip(on["dialogue"], on["value"], strict=True)), (1.0, 5.0)),
                "misaligned": share_of_dialogues(list(zip(off["dialogue"], off["value"], strict=True)), (1.0, 5.0)),
                "difference": difference,
                "model": "least squares",
                "p": Noisy(p, 1e-7),
                "p_holm": Noisy(float(p_holm), 1e-7),
                "delta": Value(float(2 * u / (len(on) * len(off)) - 1), len(frame)),
                "detectable": Noisy(needed * se, 1e-7),
            }
        )
    return rows


def quality_sensitivity() -> list[Row]:
    rows = []
    for outcome, flag, frame in _each():
        # Within contexts: a dummy for each turn takes up what its two responses share.
        context = frame.assign(context=frame["dialogue"] + "/" + frame["turn"].astype(str))
        within, _, _ = _least_squares("value ~ flag + C(context) + C(system) + C(annotator)", context)
        controls = pd.get_dummies(frame[["user_verified", "system", "annotator"]], drop_first=True).astype(float)
        odds = OrderedModel(frame["value"], pd.concat([frame["flag"], controls], axis=1), distr="logit").fit(
            method="bfgs", disp=False, maxiter=500
        )
        found = [
            ("within contexts, two responses or more to the same turn", Value(within.value, len(frame), within=1e-7)),
            ("proportional odds (log odds ratio)", Value(float(odds.params["flag"]), len(frame), within=1e-3)),
        ]
        if flag == "exact match":
            found.append(("crossed linear mixed model", Value(_mixed(frame), len(frame), within=2e-2)))
        rows += [{"outcome": outcome, "flag": flag, "model": model, "estimate": one} for model, one in found]
    return rows


def _mixed(frame: pd.DataFrame) -> float:
    """Generalised least squares under the variance components that maximise the restricted likelihood, by scipy."""
    from scipy.optimize import minimize

    design = np.column_stack(
        [
            frame["flag"],
            np.ones(len(frame)),
            pd.get_dummies(frame[["user_verified", "system"]], drop_first=True).astype(float),
        ]
    )
    y = frame["value"].to_numpy(float)
    spots = frame["dialogue"] + "/" + frame["turn"].astype(str)
    blocks = [
        pd.get_dummies(column).to_numpy(float) @ pd.get_dummies(column).to_numpy(float).T
        for column in (frame["annotator"], frame["dialogue"], spots)
    ]

    def solved(logs: np.ndarray) -> tuple[np.ndarray, float]:
        cover = np.eye(len(y)) + sum(math.exp(log) * block for log, block in zip(logs, blocks, strict=True))
        inverse = np.linalg.inv(cover)
        information = design.T @ inverse @ design
        beta = np.linalg.solve(information, design.T @ inverse @ y)
        rest = y - design @ beta
        free = len(y) - design.shape[1]
        scale = float(rest @ inverse @ rest) / free
        fit = free * math.log(scale) + np.linalg.slogdet(cover)[1] + np.linalg.slogdet(information)[1]
        return beta, float(fit)

    best = minimize(
        lambda logs: solved(logs)[1],
        np.full(3, -2.0),
        method="Nelder-Mead",
        bounds=[(-12, 3)] * 3,
        options={"xatol": 0.02, "fatol": 1e-4},
    )
    return float(solved(best.x)[0][0])


def quality_emotions() -> list[Row]:
    rows = []
    for outcome in OUTCOMES:
        part = _rated()[_rated()["outcome"] == outcome]
        for emotion in LABELS:
            frame = part[part["user_verified"] == emotion].assign(flag=lambda t: t["exact match"])
            if frame.empty:
                continue
            cell: Any = Undefined(("few_dialogues", "not_identified"))
            if frame["dialogue"].nunique() >= 10 and frame["flag"].nunique() > 1:
                cell = _least_squares("value ~ flag + C(system) + C(annotator)", frame.reset_index(drop=True))[0]
            rows.append({"outcome": outcome, "emotion": emotion, "estimate": cell})
    return rows


# --- sections 9 and 10 -----------------------------------------------------------------------------------------------

COMPARED = ("Exact alignment", "Coarse alignment", "Expressive range (flatness score)", "Macro-F1")


@cache
def _common(dataset: str, measure: str) -> dict[str, pd.DataFrame]:
    """Each system's rows on the turns that all of them answered, with both labels."""
    systems = [*SYSTEMS, *([] if measure == "Macro-F1" else ["reference"])]
    frames = {name: group(dataset, name) for name in systems}
    usable = [
        {(row.dialogue, row.turn) for row in frame.itertuples() if pd.notna(row.response_label)}
        for frame in frames.values()
    ]
    shared = set.intersection(*usable)
    return {
        name: frame[[(d, t) in shared for d, t in zip(frame["dialogue"], frame["turn"], strict=True)]]
        for name, frame in frames.items()
    }


def _statistic(dataset: str, measure: str) -> Callable[[np.ndarray], float]:
    match = np.array([[valence(a, "positive") == valence(b, "positive") for b in LABELS] for a in LABELS])
    present = [k for k in range(7) if LABELS[k] in _classes(dataset)]

    def macro_over_common(counts: np.ndarray) -> float:
        either = counts.sum(axis=0) + counts.sum(axis=1)
        return float(np.mean([2 * counts[k, k] / either[k] if either[k] else 0.0 for k in present]))

    return {
        "Exact alignment": lambda counts: float(np.trace(counts) / counts.sum()),
        "Coarse alignment": lambda counts: float((counts * match).sum() / counts.sum()),
        "Expressive range (flatness score)": lambda counts: entropy_of(counts) / math.log2(7),
        "Macro-F1": macro_over_common,
    }[measure]


def _classes(dataset: str) -> set[str]:
    """The emotions in any system's common turns of macro-F1, by classifier or people, on either side."""
    found = set()
    for frame in _common(dataset, "Macro-F1").values():
        for kind in ("label", "verified"):
            for pair in known(frame[f"reference_{kind}"], frame[f"response_{kind}"]):
                found.update(pair)
    return found


def _counts(frame: pd.DataFrame, measure: str) -> np.ndarray:
    return matrix(frame, "reference_label" if measure == "Macro-F1" else "user_label", "response_label")


@cache
def _by_dialogue(dataset: str, measure: str) -> dict[str, np.ndarray]:
    frames = _common(dataset, measure)
    names = sorted(next(iter(frames.values()))["dialogue"].unique())
    return {
        system: np.array([_counts(frame[frame["dialogue"] == name], measure) for name in names])
        for system, frame in frames.items()
    }


@cache
def _ordered(dataset: str, measure: str) -> list[tuple[str, float]]:
    statistic = _statistic(dataset, measure)
    values = [(system, statistic(each.sum(axis=0))) for system, each in _by_dialogue(dataset, measure).items()]
    # By value, highest first; systems of one value in the order of their names, the reference last.
    return sorted(values, key=lambda pair: -pair[1])


def pairs() -> list[Row]:
    rows = []
    for dataset, measure in itertools.product(SIZES, COMPARED):
        each, statistic = _by_dialogue(dataset, measure), _statistic(dataset, measure)
        for (first, above), (second, below) in itertools.combinations(_ordered(dataset, measure), 2):
            rows.append(
                {
                    "dataset": dataset,
                    "measure": measure,
                    "first": shown(first),
                    "second": shown(second),
                    "difference": Value(above - below, len(_common(dataset, measure)[first])),
                    "p": Noisy(_sign_flips(each[first], each[second], statistic), 0.08),
                    "p_holm": _holm_of_the_family,
                    "detectable": _detectable,
                    "corrected": _corrected(dataset, measure, first, second),
                    "p_corrected_holm": _holm_of_the_corrected,
                }
            )
    return rows


def _sign_flips(first: np.ndarray, second: np.ndarray, statistic: Callable[[np.ndarray], float]) -> float:
    """Exchange the two systems in all combinations of up to 12 dialogues, else in 800 random ones."""
    observed = abs(statistic(first.sum(axis=0)) - statistic(second.sum(axis=0)))
    if len(first) <= 12:
        keep = np.array(list(itertools.product([1, 0], repeat=len(first))))
    else:
        keep = (np.random.default_rng(8).random((800, len(first))) < 0.5).astype(int)
    one = np.einsum("rd,dij->rij", keep, first) + np.einsum("rd,dij->rij", 1 - keep, second)
    other = first.sum(axis=0) + second.sum(axis=0) - one
    gaps = [abs(statistic(a) - statistic(b)) for a, b in zip(one, other, strict=True)]
    return float(np.mean([gap >= observed - 1e-12 for gap in gaps]))


def _holm_of_the_family(row: Row, rows: list[Row]) -> float:
    """Holm by statsmodels over the p-values of the measure and data set that the report itself prints."""
    family = [one for one in rows if (one["dataset"], one["measure"]) == (row["dataset"], row["measure"])]
    adjusted = multipletests([one["p"] for one in family], method="holm")[1]
    return float(adjusted[family.index(row)])


def _holm_of_the_corrected(row: Row, rows: list[Row]) -> float | None:
    """t tests from the printed estimates and standard errors, then Holm by statsmodels over those that have one."""
    family = [
        one
        for one in rows
        if (one["dataset"], one["measure"]) == (row["dataset"], row["measure"]) and one["corrected"].se
    ]
    if row not in family:
        return None
    p = []
    for one in family:
        found = one["corrected"]
        freedom = max(1, min(found.clusters - 1, found.n - 2))
        p.append(2 * (1 - stats.t.cdf(abs(found.value) / found.se, freedom)))
    return float(multipletests(p, method="holm")[1][family.index(row)])


def _detectable(row: Row) -> float:
    dialogues = row["difference"].clusters
    return float((stats.t.ppf(0.975, dialogues - 1) + stats.norm.ppf(0.8)) * row["difference"].se)


def _corrected(dataset: str, measure: str, first: str, second: str) -> Any:
    """One system's value minus another's on the turns verified for both, by human labels: no pair has a hundred."""
    kept = _verified(dataset, measure, (first, second))
    one, other = (_by_humans(dataset, measure, kept, system) for system in (first, second))
    return Value(one.value - other.value, len(kept)) if len(kept) else Undefined()


def _verified(dataset: str, measure: str, systems: tuple[str, ...]) -> list[tuple[Any, Any]]:
    """The common turns on which people gave every label of these systems that the measure looks at."""
    truth = {"Macro-F1": ["reference_verified"], "Expressive range (flatness score)": []}
    columns = [*truth.get(measure, ["user_verified"]), "response_verified"]
    frames = _common(dataset, measure)
    kept = [set(frames[system].dropna(subset=columns).set_index(["dialogue", "turn"]).index) for system in systems]
    return sorted(set.intersection(*kept))


def _by_humans(dataset: str, measure: str, turns: list[tuple[Any, Any]], system: str) -> Any:
    if not turns:
        return Undefined()
    frame = _common(dataset, measure)[system].set_index(["dialogue", "turn"]).loc[turns]
    responses = list(frame["response_verified"])
    if measure == "Expressive range (flatness score)":
        return Value(entropy(responses) / math.log2(7), len(turns))
    if measure == "Macro-F1":
        return Value(macro(known(frame["reference_verified"], responses), _classes(dataset)), len(turns))
    place = None if measure == "Exact alignment" else "positive"
    found = hits(known(frame["user_verified"], responses), place)
    return Value(sum(found) / len(found), len(turns))


def ranks() -> list[Row]:
    rows = []
    for dataset, measure in itertools.product(SIZES, COMPARED):
        each, statistic = _by_dialogue(dataset, measure), _statistic(dataset, measure)
        order = _ordered(dataset, measure)
        dialogues = len(next(iter(each.values())))
        drawn = np.array(
            [[statistic(each[system][places].sum(axis=0)) for places in draws(dialogues)] for system, _ in order]
        )
        chance = np.zeros((len(order), len(order)))
        for column in drawn.T:
            for place, value in enumerate(column):
                above, equal = int((column > value).sum()), int((column == value).sum())
                chance[place, above : above + equal] += 1 / equal / drawn.shape[1]
        for place, (system, value) in enumerate(order):
            rows.append(
                {
                    "dataset": dataset,
                    "measure": measure,
                    "system": shown(system),
                    "value": Value(value, len(_common(dataset, measure)[system])),
                    "corrected": _by_humans(dataset, measure, _verified(dataset, measure, (system,)), system),
                    "letters": _letters,
                    "basis": "classifier labels",  # no pair here has a hundred verified turns
                    "first": Noisy(float(chance[place, 0]), 0.1),
                    "rank_low": _near_rank(chance[place], 0.025),
                    "rank_high": _near_rank(chance[place], 0.975),
                }
            )
    return rows


def _near_rank(chance: np.ndarray, level: float) -> Callable[[Row], int]:
    """The rank at which the chances pass a level; where the noise of both bootstraps reaches it, either neighbour."""
    cumulated = np.cumsum(chance)
    allowed = {int(np.searchsorted(cumulated, level + shift) + 1) for shift in (-0.02, 0, 0.02)}

    def check(row: Row) -> int:
        given = [row["rank_low"], row["rank_high"]][level > 0.5]
        return given if given in allowed else min(allowed)

    return check


def _letters(row: Row, rows: list[Row]) -> str:
    """Letters are right when two systems share one exactly if their pair is not separated: see `separated`."""
    family = [one for one in rows if (one["dataset"], one["measure"]) == (row["dataset"], row["measure"])]
    for one, other in itertools.combinations(family, 2):
        apart = separated(one["dataset"], one["measure"], one["system"], other["system"])
        if bool(set(one["letters"]) & set(other["letters"])) == apart:
            return f"wrong for {one['system']} and {other['system']}"
    return str(row["letters"])


def separated(dataset: str, measure: str, one: str, other: str) -> bool:
    found = [
        row
        for row in corpus.blind().table("pairs").rows
        if (row["dataset"], row["measure"]) == (dataset, measure) and {row["first"], row["second"]} == {one, other}
    ]
    return bool(found[0]["p_holm"] < 0.05)  # type: ignore[operator]


def range_and_f1() -> list[Row]:
    """The corrected value where there are human labels, else the classifier's."""
    rows = []
    for dataset, system, frame in groups(reference=False):
        human = entropy_by_humans(frame, math.log2(7))
        flat = human if isinstance(human, Value) else entropy_cell(frame, math.log2(7))
        judged = macro_by_humans(frame)
        score = judged if isinstance(judged, Value) else macro_cell(frame)
        rows.append({"dataset": dataset, "system": system, "flatness": flat, "macro_f1": score})
    return rows


def range_and_f1_correlation() -> list[Row]:
    rows = []
    for dataset in SIZES:
        points = [(r["flatness"].value, r["macro_f1"].value) for r in range_and_f1() if r["dataset"] == dataset]
        x, y = zip(*points, strict=True)
        rho = float(stats.spearmanr(x, y).statistic)
        orders = [abs(stats.spearmanr(x, order).statistic) >= abs(rho) - 1e-9 for order in itertools.permutations(y)]
        rows.append({"dataset": dataset, "systems": len(points), "rho": rho, "p": float(np.mean(orders))})
    return rows


GOLDEN: dict[str, Callable[[], list[Row]]] = {
    "data": data,
    "responses": lambda: as_given(corpus.RESPONSES),
    "response-rate": response_rate,
    "people": people,
    "provenance": provenance,
    "headline": headline,
    "groupings": groupings,
    "alignment": alignment,
    "alignment-surprise": alignment_surprise,
    "flatness": flatness,
    "label-distribution": label_distribution,
    "f1": f1,
    "macro-f1": macro_f1,
    "confusion-user-response-redial": lambda: confusion("ReDial", "user_label", "response_label", reference=True),
    "confusion-user-response-verified-redial": lambda: confusion(
        "ReDial", "user_verified", "response_verified", reference=True
    ),
    "confusion-reference-response-redial": lambda: confusion(
        "ReDial", "reference_label", "response_label", reference=False
    ),
    "confusion-user-response-inspired": lambda: confusion("INSPIRED", "user_label", "response_label", reference=True),
    "confusion-reference-response-inspired": lambda: confusion(
        "INSPIRED", "reference_label", "response_label", reference=False
    ),
    "paper-patterns": paper_patterns,
    "patterns": patterns,
    "cases": lambda: as_given(corpus.CASES),
    "agreement": agreement,
    "agreement-labels": agreement_labels,
    "agreement-annotators": agreement_annotators,
    "validation": validation,
    "validation-labels": validation_labels,
    "validation-matrix": validation_matrix,
    "anchoring": anchoring,
    "rating-distribution": rating_distribution,
    "rating-agreement": rating_agreement,
    "rating-means": rating_means,
    "quality": quality,
    "quality-sensitivity": quality_sensitivity,
    "quality-emotions": quality_emotions,
    "ranks": ranks,
    "pairs": pairs,
    "range-and-f1": range_and_f1,
    "range-and-f1-correlation": range_and_f1_correlation,
}
