"""The runs that make a classifier: one plain run, or several teachers of different seeds and one student of them all.

Single runs of this small encoder overfit after two or three epochs and differ from one another by chance. Their mean is
better on dev, but costs as many passes per text; a student trained on the mean of their opinions and the given labels
may keep the gain at the price of one (Hinton, Vinyals & Dean 2015; Furlanello et al. 2018, *Born-Again Networks*).
Measured, the student was no better than one run, so the default is one run.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotation.inference.base import Base
from annotation.inference.corpus import Examples, read_empathetic, read_goemotions
from annotation.inference.encoder import Adapter
from annotation.inference.training import Progress, Recipe, Trainer

log = logging.getLogger(__name__)

Display = Callable[[str, Progress], None]


@dataclass(frozen=True)
class Programme:
    """Which runs make a classifier.

    Attributes
    ----------
    teachers
        The recipes of the teachers; none gives a single plain run of `student`.
    student
        The recipe of the run that is kept.
    opinion
        Share of the teachers' mean in the student's targets; the given labels have the rest.
    """

    student: Recipe = field(default_factory=Recipe)
    teachers: tuple[Recipe, ...] = ()
    opinion: float = 0.5

    def facts(self) -> dict[str, Any]:
        """Give the programme as plain values, for the model card."""
        return dataclasses.asdict(self)


_TEACHER: Final = Recipe(epochs=2, evaluations_per_epoch=2, patience=9)

DEFAULT_PROGRAMME: Final = Programme()
"""What made the committed adapter: one plain run."""

DISTILLED_PROGRAMME: Final = Programme(
    teachers=(
        Recipe(),
        replace(_TEACHER, seed=1),
        replace(_TEACHER, seed=2, adapter_rate=1e-3, encoder_dropout=0.15),
    ),
    student=Recipe(seed=0, epochs=2, adapter_rate=1.2e-3, evaluations_per_epoch=2, patience=9),
    opinion=0.6,
)
"""Three teachers and a student of two epochs; measured, and no better than one plain run (`docs/classifier.md`)."""


@dataclass(frozen=True)
class Corpora:
    """The examples of one programme: GoEmotions, and EmpatheticDialogues where a weight asks for it."""

    train: Examples
    dev: Examples
    test: Examples
    description: str = field(default="")

    @classmethod
    def read(cls, goemotions: Path, empathetic: Path | None, weight: float) -> Corpora:
        """Read the official splits; `empathetic` rows join the training rows with `weight`."""
        train = read_goemotions(goemotions, "train")
        said = f"GoEmotions train ({len(train):,} comments, official split)"
        if empathetic is not None and weight > 0:
            added = read_empathetic(empathetic, "train").weighted(weight)
            said += f" and EmpatheticDialogues ({len(added):,} first utterances, weight {weight}, CC BY-NC 4.0)"
            train = train + added
        return cls(train, read_goemotions(goemotions, "dev"), read_goemotions(goemotions, "test"), said)


def run_programme(
    programme: Programme,
    corpora: Corpora,
    *,
    base: Base,
    folder: Path,
    threads: int | None = None,
    display: Display | None = None,
) -> Adapter:
    """Train the teachers, then the student; a killed call continues where it was, run by run."""
    opinions = []
    for number, recipe in enumerate(programme.teachers, start=1):
        name = f"teacher {number} of {len(programme.teachers)}"
        trainer = _trainer(recipe, corpora.train, corpora.dev, base, folder / f"teacher-{number}", threads)
        opinions.append(_opinion(trainer, trainer.run(display=_named(display, name))))
    train = corpora.train
    if opinions:
        train = with_opinions(train, opinions, programme.opinion)
    trainer = _trainer(programme.student, train, corpora.dev, base, folder / "student", threads)
    return trainer.run(display=_named(display, "student" if opinions else "training"))


def with_opinions(train: Examples, opinions: Sequence[NDArray[np.float32]], share: float) -> Examples:
    """Mix the mean of the teachers' probabilities, shape (n, 28) each, into the targets."""
    mean = np.mean(np.stack(opinions), axis=0)
    return replace(train, targets=((1 - share) * train.targets + share * mean).astype(np.float32))


def _trainer(recipe: Recipe, train: Examples, dev: Examples, base: Base, folder: Path, threads: int | None) -> Trainer:
    return Trainer(recipe, base, train, dev, folder=folder, threads=threads)


def _opinion(trainer: Trainer, adapter: Adapter) -> NDArray[np.float32]:
    """Give a teacher's probabilities of its own training rows, kept beside its checkpoint."""
    kept = trainer.folder / "opinion.npy"
    if kept.is_file():
        found: NDArray[np.float32] = np.load(kept, allow_pickle=False)
        if found.shape == trainer.train_set.targets.shape:
            return found
    trainer.take(adapter)
    found = trainer.probabilities(trainer.train_ids)
    np.save(kept, found)
    return found


def _named(display: Display | None, name: str) -> Callable[[Progress], None] | None:
    return None if display is None else lambda progress: display(name, progress)
