"""How an answer leaves the command: as one JSON object or as text, on the screen or in a file."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a subcommand found: the object of `--json`, the lines for people, and the exit status."""

    body: Json
    lines: Iterable[str]
    status: int = 0


def deliver(answer: Answer, *, as_json: bool, output: str | None) -> None:
    """Print an answer, or write it to a file as UTF-8, whole or not at all.

    Raises
    ------
    OSError
        When it cannot be written, as on a full device.
    """
    if output is not None:
        write_file(Path(output), _text(answer, as_json=as_json, ascii_only=False))
        return
    # a console that cannot show a letter shows its number, and the answer is not lost
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    text = _text(answer, as_json=as_json, ascii_only=not encoding.startswith("utf"))
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader of a pipe left early, as `| head` does
        _silence()
    except OSError as error:
        _silence()
        raise OSError(f"The answer cannot be written: {error.strerror or error}.") from error


def _text(answer: Answer, *, as_json: bool, ascii_only: bool) -> str:
    if as_json:
        return json.dumps(answer.body, indent=2, ensure_ascii=ascii_only, allow_nan=False) + "\n"
    return "".join(f"{line}\n" for line in answer.lines)


def _silence() -> None:
    """Let nothing more come out: what is left in the buffer would fail once more when Python ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all: beside it first, then in its place. Raises `OSError`."""
    target = path.resolve()
    plain: Any = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
    # a pipe or a device cannot be put in place of itself
    special = target.exists() and not target.is_file()
    written = target if special else target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(written, "w", **plain) as stream:
            stream.write(text)
        if not special:
            os.replace(written, target)
    except OSError as error:
        if not special:
            with contextlib.suppress(OSError):
                written.unlink()
        raise OSError(f"{path} cannot be written: {error.strerror or error}.") from error


# --- statistics as text ----------------------------------------------------------------------------------------------


def is_statistic(body: object) -> bool:
    """Say whether a mapping is a statistic in its usual form."""
    return isinstance(body, Mapping) and {"value", "n", "interval", "reason"} <= body.keys()


def statistic(body: Mapping[str, Any] | None, *, why: bool = True) -> str:
    """Write value and interval, or why there is none; `why` says why a value stands without an interval."""
    if body is None:
        return "not computed"
    if body["value"] is None:
        return f"undefined: {body['reason']}"
    text = f"{body['value']:.4f}"
    if body["interval"] is not None:
        text += f" [{body['interval'][0]:.4f}, {body['interval'][1]:.4f}]"
    elif why and body["reason"]:
        text += f" ({body['reason']})"
    return text


def rows(statistics: Mapping[str, Any], indent: str = "  ") -> Iterator[str]:
    """Write one line per statistic of a mapping; other values are left out."""
    for name, body in statistics.items():
        if not is_statistic(body):
            continue
        remarks = [*([body["reason"]] if body["reason"] and body["value"] is not None else []), *body["notes"]]
        line = f"{indent}{name:<24} {statistic(body, why=False):<36} n={body['n']}"
        yield line + (f"  ({'; '.join(remarks)})" if remarks else "")


def matrix(found: Mapping[str, Any], indent: str = "  ") -> Iterator[str]:
    """Write a titled matrix of counts (title, labels, counts)."""
    labels = [str(label) for label in found["labels"]]
    width = max([*map(len, labels), 6])
    yield f"{indent}{found['title']}"
    yield f"{indent}  {'':<{width}} " + " ".join(f"{label:>{width}}" for label in labels)
    for label, counts in zip(labels, found["counts"], strict=True):
        yield f"{indent}  {label:<{width}} " + " ".join(f"{count:>{width}}" for count in counts)
