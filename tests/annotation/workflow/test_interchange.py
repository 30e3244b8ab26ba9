"""Label Studio and doccano, out and in. Every label here is made by the program in `report_corpus`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from annotation.models import Campaign, Item, Judgment, Membership, SampledTurn, Slot, User
from annotation.workflow import interchange
from tests.annotation.workflow.report_corpus import Corpus, make_corpus

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> Corpus:
    return make_corpus()


@pytest.fixture
def copy(world: Corpus) -> Campaign:
    """A campaign over the same turns in which nobody has answered: two free slots per item."""
    made = Campaign.objects.create(name="copy", title="Copy", classifier=world.classifier)
    for drawn in SampledTurn.objects.filter(campaign=world.campaign):
        again = SampledTurn.objects.create(
            campaign=made,
            turn=drawn.turn,
            inclusion_probability=drawn.inclusion_probability,
            draw_order=drawn.draw_order,
        )
        for item in drawn.items.filter(kind__in=["user", "response"]):
            fresh = Item.objects.create(
                campaign=made, kind=item.kind, sampled_turn=again, response=item.response, position=item.position
            )
            for number in (1, 2):
                Slot.objects.create(item=fresh, campaign=made, task="verify", position=0, number=number)
    return made


def essence(campaign: Campaign) -> set[tuple[Any, ...]]:
    """Which label who gave to what, and how long it took."""
    found = Judgment.objects.filter(item__campaign=campaign, action="label", set_aside=False)
    names = dict(Membership.objects.filter(campaign=campaign, role="annotator").values_list("user_id", "pseudonym"))
    return {
        (
            j.item.kind,
            j.item.sampled_turn.turn_id,
            j.item.response_id,
            names[j.annotator_id],
            j.label,
            j.active_ms,
            j.comment,
            j.received_at,
        )
        for j in found.select_related("item__sampled_turn")
    }


@pytest.mark.parametrize("program", ["label studio", "doccano"])
def test_a_round_trip_loses_nothing_that_both_sides_can_say(world: Corpus, copy: Campaign, program: str) -> None:
    Judgment.objects.filter(label="fear").update(comment="a shiver, “really”")
    if program == "label studio":
        records = interchange.read_label_studio("".join(interchange.label_studio_json(world.campaign)))
    else:
        records = interchange.read_doccano(interchange.doccano_lines(world.campaign))
    outcome = interchange.import_labels(copy, records)
    assert outcome.problems == []
    assert outcome.stored == Judgment.objects.filter(item__campaign=world.campaign, action="label").count()
    assert essence(copy) == essence(world.campaign)


def test_the_prelabel_travels(world: Corpus, copy: Campaign) -> None:
    Slot.objects.filter(campaign=world.campaign).update(prelabel="joy", arm="hidden")
    interchange.import_labels(copy, interchange.read_doccano(interchange.doccano_lines(world.campaign)))
    taken = Slot.objects.filter(campaign=copy, state="done")
    assert set(taken.values_list("prelabel", "arm")) == {("joy", "hidden")}
    tasks = json.loads("".join(interchange.label_studio_json(world.campaign)))
    guessed = next(task for task in tasks if task["predictions"])["predictions"][0]["result"][0]
    assert guessed["value"] == {"choices": ["joy"]}


def test_importing_the_same_file_twice_changes_nothing(world: Corpus, copy: Campaign) -> None:
    text = "".join(interchange.label_studio_json(world.campaign))
    first = interchange.import_labels(copy, interchange.read_label_studio(text))
    again = interchange.import_labels(copy, interchange.read_label_studio(text))
    assert (again.stored, again.set_aside) == (0, 0)
    assert again.duplicates == first.stored
    assert interchange.import_labels(world.campaign, interchange.read_label_studio(text)).duplicates == first.stored


def test_an_item_never_gets_more_answers_than_it_asked_for(world: Corpus, copy: Campaign) -> None:
    lines = list(interchange.doccano_lines(world.campaign))
    extra = [json.loads(line) | {"annotator": "r-third", "judgment": "", "campaign": None} for line in lines[:4]]
    outcome = interchange.import_labels(copy, interchange.read_doccano([*lines, *map(json.dumps, extra)]))
    assert outcome.set_aside == 4
    assert Slot.objects.filter(campaign=copy, state="done").count() == outcome.stored
    copy.refresh_from_db()
    assert copy.verify_done == outcome.stored


def test_rows_made_elsewhere_find_their_item_by_text_or_say_why_not(world: Corpus, copy: Campaign) -> None:
    rows = [
        {"text": "user says d1/1 ", "label": ["joy"], "annotator": "kim"},
        {"text": "nobody said this", "label": ["joy"], "annotator": "kim"},
        {"text": "user says d2/1 ", "label": ["happiness"], "annotator": "kim"},
    ]
    outcome = interchange.import_labels(copy, interchange.read_doccano(map(json.dumps, rows)))
    assert outcome.stored == 1
    assert len(outcome.problems) == 2
    assert "line 2" in outcome.problems[0]
    assert "'happiness' is not one of the labels" in outcome.problems[1]


def test_an_unknown_annotator_becomes_a_member_who_cannot_sign_in(world: Corpus, copy: Campaign) -> None:
    row = {"text": "user says d1/1 ", "label": ["joy"], "annotator": "kim@example.org"}
    interchange.import_labels(copy, interchange.read_doccano([json.dumps(row)]))
    member = Membership.objects.get(campaign=copy)
    assert member.pseudonym == "kim@example.org"
    user: User = member.user
    assert not user.is_active
    assert not user.has_usable_password()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "not JSON"),
        ('{"a": 1}', "list of tasks"),
        ("[1]", "task 1"),
        ('[{"data": "x"}]', "task 1"),
    ],
)
def test_a_broken_label_studio_file_is_refused_saying_where(text: str, message: str) -> None:
    with pytest.raises(interchange.InterchangeError, match=message):
        list(interchange.read_label_studio(text))


def test_a_broken_doccano_line_is_refused_saying_where() -> None:
    with pytest.raises(interchange.InterchangeError, match="line 2"):
        list(interchange.read_doccano(['{"text": "a", "label": []}', "{"]))


def test_skipped_and_ground_truth_annotations_are_no_labels(world: Corpus, copy: Campaign) -> None:
    tasks = json.loads("".join(interchange.label_studio_json(world.campaign)))
    assert any(a.get("ground_truth") for task in tasks for a in task["annotations"])
    for task in tasks:
        for annotation in task["annotations"]:
            annotation["was_cancelled"] = True
    assert list(interchange.read_label_studio(json.dumps(tasks))) == []


def test_hostile_text_stays_text(world: Corpus, copy: Campaign) -> None:
    hostile = "</script><script>alert(1)</script> =cmd|' /C calc'!A0 \\input{x} ../../etc"
    Judgment.objects.filter(action="label").update(comment=hostile)
    records = interchange.read_label_studio("".join(interchange.label_studio_json(world.campaign)))
    interchange.import_labels(copy, records)
    assert set(Judgment.objects.filter(item__campaign=copy).values_list("comment", flat=True)) == {hostile}


def test_ratings_leave_for_label_studio_with_their_scale(world: Corpus) -> None:
    tasks = json.loads("".join(interchange.label_studio_json(world.campaign)))
    stars = [part for task in tasks for a in task["annotations"] for part in a["result"] if part["type"] == "rating"]
    assert sorted(part["value"]["rating"] for part in stars) == [1, 2, 2, 3, 4, 5]
    assert {part["from_name"] for part in stars} == {"satisfaction"}


def test_the_codebook_says_what_is_lost() -> None:
    text = interchange.codebook()
    assert "Label Studio" in text
    assert "doccano" in text
