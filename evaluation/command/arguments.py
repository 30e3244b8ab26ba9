"""What the options of the subcommands have in common: kinds of values, and the sampling of intervals."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Final

from evaluation.intervals import DEFAULT_CONFIDENCE, DEFAULT_REPLICATES
from evaluation.tables import label_text

LABELS_HELP: Final = (
    "the declared labels, separated by commas, in the order of their scale (default: the seven emotions if any of them "
    "occurs, else the labels that occur); a list that begins with a minus needs the equals sign: --labels=-2,-1,0"
)
JUDGMENTS_HELP: Final = (
    ".csv, .tsv, .parquet or .jsonl (also .gz) with the columns item, annotator, label; optional: dialogue, dataset, "
    "prelabel (the classifier's), gold_label (adjudicated), arm (shown or hidden). An empty label is a skip"
)


def whole(lowest: int) -> Callable[[str], int]:
    """Give a reader of whole numbers from `lowest` on."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            raise argparse.ArgumentTypeError(f"must be a whole number, {lowest} or more, got {text!r}")
        return value

    return read


def number(
    lowest: float = -math.inf, highest: float = math.inf, *, above: bool = False, below: bool = False
) -> Callable[[str], float]:
    """Give a reader of finite numbers from `lowest` to `highest`; `above` and `below` leave the ends out."""
    parts = [f"{'above' if above else 'at least'} {lowest:g}"] if math.isfinite(lowest) else []
    parts += [f"{'below' if below else 'at most'} {highest:g}"] if math.isfinite(highest) else []
    said = " ".join(["a number", " and ".join(parts)]).strip()

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        low = value > lowest if above else value >= lowest
        high = value < highest if below else value <= highest
        if not (math.isfinite(value) and low and high):
            raise argparse.ArgumentTypeError(f"must be {said}, got {text!r}")
        return value

    return read


def listed(read: Callable[[str], float]) -> Callable[[str], list[float]]:
    """Give a reader of numbers separated by commas."""
    return lambda text: [read(part.strip()) for part in text.split(",")]


def label_list(text: str) -> tuple[str, ...]:
    """Read labels separated by commas, each once and none empty."""
    named = [label_text(part) for part in text.split(",")]
    labels = tuple(label for label in named if label is not None)
    if len(labels) != len(named):
        raise argparse.ArgumentTypeError(f"names an empty label, got {text!r}: is there a comma too many?")
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise argparse.ArgumentTypeError(f"names {', '.join(repeated)} more than once, got {text!r}")
    return labels


def sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --replicates, --seed and --confidence."""
    parser.add_argument(
        "--replicates",
        type=whole(0),
        default=DEFAULT_REPLICATES,
        metavar="N",
        help=f"bootstrap resamples behind the intervals; 0 gives values without (default {DEFAULT_REPLICATES})",
    )
    seed_argument(parser)
    confidence_argument(parser)


def seed_argument(parser: argparse.ArgumentParser) -> None:
    """Add --seed."""
    parser.add_argument(
        "--seed", type=whole(0), default=0, metavar="N", help="the same seed gives the same numbers (default 0)"
    )


def confidence_argument(parser: argparse.ArgumentParser) -> None:
    """Add --confidence."""
    parser.add_argument(
        "--confidence",
        type=number(0, 1, above=True, below=True),
        default=DEFAULT_CONFIDENCE,
        metavar="P",
        help=f"how often an interval should hold the true value (default {DEFAULT_CONFIDENCE})",
    )
