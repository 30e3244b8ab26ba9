"""`agreement FILE`: agreement of annotators, and of the classifier with them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from evaluation.agreement import AgreementOptions, agreement
from evaluation.coefficients import LEVELS, WEIGHTINGS
from evaluation.command.arguments import JUDGMENTS_HELP, LABELS_HELP, label_list, sampling_arguments
from evaluation.command.output import Answer, Json, matrix, rows, statistic
from evaluation.files import read_table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be asked."""
    parser.add_argument("file", metavar="FILE", help=JUDGMENTS_HELP)
    parser.add_argument("--labels", type=label_list, help=LABELS_HELP)
    parser.add_argument(
        "--level",
        choices=LEVELS,
        default="nominal",
        help="level of Krippendorff's alpha: names, an order, or numbers whose distances count (default nominal)",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTINGS,
        default="identity",
        help="how much near labels agree, on the declared scale, in all other coefficients of the annotators: not at "
        "all, linearly, quadratically or by ranks (default identity); the classifier's are never weighted",
    )
    parser.add_argument(
        "--categories",
        choices=("declared", "observed"),
        default="declared",
        help="which labels K of AC1, AC2 and Brennan-Prediger counts (default declared)",
    )
    parser.add_argument(
        "--intervals",
        choices=("bootstrap", "linearised"),
        default="bootstrap",
        help="resample dialogues (items, without a column dialogue), or the formula by item (default bootstrap)",
    )
    parser.add_argument(
        "--arms",
        choices=("hidden", "all"),
        default="hidden",
        help="labels given with the classifier's label in sight (column arm) are left out, or count (default hidden)",
    )
    parser.add_argument(
        "--allow-single",
        action="store_true",
        help="one label alone is a verified label to compare the classifier with (default: two or more, or gold_label)",
    )
    sampling_arguments(parser)


def run(parsed: argparse.Namespace) -> Answer:
    """Compute the answer."""
    options = AgreementOptions(
        labels=parsed.labels,
        level=parsed.level,
        weights=parsed.weights,
        categories=parsed.categories,
        intervals=parsed.intervals,
        arms=parsed.arms,
        allow_single=parsed.allow_single,
        replicates=parsed.replicates,
        seed=parsed.seed,
        confidence=parsed.confidence,
    )
    body = agreement(read_table(parsed.file), options).to_json()
    return Answer(body, _lines(body))


def _lines(body: Json) -> Iterator[str]:
    yield (
        f"{body['n_labels']} labels of {body['n_items']} items by {body['n_annotators']} annotators; "
        f"labels ({body['label_set']}): {', '.join(body['labels'])}"
    )
    yield (
        f"level {body['level']}, weights {body['weights']}; intervals {100 * body['confidence']:g} %, "
        f"{body['intervals']}, {body['replicates']} replicates, seed {body['seed']}"
    )
    yield from (f"! {warning}" for warning in body["warnings"])
    if count := body["n_without_label"]:
        named = ", ".join(map(str, body["rows_without_label"]))
        more = ", …" if count > len(body["rows_without_label"]) else ""
        yield f"{count} {'row' if count == 1 else 'rows'} without a label count nowhere (row {named}{more})"
    if body["shown_arm_left_out"]:
        yield f"{body['shown_arm_left_out']} judgments made with the classifier's label in sight are left out"
    yield from rows(body)
    for name, band in body["bands"].items():
        yield f"  {name}: {band['band']} ({band['scale']}, {band['of']})"
    shares = ", ".join(f"{k} {v:.3f}" for k, v in body["prevalence"].items() if v is not None)
    yield f"prevalence: {shares or 'undefined'}"
    for label, statistics in body["per_label"].items():
        yield f"{label} against the rest"
        yield from rows(statistics)
    for pair in body["pairwise"].values():
        yield f"{pair['annotators'][0]} and {pair['annotators'][1]}"
        yield from rows(pair)
    if body["pairs_without_common_items"]:
        yield f"{body['pairs_without_common_items']} pairs of annotators have no item in common"
    for name, one in body["per_annotator"].items():
        yield f"{name} against the majority of the others ({one['unresolved']} tied, {one['alone']} alone)"
        yield from rows(one)
    if body["classifier"] is not None:
        yield from _classifier_lines(body["classifier"])


def _classifier_lines(found: dict[str, Any]) -> Iterator[str]:
    counted = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found["resolved"].items() if count)
    yield f"classifier against the verified labels ({counted or 'no item'}), unweighted"
    yield from rows(found)
    yield "  and the annotators among themselves"
    yield from rows(found["human_human"], "    ")
    yield "  each against the majority of the other annotators"
    yield from rows(found["left_out"], "    ")
    for label, scores in found["per_label"].items():
        parts = ", ".join(f"{name} {statistic(scores[name])}" for name in ("precision", "recall", "f1"))
        yield f"  {label} ({scores['support']} by people, {scores['predicted']} by the classifier): {parts}"
    yield from matrix(found["matrix"])
