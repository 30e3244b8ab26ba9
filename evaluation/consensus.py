"""One label per item of a whole table, with what speaks for it, who gave it, and what an adjudicator should see first.

The label is the verified one of `evaluation.aggregation`, or the most probable one of a Dawid-Skene model where that is
chosen. Posterior, entropy and the annotators' accuracy come from a Dawid-Skene model in either case. Other models of
crowds, such as MACE or GLAD, are not here: `crowd_kit_table` gives the labels as crowd-kit takes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd

from evaluation.aggregation import SMOOTHING, DawidSkene, adjudication_order, dawid_skene, verified_labels
from evaluation.coefficients import count_matrix, majority_codes
from evaluation.emotions import EMOTIONS
from evaluation.intervals import round_significant
from evaluation.tables import check_judgments, declared_labels, label_codes

Method = Literal["majority", "one_coin", "dawid_skene", "auto"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
_MODELS: Final[Mapping[Method, Literal["auto", "one_coin", "full"]]] = {
    "majority": "auto",
    "auto": "auto",
    "one_coin": "one_coin",
    "dawid_skene": "full",
}


@dataclass(frozen=True)
class Consensus:
    """The labels of all items of a table and of whom they come.

    Attributes
    ----------
    items
        One row per item: item, label (`None` while unresolved), source (`adjudicated`, `majority`, `single` or the
        model), reason (`tie`, `single`, `no_data`), n labels, votes for the most frequent one, entropy (bits, of the
        posterior; NaN without a label), order (the place in the adjudication queue, from 1; `<NA>` for the others).
    annotators
        One row per annotator: annotator, labels given, accuracy by the model, and agreement: the share of her labels
        that equal the majority of the others, of those `compared` that meet one.
    fit
        The Dawid-Skene model; `None` when there is no label.
    """

    method: Method
    labels: tuple[str, ...]
    items: pd.DataFrame
    annotators: pd.DataFrame
    fit: DawidSkene | None

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping; numbers are rounded to 12 significant digits."""
        fit = self.fit
        rows = {} if fit is None else dict(zip(fit.items, fit.posteriors, strict=True))
        items = []
        for row in self.items.to_dict("records"):
            shares = rows.get(row["item"])
            posterior = None if shares is None else dict(zip(self.labels, map(round_significant, shares), strict=True))
            order = None if pd.isna(row["order"]) else int(row["order"])
            items.append({**row, "entropy": _known(row["entropy"]), "order": order, "posterior": posterior})
        people = [
            {**row, "accuracy": _known(row["accuracy"]), "agreement": _known(row["agreement"])}
            for row in self.annotators.to_dict("records")
        ]
        model = None
        if fit is not None:
            model = {
                "name": fit.model,
                "smoothing": fit.smoothing,
                "marginals": dict(zip(self.labels, map(round_significant, fit.marginals), strict=True)),
                "log_likelihood": round_significant(fit.log_likelihood),
                "iterations": fit.iterations,
                "converged": fit.converged,
            }
            if fit.model == "full":
                tables = dict(zip(fit.annotators, fit.confusion, strict=True))
                for person in people:
                    shares = tables.get(person["annotator"])
                    person["confusion"] = None if shares is None else _rounded(shares)
        unresolved = self.items["reason"].dropna().value_counts().to_dict()
        return {
            "method": self.method,
            "labels": list(self.labels),
            "n_items": len(self.items),
            "resolved": int(self.items["label"].notna().sum()),
            "unresolved": {str(reason): int(count) for reason, count in sorted(unresolved.items())},
            "model": model,
            "items": items,
            "annotators": people,
        }


