"""From several annotators' labels to one verified label, and to an order of what needs a third look.

The verified label of an item is the adjudicated one, else the majority of two or more labels (a tie is unresolved,
never random), else a single label where that is allowed: `verified_label`, and `verified_codes` for many items at once.
Dawid-Skene models
(full, and one coin per annotator) are diagnostics of annotators and of disagreement unless chosen as the label.

Sources: Dawid and Skene (1979); the one-coin form, for instance Zhang, Chen, Zhou and Jordan (2016).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.coefficients import count_matrix, majority_codes
from evaluation.emotions import EMOTIONS
from evaluation.tables import TableError, check_judgments, declared_labels, key_text, label_codes

Source = Literal["adjudicated", "majority", "single"]
Unresolved = Literal["no_data", "single", "tie"]
Model = Literal["full", "one_coin"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SMOOTHING: Final = 0.01
FULL_MODEL_LABELS: Final = 200


@dataclass(frozen=True, slots=True)
class VerifiedLabel:
    """The label of an item after verification, or why there is none yet.

    Attributes
    ----------
    label
        The verified label, `None` while unresolved.
    source
        `adjudicated`, `majority` or `single`; `None` while unresolved.
    reason
        Why unresolved: `no_data`, `single` (one label where one is not enough) or `tie`.
    n
        Annotators' labels behind it.
    votes
        How many of them gave the most frequent label.
    """

    label: str | None
    source: Source | None
    reason: Unresolved | None
    n: int
    votes: int


def verified_label(
    labels: Iterable[str | None], adjudicated: str | None = None, allow_single: bool = False
) -> VerifiedLabel:
    """Decide the verified label of one item.

    Parameters
    ----------
    labels
        The standing label of each annotator; `None` and "" (a skip) do not count.
    adjudicated
        The adjudicator's label, which decides whenever it is there.
    allow_single
        Whether one label alone may stand.
    """
    votes = Counter(label for label in labels if label)
    n = votes.total()
    ranked = votes.most_common(2)
    top = ranked[0][1] if ranked else 0
    if adjudicated:
        return VerifiedLabel(adjudicated, "adjudicated", None, n, top)
    if n == 0:
        return VerifiedLabel(None, None, "no_data", 0, 0)
    if n == 1:
        if allow_single:
            return VerifiedLabel(ranked[0][0], "single", None, 1, 1)
        return VerifiedLabel(None, None, "single", 1, 1)
    if len(ranked) == 2 and ranked[1][1] == top:
        return VerifiedLabel(None, None, "tie", n, top)
    return VerifiedLabel(ranked[0][0], "majority", None, n, top)


def verified_codes(counts: Floats, adjudicated: Ints, allow_single: bool = False) -> Ints:
    """Decide the verified category of every item by the rule of `verified_label`; -1 while unresolved.

    Parameters
    ----------
    counts
        Shape (n, K): the annotators' labels of each item.
    adjudicated
        Shape (n,): the adjudicated category, -1 where there is none.
    """
    enough = counts.sum(axis=1) >= (1 if allow_single else 2)
    by_people = np.where(enough, majority_codes(counts), -1)
    return np.where(adjudicated >= 0, adjudicated, by_people).astype(np.int64)


def decisions(judgments: pd.DataFrame, adjudicated: Mapping[Any, str] | None, labels: Sequence[str]) -> dict[str, str]:
    """Give the adjudicated label of every item that has one: those of `adjudicated`, else of the column gold_label.

    Parameters
    ----------
    judgments
        A checked `judgments` table.

    Raises
    ------
    TableError
        For a label outside the set or none at all, and for an item with two values of gold_label.
    """
    found: dict[str, str] = {}
    if "gold_label" in judgments:
        rows = judgments.loc[judgments["gold_label"].notna()]
        for row, item, label in zip(rows.index, rows["item"], rows["gold_label"].astype(object), strict=True):
            if found.setdefault(item, label) != label:
                where = f"Row {row + 1}, column gold_label"
                message = f"{where}: the item {item!r} has another adjudicated label elsewhere."
                raise TableError(message, row=int(row) + 1, column="gold_label")
    given = [(key_text(item), label) for item, label in (adjudicated or {}).items()]
    codes = label_codes(pd.Series([label for _, label in given], dtype=object), labels, "adjudicated")
    for (item, _), code in zip(given, codes, strict=True):
        if item is None or code < 0:
            raise TableError(f"The adjudicated label of item {item!r} is empty.", column="adjudicated")
        found[item] = labels[code]
    return found


def verified_labels(
    judgments: pd.DataFrame,
    adjudicated: Mapping[Any, str] | None = None,
    allow_single: bool = False,
    *,
    labels: Sequence[str] = EMOTIONS,
) -> pd.DataFrame:
    """Decide the verified label of every item of a `judgments` table, by `verified_label`.

    Parameters
    ----------
    adjudicated
        Adjudicated labels by item; they come before the column gold_label of the table.

    Returns
    -------
    DataFrame
        Columns item, label, source, reason, n, votes; one row per item, in order of first appearance, then adjudicated
        items that the table does not name, with n 0.

    Raises
    ------
    TableError
        When the table breaks its contract, an adjudicated label is not in the set, or an item has two of them.
    """
    labels = declared_labels(labels)
    checked = check_judgments(judgments, labels)
    decided = decisions(checked, adjudicated, labels)
    given: dict[str, list[str | None]] = {}
    names = checked["label"].astype(object).where(checked["label"].notna(), None)
    for item, label in zip(checked["item"], names, strict=True):
        given.setdefault(item, []).append(label)
    for item in decided:
        given.setdefault(item, [])
    found = [verified_label(votes, decided.get(item), allow_single) for item, votes in given.items()]
    return pd.DataFrame(
        {
            "item": list(given),
            "label": pd.Series([one.label for one in found], dtype=object),
            "source": pd.Series([one.source for one in found], dtype=object),
            "reason": pd.Series([one.reason for one in found], dtype=object),
            "n": np.array([one.n for one in found], dtype=np.int64),
            "votes": np.array([one.votes for one in found], dtype=np.int64),
        }
    )


# --- Dawid and Skene -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DawidSkene:
    """A fitted model of items' true labels and annotators' errors.

    Attributes
    ----------
    items, annotators, labels
        The names behind the axes: n items, A annotators, K labels.
    posteriors
        Shape (n, K): the probability of each true label of each item.
    marginals
        Shape (K,): the share of each true label.
    confusion
        Shape (A, K, K): probability that an annotator says l (last axis) when the truth is k.
    log_likelihood, iterations, converged, smoothing
        Of the fit.
    """

    model: Model
    items: list[Any]
    annotators: list[Any]
    labels: tuple[str, ...]
    posteriors: Floats
    marginals: Floats
    confusion: Floats
    log_likelihood: float
    iterations: int
    converged: bool
    smoothing: float = SMOOTHING

    @property
    def best(self) -> list[str | None]:
        """The most probable label of each item; `None` when two are equally probable."""
        top = np.sort(self.posteriors, axis=1)
        tied = top[:, -1] - top[:, -2] < 1e-9 if top.shape[1] > 1 else np.zeros(len(top), dtype=bool)
        chosen = self.posteriors.argmax(axis=1)
        return [None if tie else self.labels[k] for k, tie in zip(chosen, tied, strict=True)]

    @property
    def entropy(self) -> Floats:
        """The entropy of each item's posterior in bits, shape (n,): 0 when certain."""
        p = self.posteriors
        return np.asarray(-(p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=1))

    @property
    def accuracy(self) -> Floats:
        """The probability that each annotator is right, over the true labels' shares; shape (A,)."""
        return np.asarray(np.einsum("akk,k->a", self.confusion, self.marginals))


