"""`plan`: how many labels a wished precision takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args

import numpy as np
import pandas as pd

from evaluation import planning
from evaluation.command.arguments import confidence_argument, listed, number, seed_argument, whole
from evaluation.command.output import Answer, Json
from evaluation.files import read_table
from evaluation.intervals import round_significant
from evaluation.label_table import choose_labels
from evaluation.sampling import allocate
from evaluation.tables import TableError, label_codes, with_plain_names

PLANNED: Final = ("proportion", "kappa", "flatness", "mean", "macro_f1")
DESIGNS: Final[tuple[planning.AllocatedDesign, ...]] = get_args(planning.AllocatedDesign)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be asked."""
    parser.add_argument(
        "--metric",
        choices=PLANNED,
        default="proportion",
        help="proportion: alignment, accuracy, a share (default). kappa of two annotators. flatness: H / log2 K. mean: "
        "a rating. macro_f1 of the classifier, simulated from --confusion",
    )
    share = number(0, 1)
    parser.add_argument("--p", type=share, default=0.65, help="expected proportion (default 0.65)")
    parser.add_argument("--kappa", type=number(-1, 1), default=0.7, help="expected kappa (default 0.7)")
    parser.add_argument(
        "--chance", type=number(0, 1, below=True), default=0.3, help="expected chance agreement of kappa (default 0.3)"
    )
    parser.add_argument(
        "--shares",
        type=listed(share),
        metavar="S,…",
        help="expected shares of the classes for flatness, such as 0.35,0.1,0.05,0.05,0.05,0.05,0.35",
    )
    parser.add_argument(
        "--sd", type=number(0, above=True), help="standard deviation of one observation, for the mean (such as 1 point)"
    )
    parser.add_argument(
        "--confusion",
        metavar="FILE",
        help="a pilot for macro_f1: a table (.csv, .tsv, .parquet, .jsonl) with the columns human and classifier, one "
        "row a text, or one row a pair of labels with its number of texts in a column count",
    )
    parser.add_argument(
        "--design",
        choices=DESIGNS,
        nargs="+",
        default=list(DESIGNS),
        help="designs to plan macro_f1 for: simple, or by predicted label proportional, half or equal (default all)",
    )
    parser.add_argument(
        "--half-width",
        type=number(0, above=True),
        nargs="+",
        default=[0.10, 0.07, 0.05, 0.03, 0.02],
        metavar="X",
        help="wished half-widths: an interval of value +- X (default 0.10 0.07 0.05 0.03 0.02)",
    )
    parser.add_argument(
        "--rho",
        type=number(-1, 1),
        default=0.0,
        help="correlation of a human with the classifier's indicator, for the corrected estimate (default 0)",
    )
    parser.add_argument(
        "--deff", type=number(0, above=True), default=1.0, help="design effect of drawing whole dialogues (default 1)"
    )
    parser.add_argument(
        "--population", type=whole(1), metavar="N", help="turns in the corpus, where the corpus itself is the target"
    )
    parser.add_argument(
        "--n-now", type=whole(1), metavar="N", help="labels so far, with --half-now: how many more it takes"
    )
    parser.add_argument("--half-now", type=number(0), metavar="X", help="half-width so far, with --n-now")
    parser.add_argument(
        "--power",
        type=number(0, 1, above=True, below=True),
        default=0.8,
        help="power of the detectable difference (default 0.8)",
    )
    parser.add_argument(
        "--strata",
        type=lambda text: [whole(1)(part.strip()) for part in text.split(",")],
        metavar="N,…",
        help="sizes of the strata, separated by commas: adds how each n is divided among them",
    )
    seed_argument(parser)
    confidence_argument(parser)


def run(parsed: argparse.Namespace) -> Answer:
    """Compute the plan."""
    if (parsed.n_now is None) != (parsed.half_now is None):
        given, absent = ("--n-now", "--half-now") if parsed.half_now is None else ("--half-now", "--n-now")
        raise ValueError(f"{given} needs {absent}: how many more it takes follows from labels and half-width so far.")
    if parsed.metric == "macro_f1":
        body = _macro_f1(parsed)
        return Answer(body, _macro_f1_lines(body))
    if parsed.confusion is not None:
        raise ValueError("--confusion is for --metric macro_f1.")
    body = _closed_form(parsed)
    return Answer(body, _lines(body))


# --- metrics with a formula ------------------------------------------------------------------------------------------


def _closed_form(parsed: argparse.Namespace) -> Json:
    variance = _variance(parsed)
    common = {"deff": parsed.deff, "population": parsed.population, "confidence": parsed.confidence}
    sizes = []
    for half_width in parsed.half_width:
        n = planning.sample_size(half_width, variance, rho=parsed.rho, **common)
        detectable = planning.detectable_difference(n, variance, rho=parsed.rho, power=parsed.power, **common)
        row: Json = {
            "half_width": half_width,
            "n": n,
            "n_human_only": planning.sample_size(half_width, variance, **common),
            "detectable_difference": round_significant(detectable),
        }
        if parsed.n_now is not None:
            row["how_many_more"] = planning.how_many_more(parsed.n_now, parsed.half_now, half_width, parsed.population)
        if parsed.strata:
            row["allocation"] = _allocations(parsed.strata, n, half_width)
        sizes.append(row)
    names = ("metric", "p", "kappa", "chance", "rho", "deff", "population", "power", "confidence")
    assumed = {name: getattr(parsed, name) for name in names}
    return {"assumptions": {**assumed, "variance": round_significant(variance)}, "sizes": sizes}


