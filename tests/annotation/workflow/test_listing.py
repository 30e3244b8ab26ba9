from __future__ import annotations

from typing import Any

import pytest
from django.core.files.base import ContentFile

from annotation.corpora import CorpusError
from annotation.models import Campaign, Dataset, Response, SampledTurn, Turn
from annotation.workflow.frames import Selection, build_frames
from annotation.workflow.listing import Listed, read_list
from annotation.workflow.opening import OpeningError, open_campaign
from tests.factories import make_corpus


def listed(text: str, *datasets: Dataset, name: str = "list.csv") -> Listed:
    return read_list(ContentFile(text.encode(), name=name), datasets=datasets)


def place(turn: Turn) -> str:
    return f"{turn.dialogue.source_id},{turn.position}"


@pytest.fixture
def turns(corpus: Dataset) -> list[Turn]:
    return list(Turn.objects.select_related("dialogue").order_by("-pk")[:3])


def test_a_list_names_turns_as_exports_do_and_keeps_its_order(corpus: Dataset, turns: list[Turn]) -> None:
    rows = "".join(f"{place(turn)}\n" for turn in turns)
    found = listed(f"dialogue,turn\n{rows}", corpus)
    assert (found.turns, found.probabilities, found.unmatched) == ([turn.pk for turn in turns], [], [])


def test_json_lines_and_a_column_of_data_sets_do_as_well(corpus: Dataset, turns: list[Turn]) -> None:
    other = make_corpus(2, dataset="inspired")
    rows = "".join(
        f'{{"dataset": "redial", "dialogue": "{turn.dialogue.source_id}", "turn": {turn.position}}}\n' for turn in turns
    )
    assert listed(rows, corpus, other, name="list.jsonl").turns == [turn.pk for turn in turns]
    without = listed(f"dialogue,turn\n{place(turns[0])}\n", corpus, other)
    assert without.trouble() == "line 2: no data set named, and the campaign has several."


def test_every_row_that_matches_nothing_is_named_with_its_line_and_reason(corpus: Dataset, turns: list[Turn]) -> None:
    text = "\n".join(
        [
            "dataset,dialogue,turn",
            f"redial,{place(turns[0])}",
            "redial,no-such,1",
            f"redial,{turns[0].dialogue.source_id},99",
            f"redial,{turns[0].dialogue.source_id},first",
            f"inspired,{place(turns[1])}",
            f"redial,{place(turns[0])}",
        ]
    )
    found = listed(text, corpus)
    dialogue = turns[0].dialogue.source_id
    assert found.turns == [turns[0].pk]
    assert [(row.line, row.reason) for row in found.unmatched] == [
        (3, "there is no turn 1 in dialogue no-such of redial"),
        (4, f"there is no turn 99 in dialogue {dialogue} of redial"),
        (5, "a dialogue and the number of a turn are wanted"),
        (6, "the campaign has no data set called inspired"),
        (7, f"turn {turns[0].position} of dialogue {dialogue} is listed twice"),
    ]
    assert found.trouble().startswith("line 3: there is no turn 1 in dialogue no-such of redial; line 4:")


def test_of_many_unmatched_rows_the_first_are_named_and_the_others_counted(corpus: Dataset) -> None:
    found = listed("dialogue,turn\n" + "nowhere,1\n" * 25, corpus)
    assert found.trouble().endswith("; and 5 more rows.")
    assert found.trouble().count("line ") == 20


@pytest.mark.parametrize(
    ("chances", "reasons"),
    [
        (["0.5", "0.25", "1"], []),
        (["0.5", "", "1"], ["no inclusion probability, where other rows have one"]),
        (["0.5", "0", "1"], ["0 is no probability above 0 and at most 1"]),
        (["0.5", "likely", "1"], ["likely is no probability above 0 and at most 1"]),
        (["0.5", "nan", "1"], ["nan is no probability above 0 and at most 1"]),
    ],
)
def test_inclusion_probabilities_come_with_every_row_or_none(
    corpus: Dataset, turns: list[Turn], chances: list[str], reasons: list[str]
) -> None:
    rows = "".join(f"{place(turn)},{chance}\n" for turn, chance in zip(turns, chances, strict=True))
    found = listed(f"dialogue,turn,inclusion_probability\n{rows}", corpus)
    assert [row.reason for row in found.unmatched] == reasons
    if not reasons:
        assert found.probabilities == [0.5, 0.25, 1.0]


@pytest.mark.parametrize("text", ["", "dialogue\n1\n", "turn,words\n1,a\n", "dialogue,turn\n"])
def test_what_is_no_list_of_turns_is_refused_in_words(corpus: Dataset, text: str) -> None:
    with pytest.raises(CorpusError):
        listed(text, corpus)


def test_a_listed_sample_keeps_its_probabilities_and_speaks_for_the_whole_corpus(
    draft: Campaign, turns: list[Turn]
) -> None:
    draft.design = {"kind": "list", "turns": [turn.pk for turn in turns], "probabilities": [0.5, 0.25, 1.0]}
    draft.save()
    open_campaign(draft)
    sampled = dict(SampledTurn.objects.filter(campaign=draft).values_list("turn_id", "inclusion_probability"))
    assert sampled == dict(zip([turn.pk for turn in turns], [0.5, 0.25, 1.0], strict=True))
    assert report_turns(draft) == 16


def test_a_hand_made_list_speaks_for_itself_only(draft: Campaign, turns: list[Turn]) -> None:
    draft.design = {"kind": "list", "turns": [turn.pk for turn in turns]}
    draft.save()
    open_campaign(draft)
    assert report_turns(draft) == 3


def report_turns(campaign: Campaign) -> int:
    selection = Selection(
        datasets=tuple(campaign.datasets.all()), systems=tuple(campaign.systems.all()), campaign=campaign
    )
    return build_frames(selection).counts["turns"]


@pytest.mark.parametrize("probabilities", [[0.5], [0.5, 0.5, 2.0]])
def test_probabilities_that_do_not_fit_the_list_are_refused(
    draft: Campaign, turns: list[Turn], probabilities: list[Any]
) -> None:
    draft.design = {"kind": "list", "turns": [turn.pk for turn in turns], "probabilities": probabilities}
    draft.save()
    with pytest.raises(OpeningError, match="inclusion probability"):
        open_campaign(draft)


def test_listed_turns_that_cannot_be_drawn_are_named_by_dialogue_and_turn(draft: Campaign, turns: list[Turn]) -> None:
    Response.objects.filter(turn=turns[0], system__name="alpha").delete()
    draft.design = {"kind": "list", "turns": [turn.pk for turn in turns]}
    draft.save()
    with pytest.raises(
        OpeningError, match=f"not in the frame.*turn {turns[0].position} of dialogue {turns[0].dialogue.source_id}"
    ):
        open_campaign(draft)
    assert not SampledTurn.objects.filter(campaign=draft).exists()