def dawid_skene(
    judgments: pd.DataFrame,
    *,
    labels: Sequence[str] = EMOTIONS,
    model: Model | Literal["auto"] = "auto",
    smoothing: float = SMOOTHING,
    start: Literal["shares", "majority"] = "shares",
    tolerance: float = 1e-9,
    max_iterations: int = 2000,
) -> DawidSkene:
    """Fit the model of Dawid and Skene (1979) by EM, in log space.

    E: P(i = k) is proportional to p_k prod over labels of i of c_akl. M: c_akl is proportional to smoothing + sum over
    labels l by a of P(i = k); p_k the mean posterior. One coin: c_akk = q_a and the rest of each row is uniform.

    Parameters
    ----------
    judgments
        Columns item, annotator, label; an annotator may label an item more than once.
    model
        `full` has K (K-1) parameters per annotator; `one_coin` one. `auto` takes the full model only when every
        annotator gave `FULL_MODEL_LABELS` labels or more and every label occurs, else one coin.
    smoothing
        Added to every cell of the annotators' counts. It keeps a posterior from being certain where an annotator was
        seldom met; 0 gives maximum likelihood, and with it the published values of 1979 (`docs/metrics.md`).
    start
        First posteriors: each item's vote shares, or all on its majority (shares where tied).

    Raises
    ------
    TableError
        When the table breaks its contract.
    ValueError
        When there is no label to fit, or the smoothing is negative.
    """
    if not 0 <= smoothing < np.inf:
        raise ValueError(f"smoothing must be a number that is not negative, got {smoothing}.")
    labels = declared_labels(labels)
    checked = check_judgments(judgments, labels, repeats="keep")
    codes = label_codes(checked["label"], labels)
    given = codes >= 0
    if not given.any():
        raise ValueError("There are no labels to fit a Dawid-Skene model to.")
    codes = codes[given]
    items, item_names = pd.factorize(checked["item"][given])
    raters, rater_names = pd.factorize(checked["annotator"][given], sort=True)
    size = len(labels)
    chosen = suggested_model(raters, codes, size) if model == "auto" else model
    counts = count_matrix(items, codes, size)
    posteriors = counts / counts.sum(axis=1, keepdims=True)
    if start == "majority":
        majority = majority_codes(counts)
        posteriors[majority >= 0] = np.eye(size)[majority[majority >= 0]]
    likelihood, converged, iterations = -np.inf, False, 0
    confusion, marginals = _maximise(posteriors, items, raters, codes, chosen, smoothing)
    while iterations < max_iterations and not converged:
        iterations += 1
        posteriors, now = _expect(confusion, marginals, items, raters, codes, len(item_names))
        confusion, marginals = _maximise(posteriors, items, raters, codes, chosen, smoothing)
        converged = abs(now - likelihood) <= tolerance * max(1.0, abs(now))
        likelihood = now
    return DawidSkene(
        chosen,
        list(item_names),
        list(rater_names),
        tuple(str(label) for label in labels),
        posteriors,
        marginals,
        confusion,
        likelihood,
        iterations,
        converged,
        smoothing,
    )


