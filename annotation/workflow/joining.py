"""Find the turn that a response of a file answers.

Published groups name the place in three ways (`annotation.corpora.responses`). What the row says beside the place (the
reference's message ids or text) is checked against the dialogue, so that a file counted differently is reported instead
of joined one turn off.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from annotation import models
from annotation.corpora.dialogue import Response, repair_quotes

_YEAR: Final = re.compile(r"\(\d{4}\)")
_NOT_WORD: Final = re.compile(r"[\W_]+")
_FILES: Final = {
    "redial": "the file with the dialogues of redial (redial_dataset.zip)",
    "inspired": "the files with the dialogues of inspired (train.tsv, dev.tsv, test.tsv)",
    "redial70": "the file with the dialogues of redial70 (redial70_dialogues.jsonl)",
    "crsarena": "the file with the dialogues of crsarena (crsarena_dialogues.jsonl.gz)",
}
"""Published data sets, by the names that response files give them."""

_PLACEHOLDER: Final = re.compile(r"\[MOVIE_[A-Z_]+\d*\]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a response belongs: ids of the dialogue and of the user utterance before it, and its merged position.

    `part`: the row is one line of a chat whose lines were merged.
    """

    dialogue: int
    user_utterance: int
    position: int
    part: bool = False


@dataclass(frozen=True, slots=True)
class _Said:
    pk: int
    position: int
    role: str
    loose: str
    source_ids: tuple[str, ...]


_Turns = dict[int, _Said]


def loose(text: str) -> str:
    """Letters and digits only, case folded, years in brackets left out: equal for tokenised and original spelling."""
    return _NOT_WORD.sub("", _YEAR.sub("", text).casefold())


def place_responses(responses: Sequence[Response], dataset: models.Dataset | None) -> list[Place | str]:
    """Return for each response its place, or the reason why there is none."""
    dialogue_of = _dialogues(responses, dataset)
    found = {pk for pk in dialogue_of.values() if isinstance(pk, int)}
    # The texts are needed only where the place alone does not decide, and they are most of the weight.
    spoken = _spoken(found, texts=any(response.keys.get("join") != "position" for response in responses))
    places: list[Place | str] = []
    for response in responses:
        dialogue = dialogue_of[_asked(response)]
        if isinstance(dialogue, str):
            places.append(dialogue)
            continue
        turns = spoken[dialogue]
        position = _position(response, turns)
        if isinstance(position, str):
            places.append(position)
        else:
            places.append(_before(dialogue, position, turns, response))
    return places


def _asked(response: Response) -> tuple[str, str]:
    return str(response.keys.get("dataset", "")), str(response.keys.get("inspired_dialog_id") or response.dialogue_id)


def _dialogues(responses: Sequence[Response], dataset: models.Dataset | None) -> dict[tuple[str, str], int | str]:
    """Look the dialogues up, all of a chunk in one query."""
    asked = {_asked(response) for response in responses}
    rows = models.Dialogue.objects.filter(source_id__in=[source_id for _, source_id in asked])
    if dataset is not None:
        rows = rows.filter(dataset=dataset)
    by_id: dict[str, dict[str, int]] = defaultdict(dict)
    for pk, source_id, name in rows.values_list("pk", "source_id", "dataset__name"):
        by_id[source_id][name] = pk
    result: dict[tuple[str, str], int | str] = {}
    for named, source_id in asked:
        held = by_id.get(source_id, {})
        if named in held and dataset is None:
            result[named, source_id] = held[named]
        elif len(held) == 1:
            result[named, source_id] = next(iter(held.values()))
        elif held:
            result[named, source_id] = f"dialogue {source_id} is in several data sets ({', '.join(held)}); name one"
        else:
            where = f"data set {dataset.name}" if dataset is not None else "any data set"
            wanted = dataset.name if dataset is not None else named
            result[named, source_id] = f"dialogue {source_id} is not in {where}; import {_file_of(wanted)} first"
    return result


def _file_of(dataset: str) -> str:
    """The file that holds the dialogues of a published data set, or the command for any other."""
    name = f" of {dataset}" if dataset else ""
    return _FILES.get(
        dataset, f"the file with the dialogues{name} (import_dialogues FILE --dataset {dataset or 'NAME'})"
    )


