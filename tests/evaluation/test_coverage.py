"""Coverage by simulation: intervals hold the truth as often as they say, and correcting makes them narrower.

The reduced form always runs; `-m slow` draws as many samples as the acceptance lines ask for, and more, and prints the
figures that stand in `docs/metrics.md`.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from evaluation import counts as ct
from evaluation.emotions import EMOTIONS
from evaluation.estimation import (
    corrected_replicates,
    difference_mean,
    draw_design,
    human_mean,
    human_replicates,
    replicate_weights,
)
from evaluation.intervals import Estimate
from evaluation.sampling import allocate
from evaluation.simulation import SimulatedCorpus, simulate_corpus
from evaluation.validation import validate

JOY, NEUTRAL, SURPRISE = (EMOTIONS.index(name) for name in ("joy", "neutral", "surprise"))


@pytest.fixture(scope="module")
def corpus() -> SimulatedCorpus:
    return simulate_corpus(seed=1)


def matrices(corpus: SimulatedCorpus, *, predicted: bool) -> tuple[np.ndarray, np.ndarray]:
    if predicted:
        columns = corpus.user_predicted, corpus.response_predicted, corpus.reference_predicted
    else:
        columns = corpus.user, corpus.response, corpus.reference
    user, response, reference = columns
    size = corpus.dialogues[-1] + 1
    return (
        ct.count_cube(corpus.dialogues, user, response, size=size).total,
        ct.count_cube(corpus.dialogues, reference, response, size=size).total,
    )


def test_the_classifier_misreads_the_simulated_corpus_as_it_does_real_ones(corpus):
    figures = {}
    for name, predicted in (("truth", False), ("classifier", True)):
        aligned, reference = matrices(corpus, predicted=predicted)
        figures[name] = [
            float(ct.alignment(aligned)),
            float(ct.alignment(aligned, "positive")),
            float(ct.flatness(aligned.sum(axis=0))),
            float(ct.macro_f1(reference)),
            float(ct.f1(reference)[SURPRISE]),
        ]
    print(figures)
    assert figures["truth"] == pytest.approx([0.652, 0.674, 0.602, 0.379, 0.357], abs=0.025)
    assert figures["classifier"] == pytest.approx([0.499, 0.551, 0.641, 0.238, 0.192], abs=0.025)
    assert np.mean(corpus.response == corpus.response_predicted) == pytest.approx(0.81, abs=0.01)


def indicators(corpus: SimulatedCorpus) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Truth and classifier indicator of each mean, shape (N,)."""
    found = {}
    for name, place in (("exact", None), ("coarse", "positive")):
        match = ct.match_masks(place)[0]  # type: ignore[arg-type]
        found[name] = (
            match[corpus.user, corpus.response].astype(float),
            match[corpus.user_predicted, corpus.response_predicted].astype(float),
        )
    for name, code in (("joy", JOY), ("neutral", NEUTRAL)):
        found[name] = ((corpus.response == code).astype(float), (corpus.response_predicted == code).astype(float))
    return found


def study_of_turns(corpus: SimulatedCorpus, draws: int, n: int, replicates: int) -> dict[str, np.ndarray]:
    """Draw n turns at random again and again: per measure rows of (covered, width) by human labels and corrected."""
    rng = np.random.default_rng(1)
    size = len(corpus.dialogues)
    pairs = indicators(corpus)
    onehot = np.eye(len(EMOTIONS))
    whole = onehot[corpus.response_predicted].sum(axis=0)
    truth = {name: y.mean() for name, (y, _) in pairs.items()}
    truth["flatness"] = float(ct.flatness(onehot[corpus.response].sum(axis=0)))
    found = defaultdict(list)
    for draw in range(draws):
        rows = np.sort(rng.choice(size, n, replace=False))
        design = draw_design(corpus.dialogues[rows], population=size)
        estimates: dict[str, tuple[Estimate, Estimate]] = {}
        for name, (y, f) in pairs.items():
            estimates[name] = (human_mean(y[rows], design), difference_mean(y[rows], f[rows], f, design))
        weights = np.concatenate(list(replicate_weights(design, replicates, draw, "coverage")))
        human, machine = onehot[corpus.response[rows]], onehot[corpus.response_predicted[rows]]
        value, drawn = float(ct.flatness(human.sum(axis=0))), ct.flatness(weights @ human)
        other = float(ct.flatness(machine.sum(axis=0))), ct.flatness(weights @ machine), float(ct.flatness(whole))
        corrected = corrected_replicates(value, drawn, *other, design)
        estimates["flatness"] = (human_replicates(value, drawn, design), corrected)
        for name, both in estimates.items():
            found[name].append([figure for one in both for figure in covered(one, truth[name])])
    return {name: np.array(figures) for name, figures in found.items()}


