"""`aggregate FILE`: one verified label per item, how sure it is, and who gave the labels."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from evaluation.aggregation import SMOOTHING
from evaluation.command.arguments import JUDGMENTS_HELP, LABELS_HELP, label_list, number
from evaluation.command.output import Answer, Json, write_file
from evaluation.consensus import METHODS, consensus, crowd_kit_table
from evaluation.files import read_table
from evaluation.label_table import choose_labels
from evaluation.tables import with_plain_names


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be asked."""
    parser.add_argument("file", metavar="FILE", help=JUDGMENTS_HELP)
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="majority",
        help="adjudicated, else the majority of two or more labels, ties unresolved (default); or the most probable "
        "label of a Dawid-Skene model: one accuracy per annotator, the full model, or the one the labels can bear",
    )
    parser.add_argument("--labels", type=label_list, help=LABELS_HELP)
    parser.add_argument("--allow-single", action="store_true", help="one label alone may stand (method majority)")
    parser.add_argument(
        "--smoothing",
        type=number(0),
        default=SMOOTHING,
        metavar="X",
        help=f"added to every cell of an annotator's confusion matrix (default {SMOOTHING}); 0 is maximum likelihood",
    )
    parser.add_argument(
        "--arms",
        choices=("hidden", "all"),
        default="hidden",
        help="labels given with the classifier's label in sight (column arm) are left out, or count (default hidden)",
    )
    parser.add_argument(
        "--crowd-kit",
        metavar="FILE",
        help="also write the labels that count as crowd-kit reads them (CSV: task, worker, label), for MACE or GLAD",
    )


def run(parsed: argparse.Namespace) -> Answer:
    """Compute the answer."""
    table = with_plain_names(read_table(parsed.file), "judgments")
    labels, said = choose_labels(table, parsed.labels)
    found = consensus(
        table,
        parsed.method,
        labels=labels,
        allow_single=parsed.allow_single,
        smoothing=parsed.smoothing,
        arms=parsed.arms,
    )
    if parsed.crowd_kit is not None:
        exported = crowd_kit_table(table, labels=labels, arms=parsed.arms)
        write_file(Path(parsed.crowd_kit), exported.to_csv(index=False, lineterminator="\n"))
    body = {"label_set": said, "allow_single": parsed.allow_single, "arms": parsed.arms, **found.to_json()}
    return Answer(body, _lines(body))


def _lines(body: Json) -> Iterator[str]:
    open_ = ", ".join(f"{count} {reason}" for reason, count in body["unresolved"].items())
    yield f"{body['n_items']} items by {body['method']}: {body['resolved']} labelled" + (f", {open_}" if open_ else "")
    if model := body["model"]:
        yield (
            f"posterior and accuracy by Dawid-Skene, {model['name'].replace('_', ' ')}, smoothing "
            f"{model['smoothing']:g}, {model['iterations']} steps" + ("" if model["converged"] else ", NOT converged")
        )
    width = max([*(len(str(one["item"])) for one in body["items"]), 4])
    yield f"  {'item':<{width}} {'label':<12} {'source or reason':<18} {'votes':>7} {'entropy':>8} {'queue':>6}"
    for one in body["items"]:
        said = one["source"] or f"({one['reason']})"
        entropy = "" if one["entropy"] is None else f"{one['entropy']:.3f}"
        place = "" if one["order"] is None else one["order"]
        votes = f"{one['votes']}/{one['n']}"
        yield f"  {one['item']:<{width}} {one['label'] or '-':<12} {said:<18} {votes:>7} {entropy:>8} {place:>6}"
    yield "annotators: labels given, accuracy by the model, agreement with the majority of the others"
    for person in body["annotators"]:
        accuracy, agreement = (
            "-" if person[key] is None else f"{person[key]:.3f}" for key in ("accuracy", "agreement")
        )
        yield f"  {person['annotator']:<20} {person['labels']:>6} {accuracy:>7} {agreement:>7} of {person['compared']}"
