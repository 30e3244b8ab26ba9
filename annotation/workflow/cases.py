"""Illustrative cases by rule: what the paper's Table 3 shows with made-up examples, with real ones.

The rule, so that nobody picks what pleases: misaligned turns are grouped by pattern (user emotion -> response emotion);
the patterns that occur most often come first; within a pattern the surest cases come first, one per system and one per
dialogue as long as there are enough. With human labels a case is sure when the annotators agree, and only human labels
make a case; without any the classifier's labels do, and each such case says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from annotation.models import Judgment, Response, Turn, Utterance
from annotation.workflow.frames import Frames

PATTERNS = 10
PER_PATTERN = 3
COLUMNS = [
    "pattern",
    "user_emotion",
    "response_emotion",
    "basis",
    "confidence",
    "turns_with_pattern",
    "dataset",
    "system",
    "dialogue",
    "turn",
    "context",
    "user_text",
    "response_text",
    "user_labels",
    "response_labels",
    "ratings",
]


def choose_cases(frames: Frames, *, patterns: int = PATTERNS, per_pattern: int = PER_PATTERN) -> pd.DataFrame:
    """Give the cases of a report, one row each, in the order of the rule; columns as in `COLUMNS`."""
    rows = frames.rows[~frames.rows["is_reference"].astype(bool)]
    human = rows[rows["user_verified"].notna() & rows["response_verified"].notna()]
    if len(human):
        found, basis = _sure_by_people(human, frames.answers), "human"
    else:
        found, basis = _sure_by_classifier(rows), "classifier"
    found = found[found["user_emotion"] != found["response_emotion"]]
    if found.empty:
        return pd.DataFrame(columns=COLUMNS)
    counts = Counter(zip(found["user_emotion"], found["response_emotion"], strict=True))
    order = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:patterns]
    parts = []
    for (user, response), count in order:
        members = found[(found["user_emotion"] == user) & (found["response_emotion"] == response)]
        chosen = _spread(members, per_pattern)
        parts.append(chosen.assign(turns_with_pattern=int(count)))
    cases = pd.concat(parts, ignore_index=True)
    cases["basis"] = basis
    cases["pattern"] = cases["user_emotion"] + " → " + cases["response_emotion"]
    return _with_texts(cases, frames.answers)[COLUMNS]


def _sure_by_people(rows: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Confidence: the share of the annotators' labels that are the verified one, the lesser of the two sides."""
    labels = answers[answers["action"] == Judgment.LABEL]
    of_user = labels[labels["kind"] == "user"].groupby("turn_pk")["label"].agg(list)
    of_response = labels[labels["kind"] == "response"].groupby("response_pk")["label"].agg(list)

    def share(given: Any, verified: str) -> float:
        return given.count(verified) / len(given) if isinstance(given, list) and given else 0.0

    users = [
        share(of_user.get(turn), label) for turn, label in zip(rows["turn_pk"], rows["user_verified"], strict=True)
    ]
    responses = [
        share(of_response.get(pk), label)
        for pk, label in zip(rows["response_pk"], rows["response_verified"], strict=True)
    ]
    return rows.assign(
        user_emotion=rows["user_verified"],
        response_emotion=rows["response_verified"],
        confidence=np.round(np.minimum(users, responses), 4),
        tie=rows["user_confidence"].fillna(0.0),
    )


def _sure_by_classifier(rows: pd.DataFrame) -> pd.DataFrame:
    """Confidence: the lesser of the classifier's calibrated probabilities of the two sides."""
    known = rows[rows["user_label"].notna() & rows["response_label"].notna()]
    return known.assign(
        user_emotion=known["user_label"],
        response_emotion=known["response_label"],
        confidence=np.minimum(known["user_confidence"], known["response_confidence"]),
        tie=0.0,
    )


def _spread(members: pd.DataFrame, wanted: int) -> pd.DataFrame:
    ranked = members.sort_values(
        ["confidence", "tie", "dataset", "dialogue", "turn", "system"],
        ascending=[False, False, True, True, True, True],
        kind="stable",
    )
    chosen: list[Any] = []
    systems: set[str] = set()
    dialogues: set[tuple[str, str]] = set()
    # 500 is far more than the spread over systems and dialogues ever needs to look at.
    candidates = list(ranked.head(500)[["dataset", "dialogue", "system"]].itertuples())
    for new_system in (True, False):
        for row in candidates:
            place = (str(row.dataset), str(row.dialogue))
            if len(chosen) == wanted:
                break
            if row.Index in chosen or place in dialogues or (new_system and row.system in systems):
                continue
            chosen.append(row.Index)
            systems.add(str(row.system))
            dialogues.add(place)
    return ranked.loc[chosen]


def _with_texts(cases: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    contexts = context_of([int(turn) for turn in cases["turn_pk"]])
    responses = [int(pk) for pk in cases["response_pk"]]
    shown = dict(Response.objects.filter(pk__in=responses).values_list("id", "shown"))
    labels = answers[answers["action"] == Judgment.LABEL]
    rated = answers[answers["action"] == Judgment.RATE]
    users = [contexts[int(turn)] for turn in cases["turn_pk"]]
    return cases.assign(
        context=["\n".join(f"{role}: {text}" for role, text in said[:-1]) for said in users],
        user_text=[said[-1][1] if said else "" for said in users],
        response_text=[shown.get(pk, "") for pk in responses],
        user_labels=[
            _given(labels[(labels["kind"] == "user") & (labels["turn_pk"] == turn)]) for turn in cases["turn_pk"]
        ],
        response_labels=[_given(labels[labels["response_pk"] == pk]) for pk in responses],
        ratings=[
            _rating_means(rated[rated["turn_pk"] == turn]["ratings"], pk)
            for turn, pk in zip(cases["turn_pk"], responses, strict=True)
        ],
    )


def _given(labels: pd.DataFrame) -> str:
    ordered = labels.sort_values("annotator", kind="stable")
    return "; ".join(f"{who}: {label}" for who, label in zip(ordered["annotator"], ordered["label"], strict=True))


def _rating_means(given: Any, response: int) -> str:
    values: dict[str, list[float]] = {}
    for ratings in given:
        mine: Mapping[str, Any] = ratings.get(str(response), {})
        for outcome, value in mine.items():
            values.setdefault(outcome, []).append(float(value))
    return "; ".join(f"{name}: {np.mean(found):.2f} (n = {len(found)})" for name, found in sorted(values.items()))


def context_of(turns: Sequence[int], *, before: int = 4) -> dict[int, list[tuple[str, str]]]:
    """The utterances that lead to each turn's user utterance, that one last: (role, text as shown)."""
    wanted = dict(Turn.objects.filter(pk__in=turns).values_list("id", "dialogue_id"))
    places = dict(Turn.objects.filter(pk__in=turns).values_list("id", "position"))
    said: dict[int, list[tuple[int, str, str]]] = {}
    rows = Utterance.objects.filter(dialogue__in=set(wanted.values())).order_by("dialogue_id", "position")
    for dialogue, position, role, shown in rows.values_list("dialogue_id", "position", "role", "shown"):
        said.setdefault(dialogue, []).append((position, role, shown))
    return {
        turn: [(role, text) for position, role, text in said.get(dialogue, []) if position < places[turn]][
            -before - 1 :
        ]
        for turn, dialogue in wanted.items()
    }
