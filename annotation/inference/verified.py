"""Learning from labels that people have verified, without ever judging a dialogue by a classifier that saw it.

The labels of a campaign are cut into folds by dialogue. For each fold a classifier is trained on the other folds, and
only that one predicts the fold's dialogues: cross-fitting (Chernozhukov et al. 2018; cross-prediction-powered
inference, Zrnic & Candès 2024), which keeps estimates that correct predictions by human labels valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotation.inference.assessment import Figure, temperature_fitted
from annotation.inference.base import Base, ClassifierError
from annotation.inference.card import reference_engine
from annotation.inference.corpus import Examples
from annotation.inference.default_classifier import softmax
from annotation.inference.encoder import Adapter
from annotation.inference.training import Progress, Recipe, Trainer
from evaluation.emotions import DEFAULT_GROUPING, EMOTIONS, GO_EMOTIONS, GROUPINGS, grouping_named

FEWEST_ROWS: Final = 30
"""Below this a fold teaches a handful of examples, and what changes is chance."""

VERIFIED_RECIPE: Final = Recipe(
    epochs=5,
    batch_rows=16,
    adapter_rate=2e-4,
    head_rate=5e-4,
    encoder_dropout=0.1,
    grouped_loss=1.0,
    average_decay=0.99,
)
"""A careful continuation of the default adapter: small steps, a few passes."""


@dataclass(frozen=True)
class VerifiedTraining:
    """What `finetune_on_verified` made.

    Attributes
    ----------
    folds
        The fold of each row, shape (n,); all rows of a dialogue share one.
    out_of_fold
        28 probabilities of each row from the classifier whose training left its dialogue out, shape (n, 28).
    before
        28 probabilities of each row from the classifier that training started from, shape (n, 28).
    adapters
        One per fold, trained without that fold.
    final
        Trained on all rows: for dialogues outside the campaign.
    temperature
        Fitted on the out-of-fold probabilities, by grouping.
    agreement_before, agreement_after, gain
        Share of held-out rows whose label is predicted, before and after, and their difference, each with a 95 %
        bootstrap interval over dialogues.
    """

    folds: NDArray[np.int64]
    out_of_fold: NDArray[np.float32]
    before: NDArray[np.float32]
    adapters: tuple[Adapter, ...]
    final: Adapter
    temperature: Mapping[str, float]
    agreement_before: Figure
    agreement_after: Figure
    gain: Figure


def folds_by_dialogue(dialogues: Sequence[str], *, folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Assign every row to a fold, whole dialogues together and fold sizes within one dialogue of each other.

    The order of dialogues is a keyed digest of their names, so the assignment does not depend on the rows' order.
    """
    if folds < 2:
        raise ClassifierError(f"Cross-fitting needs at least 2 folds, not {folds}.")
    distinct = sorted(set(dialogues), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    if len(distinct) < folds:
        raise ClassifierError(
            f"The verified labels come from {len(distinct)} dialogues, but {folds} folds need at least {folds}. "
            f"Verify more dialogues, or ask for fewer folds."
        )
    place = {name: index % folds for index, name in enumerate(distinct)}
    return np.array([place[name] for name in dialogues], dtype=np.int64)


def targets_within_groups(before: NDArray[np.float32], truth: NDArray[np.int64], grouping: str) -> NDArray[np.float32]:
    """Give a target over the 28 labels for each verified emotion.

    The mass of 1 goes to the fine labels of the verified emotion, divided as the starting classifier divides it. The
    loss is then the cross-entropy of the seven emotions plus a term that keeps the division within each as it was.
    """
    inside = GROUPINGS[grouping].matrix.T[truth]
    targets = np.clip(before, 1e-6, None) * inside
    return np.asarray(targets / targets.sum(-1, keepdims=True), dtype=np.float32)


def finetune_on_verified(
    texts: Sequence[str],
    labels: Sequence[str],
    dialogue_ids: Sequence[str],
    *,
    start: Adapter,
    base: Base,
    folder: Path,
    folds: int = 5,
    grouping: str = DEFAULT_GROUPING,
    weights: Sequence[float] | None = None,
    recipe: Recipe = VERIFIED_RECIPE,
    seed: int = 0,
    threads: int | None = None,
    display: Callable[[str, Progress], None] | None = None,
    replicates: int = 1000,
) -> VerifiedTraining:
    """Continue training from `start` on verified labels, cross-fitted by dialogue.

    Parameters
    ----------
    texts, labels, dialogue_ids
        One row per verified utterance: the text as classified, its verified emotion, the dialogue it is from.
    folder
        Where checkpoints lie; a killed call with the same data continues there.
    weights
        How much each row counts (inverse inclusion probabilities, say); by default all the same.
    display
        Called with the name of the part (`fold 1 of 5`, `all dialogues`) and its progress.

    Raises
    ------
    ClassifierError
        When there are too few rows, dialogues or different labels, or a label is unknown.
    """
    truth = _checked(texts, labels, dialogue_ids)
    place = folds_by_dialogue(dialogue_ids, folds=folds, seed=seed)
    before = softmax(reference_engine(base, start, threads).logits(texts))
    examples = Examples(
        texts=tuple(texts),
        targets=targets_within_groups(before, truth, grouping),
        weights=np.ones(len(texts), dtype=np.float32) if weights is None else np.asarray(weights, dtype=np.float32),
        without_neutral=np.zeros(len(texts), dtype=bool),
    )
    chosen = replace(recipe, seed=seed, grouping=grouping)

    def trained(name: str, rows: NDArray[np.int64]) -> Adapter:
        part = folder / name.replace(" ", "-")
        nothing = examples.chosen(np.array([], dtype=np.int64))
        trainer = Trainer(chosen, base, examples.chosen(rows), nothing, folder=part, start=start, threads=threads)
        return trainer.run(display=None if display is None else lambda progress: display(name, progress))

    out_of_fold = np.empty((len(texts), len(GO_EMOTIONS)), dtype=np.float32)
    adapters = []
    for fold in range(folds):
        adapter = trained(f"fold {fold + 1} of {folds}", np.flatnonzero(place != fold))
        held = np.flatnonzero(place == fold)
        out_of_fold[held] = softmax(reference_engine(base, adapter, threads).logits([texts[int(i)] for i in held]))
        adapters.append(adapter)
    final = trained("all dialogues", np.arange(len(texts)))
    right_before = _grouped(before, grouping).argmax(-1) == truth
    right_after = _grouped(out_of_fold, grouping).argmax(-1) == truth
    agreed = _agreements(right_before, right_after, dialogue_ids, replicates, seed)
    return VerifiedTraining(
        folds=place,
        out_of_fold=out_of_fold,
        before=before,
        adapters=tuple(adapters),
        final=final,
        temperature={grouping: round(temperature_fitted(_grouped(out_of_fold, grouping), truth), 4)},
        agreement_before=agreed[0],
        agreement_after=agreed[1],
        gain=agreed[2],
    )


def cross_predict(
    result: VerifiedTraining,
    texts: Sequence[str],
    dialogue_ids: Sequence[str],
    labelled: Mapping[str, int],
    *,
    base: Base,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Give 28 probabilities of a corpus such that no dialogue is judged by a classifier that saw its labels.

    A dialogue in `labelled` (name to fold) is judged by its fold's classifier, any other by the mean of all.
    """
    found = np.zeros((len(texts), len(GO_EMOTIONS)), dtype=np.float64)
    fold_of = np.array([labelled.get(name, -1) for name in dialogue_ids], dtype=np.int64)
    for fold, adapter in enumerate(result.adapters):
        rows = np.flatnonzero((fold_of == fold) | (fold_of == -1))
        predicted = softmax(reference_engine(base, adapter, threads).logits([texts[int(i)] for i in rows]))
        found[rows] += predicted * np.where(fold_of[rows] == -1, 1 / len(result.adapters), 1.0)[:, None]
    return found.astype(np.float32)


def _checked(texts: Sequence[str], labels: Sequence[str], dialogue_ids: Sequence[str]) -> NDArray[np.int64]:
    if not len(texts) == len(labels) == len(dialogue_ids):
        raise ClassifierError(
            f"There are {len(texts)} texts, {len(labels)} labels and {len(dialogue_ids)} dialogues; "
            f"one of each is needed per row."
        )
    if unknown := sorted(set(labels) - set(EMOTIONS)):
        raise ClassifierError(f"These are none of the seven emotions: {', '.join(unknown)}.")
    if len(texts) < FEWEST_ROWS:
        raise ClassifierError(
            f"There are {len(texts)} verified labels; learning from them starts at {FEWEST_ROWS}. Verify more first."
        )
    if len(set(labels)) < 2:
        raise ClassifierError(f"All verified labels are {labels[0]}; there is nothing to tell apart.")
    return np.array([EMOTIONS.index(label) for label in labels], dtype=np.int64)


def _grouped(fine: NDArray[np.float32], grouping: str) -> NDArray[np.float64]:
    return np.asarray(fine.astype(np.float64) @ grouping_named(grouping).matrix)


def _agreements(
    before: NDArray[np.bool_], after: NDArray[np.bool_], dialogue_ids: Sequence[str], replicates: int, seed: int
) -> tuple[Figure, Figure, Figure]:
    """Give both agreements and their difference; intervals by resampling whole dialogues, paired."""
    names, cluster = np.unique(np.asarray(dialogue_ids), return_inverse=True)
    sizes = np.bincount(cluster).astype(np.float64)
    hits = np.stack([np.bincount(cluster, weights=right.astype(np.float64)) for right in (before, after)])
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates)
    shares = (drawn @ hits.T) / (drawn @ sizes)[:, None]
    n = len(before)

    def figure(value: float, draws: NDArray[np.float64]) -> Figure:
        low, high = np.quantile(draws, [0.025, 0.975])
        return Figure(value, n, (float(low), float(high)))

    return (
        figure(float(before.mean()), shares[:, 0]),
        figure(float(after.mean()), shares[:, 1]),
        figure(float(after.mean() - before.mean()), shares[:, 1] - shares[:, 0]),
    )
