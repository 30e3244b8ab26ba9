"""`compare FILE`: the systems of each data set on the turns they share, and the emotions that answer which."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from evaluation.command.arguments import sampling_arguments, whole
from evaluation.command.metrics import TURNS_HELP, WARNING, chosen_options, option_arguments
from evaluation.command.output import Answer, Json, statistic
from evaluation.comparison import Comparison, compare_systems
from evaluation.emotions import EMOTIONS
from evaluation.files import read_table
from evaluation.groups import GroupData, split_groups
from evaluation.intervals import Estimate, round_significant
from evaluation.metrics import refuse_gold
from evaluation.patterns import CellDifference, compare_cells
from evaluation.permutation import PERMUTATIONS


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be asked."""
    parser.add_argument("file", metavar="FILE", help=TURNS_HELP)
    option_arguments(parser)
    sampling_arguments(parser)
    parser.add_argument(
        "--permutations",
        type=whole(1),
        default=PERMUTATIONS,
        metavar="N",
        help=f"sign flips of dialogues behind each p; with few dialogues all are gone through (default {PERMUTATIONS})",
    )


def run(parsed: argparse.Namespace) -> Answer:
    """Compute the answer."""
    options = chosen_options(parsed)
    refuse_gold(options)
    sizes = {"replicates": parsed.replicates, "permutations": parsed.permutations, "seed": parsed.seed}
    groups = split_groups(read_table(parsed.file), options)
    comparisons: list[Comparison] = []
    patterns: list[Json] = []
    for dataset in dict.fromkeys(group.dataset for group in groups):
        usable = [group for group in groups if group.dataset == dataset and _answered(group)]
        if len(usable) > 1:
            comparisons += compare_systems(usable, options, **sizes)
        baseline = next((group for group in usable if group.is_reference), None)
        for group in usable:
            if not group.is_reference:
                cells = compare_cells(group, baseline, options, **sizes)
                patterns.append({"dataset": dataset, "system": group.system, "cells": [_cell(one) for one in cells]})
    body = {
        "options": {name: value for name, value in options.to_json().items() if name != "gold"},
        **sizes,
        "comparisons": [_comparison(one) for one in comparisons],
        "patterns": patterns,
    }
    return Answer(body, _lines(body))


def _answered(group: GroupData) -> bool:
    return bool(((group.user >= 0) & (group.response >= 0)).any())


def plain(value: Any) -> Any:
    """Give what a comparison holds as plain data: estimates as statistics, numbers rounded, NaN as nothing."""
    if isinstance(value, Estimate):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float | np.floating):
        return round_significant(float(value)) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _comparison(found: Comparison) -> Json:
    """Give a comparison with one entry per system, in its order."""
    body: Json = plain(found)
    columns = [body.pop(name) for name in ("systems", "values", "corrected", "letters", "rank_chance")]
    body["systems"] = [
        {"system": system, "raw": raw, "corrected": corrected, "letters": letters, "rank_chance": chances}
        for system, raw, corrected, letters, chances in zip(*columns, strict=True)
    ]
    return body


def _cell(found: CellDifference) -> Json:
    body: Json = plain(found)
    return body | {"user": EMOTIONS[found.user], "response": EMOTIONS[found.response]}


# --- tables for people -----------------------------------------------------------------------------------------------


def _lines(body: Json) -> Iterator[str]:
    yield f"! {WARNING}"
    if not body["comparisons"]:
        yield "no data set has two systems that answered the same turns"
    for one in body["comparisons"]:
        yield (
            f"{one['dataset'] or 'no dataset'}, {one['measure']}: {one['turns']} common turns in {one['dialogues']} "
            f"dialogues; order and letters rest on the labels of "
            + ("people, corrected" if one["basis"] == "human" else "the classifier")
        )
        if one["left_out"]:
            yield f"  left out, for they answered less than half of the turns: {', '.join(one['left_out'])}"
        for place, system in enumerate(one["systems"], start=1):
            name = system["system"] + (" (reference)" if system["system"] == one["reference"] else "")
            values = f"raw {statistic(system['raw']):<32} corrected {statistic(system['corrected']):<32}"
            yield f"  {place}. {name:<24} {values} {system['letters']}"
        yield from _pair_lines(one["pairs"])
        notes = [
            note for held in (*one["systems"], *one["pairs"]) for note in (held["corrected"] or {}).get("notes", ())
        ]
        yield from (f"  note on corrected values: {note}" for note in dict.fromkeys(notes))
    for one in body["patterns"]:
        yield f"{one['dataset'] or 'no dataset'} / {one['system']}: which emotion answers which, beside the reference"
        if not one["cells"]:
            yield "  no pair of two emotions has enough turns"
        for cell in one["cells"]:
            yield (
                f"  {cell['user']} answered with {cell['response']}: {cell['turns']} turns, "
                f"share raw {cell['share']:.4f}, corrected {statistic(cell['corrected'])}; "
                f"minus reference raw {statistic(cell['difference'])}, p {_p(cell['p'])}, "
                f"adjusted {_p(cell['p_adjusted'])}, corrected {statistic(cell['difference_corrected'])}"
            )


def _pair_lines(pairs: Sequence[Json]) -> Iterator[str]:
    for pair in pairs:
        detectable = "" if pair["detectable"] is None else f", detectable {pair['detectable']:.4f}"
        yield (
            f"     {pair['first']} - {pair['second']}: raw {statistic(pair['raw'])}, p {_p(pair['p'])}, Holm "
            f"{_p(pair['p_holm'])}{detectable}; corrected {statistic(pair['corrected'])}, p {_p(pair['p_corrected'])}, "
            f"Holm {_p(pair['p_corrected_holm'])}"
        )


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"
