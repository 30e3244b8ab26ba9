"""Training on a tiny encoder: it learns, it repeats, it continues after a kill."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotation.inference.base import Base, ClassifierError
from annotation.inference.corpus import NEUTRAL, examples_of, read_empathetic, read_goemotions
from annotation.inference.distillation import Corpora, Programme, run_programme, with_opinions
from annotation.inference.encoder import Adapter
from annotation.inference.training import Recipe, Trainer, batches, padded, seven_way, single_label
from evaluation.emotions import EMOTIONS, GO_EMOTIONS
from tests.annotation.inference.tiny import learnable, make_base

RECIPE = Recipe(epochs=3, batch_rows=16, rank=4, alpha=8, adapter_rate=1e-2, head_rate=3e-2, average_decay=0.9)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"))


def same(one: Adapter, two: Adapter) -> bool:
    return all(
        np.array_equal(one.down[n], two.down[n]) and np.array_equal(one.up[n], two.up[n]) for n in one.down
    ) and (np.array_equal(one.head_weight, two.head_weight))


def trainer(base: Base, folder: Path, recipe: Recipe = RECIPE) -> Trainer:
    return Trainer(recipe, base, learnable(160), learnable(60, seed=1), folder=folder, threads=1)


def test_it_learns_and_the_same_seed_gives_the_same_adapter(base: Base, tmp_path: Path) -> None:
    eager = replace(RECIPE, epochs=15, patience=15, adapter_rate=3e-2, head_rate=1e-1, encoder_dropout=0.0)
    longer = trainer(base, tmp_path / "longer", eager)
    longer.run()
    assert longer.history[-1]["accuracy"] > 0.9
    adapter = trainer(base, tmp_path / "one").run()
    assert same(adapter, trainer(base, tmp_path / "two").run())
    assert not same(adapter, trainer(base, tmp_path / "three", replace(RECIPE, seed=1)).run())


def test_a_run_cut_into_pieces_gives_the_same_adapter_as_one_in_one_go(base: Base, tmp_path: Path) -> None:
    whole = trainer(base, tmp_path / "whole").run()
    for _ in range(4):
        trainer(base, tmp_path / "pieces").run(stop_after=7)
    assert same(whole, trainer(base, tmp_path / "pieces").run())


def test_a_run_killed_without_warning_continues_from_its_checkpoint(base: Base, tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from annotation.inference.base import Base
from tests.annotation.inference.test_training import trainer
made = trainer(Base(Path({str(base.folder)!r})), Path({str(tmp_path / "killed")!r}))
made.run(checkpoint_seconds=0.0, display=lambda progress: __import__("time").sleep(0.3))
"""
    running = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 90
        while not (tmp_path / "killed" / "checkpoint.safetensors").exists():
            assert running.poll() is None, "the run ended before it was killed"
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.02)
        os.kill(running.pid, signal.SIGKILL)
    finally:
        running.kill()
        running.wait()
    resumed = trainer(base, tmp_path / "killed")
    resumed._resume()
    assert 0 < resumed.step < resumed.steps
    assert same(trainer(base, tmp_path / "killed").run(), trainer(base, tmp_path / "whole").run())


def test_a_checkpoint_of_another_recipe_or_a_damaged_one_is_refused(base: Base, tmp_path: Path) -> None:
    trainer(base, tmp_path).run(stop_after=3)
    with pytest.raises(ClassifierError, match="another recipe"):
        trainer(base, tmp_path, replace(RECIPE, seed=9)).run()
    (tmp_path / "checkpoint.safetensors").write_bytes(b"broken")
    with pytest.raises(ClassifierError, match="damaged"):
        trainer(base, tmp_path).run()


def test_it_stops_when_dev_no_longer_improves(base: Base, tmp_path: Path) -> None:
    made = trainer(base, tmp_path, replace(RECIPE, epochs=50, patience=2))
    made.run()
    assert made.step < made.steps
    assert len(made.history) * made.steps_per_epoch == made.step


def test_progress_counts_down(base: Base, tmp_path: Path) -> None:
    seen = []
    trainer(base, tmp_path).run(display=seen.append)
    assert [p.step for p in seen] == [10, 20, 30]
    assert seen[-1].seconds_left == 0
    assert all(p.tokens_per_second > 0 for p in seen)


