"""The turns of one system on one data set, as codes, and what the paper leaves open as named options."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation import counts as ct
from evaluation.counts import Floats, MacroPolicy
from evaluation.design import Design, draw_design
from evaluation.emotions import DEFAULT_SURPRISE_PLACE, SURPRISE_PLACES, SurprisePlace
from evaluation.estimation import Target
from evaluation.intervals import DEFAULT_CONFIDENCE, Estimate, cluster_codes
from evaluation.tables import check_turns

Codes = NDArray[np.int8]
TurnOrder = Literal["number", "row"]
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
        The headline entropy, and that behind the headline flatness: plug-in as published, or Miller and Madow's.
    surprise
        Valence of surprise in the coarse match; all places are computed, and their range is shown.
    turn
        `pair`: a user utterance and the next response, both labelled. `all_user`: every labelled user utterance; one
        without a labelled response counts as unmatched. `last`: the last such pair of each dialogue, by number where
        all turn ids of a data set are numbers, else by the order of the rows.
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
        How verified labels were made before they reached the table. A record for a bundle: nothing is computed from
        it, so `evaluation.metrics.summarise` refuses what it cannot know.
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
            declared = self.flatness_classes == "declared"
            return "flatness_miller_madow" if declared else "flatness_observed_miller_madow"
        return "flatness_n7" if self.flatness_classes == "declared" else "flatness_observed"

    @property
    def headline_entropy(self) -> str:
        """Name the measure shown as entropy under these options."""
        return f"{'entropy' if self.entropy_correction == 'plug_in' else 'miller_madow'}_{self.entropy_unit}"


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
        Stored inclusion probabilities (NaN where not drawn) and strata, or `None` where the whole table has none.
    turns
        Shape (n,), turn ids.
    turn_order
        What made a turn the last of its dialogue, where only that one counts: the number that its id is, or its row.
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
    turn_order: TurnOrder | None = None

    def design(self, verified: NDArray[np.bool_], population: NDArray[np.bool_]) -> tuple[Design, NDArray[np.bool_]]:
        """Describe the verified rows as a sample of the population rows; give also which rows are in it.

        A verified row without an inclusion probability, where the table has them, was not drawn and is left out.
        """
        rows = verified & population
        frame_strata = self._strata_of(population)
        if self.inclusion is not None:
            rows = rows & np.isfinite(self.inclusion)
            drawn = population & np.isfinite(self.inclusion)
            strata = self._strata_of(drawn)
            design = draw_design(
                self.dialogues[rows],
                population=int(population.sum()),
                inclusion=self.inclusion[rows],
                strata=None if strata is None else self._strata_of(rows),
                drawn_inclusion=self.inclusion[drawn],
                drawn_strata=strata,
                frame_dialogues=self.dialogues[population],
                frame_strata=frame_strata,
            )
            return design, rows
        if self.strata is not None and frame_strata is None and rows.any():
            raise ValueError(
                "The column stratum is empty in some turns, so the sizes of the strata are not known: fill it for "
                "every turn, or give the verified ones their inclusion_probability."
            )
        design = draw_design(
            self.dialogues[rows],
            population=int(population.sum()),
            strata=self._strata_of(rows),
            stratum_sizes=None if frame_strata is None else pd.Series(frame_strata).value_counts().to_dict(),
            frame_dialogues=self.dialogues[population],
            frame_strata=frame_strata,
        )
        return design, rows

    def _strata_of(self, rows: NDArray[np.bool_]) -> NDArray[Any] | None:
        """Give the strata of some rows, or `None` where one of them has none."""
        if self.strata is None or not rows.any() or pd.isna(self.strata[rows]).any():
            return None
        return self.strata[rows]


def split_groups(turns: pd.DataFrame, options: MetricOptions) -> list[GroupData]:
    """Check a `turns` table and split it by data set and system, in order of first appearance.

    The human reference comes after the systems of its data set, beside which it is read.

    Raises
    ------
    TableError
        As `evaluation.tables.check_turns`.
    """
    table = check_turns(turns)
    numbered: dict[str, bool] = {}
    if options.turn == "last":
        table, numbered = _last_turns(table)
    datasets = table["dataset"].fillna("").astype(str)
    # One drawn turn anywhere, and verified turns without a probability were not drawn, in every group.
    sampled = "inclusion_probability" in table and bool(table["inclusion_probability"].notna().any())
    groups: list[GroupData] = []
    for dataset in pd.unique(datasets):
        part = table[(datasets == dataset).to_numpy()]
        codes, names = cluster_codes(part["dialogue"])
        systems = part["system"].astype(str).to_numpy()
        own = []
        for system in pd.unique(systems):
            rows = systems == system
            group = _group(str(dataset), str(system), part[rows], codes[rows], len(names), sampled=sampled)
            if options.turn == "last":
                group = replace(group, turn_order="number" if numbered[str(dataset)] else "row")
            own.append(group)
        groups += sorted(own, key=lambda group: group.is_reference)
    return groups


def _last_turns(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, bool]]:
    """Keep the last complete turn of each dialogue and system; say of each data set whether its turn ids are numbers.

    Ids that are not all numbers have no order of their own: the rows of a dialogue then count in the order of the file.
    """
    datasets = table["dataset"].fillna("").astype(str)
    number = pd.to_numeric(table["turn"], errors="coerce").astype(float)
    numeric = number.map(np.isfinite).groupby(datasets).transform("all")
    place = pd.Series(np.arange(len(table), dtype=float), index=table.index)
    complete = table["user_label"].notna() & table["response_label"].notna()
    ordered = number.where(numeric, place).sort_values(kind="stable").index
    chosen = table.loc[ordered][complete[ordered].to_numpy()]
    last = chosen.groupby([datasets[chosen.index], chosen["dialogue"], chosen["system"]], observed=True).tail(1).index
    # A system without any complete turn is not left out: its numbers are undefined, and say so.
    bare = ~complete.groupby([datasets, table["system"]], sort=False, observed=True).transform("any")
    kept = table[table.index.isin(last) | bare].reset_index(drop=True)
    return kept, {str(dataset): bool(flag) for dataset, flag in numeric.groupby(datasets).first().items()}


def _group(
    dataset: str, system: str, part: pd.DataFrame, dialogues: NDArray[np.int64], size: int, *, sampled: bool
) -> GroupData:
    def codes(column: str) -> Codes:
        if column not in part:
            return np.full(len(part), -1, dtype=np.int8)
        return np.asarray(part[column].cat.codes, dtype=np.int8)

    flag = part["is_reference"].fillna(False).astype(bool).any() if "is_reference" in part else False
    inclusion = part["inclusion_probability"].to_numpy(dtype=float) if sampled else None
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
        inclusion,
        strata if strata is not None and not pd.isna(strata).all() else None,
        part["turn"].to_numpy(dtype=object),
    )
