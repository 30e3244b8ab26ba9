"""`metrics FILE`: the paper's measures of a table of turns, raw beside verified beside corrected."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin, get_type_hints

from evaluation.command.arguments import sampling_arguments
from evaluation.command.output import Answer, Json, is_statistic, statistic
from evaluation.emotions import EMOTIONS
from evaluation.files import read_table
from evaluation.metrics import MetricOptions, summarise

TURNS_HELP: Final = (
    ".csv, .tsv, .parquet or .jsonl (also .gz), one row per turn and system: dialogue, turn, system, user_label, "
    "response_label; optional: dataset, reference_label, user_verified, response_verified, reference_verified, "
    "inclusion_probability, stratum, is_reference"
)
KINDS: Final = {"raw": "raw (classifier)", "verified": "verified (people)", "corrected": "corrected (both)"}
WARNING: Final = (
    "Raw values rest on the classifier's labels alone, and their intervals hold nothing of its errors: read the "
    "corrected values; where there are none, verify a drawn part of the turns."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be asked."""
    parser.add_argument("file", metavar="FILE", help=TURNS_HELP)
    option_arguments(parser)
    sampling_arguments(parser)


def option_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option per choice that the paper leaves open, with what it means."""
    meanings = option_meanings()
    for name, choices, default in metric_options():
        said = meanings.get(name, "").replace("`", "").replace("%", "%%")
        parser.add_argument(
            f"--{name.replace('_', '-')}", choices=choices, default=default, help=f"{said} (default {default})".strip()
        )


def metric_options() -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Give name, choices and default of every option that is a choice of words."""
    hints = get_type_hints(MetricOptions)
    for field in dataclasses.fields(MetricOptions):
        choices = get_args(hints[field.name])
        if choices and all(isinstance(choice, str) for choice in choices) and get_origin(hints[field.name]) is not None:
            yield field.name, choices, str(field.default)


def option_meanings() -> dict[str, str]:
    """Give what each option means, as the class that holds it says."""
    _, _, listed = (inspect.getdoc(MetricOptions) or "").partition("Attributes\n----------\n")
    found: dict[str, str] = {}
    name = ""
    for line in listed.splitlines():
        if line and not line.startswith(" "):
            name = line.strip()
        elif name:
            found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return {name: text.removesuffix(".") for name, text in found.items()}


def chosen_options(parsed: argparse.Namespace) -> MetricOptions:
    """Give the options as they were asked for."""
    named = {name: getattr(parsed, name) for name, _, _ in metric_options()}
    return MetricOptions(**named, confidence=parsed.confidence)


def run(parsed: argparse.Namespace) -> Answer:
    """Compute the answer."""
    options = chosen_options(parsed)
    body = summarise(read_table(parsed.file), options=options, replicates=parsed.replicates, seed=parsed.seed)
    return Answer(body, _lines(body))


def _lines(body: Json) -> Iterator[str]:
    yield f"! {WARNING}"
    for group in body["groups"]:
        outside = group.get("verified_outside_draw")
        yield (
            f"{group['dataset'] or 'no dataset'} / {group['system']}: {group['turns']} turns in {group['dialogues']} "
            f"dialogues, {group['excluded_turns']} excluded, n verified {group['verified_pairs']}"
            + (f" ({outside} more outside the draw are left out)" if outside else "")
        )
        yield f"  {'':<32} " + " ".join(f"{title:<32}" for title in KINDS.values()).rstrip()
        for name, texts, remark in _beside(group):
            yield f"  {name:<32} " + " ".join(f"{text:<32}" for text in texts).rstrip() + remark
        yield from (f"  note: {note}" for note in _notes(group))


def _beside(group: Mapping[str, Any]) -> Iterator[tuple[str, list[str], str]]:
    """Give every measure once, with its three values beside each other and what to know of it."""
    kinds = [group[kind] for kind in KINDS]
    paths: dict[tuple[str, ...], None] = {}
    for body in kinds:
        paths |= dict.fromkeys(_paths(body))
    for path in paths:
        found = [_at(body, path) for body in kinds]
        yield " ".join(path), [statistic(one) for one in found], _classes(found)
        if path == ("coarse",):
            yield "coarse, surprise anywhere", [_range(body.get("coarse_range")) for body in kinds], ""


def _paths(body: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, part in body.items():
        if is_statistic(part):
            yield (name,)
        elif isinstance(part, Mapping):
            yield from ((name, *rest) for rest in _paths(part))


def _at(body: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any] | None:
    found: Any = body
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if is_statistic(found) else None


def _classes(found: list[Mapping[str, Any] | None]) -> str:
    counts = [None if body is None else body.get("classes") for body in found]
    known = [f"{kind} {count}" for kind, count in zip(KINDS, counts, strict=True) if isinstance(count, int)]
    if not known:
        return ""
    said = str(counts[0]) if len(set(counts)) == 1 else ", ".join(known)
    return f"  ({said} of {len(EMOTIONS)} classes)"


def _notes(group: Mapping[str, Any]) -> list[str]:
    """Give what the verified and corrected values say of themselves, each once."""
    found: dict[str, None] = {}
    for kind in ("verified", "corrected"):
        for path in _paths(group[kind]):
            body = _at(group[kind], path)
            found |= dict.fromkeys(f"{kind}: {note}" for note in (body or {}).get("notes", ()))
    return list(found)


def _range(span: Any) -> str:
    return f"{span[0]:.4f} to {span[1]:.4f}" if span and None not in span else "undefined"
