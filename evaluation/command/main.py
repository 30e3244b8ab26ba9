"""The door of the command: which subcommands there are, and how an error leaves it."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import platform
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from evaluation.command.output import Answer, deliver
from evaluation.tables import TableError

COMMANDS: Final = {
    "agreement": "agreement of annotators, and of the classifier with them",
    "aggregate": "one verified label per item, and what an adjudicator should see first",
    "sample": "draw which units to verify, with their inclusion probabilities",
    "plan": "how many labels a wished precision takes",
    "metrics": "alignment, flatness and F1 of a table of turns: raw, verified, corrected",
    "compare": "systems on the same turns: differences, ranks, misalignment patterns",
    "report": "compute the numbers of a report bundle again and compare",
}
EXIT: Final = (
    "Exit status: 0 when all is well; 1 when the numbers of a report bundle are not reproduced; 2 for bad input or an "
    "answer that cannot be written, with one line that says what to do. Keys, formulas and defaults: docs/metrics.md."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parsed = _parser(given[0] if given else "").parse_args(given)
    try:
        answer: Answer = parsed.run(parsed)
        deliver(answer, as_json=parsed.json, output=parsed.output)
    except (TableError, ValueError, OSError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    return answer.status


def _parser(chosen: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description="Statistics of a file, without a server.", epilog=EXIT
    )
    parser.add_argument(
        "--version", action="version", version=f"attune {version()} (Python {platform.python_version()})"
    )
    commands = parser.add_subparsers(required=True, metavar="|".join(COMMANDS))
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(
            name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.", epilog=EXIT
        )
        if name == chosen:
            # the others stay unread: some take a second to import
            module = importlib.import_module(f"evaluation.command.{name}")
            module.arguments(command)
            command.set_defaults(run=module.run)
            command.add_argument("--json", action="store_true", help="print one JSON object")
            command.add_argument(
                "--output",
                metavar="FILE",
                help="write the answer to this file (UTF-8, whole or not at all), print nothing",
            )
    return parser


def version() -> str:
    """Give the version of the product: as installed, else as its source says."""
    try:
        return importlib.metadata.version("attune")
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).resolve().parents[2] / "pyproject.toml"
        if not project.is_file():
            return "of unknown version"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
