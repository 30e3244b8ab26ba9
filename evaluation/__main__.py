"""The command: statistics of a file, without a server. `python -m evaluation agreement|metrics|plan|report …`.

Every `--json` prints one object; every statistic in it is `{"value", "n", "interval", "se", "reason", "method",
"clusters", "notes"}`. Keys, formulas and defaults: `docs/metrics.md`. Exit status: 0, 1 when a bundle's numbers are
not reproduced, 2 for bad input.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from evaluation import planning
from evaluation.agreement import AgreementOptions, agreement
from evaluation.coefficients import LEVELS, WEIGHTINGS
from evaluation.intervals import DEFAULT_CONFIDENCE, DEFAULT_REPLICATES, round_significant
from evaluation.sampling import allocate
from evaluation.tables import TableError, read_table

Json = dict[str, Any]
SHOWN_VARIANCES = ("proportion", "kappa", "flatness", "mean")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parsed = _parser(with_metrics="metrics" in given[:1]).parse_args(given)
    run: Callable[[argparse.Namespace], tuple[Json, Iterator[str], int]] = parsed.run
    try:
        result, lines, status = run(parsed)
    except (TableError, ValueError, OSError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    if parsed.json:
        print(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(lines))
    sys.stdout.flush()
    return status


# --- what can be asked -----------------------------------------------------------------------------------------------


def _parser(*, with_metrics: bool) -> argparse.ArgumentParser:
    # the options of `metrics` come from a module that is slow to import
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="agreement|metrics|plan|report")
    _agreement_parser(commands.add_parser("agreement", help="agreement of annotators: item, annotator, label"))
    metrics = commands.add_parser("metrics", help="alignment, flatness, F1 of a table of turns")
    if with_metrics:
        _metrics_parser(metrics)
    _plan_parser(commands.add_parser("plan", help="how many labels a wished precision takes"))
    report = commands.add_parser("report", help="recompute the numbers of a report bundle and compare")
    report.add_argument("bundle", metavar="BUNDLE", help="the bundle (a folder or .zip) that a report was stored as")
    report.set_defaults(run=_run_report)
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _sampling_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replicates", type=int, default=DEFAULT_REPLICATES, help="bootstrap resamples (default 2000)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same numbers (default 0)")
    parser.add_argument("--confidence", type=float, default=DEFAULT_CONFIDENCE, help="default 0.95")


def _agreement_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help=".csv, .tsv, .parquet or .jsonl: item, annotator, label[, dialogue]"
    )
    parser.add_argument(
        "--labels",
        help="the declared labels, separated by commas, in the order of their scale "
        "(default: the seven emotions if any of them occurs, else the labels that occur)",
    )
    parser.add_argument("--level", choices=LEVELS, default="nominal", help="level of Krippendorff's alpha")
    parser.add_argument("--weights", choices=WEIGHTINGS, default="identity", help="of all other coefficients")
    parser.add_argument("--categories", choices=("declared", "observed"), default="declared", help="K of AC1 and BP")
    parser.add_argument("--intervals", choices=("bootstrap", "linearised"), default="bootstrap")
    parser.add_argument("--arms", choices=("hidden", "all"), default="hidden", help="which arms count (column arm)")
    _sampling_arguments(parser)
    parser.set_defaults(run=_run_agreement)


def _metrics_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        help="dialogue, turn, dataset, system, user_label, response_label, reference_label[, …_verified, "
        "inclusion_probability, stratum]",
    )
    for name, choices, default in _metric_options():
        parser.add_argument(f"--{name.replace('_', '-')}", choices=choices, default=default, help=f"default {default}")
    _sampling_arguments(parser)
    parser.set_defaults(run=_run_metrics)


def _metric_options() -> Iterator[tuple[str, tuple[str, ...], str]]:
    from evaluation.metrics import MetricOptions

    hints = get_type_hints(MetricOptions)
    for field in dataclasses.fields(MetricOptions):
        choices = get_args(hints[field.name])
        if choices and all(isinstance(choice, str) for choice in choices) and get_origin(hints[field.name]) is not None:
            yield field.name, choices, str(field.default)


def _plan_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metric", choices=SHOWN_VARIANCES, default="proportion")
    parser.add_argument("--p", type=float, default=0.65, help="expected proportion (default 0.65)")
    parser.add_argument("--kappa", type=float, default=0.7, help="expected kappa (default 0.7)")
    parser.add_argument("--chance", type=float, default=0.3, help="expected chance agreement of kappa (default 0.3)")
    parser.add_argument("--shares", help="expected shares of the classes for flatness, separated by commas")
    parser.add_argument("--sd", type=float, help="standard deviation of one observation, for a mean")
    parser.add_argument("--half-width", type=float, nargs="+", default=[0.10, 0.07, 0.05, 0.03, 0.02])
    parser.add_argument(
        "--rho", type=float, default=0.0, help="correlation with the classifier's indicator (default 0)"
    )
    parser.add_argument("--deff", type=float, default=1.0, help="design effect of drawing dialogues (default 1)")
    parser.add_argument("--population", type=int, help="turns in the corpus, for the finite corpus as target")
    parser.add_argument("--n-now", type=int, help="labels so far: adds how many more")
    parser.add_argument("--half-now", type=float, help="half-width so far")
    parser.add_argument("--power", type=float, default=0.8, help="of the detectable difference (default 0.8)")
    parser.add_argument("--strata", help="sizes of the strata, separated by commas: adds the allocation of each n")
    parser.add_argument("--confidence", type=float, default=DEFAULT_CONFIDENCE, help="default 0.95")
    parser.set_defaults(run=_run_plan)


# --- the four commands -----------------------------------------------------------------------------------------------


def _run_agreement(parsed: argparse.Namespace) -> tuple[Json, Iterator[str], int]:
    labels = None if parsed.labels is None else tuple(label.strip() for label in parsed.labels.split(","))
    options = AgreementOptions(
        labels=labels,
        level=parsed.level,
        weights=parsed.weights,
        categories=parsed.categories,
        intervals=parsed.intervals,
        arms=parsed.arms,
        replicates=parsed.replicates,
        seed=parsed.seed,
        confidence=parsed.confidence,
    )
    result = agreement(read_table(parsed.file), options).to_json()
    return result, _agreement_lines(result), 0


def _run_metrics(parsed: argparse.Namespace) -> tuple[Json, Iterator[str], int]:
    from evaluation.metrics import MetricOptions, summarise

    chosen: dict[str, Any] = {name: getattr(parsed, name) for name, _, _ in _metric_options()}
    if any(field.name == "confidence" for field in dataclasses.fields(MetricOptions)):
        chosen["confidence"] = parsed.confidence
    options = MetricOptions(**chosen)
    result = summarise(read_table(parsed.file), options=options, replicates=parsed.replicates, seed=parsed.seed)
    return result, _metric_lines(result), 0


def _run_plan(parsed: argparse.Namespace) -> tuple[Json, Iterator[str], int]:
    variance = _planned_variance(parsed)
    common = {"deff": parsed.deff, "population": parsed.population, "confidence": parsed.confidence}
    sizes = []
    for half_width in parsed.half_width:
        n = planning.sample_size(half_width, variance, rho=parsed.rho, **common)
        row: Json = {
            "half_width": half_width,
            "n": n,
            "n_human_only": planning.sample_size(half_width, variance, **common),
            "detectable_difference": round_significant(
                planning.detectable_difference(
                    n, variance, rho=parsed.rho, power=parsed.power, confidence=parsed.confidence
                )
            ),
        }
        if parsed.n_now is not None and parsed.half_now is not None:
            row["how_many_more"] = planning.how_many_more(parsed.n_now, parsed.half_now, half_width, parsed.population)
        if parsed.strata:
            row["allocation"] = _allocations([int(size) for size in parsed.strata.split(",")], n)
        sizes.append(row)
    assumed = {
        name: getattr(parsed, name)
        for name in ("metric", "p", "kappa", "chance", "rho", "deff", "population", "power", "confidence")
    }
    result = {"assumptions": {**assumed, "variance": round_significant(variance)}, "sizes": sizes}
    return result, _plan_lines(result), 0


def _allocations(strata: Sequence[int], n: int) -> Json:
    total = sum(strata)
    if n > total:
        return {}
    proportional = [size / total for size in strata]
    even = [1 / len(strata)] * len(strata)
    half = [(a + b) / 2 for a, b in zip(proportional, even, strict=True)]
    wishes = {"proportional": proportional, "half": half, "equal": even}
    return {name: [int(k) for k in allocate(strata, n, wish)] for name, wish in wishes.items()}


def _planned_variance(parsed: argparse.Namespace) -> float:
    match parsed.metric:
        case "kappa":
            return planning.kappa_variance(parsed.kappa, parsed.chance)
        case "flatness":
            if not parsed.shares:
                raise ValueError(
                    "A plan for flatness needs --shares, such as --shares 0.35,0.1,0.05,0.05,0.05,0.05,0.35."
                )
            return planning.flatness_variance([float(share) for share in parsed.shares.split(",")])
        case "mean":
            if parsed.sd is None:
                raise ValueError("A plan for a mean needs --sd, the standard deviation of one observation.")
            return float(parsed.sd) ** 2
        case _:
            return planning.proportion_variance(parsed.p)


def _run_report(parsed: argparse.Namespace) -> tuple[Json, Iterator[str], int]:
    from evaluation.report import recompute

    result = recompute(parsed.bundle).to_json()
    differences = result.get("differences") or []
    return result, _report_lines(result), 1 if differences else 0


# --- tables for people -----------------------------------------------------------------------------------------------


def _statistic(body: Mapping[str, Any]) -> str:
    if body["value"] is None:
        return f"undefined: {body['reason']}"
    text = f"{body['value']:.4f}"
    if body["interval"] is not None:
        text += f" [{body['interval'][0]:.4f}, {body['interval'][1]:.4f}]"
    return text


def _rows(statistics: Mapping[str, Any], indent: str = "  ") -> Iterator[str]:
    for name, body in statistics.items():
        if not _is_statistic(body):
            continue
        remarks = [*([body["reason"]] if body["reason"] and body["value"] is not None else []), *body["notes"]]
        line = f"{indent}{name:<24} {_statistic(body):<36} n={body['n']}"
        yield line + (f"  ({'; '.join(remarks)})" if remarks else "")


def _is_statistic(body: object) -> bool:
    return isinstance(body, Mapping) and {"value", "n", "interval", "reason"} <= body.keys()


def _agreement_lines(result: Json) -> Iterator[str]:
    yield (
        f"{result['n_labels']} labels of {result['n_items']} items by {result['n_annotators']} annotators; "
        f"labels ({result['label_set']}): {', '.join(result['labels'])}"
    )
    yield (
        f"level {result['level']}, weights {result['weights']}; intervals {100 * result['confidence']:g} %, "
        f"{result['intervals']}, {result['replicates']} replicates, seed {result['seed']}"
    )
    if result["shown_arm_left_out"]:
        yield f"{result['shown_arm_left_out']} judgments made with the classifier's label in sight are left out"
    yield from _rows(result)
    for name, band in result["bands"].items():
        yield f"  {name}: {band['band']} ({band['scale']}, {band['of']})"
    shares = ", ".join(f"{k} {v:.3f}" for k, v in result["prevalence"].items() if v is not None)
    yield f"prevalence: {shares or 'undefined'}"
    for label, statistics in result["per_label"].items():
        yield f"{label} against the rest"
        yield from _rows(statistics)
    for pair in result["pairwise"].values():
        yield f"{pair['annotators'][0]} and {pair['annotators'][1]}"
        yield from _rows(pair)
    for name, one in result["per_annotator"].items():
        yield f"{name} against the majority of the others ({one['unresolved']} tied, {one['alone']} alone)"
        yield from _rows(one)
    if result["classifier"] is not None:
        yield "classifier against the verified labels"
        yield from _rows(result["classifier"])
        yield "  and the annotators among themselves"
        yield from _rows(result["classifier"]["human_human"], "    ")
        yield "  each against the majority of the other annotators"
        yield from _rows(result["classifier"]["left_out"], "    ")


def _metric_lines(result: Json) -> Iterator[str]:
    for group in result["groups"]:
        yield f"{group['dataset'] or 'no dataset'} / {group['system']}: {group['turns']} turns"
        for kind in ("raw", "verified", "corrected"):
            yield f"  {kind}"
            yield from _nested_rows(group[kind], "    ")


def _nested_rows(statistics: Mapping[str, Any], indent: str) -> Iterator[str]:
    yield from _rows(statistics, indent)
    for name, body in statistics.items():
        if isinstance(body, Mapping) and not _is_statistic(body):
            yield f"{indent}{name}"
            yield from _nested_rows(body, indent + "  ")


def _plan_lines(result: Json) -> Iterator[str]:
    assumed = result["assumptions"]
    yield f"{assumed['metric']}: variance of one observation {assumed['variance']:g}, rho {assumed['rho']:g}, " + (
        f"deff {assumed['deff']:g}, confidence {assumed['confidence']:g}"
    )
    for row in result["sizes"]:
        line = f"  +-{row['half_width']:<6g} n = {row['n']:<7} human labels alone {row['n_human_only']:<7}"
        line += f" detects a difference of {row['detectable_difference']:.4f} with power {assumed['power']:g}"
        if "how_many_more" in row:
            line += f"; {row['how_many_more']} more"
        yield line
        for name, parts in row.get("allocation", {}).items():
            yield f"      {name}: {', '.join(map(str, parts))}"


def _report_lines(result: Json) -> Iterator[str]:
    yield f"{result['title']} ({result['status']})"
    for section in result["sections"]:
        yield f"{section['number']}. {section['title']}"
        yield from (f"  ! {warning}" for warning in section["warnings"])
        for table in section["tables"]:
            yield f"  {table['title']}"
            yield "    " + " | ".join(column["title"] for column in table["columns"])
            for row in table["rows"]:
                yield "    " + " | ".join(_cell(row[column["key"]]) for column in table["columns"])
    differences = result.get("differences")
    if differences is None:
        yield "the bundle holds no stored report to compare with"
    else:
        yield f"{len(differences)} numbers differ from the bundle" if differences else "every number is reproduced"
        yield from (f"  {difference}" for difference in differences)


def _cell(value: Any) -> str:
    if _is_statistic(value):
        return _statistic(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        # the reader of a pipe left early, as `| head` does
        sys.stderr.close()
        sys.exit(0)