def suggested_model(raters: Ints, codes: Ints, categories: int) -> Model:
    """Give `full` when every annotator has enough labels and every category occurs, else `one_coin`."""
    enough = int(np.bincount(raters).min()) >= FULL_MODEL_LABELS
    return "full" if enough and len(np.unique(codes)) == categories else "one_coin"


def _maximise(
    posteriors: Floats, items: Ints, raters: Ints, codes: Ints, model: Model, smoothing: float
) -> tuple[Floats, Floats]:
    size = posteriors.shape[1]
    count = int(raters.max()) + 1
    marginals = posteriors.mean(axis=0)
    if model == "one_coin":
        right = np.bincount(raters, weights=posteriors[items, codes], minlength=count) + smoothing
        coin = right / (np.bincount(raters, minlength=count) + smoothing * size)
        wrong = (1.0 - coin) / max(1, size - 1)
        confusion = np.where(np.eye(size, dtype=bool), coin[:, None, None], wrong[:, None, None])
        return confusion, marginals
    cells = raters * size + codes
    confusion = np.empty((count, size, size))
    for k in range(size):
        said = np.bincount(cells, weights=posteriors[items, k], minlength=count * size).reshape(count, size)
        confusion[:, k, :] = said + smoothing
    total = confusion.sum(axis=2, keepdims=True)
    # a true label that an annotator never met tells nothing: uniform
    return np.divide(confusion, total, out=np.full_like(confusion, 1.0 / size), where=total > 0), marginals


def _expect(
    confusion: Floats, marginals: Floats, items: Ints, raters: Ints, codes: Ints, n_items: int
) -> tuple[Floats, float]:
    size = len(marginals)
    # below the smallest float squared nothing is told apart, and 0 stays out of the logarithm
    floor = 1e-300
    evidence = np.log(np.maximum(confusion, floor))[raters, :, codes]
    scores = np.empty((n_items, size))
    for k in range(size):
        scores[:, k] = np.bincount(items, weights=evidence[:, k], minlength=n_items)
    scores += np.log(np.maximum(marginals, floor))
    top = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - top)
    total = weights.sum(axis=1, keepdims=True)
    return weights / total, float((np.log(total) + top).sum())


# --- what an adjudicator should see first ----------------------------------------------------------------------------


def adjudication_order(
    judgments: pd.DataFrame,
    adjudicated: Mapping[Any, str] | None = None,
    *,
    labels: Sequence[str] = EMOTIONS,
    model: Model | Literal["auto"] = "auto",
    fit: DawidSkene | None = None,
) -> pd.DataFrame:
    """Order the items that two or more annotators labelled and nobody adjudicated: ties first, then by entropy.

    Parameters
    ----------
    fit
        The model of these judgments, where it is at hand.

    Returns
    -------
    DataFrame
        Columns item, tie (bool), entropy (bits, of the Dawid-Skene posterior), n; the most doubtful first. Unanimous
        items are left out. Equal items keep the order of their names, so the order is the same every time.
    """
    table = verified_labels(judgments, adjudicated, labels=labels)
    disputed = (table["n"] >= 2) & (table["votes"] < table["n"]) & (table["source"] != "adjudicated")
    open_items = table.loc[disputed]
    if open_items.empty:
        return pd.DataFrame({"item": [], "tie": np.empty(0, bool), "entropy": np.empty(0), "n": np.empty(0, int)})
    fit = fit or dawid_skene(judgments, labels=labels, model=model)
    entropy = dict(zip(fit.items, fit.entropy, strict=True))
    found = pd.DataFrame(
        {
            "item": open_items["item"],
            "tie": open_items["reason"] == "tie",
            "entropy": [round(float(entropy[item]), 12) for item in open_items["item"]],
            "n": open_items["n"],
        }
    )
    return found.sort_values(["tie", "entropy", "item"], ascending=[False, False, True]).reset_index(drop=True)
