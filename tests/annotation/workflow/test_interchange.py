"""Label Studio and doccano, out and in. Every label here is made by the program in `report_corpus`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from annotation.corpora import CorpusError
from annotation.corpora.labels import LabelColumns
from annotation.models import Campaign, ImportRun, Item, Judgment, Membership, SampledTurn, Slot, User
from annotation.workflow import exports, frames, interchange
from annotation.workflow.label_intake import import_labels
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
        for item in drawn.items.filter(kind__in=["user", "response", "rate"]):
            fresh = Item.objects.create(
                campaign=made, kind=item.kind, sampled_turn=again, response=item.response, position=item.position
            )
            task = "rate" if item.kind == "rate" else "verify"
            for number in (1, 2):
                Slot.objects.create(item=fresh, campaign=made, task=task, position=0, number=number)
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


def saved(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(lines), encoding="utf-8")
    return path


def rows(*records: dict[str, Any]) -> list[str]:
    return [json.dumps(record) + "\n" for record in records]


def as_imported(found: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """The same labels under the pseudonyms that imported raters get."""
    return {(*one[:3], one[3].replace("r-", "i-"), *one[4:]) for one in found}


@pytest.mark.parametrize("program", ["label studio", "doccano", "own table"])
def test_a_round_trip_loses_nothing_that_both_sides_can_say(
    world: Corpus, copy: Campaign, tmp_path: Path, program: str
) -> None:
    Judgment.objects.filter(label="fear").update(comment="a shiver, “really”")
    lines, name = {
        "label studio": (interchange.label_studio_json(world.campaign), "tasks.json"),
        "doccano": (interchange.doccano_lines(world.campaign), "lines.jsonl"),
        "own table": (exports.export_lines(world.campaign, "judgments", "csv"), "judgments.csv"),
    }[program]
    outcome = import_labels(saved(tmp_path / name, lines), campaign=copy)
    given = Judgment.objects.filter(item__campaign=world.campaign)
    answers = given.filter(action="label").count()
    assert outcome.created["labels"] == answers
    if program == "own table":
        # A table of labels has no ratings: each such row is named. Time on an item is a column it does not map.
        assert [problem["reason"] for problem in outcome.problems] == ["neither a label nor a rating"] * 3
        assert {(*one[:5], *one[6:]) for one in essence(copy)} == {
            (*one[:5], *one[6:]) for one in as_imported(essence(world.campaign))
        }
    else:
        assert outcome.problems == []
        assert essence(copy) == as_imported(essence(world.campaign))


@pytest.mark.parametrize("program", ["label studio", "own table"])
def test_ratings_make_the_round_trip_too(world: Corpus, copy: Campaign, tmp_path: Path, program: str) -> None:
    copy.scales = world.campaign.scales
    copy.save()
    lines, name = {
        "label studio": (interchange.label_studio_json(world.campaign), "tasks.json"),
        "own table": (exports.export_lines(world.campaign, "ratings", "jsonl"), "ratings.jsonl"),
    }[program]
    outcome = import_labels(saved(tmp_path / name, lines), campaign=copy)
    assert outcome.problems == []
    assert outcome.created["ratings"] == 3

    def rated(campaign: Campaign) -> set[tuple[int, str]]:
        found = Judgment.objects.filter(item__campaign=campaign, action="rate", set_aside=False)
        return {(one.item.sampled_turn.turn_id, json.dumps(one.ratings, sort_keys=True)) for one in found}

    assert rated(copy) == rated(world.campaign)
    copy.refresh_from_db()
    assert copy.rate_done == 3


def test_the_prelabel_and_the_arm_travel(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    Slot.objects.filter(campaign=world.campaign, task="verify").update(prelabel="joy", arm="hidden")
    for name, lines in (
        ("lines.jsonl", interchange.doccano_lines(world.campaign)),
        ("tasks.json", interchange.label_studio_json(world.campaign)),
    ):
        import_labels(saved(tmp_path / name, lines), campaign=copy)
        taken = Slot.objects.filter(campaign=copy, state="done", task="verify")
        assert set(taken.values_list("prelabel", "arm")) == {("joy", "hidden")}
        Judgment.objects.filter(item__campaign=copy).delete()
        taken.update(state="free", annotator=None, arm="", prelabel="")
    tasks = json.loads("".join(interchange.label_studio_json(world.campaign)))
    guessed = next(task for task in tasks if task["predictions"])["predictions"][0]["result"][0]
    assert guessed["value"] == {"choices": ["joy"]}


def test_a_label_given_beside_a_prediction_elsewhere_is_taken_for_one_that_saw_it(
    world: Corpus, copy: Campaign, tmp_path: Path
) -> None:
    task = {
        "data": {"text": "user says d1/1 "},
        "predictions": [{"result": [interchange._choice("joy")]}],
        "annotations": [{"completed_by": 7, "result": [interchange._choice("joy")]}],
    }
    path = saved(tmp_path / "tasks.json", [json.dumps([task])])
    import_labels(path, campaign=copy)
    assert Slot.objects.get(campaign=copy, state="done").arm == "shown"
    assert Judgment.objects.get(item__campaign=copy).prelabel_outcome == "agreed"
    copy.datasets.set(world.datasets)
    copy.allow_single = True
    copy.save()
    selection = frames.Selection(world.datasets, world.systems, world.classifier, campaign=copy)
    assert frames.build_frames(selection).counts["verified_items"] == 0
    pooled = frames.Selection(world.datasets, world.systems, world.classifier, campaign=copy, arms="all")
    assert frames.build_frames(pooled).counts["verified_items"] == 1


def test_importing_the_same_file_twice_changes_nothing(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    path = saved(tmp_path / "tasks.json", interchange.label_studio_json(world.campaign))
    first = import_labels(path, campaign=copy)
    before = set(Judgment.objects.values_list("pk", flat=True))
    people = User.objects.count()
    for campaign in (copy, world.campaign):  # the campaign it came from knows every answer too
        again = import_labels(path, campaign=campaign)
        assert (again.kept, again.unchanged, again.problems) == (0, first.kept, [])
    assert set(Judgment.objects.values_list("pk", flat=True)) == before
    assert User.objects.count() == people


def test_an_answer_that_is_known_otherwise_is_a_conflict_and_stays(
    world: Corpus, copy: Campaign, tmp_path: Path
) -> None:
    lines = list(interchange.doccano_lines(world.campaign))
    changed = json.loads(lines[0]) | {"label": ["disgust"]}
    outcome = import_labels(saved(tmp_path / "changed.jsonl", rows(changed)), campaign=world.campaign)
    assert outcome.conflicts == 1
    assert Judgment.objects.get(pk=changed["judgment"]).label != "disgust"


def test_an_item_never_gets_more_answers_than_it_asked_for(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    lines = list(interchange.doccano_lines(world.campaign))
    extra = [json.loads(line) | {"annotator": "third", "judgment": "", "campaign": None} for line in lines[:4]]
    outcome = import_labels(saved(tmp_path / "more.jsonl", [*lines, *rows(*extra)]), campaign=copy)
    assert outcome.created["set aside"] == 4
    assert Slot.objects.filter(campaign=copy, task="verify", state="done").count() == outcome.created["labels"]
    copy.refresh_from_db()
    assert copy.verify_done == outcome.created["labels"]


def test_imported_labels_that_disagree_go_to_the_adjudicator(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    import_labels(saved(tmp_path / "lines.jsonl", interchange.doccano_lines(world.campaign)), campaign=copy)
    # fear | sadness for a user, neutral | joy for a reference: see GIVEN
    assert Item.objects.filter(campaign=copy, dispute__isnull=False).count() == 2


def test_every_bad_row_is_named_and_the_others_come_in_or_none(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    good = {"text": "user says d1/1 ", "label": ["joy"], "annotator": "kim"}
    bad = [
        {"text": "nobody said this", "label": ["joy"], "annotator": "kim"},
        {"text": "user says d2/1 ", "label": ["happiness"], "annotator": "kim"},
        {"text": "user says d2/1 "},
    ]
    path = saved(tmp_path / "mixed.jsonl", [*rows(good, *bad), "{\n"])
    strict = import_labels(path, campaign=copy, on_bad_row="abort")
    assert strict.aborted
    assert not Judgment.objects.filter(item__campaign=copy).exists()
    outcome = import_labels(path, campaign=copy)
    assert outcome.created["labels"] == 1
    found = {(problem["file"], problem["line"]): problem["reason"] for problem in outcome.problems}
    assert set(found) == {("mixed.jsonl", line) for line in (2, 3, 4, 5)}
    assert "no question of this campaign" in found["mixed.jsonl", 2]
    assert "'happiness' is not one of the labels" in found["mixed.jsonl", 3]
    assert "needs text and label" in found["mixed.jsonl", 4]
    run = ImportRun.objects.get(pk=outcome.run_id)
    assert (run.kind, run.file_name, len(run.problems)) == ("labels", "mixed.jsonl", 4)


def test_a_broken_task_is_named_and_the_others_come_in(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    good = {"data": {"text": "user says d1/1 "}, "annotations": [{"result": [interchange._choice("joy")]}]}
    tasks = [1, {"data": "x"}, {"data": {"text": "y"}, "annotations": [3]}, good]
    outcome = import_labels(saved(tmp_path / "tasks.json", [json.dumps(tasks)]), campaign=copy)
    assert [(problem["line"], problem["reason"][:6]) for problem in outcome.problems] == [
        (1, "task 1"),
        (2, "task 2"),
        (3, "task 3"),
    ]
    assert outcome.created["labels"] == 1


def test_an_imported_rater_is_a_pseudonym_who_cannot_sign_in(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    row = {"text": "user says d1/1 ", "label": ["joy"], "annotator": "kim@example.org"}
    import_labels(saved(tmp_path / "one.jsonl", rows(row)), campaign=copy)
    member = Membership.objects.get(campaign=copy)
    assert member.pseudonym.startswith("i-")
    assert "kim" not in member.pseudonym + member.user.username + member.user.email
    user: User = member.user
    assert not user.is_active
    assert not user.has_usable_password()


def test_no_file_can_put_an_answer_into_the_mouth_of_someone_here(
    world: Corpus, copy: Campaign, tmp_path: Path
) -> None:
    ada = world.people["ada"]
    Membership.objects.create(user=ada, campaign=copy, role="annotator", pseudonym="r-a000")
    row = {"text": "user says d1/1 ", "label": ["fear"], "annotator": "r-a000"}
    import_labels(saved(tmp_path / "one.jsonl", rows(row)), campaign=copy)
    judgment = Judgment.objects.get(item__campaign=copy)
    assert judgment.annotator != ada
    exported = next(iter(exports.judgment_records(copy)))
    assert (exported["annotator"], exported["device"]) == ("i-a000", "imported")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[not json", "no JSON"),
        ('["a", {]', "no JSON"),
        ("coder,label\nx,joy\n", "dialogue and turn, or text"),
        ("coder;label\nx;joy\n", "annotator"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_saying_why(
    world: Corpus, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(CorpusError, match=message):
        import_labels(saved(tmp_path / "file", [text]), campaign=world.campaign, columns=None)


def test_any_table_of_labels_and_ratings_comes_in_by_its_columns(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "who": ["kim", "lee", "kim", "lee"],
            "talk": ["d1", "d1", "d1", "d2"],
            "no": [1, 1, 1, 1],
            "by": ["", "", "alpha", "beta"],
            "emotion": ["Joy", "fear", "", ""],
            "liked": [None, None, 4, 9],
        }
    )
    columns = LabelColumns.parse(
        ["annotator=who", "dialogue=talk", "turn=no", "system=by", "label=emotion", "rating:satisfaction=liked"]
    )
    copy.scales = [{"name": "satisfaction", "points": 5}]
    copy.save()
    writers = {"csv": table.to_csv, "xlsx": table.to_excel, "parquet": table.to_parquet}
    for suffix, write in writers.items():
        path = tmp_path / f"study.{suffix}"
        write(path, index=False)
        outcome = import_labels(path, campaign=copy, columns=columns, on_bad_row="skip")
        assert [problem["reason"] for problem in outcome.problems] == [
            "satisfaction is '9', expected a whole number from 1 to 5"
        ]
        if suffix == "csv":
            assert dict(outcome.created) == {"labels": 2, "ratings": 1}
        else:  # the same study in another container is the same study
            assert (outcome.kept, outcome.unchanged) == (0, 3)
    with pytest.raises(CorpusError, match="column emotion missing"):
        import_labels(saved(tmp_path / "a.csv", ["who,talk,no,by,liked\n"]), campaign=copy, columns=columns)


def test_the_command_imports_and_fails_saying_what_was_wrong(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    path = saved(tmp_path / "lines.jsonl", interchange.doccano_lines(world.campaign))
    said = StringIO()
    call_command("import_labels", "copy", path, stdout=said)
    assert f"created: {len(path.read_text().splitlines())} labels" in said.getvalue()
    with pytest.raises(CommandError, match="no campaign called 'none'"):
        call_command("import_labels", "none", path)
    broken = saved(tmp_path / "broken.jsonl", rows({"text": "?", "label": []}, {"text": "?"}))
    with pytest.raises(CommandError, match="nothing was imported"):
        call_command("import_labels", "copy", broken, "--strict", stdout=said)
    with pytest.raises(CommandError, match="There is no part 'colour'"):
        call_command("import_labels", "copy", path, "--columns", "colour=x")


def test_skipped_and_ground_truth_annotations_are_no_labels(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    tasks = json.loads("".join(interchange.label_studio_json(world.campaign)))
    assert any(a.get("ground_truth") for task in tasks for a in task["annotations"])
    for task in tasks:
        for annotation in task["annotations"]:
            annotation["was_cancelled"] = True
    outcome = import_labels(saved(tmp_path / "tasks.json", [json.dumps(tasks)]), campaign=copy)
    assert outcome.rows == 0
    assert not Judgment.objects.filter(item__campaign=copy).exists()


def test_hostile_text_stays_text(world: Corpus, copy: Campaign, tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script> =cmd|' /C calc'!A0 \\input{x} ../../etc"
    Judgment.objects.filter(action="label").update(comment=hostile)
    import_labels(saved(tmp_path / "tasks.json", interchange.label_studio_json(world.campaign)), campaign=copy)
    labels = Judgment.objects.filter(item__campaign=copy, action="label")
    assert set(labels.values_list("comment", flat=True)) == {hostile}


def test_no_two_annotations_of_a_label_studio_file_share_a_key(world: Corpus) -> None:
    tasks = json.loads("".join(interchange.label_studio_json(world.campaign)))
    keys = [a["unique_id"] for task in tasks for a in task["annotations"] if "unique_id" in a]
    assert len(keys) == len(set(keys))


def test_ratings_leave_for_label_studio_with_their_scale(world: Corpus) -> None:
    tasks = json.loads("".join(interchange.label_studio_json(world.campaign)))
    stars = [part for task in tasks for a in task["annotations"] for part in a["result"] if part["type"] == "rating"]
    assert sorted(part["value"]["rating"] for part in stars) == [1, 2, 2, 3, 4, 5]
    assert {part["from_name"] for part in stars} == {"satisfaction"}


def test_the_codebook_says_what_is_lost() -> None:
    text = interchange.codebook()
    assert "Label Studio" in text
    assert "doccano" in text
