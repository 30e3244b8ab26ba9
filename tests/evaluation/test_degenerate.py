"""Small, odd corpora by the hundred: the report never crashes, and never writes a number that is none."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pandas as pd
import pytest

from evaluation.emotions import EMOTIONS
from evaluation.metrics import MetricOptions, summarise
from evaluation.report import ReportSettings, ReportTables, build_report, dumps


def odd_corpus(seed: int) -> ReportTables:
    """One to three emotions, one to fifty dialogues, labels missing at random, strata that lack whole domains."""
    chance = random.Random(seed)
    usual = chance.sample(EMOTIONS, chance.choice([1, 1, 2, 3, 7]))

    def emotion() -> str:
        return chance.choice(usual if chance.random() < 0.95 else EMOTIONS)

    def corrected(label: str | None) -> str | None:
        return emotion() if chance.random() < 0.3 else label

    systems = ["reference", *(f"system{n}" for n in range(chance.randrange(4)))]
    if len(systems) > 1 and chance.random() < 0.2:
        systems.remove("reference")
    missing, verified = chance.choice([0, 0, 0.2, 0.9]), chance.choice([0, 0.1, 0.5, 1])
    drawn, stratified, assisted = chance.random() < 0.5, chance.random() < 0.7, chance.random() < 0.3
    turns: list[dict[str, Any]] = []
    judgments: list[dict[str, Any]] = []
    ratings: list[dict[str, Any]] = []
    constant = chance.random() < 0.2
    places = [
        (dataset, f"{dataset}{dialogue}", str(turn))
        for dataset in chance.choice([["A"], ["A", "B"]])
        for dialogue in range(chance.choice([1, 2, 3, 6, 25]))
        for turn in range(chance.choice([1, 2, 5]))
    ]
    for dataset, dialogue, turn in places:
        user, reference = (emotion() if chance.random() >= missing else None for _ in range(2))
        seen = chance.random() < verified
        user_verified = corrected(user) if seen and chance.random() < 0.9 else None
        reference_verified = reference if seen and chance.random() < 0.8 else None
        draw = {
            "inclusion_probability": round(chance.uniform(0.05, 1), 2) if drawn and seen else None,
            "stratum": (user or "unlabelled") if stratified and (seen or not drawn) else None,
        }
        for system in systems:
            own = system == "reference"
            response = reference if own else emotion() if chance.random() >= missing else None
            found = corrected(response) if seen and chance.random() < 0.9 else None
            place = {"dialogue": dialogue, "turn": turn, "dataset": dataset, "system": system}
            turns.append(
                {
                    **place,
                    **(draw if verified else {}),
                    "user_label": user,
                    "response_label": response,
                    "reference_label": reference,
                    "user_verified": user_verified,
                    "response_verified": reference_verified if own else found,
                    "reference_verified": reference_verified,
                    "is_reference": own,
                }
            )
            if not seen:
                continue
            answer = {**place, "item": f"{dialogue}-{turn}-{system}"}
            for annotator in chance.sample(["a", "b", "c"], chance.randint(1, 3)):
                if found is not None:
                    given = {
                        "label": corrected(found),
                        "kind": "reference" if own else "response",
                        "prelabel": response,
                        "arm": chance.choice(["shown", "hidden"]) if assisted else None,
                    }
                    judgments.append({**answer, **given, "annotator": annotator})
                for outcome in ("satisfaction", "justification"):
                    value = 3 if constant else chance.randint(1, 5)
                    ratings.append({**answer, "annotator": annotator, "outcome": outcome, "value": value})
    return ReportTables(turns=pd.DataFrame(turns), judgments=pd.DataFrame(judgments), ratings=pd.DataFrame(ratings))


def a_report_comes_of(seed: int) -> None:
    settings = ReportSettings(replicates=60, permutations=60, seed=seed, sensitivity=seed % 12 == 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a division by nothing is one that was not thought of
        text = dumps(build_report(odd_corpus(seed), settings))
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.parametrize("seed", range(24))
def test_a_report_comes_of_any_odd_corpus(seed: int) -> None:
    a_report_comes_of(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(24, 624, 50))
def test_a_report_comes_of_six_hundred_odd_corpora(first: int) -> None:
    for seed in range(first, first + 50):
        a_report_comes_of(seed)


@pytest.mark.parametrize("seed", range(12))
def test_the_metrics_of_an_odd_corpus_come_under_any_choice(seed: int) -> None:
    chance = random.Random(seed)
    chosen = MetricOptions(
        surprise=chance.choice(["positive", "negative", "neutral", "own", "excluded"]),
        turn=chance.choice(["pair", "all_user", "last"]),
        aggregation=chance.choice(["pooled", "dialogue_mean"]),
        target=chance.choice(["corpus", "superpopulation"]),
    )
    found = summarise(odd_corpus(1000 + seed).turns, options=chosen, replicates=40)
    assert found["groups"]


def test_a_stratum_that_a_domain_lacks_costs_the_report_nothing() -> None:
    """Every verified turn of one stratum is surprise: with surprise left out, that stratum has no turn."""
    rows = [
        {
            "dialogue": f"d{place // 2}",
            "turn": place % 2,
            "system": "a",
            "user_label": label,
            "response_label": "joy",
            "user_verified": label,
            "response_verified": "joy" if place % 3 else "neutral",
            "stratum": label,
            "inclusion_probability": 0.5,
        }
        for place, label in enumerate(["joy", "surprise", "neutral", "surprise"] * 6)
    ]
    (group,) = summarise(pd.DataFrame(rows), replicates=50)["groups"]
    excluded = group["verified"]["coarse_surprise_excluded"]
    assert (excluded["n"], excluded["reason"]) == (12, None)
