"""Whether seeing the classifier's label moves the annotators: the randomised comparison of shown and hidden.

Every item-annotator assignment was randomised, within annotator and predicted class, to see the pre-label or not. The
effect is the mean over annotators of [P(agree with the classifier | shown) - P(agree | hidden)], by assigned arm
(intention to treat). V = (1/J²) sum_j (s²_j,shown / n_j,shown + s²_j,hidden / n_j,hidden) holds for these annotators
(stratified difference of means: Neyman 1923; Imbens and Rubin 2015, chapter 9); for future ones annotators are
resampled. Estimates of accuracy and agreement use the hidden arm only unless the effect is shown to be negligible
(`evaluation.pooling`).

Harm is following wrong labels: the effect where the classifier is wrong. Whether it is, the other annotators of the
item say, those who labelled it in the hidden arm; an annotator's own label never judges what it is compared with, for
then labels of the hidden arm would agree with the truth by construction, and the effect would be one of arithmetic.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.emotions import EMOTIONS
from evaluation.intervals import (
    DEFAULT_CONFIDENCE,
    DEFAULT_REPLICATES,
    Estimate,
    bootstrap_estimate,
    cluster_codes,
    cluster_weights,
    seed_sequence,
    undefined,
    z_interval,
)
from evaluation.tables import TableError, check_judgments

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_HIDDEN: Final = 8
MIN_ANNOTATORS: Final = 8
DEFAULT_MARGIN: Final = 0.05


def has_arms(judgments: pd.DataFrame) -> bool:
    """Say whether a table has labels of both arms, and the label that was or would have been shown."""
    return {"arm", "prelabel"} <= set(judgments.columns) and {"shown", "hidden"} <= set(judgments["arm"].dropna())


@dataclass(frozen=True)
class Anchoring:
    """The effect of the shown pre-label, with its checks.

    Attributes
    ----------
    effect
        For these annotators.
    future
        For annotators like these: resampled annotators, with 8 or more of them.
    dialogue_check
        The same effect with dialogues resampled.
    logit
        Log odds ratio of agreeing when shown, annotators as fixed effects: the sensitivity analysis.
    by_annotator, by_stratum
        The effect of each annotator, and within strata (`classifier right`, `classifier wrong`, and the table's own).
        Right and wrong by `verified` where given, else by the others' labels in the hidden arm (`blind_truth`).
    rates
        Agreement with the classifier in each arm, all annotators together.
    n
        Assignments with a label by arm.
    warnings
        What limits these numbers.
    """

    effect: Estimate
    future: Estimate
    dialogue_check: Estimate
    logit: Estimate
    by_annotator: Mapping[str, Estimate]
    by_stratum: Mapping[str, Estimate]
    rates: Mapping[str, float | None]
    n: Mapping[str, int]
    warnings: tuple[str, ...]

    def pooling_allowed(self, margin: float = DEFAULT_MARGIN) -> bool:
        """Say whether the effect's interval lies inside +- `margin`, declared beforehand: then arms may be pooled."""
        interval = self.effect.interval
        return interval is not None and -margin < interval[0] and interval[1] < margin

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping."""
        return {
            "anchoring_effect": self.effect.to_json(),
            "anchoring_effect_future_annotators": self.future.to_json(),
            "anchoring_effect_dialogue_bootstrap": self.dialogue_check.to_json(),
            "anchoring_log_odds_ratio": self.logit.to_json(),
            "by_annotator": {name: estimate.to_json() for name, estimate in self.by_annotator.items()},
            "by_stratum": {name: estimate.to_json() for name, estimate in self.by_stratum.items()},
            "rates": dict(self.rates),
            "n": dict(self.n),
            "warnings": list(self.warnings),
        }


def anchoring_effect(
    judgments: pd.DataFrame,
    *,
    labels: Sequence[str] = EMOTIONS,
    verified: Mapping[Any, str] | None = None,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    confidence: float = DEFAULT_CONFIDENCE,
    quick: bool = False,
) -> Anchoring:
    """Estimate the effect of the shown pre-label from a `judgments` table.

    Parameters
    ----------
    judgments
        Columns item, annotator, label, arm (`shown` or `hidden`; rows with neither, or without a label or prelabel,
        are left out) and prelabel; dialogue and stratum are used where present.
    verified
        Labels of items decided without sight of the pre-label and by other people than these annotators: splits the
        effect by whether the classifier was right. Without them `blind_truth` does.
    quick
        Leave out the checks (dialogues resampled, logit): for the effect alone.

    Raises
    ------
    TableError
        When the table breaks its contract or has no arm or prelabel.
    """
    checked = check_judgments(judgments, labels)
    for column in ("arm", "prelabel"):
        if column not in checked:
            raise TableError(f"The effect of the pre-label needs the column {column}.", column=column)
    used = checked.loc[checked["arm"].notna() & checked["label"].notna() & checked["prelabel"].notna()]
    used = used.reset_index(drop=True)
    same = used["label"].astype(object) == used["prelabel"].astype(object)
    agrees: Floats = np.asarray(same.to_numpy(), dtype=np.float64)
    shown: Ints = np.asarray((used["arm"] == "shown").to_numpy(), dtype=np.int64)
    raters, names = pd.factorize(used["annotator"], sort=True)
    cells = _cells(agrees, shown, raters, len(names))
    effect = _effect(cells, confidence)
    n = {"shown": int(shown.sum()), "hidden": int((1 - shown).sum())}
    if quick:
        clusters, check = None, undefined("no_replicates")
    elif "dialogue" in used:
        columns = [used["dialogue"]]
        if "dataset" in used:
            columns.append(used["dataset"].astype(object).where(used["dataset"].notna(), ""))
        clusters, cluster_names = cluster_codes(*columns)
        check = _dialogue_check(
            agrees, shown, raters, cells, clusters, len(cluster_names), replicates, seed, confidence
        )
    else:
        clusters, check = None, undefined("no_dialogue")
    return Anchoring(
        effect,
        _future(cells, replicates, seed, confidence),
        check,
        undefined("no_replicates") if quick else _logit(agrees, shown, raters, clusters, confidence),
        {str(name): _effect(cells[j : j + 1], confidence) for j, name in enumerate(names)},
        _by_stratum(used, agrees, shown, raters, len(names), verified, confidence),
        {arm: _mean(agrees[shown == code]) for arm, code in (("shown", 1), ("hidden", 0))},
        n,
        _warnings(cells, [str(name) for name in names]),
    )


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _cells(agrees: Floats, shown: Ints, raters: Ints, count: int) -> Floats:
    """Give (annotators, 2 arms, [n, agreements]): hidden first, shown second."""
    keys = raters * 2 + shown
    n = np.bincount(keys, minlength=2 * count)
    hits = np.bincount(keys, weights=agrees, minlength=2 * count)
    return np.stack([n, hits], axis=1).reshape(count, 2, 2).astype(float)


def _usable(cells: Floats) -> NDArray[np.bool_]:
    return np.asarray((cells[:, :, 0] >= 2).all(axis=1))


def _differences(cells: Floats) -> Floats:
    """Give P(agree | shown) - P(agree | hidden) per annotator, shape (..., J); NaN where an arm is empty."""
    n = cells[..., 0]
    rates = np.divide(cells[..., 1], n, out=np.full(n.shape, np.nan), where=n > 0)
    return np.asarray(rates[..., 1] - rates[..., 0])


def _effect(cells: Floats, confidence: float) -> Estimate:
    """Give the mean effect over annotators with two or more labels in each arm, and its interval."""
    n = int(cells[:, :, 0].sum())
    usable = cells[_usable(cells)]
    if not n:
        return undefined("no_data")
    if not len(usable):
        return undefined("no_pairs", n=n, notes=("no annotator has two labels in each arm",))
    left_out = len(cells) - len(usable)
    notes = (f"{left_out} annotators without two labels in each arm left out",) if left_out else ()
    value = float(_differences(usable).mean())
    size, hits = usable[:, :, 0], usable[:, :, 1]
    rate = hits / size
    spread = size / (size - 1) * rate * (1 - rate)
    se = float(np.sqrt((spread / size).sum())) / len(usable)
    used = int(size.sum())
    if se == 0:
        return Estimate(value, used, None, 0.0, "no_variation", "by assigned arm, within annotators", notes=notes)
    low, high = z_interval(value, se, confidence)
    interval = (max(-1.0, low), min(1.0, high))
    return Estimate(value, used, interval, se, None, "by assigned arm, within annotators, z", None, notes)


def _future(cells: Floats, replicates: int, seed: int, confidence: float) -> Estimate:
    """Resample annotators: what the effect would be among annotators like these."""
    usable = cells[_usable(cells)]
    n = int(usable[:, :, 0].sum())
    if len(usable) < MIN_ANNOTATORS:
        return undefined("few_annotators", n=n, notes=(f"needs {MIN_ANNOTATORS} annotators with both arms",))
    effects = _differences(usable)
    draws = cluster_weights(len(effects), replicates, seed, name="anchoring:annotators")
    values = np.concatenate([np.empty(0), *(block @ effects / len(effects) for block in draws)])
    made = bootstrap_estimate(
        float(effects.mean()),
        values,
        n=n,
        clusters=len(effects),
        unit="annotator",
        confidence=confidence,
        bounds=(-1.0, 1.0),
    )
    return made


def _dialogue_check(
    agrees: Floats,
    shown: Ints,
    raters: Ints,
    cells: Floats,
    clusters: Ints,
    n_clusters: int,
    replicates: int,
    seed: int,
    confidence: float,
) -> Estimate:
    """Resample dialogues; annotators who lose an arm in a resample are left out of it."""
    kept = _usable(cells)
    if not kept.any():
        return undefined("no_pairs", clusters=n_clusters)
    position = np.cumsum(kept) - 1
    rows = kept[raters]
    count = int(kept.sum())
    keys = clusters[rows] * count * 2 + position[raters[rows]] * 2 + shown[rows]
    width = count * 2
    n = np.bincount(keys, minlength=n_clusters * width).reshape(n_clusters, width).astype(float)
    hits = np.bincount(keys, weights=agrees[rows], minlength=n_clusters * width).reshape(n_clusters, width)
    values = [np.empty(0)]
    for block in cluster_weights(n_clusters, replicates, seed, name="anchoring:dialogues"):
        drawn = np.stack([block @ n, block @ hits], axis=-1).reshape(len(block), count, 2, 2)
        differences = _differences(drawn)
        known = np.isfinite(differences)
        total = np.where(known, differences, 0.0).sum(axis=1)
        values.append(np.divide(total, known.sum(axis=1), out=np.full(len(block), np.nan), where=known.any(axis=1)))
    return bootstrap_estimate(
        float(_differences(cells[kept]).mean()),
        np.concatenate(values),
        n=int(rows.sum()),
        clusters=n_clusters,
        confidence=confidence,
        bounds=(-1.0, 1.0),
    )


def _logit(agrees: Floats, shown: Ints, raters: Ints, clusters: Ints | None, confidence: float) -> Estimate:
    """Fit agree ~ shown + annotator (logit), standard errors clustered by dialogue where known."""
    n = len(agrees)
    if n == 0 or len(np.unique(shown)) < 2 or len(np.unique(agrees)) < 2:
        return undefined("no_variation" if n else "no_data", n=n)
    # annotators who always or never agree have no finite effect and tell nothing about the difference
    rate = np.bincount(raters, weights=agrees) / np.maximum(1, np.bincount(raters))
    rows = ((rate > 0) & (rate < 1))[raters]
    if len(np.unique(shown[rows])) < 2:
        return undefined("no_variation", n=n)
    codes = np.unique(raters[rows], return_inverse=True)[1]
    design = np.column_stack([shown[rows], np.eye(int(codes.max()) + 1)[codes]])
    # statsmodels takes a second to import, and few callers come here
    from statsmodels.discrete.discrete_model import Logit

    groups = None if clusters is None else np.unique(clusters[rows], return_inverse=True)[1]
    clustered = groups is not None and groups.max() > 0
    options = {"cov_type": "cluster", "cov_kwds": {"groups": groups}} if clustered else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = Logit(agrees[rows], design).fit(disp=False, maxiter=100, **options)
        except (np.linalg.LinAlgError, ValueError, ZeroDivisionError):  # the last where nothing is left to spread
            return undefined("no_convergence", n=n)
    value, se = float(fit.params[0]), float(fit.bse[0])
    if not fit.mle_retvals["converged"] or not np.isfinite([value, se]).all() or abs(value) > 15:
        return undefined("no_convergence", n=n)
    method = "logit with annotator effects" + (", clustered by dialogue" if clustered else "")
    count = int(groups.max()) + 1 if groups is not None else None
    return Estimate(value, int(rows.sum()), z_interval(value, se, confidence), se, None, method, count)


def _by_stratum(
    used: pd.DataFrame,
    agrees: Floats,
    shown: Ints,
    raters: Ints,
    count: int,
    verified: Mapping[Any, str] | None,
    confidence: float,
) -> dict[str, Estimate]:
    names = np.full(len(used), None, dtype=object)
    groups: dict[str, NDArray[np.bool_]] = {}
    if verified is None:
        truth = blind_truth(used)
    else:
        truth = used["item"].map({str(item): label for item, label in verified.items()}).astype(object)
    known = truth.notna().to_numpy()
    right = (truth == used["prelabel"].astype(object)).to_numpy()
    if known.any():
        groups["classifier right"] = known & right
        groups["classifier wrong"] = known & ~right
    if "stratum" in used:
        names = used["stratum"].astype(object).to_numpy()
        groups |= {str(name): names == name for name in sorted({str(n) for n in names if n is not None and n == n})}
    return {
        name: _effect(_cells(agrees[rows], shown[rows], raters[rows], count), confidence)
        for name, rows in groups.items()
    }


def blind_truth(judgments: pd.DataFrame) -> pd.Series[Any]:
    """Give for each label what the other annotators of its item say who labelled it in the hidden arm.

    Their majority; ties, and items without such a label, have none. Which arm an annotator is in does not depend on the
    others, so shown and hidden labels are compared with truths of the same kind. With few labels per item the truth is
    noisy, and both strata hold some of the other's items: the harm is then understated.

    Parameters
    ----------
    judgments
        Columns item, annotator, label, arm, index 0..n-1; every row has a label.
    """
    if not len(judgments):
        return pd.Series(None, index=judgments.index, dtype=object)
    items, names = pd.factorize(judgments["item"])
    labels, kinds = pd.factorize(judgments["label"].astype(object), sort=True)
    hidden = (judgments["arm"] == "hidden").to_numpy()
    counts = np.zeros((len(names), len(kinds)))
    np.add.at(counts, (items[hidden], labels[hidden]), 1.0)
    others = counts[items]
    others[np.flatnonzero(hidden), labels[hidden]] -= 1
    best = others.max(axis=1, initial=0.0)
    clear = (best > 0) & ((others == best[:, None]).sum(axis=1) == 1)
    chosen = np.array([*kinds, None], dtype=object)[np.where(clear, others.argmax(axis=1), -1)]
    return pd.Series(chosen, index=judgments.index, dtype=object)


def _warnings(cells: Floats, names: Sequence[str]) -> tuple[str, ...]:
    found = []
    few = [name for name, hidden in zip(names, cells[:, 0, 0], strict=True) if hidden < MIN_HIDDEN]
    if few:
        found.append(f"fewer than {MIN_HIDDEN} hidden labels, the interval covers too little: {', '.join(few)}")
    if 0 < len(cells) < MIN_ANNOTATORS:
        found.append(f"{len(cells)} annotators: the interval holds for these annotators, not for future ones")
    return tuple(found)


# --- power -----------------------------------------------------------------------------------------------------------


def anchoring_power(
    assignments: int,
    hidden_share: float,
    effect: float,
    *,
    base: float = 0.79,
    annotators: int = 6,
    annotator_sd: float = 0.03,
    item_sd: float = 0.05,
    replications: int = 500,
    seed: int = 0,
    confidence: float = DEFAULT_CONFIDENCE,
) -> float:
    """Simulate the probability that the effect's interval leaves out 0.

    Agreement of annotator j with the classifier on item i has probability base + a_j + b_i (+ effect when shown), a_j
    and b_i normal with the given standard deviations, cut to [0, 1]; the arms are dealt within annotators.

    Parameters
    ----------
    assignments
        Item-annotator assignments in all, dealt evenly over `annotators`.
    hidden_share
        Share of the hidden arm.
    effect
        True difference in the probability of agreeing.

    Raises
    ------
    ValueError
        When a number is out of its range.
    """
    per_annotator = assignments // annotators
    hidden = round(per_annotator * hidden_share)
    if hidden < 2 or per_annotator - hidden < 2:
        raise ValueError("Each annotator needs two assignments or more in each arm.")
    rng = np.random.default_rng(seed_sequence(seed, f"anchoring:{assignments}:{hidden_share}:{effect}"))
    arms = np.arange(per_annotator) >= hidden
    found = 0
    for _ in range(replications):
        chance = (
            base + rng.normal(0, annotator_sd, (annotators, 1)) + rng.normal(0, item_sd, (annotators, per_annotator))
        )
        agrees = rng.random(chance.shape) < np.clip(chance + effect * arms, 0, 1)
        sides = [(hidden, agrees[:, ~arms]), (per_annotator - hidden, agrees[:, arms])]
        cells = np.stack([np.stack([np.full(annotators, n), part.sum(axis=1)], axis=1) for n, part in sides], axis=1)
        interval = _effect(cells.astype(float), confidence).interval
        found += interval is not None and not interval[0] <= 0 <= interval[1]
    return found / replications


def power_table(
    assignments: Sequence[int] = (150, 300, 600, 1200, 2400),
    hidden_shares: Sequence[float] = (0.1, 0.2, 0.3, 0.5),
    effects: Sequence[float] = (0.05, 0.10, 0.15),
    *,
    replications: int = 500,
    seed: int = 0,
    **assumptions: Any,
) -> pd.DataFrame:
    """Give `anchoring_power` for every combination: columns assignments, hidden_share, effect, power."""
    rows = [
        (n, share, effect, anchoring_power(n, share, effect, replications=replications, seed=seed, **assumptions))
        for n in assignments
        for share in hidden_shares
        for effect in effects
    ]
    return pd.DataFrame(rows, columns=["assignments", "hidden_share", "effect", "power"])
