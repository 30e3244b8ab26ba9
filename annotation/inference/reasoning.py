"""Taking a system's reasoning off its answer: what a model thinks aloud before it speaks is no response to anybody."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MARK: Final = re.compile(r"<(/?)(?:think|thinking|thought|thoughts|reasoning)>|\[(/?)THINK\]", re.IGNORECASE)


@dataclass(frozen=True)
class Apart:
    """An answer without its reasoning, the reasoning's length in characters, and whether it was left unfinished."""

    answer: str
    reasoning: int = 0
    unclosed: bool = False


def without_reasoning(text: str) -> Apart:
    """Take what stands between `<think>` and `</think>` (or their like) off an answer.

    An end without a beginning ends a reasoning that the prompt began, as some chat templates do: all before it goes. A
    beginning without an end means that the answer was cut before it came.
    """
    kept: list[str] = []
    depth, place, marks = 0, 0, 0
    for mark in _MARK.finditer(text):
        closes = bool(mark.group(1) or mark.group(2))
        marks += len(mark.group(0))
        if depth == 0 and closes:
            kept.clear()
        elif depth == 0:
            kept.append(text[place : mark.start()])
        depth = max(0, depth - 1) if closes else depth + 1
        place = mark.end()
    if not marks:
        return Apart(text)
    if depth == 0:
        kept.append(text[place:])
    answer = "".join(kept)
    return Apart(answer.strip(), len(text) - len(answer) - marks, unclosed=depth > 0)


def opens_reasoning(prompt: str) -> bool:
    """Say whether a rendered prompt ends by beginning the reasoning, so that the answer goes on inside it."""
    marks = list(_MARK.finditer(prompt.rstrip()))
    return bool(marks) and marks[-1].end() == len(prompt.rstrip()) and not (marks[-1].group(1) or marks[-1].group(2))
