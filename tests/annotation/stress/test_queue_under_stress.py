from __future__ import annotations

import json

import pytest

from tests.annotation.stress.conftest import Site


def stress(site: Site, *, annotators: int, overlap: int, turns: int) -> None:
    """Let everyone work at once, then hold what they were told against what the database has."""
    program = ("-m", "tests.annotation.stress.annotators", "everyone")
    output = json.loads(site.run(*program, str(annotators), str(overlap), str(turns), "5", timeout=590))
    facts, results = output["facts"], output["told"]
    told = sum(result["stored"] for result in results)

    assert facts["slots_per_item"] == [overlap]
    assert facts["answers_per_item"] == [overlap]  # none starved, none over k
    assert facts["items_answered"] == facts["items"]
    assert facts["twice"] == 0  # nobody answered an item twice
    assert facts["states"] == ["done"]
    assert facts["standing"] == facts["counted"] == facts["wanted"] == told
    assert facts["judgments"] == told + sum(result["set_aside"] for result in results)
    assert sum(result["errors"] for result in results) == 0
    assert sum(result["lapsed"] for result in results) > 0
    assert sum(result["returned"] for result in results) > 0


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_six_annotators_at_once_leave_every_item_with_exactly_k_answers(site: Site, overlap: int) -> None:
    stress(site, annotators=6, overlap=overlap, turns=16)


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_twenty_annotators_at_once_leave_every_item_with_exactly_k_answers(site: Site, overlap: int) -> None:
    stress(site, annotators=20, overlap=overlap, turns=300)