def _variance(parsed: argparse.Namespace) -> float:
    match parsed.metric:
        case "kappa":
            return planning.kappa_variance(parsed.kappa, parsed.chance)
        case "flatness":
            if not parsed.shares:
                example = "--shares 0.35,0.1,0.05,0.05,0.05,0.05,0.35"
                raise ValueError(f"A plan for flatness needs --shares, such as {example}.")
            return planning.flatness_variance(parsed.shares)
        case "mean":
            if parsed.sd is None:
                raise ValueError("A plan for a mean needs --sd, the standard deviation of one observation.")
            return float(parsed.sd) ** 2
        case _:
            return planning.proportion_variance(parsed.p)


def _allocations(strata: Sequence[int], n: int, half_width: float) -> Json:
    total = sum(strata)
    if n > total:
        raise ValueError(
            f"--strata holds {total} units, but +-{half_width:g} takes {n}: plan for the corpus itself "
            f"(--population {total}), or ask for a wider --half-width."
        )
    proportional = [size / total for size in strata]
    even = [1 / len(strata)] * len(strata)
    half = [(a + b) / 2 for a, b in zip(proportional, even, strict=True)]
    wishes = {"proportional": proportional, "half": half, "equal": even}
    return {name: [int(k) for k in allocate(strata, n, wish)] for name, wish in wishes.items()}


def _lines(body: Json) -> Iterator[str]:
    assumed = body["assumptions"]
    yield f"{assumed['metric']}: variance of one observation {assumed['variance']:g}, rho {assumed['rho']:g}, " + (
        f"deff {assumed['deff']:g}, confidence {assumed['confidence']:g}"
    )
    for row in body["sizes"]:
        line = f"  +-{row['half_width']:<6g} n = {row['n']:<7} human labels alone {row['n_human_only']:<7}"
        line += f" detects a difference of {row['detectable_difference']:.4f} with power {assumed['power']:g}"
        if "how_many_more" in row:
            line += f"; {row['how_many_more']} more"
        yield line
        for name, parts in row.get("allocation", {}).items():
            yield f"      {name}: {', '.join(map(str, parts))}"


# --- macro-F1, by simulation -----------------------------------------------------------------------------------------


def _macro_f1(parsed: argparse.Namespace) -> Json:
    if parsed.confusion is None:
        raise ValueError("A plan for macro_f1 needs --confusion, a pilot's human and classifier labels.")
    misplaced = [("--rho", parsed.rho != 0), ("--deff", parsed.deff != 1), ("--n-now", parsed.n_now is not None)]
    misplaced.append(("--strata", parsed.strata is not None))
    if wrong := [name for name, given in misplaced if given]:
        raise ValueError(f"A plan for macro_f1 is simulated and takes no {', '.join(wrong)}.")
    labels, matrix = read_confusion(parsed.confusion)
    settings: dict[str, Any] = {
        "population": parsed.population,
        "seed": parsed.seed,
        "confidence": parsed.confidence,
    }
    sizes = [
        {
            "half_width": half_width,
            # rows predicted, columns human: the design draws by predicted label
            "n": {
                design: planning.macro_f1_sample_size(half_width, matrix.T, design, **settings)
                for design in dict.fromkeys(parsed.design)
            },
        }
        for half_width in parsed.half_width
    ]
    pilot = {"labels": labels, "texts": int(matrix.sum()), "confusion": matrix.astype(int).tolist()}
    assumed = {"metric": "macro_f1", "pilot": pilot, **settings}
    return {"assumptions": assumed, "sizes": sizes}


def read_confusion(path: str) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float64]]]:
    """Read a pilot: its labels (K), and counts of human (rows) and classifier label (columns), shape (K, K).

    Raises
    ------
    TableError
        Naming row and column: a column absent, a label empty or outside the set, a count that is no whole number.
    """
    table = with_plain_names(read_table(path), "confusion")
    if absent := [name for name in ("human", "classifier") if name not in table]:
        raise TableError(
            f"The confusion table lacks the column {', '.join(absent)}; it has: {', '.join(table.columns)}."
        )
    sides = [table[name].astype(object) for name in ("human", "classifier")]
    labels, _ = choose_labels(pd.DataFrame({"label": pd.concat(sides, ignore_index=True)}), None)
    codes = [label_codes(side, labels, name) for side, name in zip(sides, ("human", "classifier"), strict=True)]
    for name, found in zip(("human", "classifier"), codes, strict=True):
        if (found < 0).any():
            row = int(np.argmax(found < 0)) + 1
            raise TableError(f"Row {row}, column {name}: the cell is empty and must be filled.", row=row, column=name)
    counts = np.ones(len(table))
    if "count" in table:
        counts = pd.to_numeric(table["count"].astype(object), errors="coerce").to_numpy(dtype=float)
        wrong = ~(counts >= 0) | (counts != np.floor(counts)) | ~np.isfinite(counts)
        if wrong.any():
            row = int(np.argmax(wrong)) + 1
            what = f"{table['count'].iloc[row - 1]!r} is no whole number of texts"
            raise TableError(f"Row {row}, column count: {what}.", row=row, column="count")
    size = len(labels)
    flat = np.bincount(codes[0] * size + codes[1], weights=counts, minlength=size * size)
    return list(labels), flat.reshape(size, size).astype(float)


def _macro_f1_lines(body: Json) -> Iterator[str]:
    assumed = body["assumptions"]
    yield (
        f"macro-F1 of the classifier, simulated from a pilot of {assumed['pilot']['texts']} texts; confidence "
        f"{assumed['confidence']:g}, seed {assumed['seed']}; n is good to some percent"
    )
    for row in body["sizes"]:
        parts = ", ".join(
            f"{design} {n}" + (" or more" if n >= planning.MOST_SIMULATED else "") for design, n in row["n"].items()
        )
        yield f"  +-{row['half_width']:<6g} n = {parts}"
