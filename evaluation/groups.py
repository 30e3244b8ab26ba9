"""The turns of one system on one data set, as codes, and what the paper leaves open as named options."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation import counts as ct
from evaluation.counts import Floats, MacroPolicy
from evaluation.emotions import DEFAULT_SURPRISE_PLACE, SURPRISE_PLACES, SurprisePlace
from evaluation.estimation import Design, Target, draw_design
from evaluation.intervals import DEFAULT_CONFIDENCE, Estimate, cluster_codes
from evaluation.tables import check_turns

Codes = NDArray[np.int8]
REFERENCE_SYSTEM: Final = "reference"


@dataclass(frozen=True, slots=True)
class MetricOptions:
    """What the paper leaves open, one field a question; the defaults are the product's.

    Attributes
    ----------
    entropy_unit
        Unit in which H is shown; the ratio does not depend on it.
    flatness_classes
        n of log2(n): the 7 declared labels, the same for every system, or those observed (undefined with one).
    entropy_correction
        The entropy behind the headline flatness: plug-in as published, or Miller and Madow's correction.
    surprise
        Valence of surprise in the coarse match; all places are computed, and their range is shown.
    turn
        `pair`: a user utterance and the next response, both labelled. `all_user`: every labelled user utterance; one
        without a labelled response counts as unmatched. `last`: the last such pair of each dialogue.
    aggregation
        Alignment pooled over turns, or the mean of dialogue means.
    confusion
        How confusion matrices are normalised.
    f1_truth
        What counts as truth for the per-emotion F1 of a response: the reference response, or the user utterance.
    macro_f1
        The classes in the headline macro-F1.
    undefined_f1
        `null`: an F1 of a class neither true nor predicted is undefined; `zero` shows 0.
    gold
        How verified labels were made before they reached the table; recorded, not applied here.
    target
        `corpus`: these turns; `superpopulation`: further dialogues like these.
    """

    entropy_unit: Literal["bits", "nats"] = "bits"
    flatness_classes: Literal["declared", "observed"] = "declared"
    entropy_correction: Literal["plug_in", "miller_madow"] = "plug_in"
    surprise: SurprisePlace = DEFAULT_SURPRISE_PLACE
    turn: Literal["pair", "all_user", "last"] = "pair"
    aggregation: Literal["pooled", "dialogue_mean"] = "pooled"
    confusion: Literal["row", "column", "all", "none"] = "row"
    f1_truth: Literal["reference", "user"] = "reference"
    macro_f1: MacroPolicy = "present"
    undefined_f1: Literal["null", "zero"] = "null"
    gold: Literal["adjudicated_majority", "dawid_skene"] = "adjudicated_majority"
    target: Target = "corpus"
    confidence: float = DEFAULT_CONFIDENCE

    def __post_init__(self) -> None:
        allowed: dict[str, tuple[str, ...]] = {
            "entropy_unit": ("bits", "nats"),
            "flatness_classes": ("declared", "observed"),
            "entropy_correction": ("plug_in", "miller_madow"),
            "surprise": SURPRISE_PLACES,
            "turn": ("pair", "all_user", "last"),
            "aggregation": ("pooled", "dialogue_mean"),
            "confusion": ("row", "column", "all", "none"),
            "f1_truth": ("reference", "user"),
            "macro_f1": ct.MACRO_POLICIES,
            "undefined_f1": ("null", "zero"),
            "gold": ("adjudicated_majority", "dawid_skene"),
            "target": ("corpus", "superpopulation"),
        }
        for name, choices in allowed.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} cannot be {value!r}; choose one of: {', '.join(choices)}.")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence must be at least 0.5 and below 1, got {self.confidence}.")

    def to_json(self) -> dict[str, Any]:
        """Give the options as a plain mapping."""
        return asdict(self)

    @property
    def headline_flatness(self) -> str:
        """Name the measure shown as flatness under these options."""
        if self.entropy_correction == "miller_madow":
            return "flatness_miller_madow"
        return "flatness_n7" if self.flatness_classes == "declared" else "flatness_observed"


@dataclass(frozen=True, slots=True)
class Triple:
    """One measure three ways: by the classifier, by humans alone, and corrected by the human labels."""

    raw: Estimate
    verified: Estimate
    corrected: Estimate

    @property
    def best(self) -> Estimate:
        """Give the corrected estimate where there is one, else the human-only, else the raw one."""
        return next((e for e in (self.corrected, self.verified) if e.value is not None), self.raw)


@dataclass(frozen=True)
class GroupData:
    """The labels of one system on one data set, as codes; -1 is missing.

    Attributes
    ----------
    dialogues
        Shape (n,), codes 0..D-1 over the data set, the same for every system of it.
    user, response, reference
        Shape (n,), classifier labels.
    user_human, response_human, reference_human
        Shape (n,), verified labels.
    inclusion, strata
        Stored inclusion probabilities (NaN where not drawn) and strata, or `None`.
    """

    dataset: str
    system: str
    is_reference: bool
    dialogues: NDArray[np.int64]
    size: int
    user: Codes
    response: Codes
    reference: Codes
    user_human: Codes
    response_human: Codes
    reference_human: Codes
    inclusion: Floats | None
    strata: NDArray[Any] | None
    turns: NDArray[Any] = field(repr=False)

    def design(self, verified: NDArray[np.bool_], population: NDArray[np.bool_]) -> tuple[Design, NDArray[np.bool_]]:
        """Describe the verified rows as a sample of the population rows; give also which rows are in it.

        A verified row without an inclusion probability, where the table has them, was not drawn and is left out.
        """
        rows = verified & population
        inclusion = strata = sizes = None
        if self.inclusion is not None:
            rows = rows & np.isfinite(self.inclusion)
            inclusion = self.inclusion[rows]
        if self.strata is not None and not pd.isna(self.strata[rows]).any():
            strata = self.strata[rows]
            sizes = pd.Series(self.strata[population]).value_counts().to_dict()
        design = draw_design(
            self.dialogues[rows],
            population=int(population.sum()),
            inclusion=inclusion,
            strata=strata,
            stratum_sizes=sizes,
        )
        return design, rows


def split_groups(turns: pd.DataFrame, options: MetricOptions) -> list[GroupData]:
    """Check a `turns` table and split it by data set and system, in order of first appearance.

    The human reference comes after the systems of its data set, beside which it is read.

    Raises
    ------
    TableError
        As `evaluation.tables.check_turns`.
    """
    table = check_turns(turns)
    if options.turn == "last" and len(table):
        complete = table["user_label"].notna() & table["response_label"].notna()
        number = pd.to_numeric(table["turn"], errors="coerce")
        dataset, dialogue, system = table["dataset"].fillna(""), table["dialogue"], table["system"]
        by_dialogue = number.where(complete).groupby([dataset, dialogue, system], sort=False, observed=True)
        last = complete & ((number == by_dialogue.transform("max")) | number.isna())
        # A system without any complete turn is not left out: its numbers are undefined, and say so.
        bare = ~complete.groupby([dataset, system], sort=False, observed=True).transform("any")
        table = table[last | bare].reset_index(drop=True)
    datasets = table["dataset"].fillna("").astype(str)
    groups: list[GroupData] = []
    for dataset in pd.unique(datasets):
        part = table[(datasets == dataset).to_numpy()]
        codes, names = cluster_codes(part["dialogue"])
        systems = part["system"].astype(str).to_numpy()
        own = []
        for system in pd.unique(systems):
            rows = systems == system
            own.append(_group(str(dataset), str(system), part[rows], codes[rows], len(names)))
        groups += sorted(own, key=lambda group: group.is_reference)
    return groups


def _group(dataset: str, system: str, part: pd.DataFrame, dialogues: NDArray[np.int64], size: int) -> GroupData:
    def codes(column: str) -> Codes:
        if column not in part:
            return np.full(len(part), -1, dtype=np.int8)
        return np.asarray(part[column].cat.codes, dtype=np.int8)

    flag = part["is_reference"].fillna(False).astype(bool).any() if "is_reference" in part else False
    inclusion = part["inclusion_probability"].to_numpy(dtype=float) if "inclusion_probability" in part else None
    strata = part["stratum"].to_numpy(dtype=object) if "stratum" in part else None
    return GroupData(
        dataset,
        system,
        bool(flag) or system == REFERENCE_SYSTEM,
        dialogues,
        size,
        codes("user_label"),
        codes("response_label"),
        codes("reference_label"),
        codes("user_verified"),
        codes("response_verified"),
        codes("reference_verified"),
        inclusion if inclusion is not None and np.isfinite(inclusion).any() else None,
        strata if strata is not None and not pd.isna(strata).all() else None,
        part["turn"].to_numpy(dtype=object),
    )
