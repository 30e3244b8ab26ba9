"""Learning from verified labels. Every label here is made by the test's own rule, none by a person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotation.inference.base import Base, ClassifierError
from annotation.inference.training import Recipe
from annotation.inference.verified import (
    VerifiedTraining,
    cross_predict,
    finetune_on_verified,
    folds_by_dialogue,
    targets_within_groups,
)
from evaluation.emotions import EMOTIONS, GROUPINGS
from tests.annotation.inference.tiny import make_adapter, make_base

RECIPE = Recipe(
    epochs=8, batch_rows=16, adapter_rate=1e-2, head_rate=3e-2, grouped_loss=1.0, average_decay=0.9, encoder_dropout=0.0
)
RULE = {"love": "joy", "sad": "sadness", "film": "neutral"}


def corpus(dialogues: int, *, seed: int = 0) -> tuple[list[str], list[str], list[str]]:
    random = np.random.default_rng(seed)
    texts, labels, names = [], [], []
    for dialogue in range(dialogues):
        for _ in range(int(random.integers(1, 6))):
            word = str(random.choice(list(RULE)))
            texts.append(f"{random.choice(['i', 'you', 'it'])} {random.choice(['do', 'have', 'like'])} {word}")
            labels.append(RULE[word])
            names.append(f"d{dialogue}")
    return texts, labels, names


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(base: Base, tmp_path_factory: pytest.TempPathFactory) -> VerifiedTraining:
    texts, labels, names = corpus(40)
    return finetune_on_verified(
        texts,
        labels,
        names,
        start=make_adapter(),
        base=base,
        folder=tmp_path_factory.mktemp("runs"),
        folds=3,
        recipe=RECIPE,
        threads=1,
        replicates=200,
    )


def test_whole_dialogues_share_a_fold_and_folds_are_even() -> None:
    names = [f"d{i % 23}" for i in range(200)]
    folds = folds_by_dialogue(names, folds=5)
    by_dialogue = {name: {int(f) for f, n in zip(folds, names, strict=True) if n == name} for name in names}
    assert all(len(found) == 1 for found in by_dialogue.values())
    sizes = np.bincount([next(iter(found)) for found in by_dialogue.values()])
    assert sizes.max() - sizes.min() <= 1
    order = np.random.default_rng(0).permutation(200)
    assert np.array_equal(folds_by_dialogue([names[i] for i in order], folds=5), folds[order])


def test_targets_keep_the_division_within_the_verified_emotion() -> None:
    before = np.random.default_rng(0).dirichlet(np.ones(28), size=5).astype(np.float32)
    truth = np.arange(5)
    targets = targets_within_groups(before, truth, "dialogue")
    matrix = GROUPINGS["dialogue"].matrix
    assert np.allclose((targets @ matrix)[np.arange(5), truth], 1, atol=1e-6)
    inside = matrix[:, 0] > 0
    assert np.allclose(targets[0, inside], before[0, inside] / before[0, inside].sum(), atol=1e-5)


def test_held_out_agreement_rises_when_there_is_something_to_learn(trained: VerifiedTraining) -> None:
    assert trained.agreement_after.value is not None
    assert trained.agreement_after.value > 0.9
    assert trained.gain.interval is not None
    assert trained.gain.interval[0] > 0
    assert trained.gain.value == pytest.approx(trained.agreement_after.value - trained.agreement_before.value)
    assert len(trained.adapters) == 3
    assert set(trained.temperature) == {"dialogue"}


def test_nothing_is_gained_from_labels_without_a_rule(base: Base, tmp_path: Path) -> None:
    texts, _, names = corpus(40)
    random = np.random.default_rng(1)
    coin = [str(label) for label in random.choice(["joy", "neutral"], size=len(texts))]
    found = finetune_on_verified(
        texts, coin, names, start=make_adapter(), base=base, folder=tmp_path, folds=3, recipe=RECIPE, threads=1
    )
    # A classifier that had seen the held-out rows would be near 1 on them.
    assert found.agreement_after.value is not None
    assert found.agreement_after.value < 0.7


def test_no_dialogue_is_judged_by_a_classifier_that_saw_its_labels(
    base: Base, tmp_path: Path, trained: VerifiedTraining
) -> None:
    texts, labels, names = corpus(40)
    held = trained.folds == 0
    flipped = ["anger" if inside else label for label, inside in zip(labels, held, strict=True)]
    again = finetune_on_verified(
        texts, flipped, names, start=make_adapter(), base=base, folder=tmp_path, folds=3, recipe=RECIPE, threads=1
    )
    assert np.array_equal(again.folds, trained.folds)
    assert np.array_equal(again.out_of_fold[held], trained.out_of_fold[held]), "their own labels changed, nothing else"
    assert not np.array_equal(again.out_of_fold[~held], trained.out_of_fold[~held])


def test_a_corpus_is_predicted_across_folds(base: Base, trained: VerifiedTraining) -> None:
    texts, _, names = corpus(40)
    labelled = dict(zip(names, trained.folds.tolist(), strict=True))
    found = cross_predict(trained, [*texts, "i love"], [*names, "unlabelled"], labelled, base=base, threads=1)
    assert np.allclose(found[:-1], trained.out_of_fold, atol=1e-6)
    assert found[-1].sum() == pytest.approx(1, abs=1e-4)


def test_a_killed_call_continues_with_what_is_done(base: Base, tmp_path: Path) -> None:
    texts, labels, names = corpus(20)
    parts: list[str] = []

    def stop_in_the_second_fold(name: str, _: object) -> None:
        parts.append(name)
        if name.startswith("fold 2"):
            raise KeyboardInterrupt

    call = {"start": make_adapter(), "base": base, "folder": tmp_path, "folds": 2, "recipe": RECIPE, "threads": 1}
    with pytest.raises(KeyboardInterrupt):
        finetune_on_verified(texts, labels, names, display=stop_in_the_second_fold, **call)
    seen: list[str] = []
    resumed = finetune_on_verified(texts, labels, names, display=lambda name, _: seen.append(name), **call)
    assert not any(name.startswith("fold 1") for name in seen), "the first fold was done"
    whole = finetune_on_verified(texts, labels, names, **(call | {"folder": tmp_path / "whole"}))
    assert np.array_equal(resumed.out_of_fold, whole.out_of_fold)


@pytest.mark.parametrize(
    ("rows", "labels", "folds", "said"),
    [
        (10, ["joy", "neutral"], 2, "starts at 30"),
        (40, ["joy"], 2, "nothing to tell apart"),
        (40, ["joy", "bliss"], 2, "bliss"),
        (40, ["joy", "neutral"], 9, "at least 9"),
        (40, ["joy", "neutral"], 1, "at least 2 folds"),
    ],
)
def test_too_little_or_unknown_is_refused(
    base: Base, tmp_path: Path, rows: int, labels: list[str], folds: int, said: str
) -> None:
    with pytest.raises(ClassifierError, match=said):
        finetune_on_verified(
            ["i love it"] * rows,
            [labels[i % len(labels)] for i in range(rows)],
            [f"d{i % 5}" for i in range(rows)],
            start=make_adapter(),
            base=base,
            folder=tmp_path,
            folds=folds,
            recipe=replace(RECIPE, epochs=1),
        )


def test_all_seven_emotions_can_be_targets() -> None:
    uniform = np.full((7, 28), 1 / 28, dtype=np.float32)
    for grouping in GROUPINGS:
        targets = targets_within_groups(uniform, np.arange(7), grouping)
        assert np.array_equal((targets @ GROUPINGS[grouping].matrix).argmax(-1), np.arange(len(EMOTIONS)))