def covered(estimate: Estimate, truth: float) -> tuple[float, float]:
    low, high = estimate.interval or (np.nan, np.nan)
    return float(low <= truth <= high), high - low


def study_of_validation(corpus: SimulatedCorpus, draws: int, n: int, replicates: int) -> dict[str, np.ndarray]:
    """Validate the classifier on n responses, at random and half proportional, half equal over predicted labels."""
    rng = np.random.default_rng(2)
    machine, human = corpus.response_predicted, corpus.response
    sizes = np.bincount(machine, minlength=7)
    wish = (sizes / sizes.sum() + 1 / 7) / 2
    parts = allocate([int(size) for size in sizes], n, [float(share) for share in wish])
    table = ct.count_cube(corpus.dialogues, human, machine, size=corpus.dialogues[-1] + 1).total
    truth = {"macro_f1": float(ct.macro_f1(table)), "accuracy": float(ct.accuracy(table))}
    found = defaultdict(list)
    for draw in range(draws):
        at_random = rng.choice(len(machine), n, replace=False)
        strata = [
            rng.choice(np.flatnonzero(machine == code), part, replace=False) for code, part in enumerate(parts) if part
        ]
        for design, rows in (("random", at_random), ("half", np.concatenate(strata))):
            result = validate(
                human[rows], machine[rows], machine, dialogues=rows, replicates=replicates, seed=draw
            ).estimates
            for name, value in truth.items():
                found[f"{design} {name}"].append(covered(result[name], value))
    return {name: np.array(figures) for name, figures in found.items()}


def study_of_dialogues(corpus: SimulatedCorpus, draws: int, count: int) -> np.ndarray:
    """Draw whole dialogues: rows of (covered, width) of exact alignment by human labels and corrected."""
    rng = np.random.default_rng(3)
    y, f = indicators(corpus)["exact"]
    total = corpus.dialogues[-1] + 1
    found = []
    for _ in range(draws):
        chosen = rng.choice(total, count, replace=False)
        rows = np.flatnonzero(np.isin(corpus.dialogues, chosen))
        chance = np.full(len(rows), count / total)
        design = draw_design(corpus.dialogues[rows], population=len(y), inclusion=chance)
        both = human_mean(y[rows], design), difference_mean(y[rows], f[rows], f, design)
        found.append([figure for one in both for figure in covered(one, y.mean())])
    return np.array(found)


def show(name: str, figures: np.ndarray) -> None:
    print(name, " ".join(f"{figure:.3f}" for figure in np.nanmean(figures, axis=0)))


def slack(draws: int) -> float:
    """Three standard errors of a simulated coverage of .95: what a reduced run may miss a line by."""
    return 3 * float(np.sqrt(0.95 * 0.05 / draws))


def check_turns(found: dict[str, np.ndarray], slack: float) -> None:
    for name, figures in found.items():
        show(f"turns {name}: human coverage, width, corrected coverage, width", figures)
        human, width, corrected, narrower = np.nanmean(figures, axis=0)
        low, high = (0.92, 1.0) if name == "flatness" else (0.925, 0.975)
        for coverage in (human, corrected):
            assert low - slack <= coverage <= high + slack, name
        if name == "exact":
            assert narrower / width <= 0.90
        if name == "joy":
            assert narrower / width <= 0.70


def check_validation(found: dict[str, np.ndarray], slack: float) -> None:
    for name, figures in found.items():
        show(f"validation {name}: coverage, width", figures)
    coverage, width = np.nanmean(found["half macro_f1"], axis=0)
    assert coverage >= 0.93 - slack
    assert width / np.nanmean(found["random macro_f1"], axis=0)[1] <= 0.65


def check_dialogues(figures: np.ndarray, slack: float) -> None:
    show("30 dialogues: human coverage, width, corrected coverage, width", figures)
    assert np.nanmean(figures, axis=0)[0] >= 0.92 - slack
    assert np.nanmean(figures, axis=0)[2] >= 0.92 - slack


def test_random_turns_cover_in_a_reduced_run(corpus):
    check_turns(study_of_turns(corpus, 120, 300, 100), slack(120))


def test_validation_covers_in_a_reduced_run(corpus):
    check_validation(study_of_validation(corpus, 60, 300, 150), slack(60))


def test_whole_dialogues_cover_in_a_reduced_run(corpus):
    check_dialogues(study_of_dialogues(corpus, 300, 30), slack(300))


@pytest.mark.slow
def test_random_turns_cover_in_a_thousand_draws(corpus):
    check_turns(study_of_turns(corpus, 1000, 300, 400), 0.0)


@pytest.mark.slow
def test_validation_covers_in_a_thousand_draws(corpus):
    check_validation(study_of_validation(corpus, 1000, 300, 500), 0.0)


@pytest.mark.slow
def test_whole_dialogues_cover_in_two_thousand_draws(corpus):
    check_dialogues(study_of_dialogues(corpus, 2000, 30), 0.0)