def consensus(
    judgments: pd.DataFrame,
    method: Method = "majority",
    adjudicated: Mapping[Any, str] | None = None,
    *,
    labels: Sequence[str] = EMOTIONS,
    allow_single: bool = False,
    smoothing: float = SMOOTHING,
    arms: Literal["hidden", "all"] = "hidden",
) -> Consensus:
    """Give one label per item of a `judgments` table.

    Parameters
    ----------
    method
        `majority`: the rule of `verified_label`. `one_coin`, `dawid_skene` (the full model) or `auto` (the one that the
        labels can bear): the most probable label of that model. An adjudicated label comes first in each.
    adjudicated
        Adjudicated labels by item; they come before the column gold_label of the table.
    allow_single
        Whether one label alone may stand (`majority` only; a model takes every label).
    smoothing
        As for `dawid_skene`.
    arms
        `hidden`: labels given with the classifier's label in sight (arm `shown`) do not count; `all`: they do.

    Raises
    ------
    TableError
        As `verified_labels`.
    ValueError
        For an unknown method or a negative smoothing.
    """
    if method not in METHODS:
        raise ValueError(f"There is no method {method!r}; there are: {', '.join(METHODS)}.")
    declared = tuple(declared_labels(labels))
    checked = _counting(check_judgments(judgments, declared), arms)
    table = verified_labels(checked, adjudicated, allow_single, labels=declared)
    model, fit = _MODELS[method], None
    if checked["label"].notna().any():
        fit = dawid_skene(checked, labels=declared, model=model, smoothing=smoothing)
    if method != "majority":
        table = _most_probable(table, fit)
    entropy = {} if fit is None else dict(zip(fit.items, fit.entropy, strict=True))
    queue = adjudication_order(checked, adjudicated, labels=declared, fit=fit)
    place = {item: number for number, item in enumerate(queue["item"], start=1)}
    items = table.assign(
        entropy=[entropy.get(item, np.nan) for item in table["item"]],
        order=pd.array([place.get(item) for item in table["item"]], dtype="Int64"),
    )
    return Consensus(method, declared, items, _annotators(checked, declared, fit), fit)


def crowd_kit_table(
    judgments: pd.DataFrame, *, labels: Sequence[str] = EMOTIONS, arms: Literal["hidden", "all"] = "hidden"
) -> pd.DataFrame:
    """Give the labels that count as crowd-kit takes them: columns task, worker, label, one row a label."""
    checked = _counting(check_judgments(judgments, declared_labels(labels)), arms)
    given = checked.loc[checked["label"].notna(), ["item", "annotator", "label"]].astype(object)
    return given.set_axis(["task", "worker", "label"], axis=1).reset_index(drop=True)


def _counting(checked: pd.DataFrame, arms: Literal["hidden", "all"]) -> pd.DataFrame:
    """Take labels of the shown arm for missing, unless all count; the rows stay, so that their items do."""
    if arms == "all" or "arm" not in checked:
        return checked
    return checked.assign(label=checked["label"].where((checked["arm"] != "shown").to_numpy()))


def _most_probable(table: pd.DataFrame, fit: DawidSkene | None) -> pd.DataFrame:
    """Put the model's label in place of the annotators' majority; adjudicated labels stay."""
    best = {} if fit is None else dict(zip(fit.items, fit.best, strict=True))
    free = (table["source"] != "adjudicated").to_numpy()
    label = [
        best.get(item) if open_ else old for item, old, open_ in zip(table["item"], table["label"], free, strict=True)
    ]
    name = "" if fit is None else fit.model
    source = [old if not open_ else name if one is not None else None
              for old, one, open_ in zip(table["source"], label, free, strict=True)]  # fmt: skip
    reason = [None if one is not None else "tie" if item in best else "no_data"
              for item, one in zip(table["item"], label, strict=True)]  # fmt: skip
    columns = {"label": label, "source": source, "reason": reason}
    return table.assign(**{key: pd.Series(cells, dtype=object) for key, cells in columns.items()})


def _annotators(checked: pd.DataFrame, labels: Sequence[str], fit: DawidSkene | None) -> pd.DataFrame:
    codes = label_codes(checked["label"], labels)
    kept = codes >= 0
    codes = codes[kept]
    items = pd.factorize(checked["item"][kept])[0].astype(np.int64)
    raters, names = pd.factorize(checked["annotator"][kept], sort=True)
    others = count_matrix(items, codes, len(labels))[items]
    others[np.arange(len(codes)), codes] -= 1
    majority = majority_codes(others)
    met = majority >= 0
    compared = np.bincount(raters[met], minlength=len(names))
    same = np.bincount(raters[met & (majority == codes)], minlength=len(names))
    return pd.DataFrame(
        {
            "annotator": [str(name) for name in names],
            "labels": np.bincount(raters, minlength=len(names)),
            "accuracy": np.full(len(names), np.nan) if fit is None else fit.accuracy,
            "agreement": np.divide(same, compared, out=np.full(len(names), np.nan), where=compared > 0),
            "compared": compared,
        }
    )


def _known(value: float) -> float | None:
    return round_significant(value) if np.isfinite(value) else None


def _rounded(shares: Any) -> list[list[float | None]]:
    return [[round_significant(share) for share in row] for row in shares]
