"""Flags of responses that were imported: the checks of a generated answer, as far as its words alone allow them.

So an imported system's refusals count like a generated one's. The human reference is not checked: its words are the
standard, not an answer under study.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Final

from django.db import transaction

from annotation.inference.answers import Completion, flags_of
from annotation.models import Response

OF_WORDS: Final = ("empty", "refusal", "error_text", "wrong_language", "repaired_characters")
"""The flags that words alone tell. How an answer ended, and by which model, only its back end could say."""

_AT_ONCE: Final = 500


def flags_of_imported(text: str) -> list[str]:
    """Say what is conspicuous about a response of which only the words are known."""
    return [flag for flag in flags_of(Completion(text, finish_reason="stop"), limit=sys.maxsize) if flag in OF_WORDS]


def check_imported(progress: Callable[[int], None] | None = None) -> tuple[int, Counter[str]]:
    """Flag the imported responses that are stored; give how many there are, and how many have which flag.

    Run again it changes nothing. Flags of another origin stay.
    """
    checked, found = 0, Counter[str]()
    rows = Response.objects.filter(system__is_reference=False).exclude(source__has_key="generated")
    last = 0
    while chunk := list(rows.filter(pk__gt=last).order_by("pk")[:_AT_ONCE]):
        last = chunk[-1].pk
        changed = []
        for response in chunk:
            flags = [*flags_of_imported(response.raw), *(flag for flag in response.flags if flag not in OF_WORDS)]
            found.update(flags)
            if flags != response.flags:
                response.flags = flags
                changed.append(response)
        with transaction.atomic():
            Response.objects.bulk_update(changed, ["flags"])
        checked += len(chunk)
        if progress is not None:
            progress(checked)
    return checked, found