def _spoken(dialogues: Iterable[int], *, texts: bool) -> dict[int, _Turns]:
    spoken: dict[int, _Turns] = defaultdict(dict)
    names = ["dialogue_id", "pk", "position", "role", "source_ids", *(["shown"] if texts else [])]
    for dialogue, pk, position, role, ids, *shown in models.Utterance.objects.filter(
        dialogue__in=list(dialogues)
    ).values_list(*names):
        spoken[dialogue][position] = _Said(pk, position, role, loose(shown[0]) if shown else "", tuple(ids))
    return spoken


def _before(dialogue: int, position: int, turns: _Turns, response: Response) -> Place | str:
    user = turns.get(position - 1)
    if user is None or user.role != "user":
        return f"turn {position} of dialogue {response.dialogue_id} has no user utterance before it"
    there = turns.get(position)
    return Place(dialogue, user.pk, position, part=there is not None and len(there.source_ids) > 1)


def _position(response: Response, turns: _Turns) -> int | str:
    join = response.keys.get("join", "position")
    if join == "line":
        return _by_line(response, turns)
    if join == "reference" or response.position is None:
        return _by_text(response, turns)
    return _by_position(response, turns)


def _by_position(response: Response, turns: _Turns) -> int | str:
    position = response.position
    assert position is not None
    there = turns.get(position)
    if there is None and position - 1 not in turns:
        return f"dialogue {response.dialogue_id} has no turn {position} (it has 0 to {max(turns, default=0)})"
    if there is not None and there.role != "recommender":
        return f"turn {position} of dialogue {response.dialogue_id} is the user's, no place for a response"
    ids = response.keys.get("reference_ids", ())
    if there is not None and ids and there.source_ids and not set(ids) & set(there.source_ids):
        return (
            f"turn {position} of dialogue {response.dialogue_id} holds message {', '.join(there.source_ids)}, "
            f"the file says {', '.join(ids)}"
        )
    return position


def _by_line(response: Response, turns: _Turns) -> int | str:
    reference = loose(response.keys.get("reference", ""))
    if response.position is not None:
        line = str(response.position)
        there = next((said for said in turns.values() if line in said.source_ids), None)
        if there is not None and there.role == "recommender" and reference in there.loose:
            return there.position
        before = turns.get(max(turns, default=0))
        if there is None and before is not None and before.role == "user" and not reference:
            return before.position + 1
    return _by_text(response, turns)


def _by_text(response: Response, turns: _Turns) -> int | str:
    """Find the place by what was said: the reference, the user's words before it, both where one is not enough."""
    user = _pattern(response.keys.get("user", ""))
    reference = _pattern(response.keys.get("reference", ""))
    places = [said.position + 1 for said in turns.values() if said.role == "user"]
    if reference is not None:
        places = [p for p in places if p in turns and _occurs(reference, turns[p].loose)]
        exact = [p for p in places if _occurs(reference, turns[p].loose, whole=True)]
        places = exact or places
    if user is not None and (reference is None or len(places) > 1):
        narrowed = [p for p in places if _occurs(user, turns[p - 1].loose)]
        places = [p for p in narrowed if _occurs(user, turns[p - 1].loose, whole=True)] or narrowed
    if len(places) == 1:
        return places[0]
    what = "reference text" if reference is not None else "user text"
    dialogue = response.keys.get("inspired_dialog_id") or response.dialogue_id
    if places:
        return f"the {what} occurs at {len(places)} turns of dialogue {dialogue}, so the place is unknown"
    return f"the {what} occurs nowhere in dialogue {dialogue}"


def _pattern(text: str) -> list[str] | None:
    """The loose pieces of a text between placeholders (`[MOVIE_TITLE_0]` and its like); None if nothing is left."""
    pieces = [loose(piece) for piece in _PLACEHOLDER.split(repair_quotes(text))]
    return pieces if any(pieces) else None


def _occurs(pieces: list[str], said: str, *, whole: bool = False) -> bool:
    """Whether the pieces occur in their order, any words between them; `whole`: with nothing before the first or after
    the last. Taking each piece as early as it comes finds an order if there is one, in linear time."""
    if whole:
        first, *rest = pieces
        if not rest:
            return said == first
        *between, last = rest
        if not said.startswith(first) or not said.endswith(last) or len(first) + len(last) > len(said):
            return False
        said, pieces = said[len(first) : len(said) - len(last)], between
    start = 0
    for piece in pieces:
        found = said.find(piece, start)
        if found < 0:
            return False
        start = found + len(piece)
    return True