def test_rows_without_neutral_push_neutral_nowhere(base: Base, tmp_path: Path) -> None:
    import torch

    examples = examples_of(["i love it"], [[GO_EMOTIONS.index("joy")]], without_neutral=True)
    made = Trainer(RECIPE, base, examples, learnable(20), folder=tmp_path, threads=1)
    logits = torch.zeros(1, 28, requires_grad=True)
    made._loss(logits, np.array([0])).backward()
    assert logits.grad is not None
    assert logits.grad[0, NEUTRAL] == 0
    assert logits.grad[0, GO_EMOTIONS.index("joy")] < 0
    assert logits.grad[0, GO_EMOTIONS.index("anger")] > 0


def test_teachers_and_student_run_in_turn_and_resume(base: Base, tmp_path: Path) -> None:
    programme = Programme(student=replace(RECIPE, seed=5), teachers=(RECIPE, replace(RECIPE, seed=1)))
    corpora = Corpora(learnable(160), learnable(60, seed=1), learnable(60, seed=2))
    names = []
    adapter = run_programme(
        programme, corpora, base=base, folder=tmp_path, threads=1, display=lambda name, _: names.append(name)
    )
    assert list(dict.fromkeys(names)) == ["teacher 1 of 2", "teacher 2 of 2", "student"]
    assert same(adapter, run_programme(programme, corpora, base=base, folder=tmp_path, threads=1))


def test_opinions_are_mixed_into_the_targets() -> None:
    examples = learnable(4)
    flat = np.full((4, 28), 1 / 28, dtype=np.float32)
    mixed = with_opinions(examples, [flat, flat], 0.25).targets
    assert np.allclose(mixed, 0.75 * examples.targets + 0.25 / 28)


def test_batches_cover_every_row_once_and_depend_on_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 1000)
    first = batches(lengths, rows=64, seed=0, epoch=0)
    assert sorted(np.concatenate(first).tolist()) == list(range(1000))
    again, other = batches(lengths, rows=64, seed=0, epoch=0), batches(lengths, rows=64, seed=0, epoch=1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_padding_fills_up_to_a_multiple_of_eight() -> None:
    ids, mask = padded([np.array([5, 6, 7]), np.arange(1, 10)])
    assert ids.shape == mask.shape == (2, 16)
    assert mask.sum(-1).tolist() == [3, 9]


def test_goemotions_rows_become_soft_targets(tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text('a "quote\t2,27\tid1\nplain\t27\tid2\n')
    with gzip.open(tmp_path / "train.tsv.gz", "wt") as stream:
        stream.write("x\t17\tid3\n")
    dev = read_goemotions(tmp_path, "dev")
    assert dev.texts == ('a "quote', "plain")
    assert dev.targets[0, [2, 27]].tolist() == [0.5, 0.5]
    assert read_goemotions(tmp_path, "train").targets[0, 17] == 1
    rows, truth = single_label(dev)
    assert rows.tolist() == [1]
    assert truth.tolist() == [EMOTIONS.index("neutral")]


@pytest.mark.parametrize("line", ["no tabs", "text\t28\tid", "text\tx\tid"])
def test_a_bad_goemotions_row_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "dev.tsv").write_text(f"fine\t0\tid\n{line}\n")
    with pytest.raises(ClassifierError, match="line 2"):
        read_goemotions(tmp_path, "dev")


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"test\.tsv"):
        read_goemotions(tmp_path, "test")


def test_empathetic_dialogues_give_first_utterances_under_the_mapping(tmp_path: Path) -> None:
    rows = [
        "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags,role",
        'c1,1,furious,p,,"How dare they_comma_ really",,,speaker',
        "c1,2,furious,p,,Oh no,,,listener",
        "c2,1,nostalgic,p,,I remember,,,speaker",
        "c3,1,surprised,p,,Wow,,,speaker",
    ]
    with gzip.open(tmp_path / "train_reconstructed.csv.gz", "wt") as stream:
        stream.write("\n".join(rows))
    found = read_empathetic(tmp_path)
    assert found.texts == ("How dare they, really", "Wow")
    assert [GO_EMOTIONS[i] for i in found.targets.argmax(-1)] == ["anger", "surprise"]
    assert found.without_neutral.all()
    assert found.weighted(0.3).weights.tolist() == pytest.approx([0.3, 0.3])


def test_seven_way_figures_match_hand_arithmetic() -> None:
    examples = examples_of(["a", "b", "c", "d"], [[17], [17], [27], [2, 27]])
    probabilities = np.eye(28, dtype=np.float32)[[17, 27, 27, 2]]
    # Row d has two emotions and is left out. joy: P 1, R 1/2, F1 2/3; neutral: P 1/2, R 1, F1 2/3; five others 0.
    assert seven_way(examples, probabilities) == {
        "accuracy": pytest.approx(2 / 3),
        "macro_f1": pytest.approx((2 / 3 + 2 / 3) / 7),
    }
