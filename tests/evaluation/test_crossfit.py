"""A classifier that learned from the verified labels must not be judged by them: why predictions are cross-fitted.

The simulated learner is the worst case: it knows by heart every turn that it was shown. Judged by the turns that it has
seen it looks perfect, so nothing is corrected and the estimate keeps the bias. Cross-fitted by dialogue, the
predictions of the verified turns err as those of all other turns do, and the corrected interval covers.
"""

from __future__ import annotations

import numpy as np

from evaluation.design import draw_design
from evaluation.emotions import EMOTIONS
from evaluation.estimation import difference_mean
from evaluation.simulation import SimulatedCorpus, simulate_corpus

FOLDS = 5
LABELS = 300


def learnt(corpus: SimulatedCorpus, column: str, rows: np.ndarray, fold_of: np.ndarray, fold: int | None) -> np.ndarray:
    """Labels of the learner that was shown the verified rows outside the fold (all of them for `None`)."""
    truth, predicted = getattr(corpus, column), getattr(corpus, f"{column}_predicted")
    shown = rows if fold is None else rows[fold_of[corpus.dialogues[rows]] != fold]
    table = np.zeros((len(EMOTIONS), len(EMOTIONS)))
    np.add.at(table, (predicted[shown], truth[shown]), 1)
    # What a label of the old classifier most often meant where it was shown; unseen labels stay as they are.
    meaning = np.where(table.sum(axis=1) > 0, table.argmax(axis=1), np.arange(len(EMOTIONS)))
    labels = meaning[predicted]
    labels[shown] = truth[shown]
    return labels


def study(corpus: SimulatedCorpus, draws: int) -> dict[str, float]:
    """Share of corrected intervals that hold the true exact alignment, cross-fitted and not."""
    rng = np.random.default_rng(7)
    size, dialogues = len(corpus.dialogues), corpus.dialogues[-1] + 1
    aligned = (corpus.user == corpus.response).astype(float)
    truth = aligned.mean()
    held = {"cross-fitted": 0, "judged by what it has seen": 0}
    for _ in range(draws):
        rows = np.sort(rng.choice(size, LABELS, replace=False))
        design = draw_design(corpus.dialogues[rows], population=size)
        fold_of = rng.integers(0, FOLDS, dialogues)
        crossed = np.zeros(size)
        for fold in range(FOLDS):
            here = fold_of[corpus.dialogues] == fold
            user, response = (learnt(corpus, column, rows, fold_of, fold) for column in ("user", "response"))
            crossed[here] = (user == response)[here]
        user, response = (learnt(corpus, column, rows, fold_of, None) for column in ("user", "response"))
        for name, machine in (
            ("cross-fitted", crossed),
            ("judged by what it has seen", (user == response).astype(float)),
        ):
            found = difference_mean(aligned[rows], machine[rows], machine, design)
            # Judged by what it knows by heart it never errs, so there is no spread and nothing but a value.
            low, high = found.interval or (found.value, found.value)
            held[name] += low <= truth <= high
    return {name: count / draws for name, count in held.items()}


def test_cross_fitted_estimates_cover_and_others_do_not() -> None:
    found = study(simulate_corpus(seed=1), draws=1000)
    print(found)
    assert found["cross-fitted"] >= 0.925
    assert found["judged by what it has seen"] < 0.2, "the trap that cross-fitting avoids must show"
