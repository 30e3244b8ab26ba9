"""The door from the database to the statistics. Every label here is made by the program in `report_corpus`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotation.models import (
    Campaign,
    Classifier,
    Dialogue,
    Item,
    Judgment,
    Membership,
    Prediction,
    Response,
    Turn,
    User,
    Utterance,
)
from annotation.workflow import frames, predictions
from annotation.workflow.cases import choose_cases
from evaluation.aggregation import verified_label
from evaluation.emotions import EMOTIONS, GO_EMOTIONS
from evaluation.tables import check_judgments, check_ratings, check_turns
from tests.annotation.workflow.report_corpus import ADJUDICATED, GIVEN, LABELLED, START, Corpus, answer, make_corpus

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> Corpus:
    return make_corpus()


def selected(world: Corpus, **more: Any) -> frames.Selection:
    given: dict[str, Any] = {
        "datasets": world.datasets,
        "systems": world.systems,
        "classifier": world.classifier,
        "campaign": world.campaign,
    }
    return frames.Selection(**{**given, **more})


def test_there_is_one_row_per_turn_and_system_with_the_classifiers_labels(world: Corpus) -> None:
    turns = frames.build_frames(selected(world, campaign=None)).turns
    expected = {}
    for dataset, dialogue, turn, user, *said in LABELLED:
        for system, label in zip(("reference", "alpha", "beta"), said, strict=True):
            if label:
                expected[dataset, dialogue, turn, system] = (user, label, said[0])
    keys = ["dataset", "dialogue", "turn", "system"]
    labels = ["user_label", "response_label", "reference_label"]
    found = {tuple(row[:4]): tuple(row[4:]) for row in turns[keys + labels].itertuples(index=False)}
    assert found == expected
    assert set(turns.loc[turns["is_reference"], "system"]) == {"reference"}


def test_the_tables_keep_the_contract_of_the_statistics(world: Corpus) -> None:
    made = frames.build_frames(selected(world))
    check_turns(made.turns)
    check_judgments(made.judgments)
    check_ratings(made.ratings)


def test_verified_labels_follow_the_one_rule_of_the_statistics(world: Corpus) -> None:
    made = frames.build_frames(selected(world))
    rows = made.turns.set_index(["dialogue", "turn", "system"])
    for (dialogue, turn), given in GIVEN.items():
        for place, (who, labels) in enumerate(zip(("user", "reference", "alpha", "beta"), given, strict=True)):
            decided = ADJUDICATED.get((dialogue, turn, who))
            expected = verified_label(labels, decided).label
            column = "user_verified" if place == 0 else "response_verified"
            found = rows.loc[(dialogue, turn, "alpha" if place == 0 else who), column]
            assert (None if pd.isna(found) else found) == expected, (dialogue, turn, who)


def test_the_majority_of_many_items_at_once_is_the_rule_applied_to_each() -> None:
    rng = np.random.default_rng(5)
    items = rng.integers(0, 300, 900)
    labels = rng.choice(EMOTIONS[:3], 900)
    for single in (False, True):
        found = frames.majority(items, labels, allow_single=single)
        for item in np.unique(items):
            expected = verified_label(labels[items == item].tolist(), allow_single=single).label
            assert found.loc[item, "label"] == expected or (expected is None and found.loc[item, "label"] is None)


def test_a_tie_and_a_lone_label_verify_nothing_and_ties_are_counted(world: Corpus) -> None:
    made = frames.build_frames(selected(world))
    rows = made.turns.set_index(["dialogue", "turn", "system"])
    assert pd.isna(rows.loc[("d1", 3, "reference"), "response_verified"])
    assert pd.isna(rows.loc[("d3", 1, "beta"), "response_verified"])
    assert made.counts["unresolved_items"] == 1


def test_a_lone_label_verifies_where_the_campaign_says_so(world: Corpus) -> None:
    world.campaign.allow_single = True
    rows = frames.build_frames(selected(world)).turns.set_index(["dialogue", "turn", "system"])
    assert rows.loc[("d3", 1, "beta"), "response_verified"] == "joy"


def test_a_corrected_answer_counts_as_corrected_and_before_the_correction_as_it_was(world: Corpus) -> None:
    first = Judgment.objects.get(
        item__kind="user",
        item__sampled_turn__turn__dialogue__source_id="d3",
        label="joy",
        annotator=world.people["ada"],
    )
    later = START + timedelta(days=1)
    Judgment.objects.create(
        item=first.item,
        slot=first.slot,
        annotator=first.annotator,
        action="label",
        label="fear",
        supersedes=first,
        received_at=later,
    )
    now = frames.build_frames(selected(world))
    before = frames.build_frames(selected(world, as_of=later - timedelta(minutes=1)))
    item = first.item_id
    assert set(now.judgments.loc[now.judgments["item"] == item, "label"]) == {"joy", "fear"}
    assert now.counts["superseded"] == 1
    assert set(before.judgments.loc[before.judgments["item"] == item, "label"]) == {"joy"}
    assert before.counts["after_as_of"] == 1


def test_an_answer_set_aside_is_used_by_nothing_and_counted(world: Corpus) -> None:
    Judgment.objects.filter(annotator=world.people["bo"]).update(set_aside=True)
    made = frames.build_frames(selected(world))
    assert set(made.judgments["annotator"]) == {"r-a000"}
    assert made.counts["set_aside"] > 0


def test_people_appear_under_their_pseudonym_and_former_members_under_a_keyed_one(world: Corpus) -> None:
    Membership.objects.filter(user=world.people["bo"]).delete()
    made = frames.build_frames(selected(world))
    names = set(made.judgments["annotator"])
    assert "r-a000" in names
    assert len(names) == 2
    assert not names & {"ada", "bo", "r-b000", str(world.people["bo"].pk)}


def test_in_assisted_mode_labels_given_in_sight_of_the_prelabel_verify_nothing(world: Corpus) -> None:
    Campaign.objects.filter(pk=world.campaign.pk).update(mode="assisted")
    world.campaign.refresh_from_db()
    item = Item.objects.filter(kind="user").order_by("pk").first()
    assert item is not None
    item.slots.update(arm="shown")
    blind = frames.build_frames(selected(world))
    pooled = frames.build_frames(selected(world, arms="all"))
    assert blind.counts["verified_items"] == pooled.counts["verified_items"] - 1
    assert set(blind.judgments.loc[blind.judgments["item"] == item.pk, "arm"]) == {"shown"}


def test_gold_questions_are_no_data(world: Corpus) -> None:
    from annotation.models import GoldQuestion

    gold = GoldQuestion.objects.create(campaign=world.campaign, use="gold", text="so happy", label="joy")
    item = Item.objects.create(campaign=world.campaign, kind="gold", gold=gold, position=0)
    answer(item, world.people["ada"], 0, label="joy")
    assert item.pk not in set(frames.build_frames(selected(world)).judgments["item"])


def test_a_response_without_usable_text_keeps_its_row_and_has_no_label(world: Corpus) -> None:
    response = Response.objects.get(system__name="alpha", turn__dialogue__source_id="d2", turn__position=3)
    response.flags = ["empty"]
    response.save()
    made = frames.build_frames(selected(world, campaign=None))
    row = made.turns[(made.turns["dialogue"] == "d2") & (made.turns["turn"] == 3) & (made.turns["system"] == "alpha")]
    assert len(row) == 1
    assert row["response_label"].isna().all()
    status = made.responses.set_index(["dataset", "system"])
    assert status.loc[("redial", "alpha"), ["answered", "usable", "empty"]].tolist() == [6, 5, 1]
    assert status.loc[("redial", "beta"), ["turns", "answered", "not_asked", "common_turns"]].tolist() == [6, 5, 1, 5]


def test_turns_outside_the_campaigns_sampling_frame_are_left_out_and_counted(world: Corpus) -> None:
    made = frames.build_frames(selected(world))
    # d3/3 has no answer of beta, so a campaign over complete turns could never have drawn it.
    assert made.counts["turns_outside_sampling_frame"] == 1
    assert not ((made.turns["dialogue"] == "d3") & (made.turns["turn"] == 3)).any()


def test_a_classifier_that_learned_is_read_in_the_fold_that_did_not_see_the_dialogue(world: Corpus) -> None:
    dialogues = list(Dialogue.objects.order_by("pk"))
    learned = Classifier.objects.create(
        name="learned",
        revision="1",
        labels=list(GO_EMOTIONS),
        settings={"folds": {"dialogues": {str(d.pk): n % 2 for n, d in enumerate(dialogues)}}},
    )
    for old in Prediction.objects.filter(classifier=world.classifier):
        for fold, emotion in ((0, "anger"), (1, "disgust")):
            row = np.zeros(len(GO_EMOTIONS))
            row[GO_EMOTIONS.index(emotion)] = 1
            Prediction.objects.create(
                classifier=learned, text=old.text, fold=fold, probabilities=row.astype(np.float16).tobytes()
            )
    turns = frames.build_frames(selected(world, classifier=learned, campaign=None)).turns
    expected = {d.source_id: ("anger", "disgust")[n % 2] for n, d in enumerate(dialogues)}
    assert (turns["user_label"] == turns["dialogue"].map(expected)).all()


def test_the_grouping_and_the_temperature_are_applied_when_reading(world: Corpus) -> None:
    fine = np.zeros((1, len(GO_EMOTIONS)), dtype=np.float16)
    fine[0, GO_EMOTIONS.index("curiosity")] = 0.75
    fine[0, GO_EMOTIONS.index("joy")] = 0.25
    world.classifier.settings = {"temperature": {"dialogue": 2.0, "ekman": 2.0}}
    dialogue = predictions.seven(world.classifier, fine, "dialogue")[0]
    ekman = predictions.seven(world.classifier, fine, "ekman")[0]
    assert EMOTIONS[dialogue.argmax()] == "neutral"
    assert EMOTIONS[ekman.argmax()] == "surprise"
    # p^(1/2): sqrt(.75) against sqrt(.25), so .866 / (.866 + .5) = .634
    assert dialogue.max() == pytest.approx(0.634, abs=0.002)
    assert dialogue.sum() == pytest.approx(1, abs=1e-5)


def test_another_label_set_is_read_by_the_mapping_kept_with_the_classifier(world: Corpus) -> None:
    labels = ["good", "bad"]
    other = Classifier.objects.create(
        name="other", revision="1", labels=labels, settings={"mapping": {"good": "joy", "bad": "anger"}}
    )
    found = predictions.seven(other, np.array([[0.2, 0.8]], dtype=np.float16), "dialogue")[0]
    assert EMOTIONS[found.argmax()] == "anger"


def test_the_number_of_queries_does_not_grow_with_the_rows(world: Corpus) -> None:
    with CaptureQueriesContext(connection) as few:
        frames.build_frames(selected(world))
    dialogue = Dialogue.objects.get(source_id="d1")
    old = Turn.objects.get(dialogue=dialogue, position=1)
    for position in range(11, 71, 2):
        said = Utterance.objects.create(
            dialogue=dialogue,
            position=position - 1,
            role="user",
            text=old.user_utterance.text,
            shown="again",
            raw="again",
        )
        turn = Turn.objects.create(dialogue=dialogue, user_utterance=said, position=position)
        for response in old.responses.all():
            Response.objects.create(turn=turn, system=response.system, text=response.text, shown="again", raw="again")
    with CaptureQueriesContext(connection) as many:
        made = frames.build_frames(selected(world))
    assert made.counts["rows"] > 100
    assert len(many) == len(few)


def test_ratings_name_the_place_in_the_order_shown_and_the_human_alignment(world: Corpus) -> None:
    ratings = frames.build_frames(selected(world)).ratings.set_index(["dialogue", "system"])
    assert ratings.loc[("d1", "alpha"), "position"] == 2
    assert ratings.loc[("d1", "beta"), "position"] == 1
    assert (ratings["inclusion_probability"] == 0.6).all()  # that of their turn
    # verified: d1/1 user joy; alpha joy, beta neutral. d2/1 user sadness; alpha joy, beta neutral.
    assert ratings["aligned_exact"].to_dict() == {
        ("d1", "alpha"): True,
        ("d1", "beta"): False,
        ("d2", "alpha"): False,
        ("d2", "beta"): False,
        ("e1", "alpha"): False,
        ("e1", "beta"): True,
    }


def test_the_order_of_rows_is_that_of_the_data(world: Corpus) -> None:
    first = frames.build_frames(selected(world))
    second = frames.build_frames(selected(world, systems=tuple(reversed(world.systems))))
    pd.testing.assert_frame_equal(first.turns, second.turns)


def test_a_withdrawn_persons_answers_stay_apart_from_all_others(world: Corpus) -> None:
    Judgment.objects.filter(annotator=world.people["bo"]).update(annotator=None)
    made = frames.build_frames(selected(world))
    check_judgments(made.judgments)
    assert all(name == "r-a000" or name.startswith("withdrawn-") for name in made.judgments["annotator"])


# --- illustrative cases ----------------------------------------------------------------------------------------------


def test_cases_are_misaligned_turns_by_human_labels_the_most_common_pattern_first(world: Corpus) -> None:
    cases = choose_cases(frames.build_frames(selected(world)))
    assert set(cases["basis"]) == {"human"}
    assert (cases["user_emotion"] != cases["response_emotion"]).all()
    assert cases["turns_with_pattern"].is_monotonic_decreasing
    first = cases[cases["pattern"] == "joy → neutral"].iloc[0]
    assert (first["dialogue"], first["system"]) == ("d1", "beta")
    assert first["user_labels"] == "r-a000: joy; r-b000: joy"
    assert first["ratings"] == "satisfaction: 2.00 (n = 1)"
    assert first["user_text"].startswith("user says d1/1")
    assert first["response_text"].startswith("beta says d1/1")


def test_without_human_labels_cases_say_that_the_classifier_made_them(world: Corpus) -> None:
    cases = choose_cases(frames.build_frames(selected(world, campaign=None)))
    assert set(cases["basis"]) == {"classifier"}
    assert len(cases)


def test_cases_of_a_pattern_spread_over_systems_before_any_comes_twice(world: Corpus) -> None:
    made = frames.build_frames(selected(world, campaign=None))
    cases = choose_cases(made, per_pattern=2)
    for _, members in cases.groupby("pattern"):
        assert members.duplicated(["dataset", "dialogue"]).sum() == 0


def test_somebody_elses_campaign_gives_nothing(world: Corpus) -> None:
    other = Campaign.objects.create(name="other", title="Other")
    made = frames.build_frames(selected(world, campaign=other))
    assert made.counts["judgments"] == 0
    assert made.turns.empty
    assert User.objects.count() == 3
