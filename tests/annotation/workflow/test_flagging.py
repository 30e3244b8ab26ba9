"""Imported responses are flagged like generated ones, as far as words alone tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import call_command

from annotation.models import Dataset, Dialogue, Generation, ImportRun, Response, System, Turn
from annotation.workflow import frames
from annotation.workflow.intake import import_responses

pytestmark = pytest.mark.django_db

SAID = (
    "Have you seen Heat? It is a great film.",
    "I'm sorry, but I can't help with that.",
    "Internal Server Error: the upstream model is not available.",
    "Claro, la película es muy buena y el final es una sorpresa para todos los que la ven.",
)


@pytest.fixture
def imported(corpus: Dataset, tmp_path: Path) -> Path:
    turns = list(Turn.objects.order_by("dialogue_id", "position")[: len(SAID)])
    path = tmp_path / "mine.jsonl"
    rows = [
        {"dialogue_id": turn.dialogue.source_id, "turn_id": turn.position, "system": "mine", "response": said}
        for turn, said in zip(turns, SAID, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def flags() -> list[list[str]]:
    rows = Response.objects.filter(system__name="mine").order_by("turn__dialogue_id", "turn__position")
    return [row.flags for row in rows]


def test_an_import_flags_what_is_conspicuous_and_says_how_many(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("import_responses", str(imported), skip_checks=True)
    assert flags() == [[], ["refusal"], ["error_text"], ["wrong_language"]]
    said = capsys.readouterr().out
    assert "conspicuous: 1 refusal, 1 error_text, 1 wrong_language" in said
    assert "left out of the numbers" in said
    assert ImportRun.objects.latest("pk").counts["flags"] == {"refusal": 1, "error_text": 1, "wrong_language": 1}


def test_responses_of_an_older_import_are_flagged_by_a_command_that_may_run_twice(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_responses(imported)
    Response.objects.update(flags=[])
    Response.objects.filter(shown=SAID[0]).update(flags=["checked by hand"])
    for _ in range(2):
        call_command("check_responses")
        assert flags() == [["checked by hand"], ["refusal"], ["error_text"], ["wrong_language"]]
    assert "1 refusal" in capsys.readouterr().out


def test_the_human_reference_and_generated_answers_are_left_as_they_are(corpus: Dataset) -> None:
    human = Response.objects.filter(system__is_reference=True).first()
    generated = Response.objects.filter(system__name="alpha").first()
    assert human is not None
    assert generated is not None
    Response.objects.filter(pk__in=[human.pk, generated.pk]).update(raw=SAID[1])
    Response.objects.filter(pk=generated.pk).update(source={"generated": True}, flags=["truncated"])
    call_command("check_responses")
    human.refresh_from_db()
    generated.refresh_from_db()
    assert (human.flags, generated.flags) == ([], ["truncated"])


def test_the_fairness_table_counts_every_way_of_not_answering(imported: Path, corpus: Dataset) -> None:
    import_responses(imported)
    mine, silent = System.objects.get(name="mine"), System.objects.create(name="silent")
    rest = list(Turn.objects.exclude(responses__system=mine).order_by("pk"))
    common = {"system": mine, "template": "t", "prompt_digest": ""}
    Generation.objects.create(turn=rest[0], state="empty", flags=["truncated", "empty"], **common)
    Generation.objects.create(turn=rest[1], state="failed", error="timeout", **common)
    selection = frames.Selection(datasets=(corpus,), systems=(mine, silent, System.objects.get(name="alpha")))
    table = frames.response_status(selection).set_index("system")
    columns = ["turns", "answered", "usable", "truncated", "empty", "refusal", "error_text", "wrong_language"]
    columns += ["failed", "not_asked", "common_turns"]
    assert table.loc["mine", columns].tolist() == [16, 4, 3, 1, 1, 1, 1, 1, 1, 10, 0]
    assert table.loc["silent", columns].tolist() == [16, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0]
    assert table.loc["alpha", ["answered", "not_asked"]].tolist() == [16, 0]
    without = frames.Selection(datasets=(corpus,), systems=(mine, System.objects.get(name="alpha")))
    assert set(frames.response_status(without)["common_turns"]) == {4}
    assert Dialogue.objects.count() == 8
