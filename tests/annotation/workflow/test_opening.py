from __future__ import annotations

from collections import Counter

import pytest

from annotation.models import (
    Campaign,
    Dataset,
    GoldQuestion,
    Item,
    Response,
    SampledTurn,
    Slot,
    Turn,
)
from annotation.workflow import opening
from annotation.workflow.opening import OpeningError, close, open_campaign, pause, reopen
from tests.factories import GoldQuestionFactory, make_campaign, make_corpus


def test_opening_makes_items_for_user_reference_and_each_system_and_k_slots_each(draft: Campaign) -> None:
    made = open_campaign(draft)

    # 6 turns: 6 user items, 6 x 3 responses (reference, alpha, beta), 6 rating items; two slots each.
    assert (made.turns, made.eligible, made.excluded, made.items, made.slots) == (6, 16, 0, 30, 60)
    items = Item.objects.filter(campaign=draft)
    assert Counter(items.values_list("kind", flat=True)) == {"user": 6, "response": 18, "rate": 6}
    assert Slot.objects.filter(campaign=draft).count() == 60
    assert (draft.state, draft.verify_items, draft.verify_tail, draft.verify_total) == (Campaign.OPEN, 24, 24, 48)
    assert (draft.rate_items, draft.rate_tail, draft.rate_total) == (6, 6, 12)


def test_the_sample_keeps_its_inclusion_probabilities_strata_and_order(draft: Campaign) -> None:
    draft.design = {"kind": "stratified", "size": 8, "strata": ["dataset", "user_label"]}
    draft.save()
    open_campaign(draft)

    sampled = list(SampledTurn.objects.filter(campaign=draft))
    frame, _ = opening.eligible_turns(draft)
    size, drawn = Counter(frame["stratum"]), Counter(row.stratum for row in sampled)
    assert sorted(row.draw_order for row in sampled) == list(range(1, 9))
    assert {row.stratum: row.inclusion_probability for row in sampled} == pytest.approx(
        {stratum: drawn[stratum] / size[stratum] for stratum in drawn}
    )
    assert {"redial · joy", "redial · sadness"} <= set(size)


def test_positions_are_one_permutation_per_task_and_the_same_for_the_same_seed(draft: Campaign) -> None:
    open_campaign(draft)

    def order() -> list[tuple[str, int, int | None]]:
        rows = Item.objects.filter(campaign=draft).exclude(kind="rate").order_by("position")
        return list(rows.values_list("kind", "sampled_turn__turn", "response"))

    first = order()
    positions = Item.objects.filter(campaign=draft).exclude(kind="rate").values_list("position", flat=True)
    Campaign.objects.filter(pk=draft.pk).update(state=Campaign.DRAFT)
    open_campaign(draft)
    assert sorted(positions) == list(range(24))
    assert order() == first
    assert [kind for kind, _, _ in first] != sorted(kind for kind, _, _ in first)


def test_rows_are_made_in_the_order_of_work_so_that_their_numbers_tell_nothing(draft: Campaign) -> None:
    open_campaign(draft)
    by_number = Item.objects.filter(campaign=draft).exclude(kind="rate").order_by("pk")
    assert list(by_number.values_list("position", flat=True)) == list(range(24))


def test_a_balanced_order_holds_every_stratum_in_every_stretch(corpus: Dataset) -> None:
    other = make_corpus(8, dataset="inspired")
    campaign = make_campaign(
        corpus=corpus,
        design={"kind": "stratified", "strata": ["dataset"], "size": 32, "balanced": True},
        verify_responses=False,
        rate_responses=False,
    )
    campaign.datasets.add(other)
    open_campaign(campaign)
    order = list(
        Item.objects.filter(campaign=campaign).order_by("position").values_list("sampled_turn__stratum", flat=True)
    )
    # 16 of each: among any first n items the two strata differ by two at most.
    assert len(order) == 32
    assert all(abs(order[:n].count("redial") - order[:n].count("inspired")) <= 2 for n in range(33))


def test_turns_that_a_system_left_unanswered_are_left_out_and_counted(draft: Campaign) -> None:
    gone, empty = Response.objects.filter(system__name="alpha").order_by("pk")[:2]
    gone.delete()
    Response.objects.filter(pk=empty.pk).update(flags=["empty"])

    made = open_campaign(draft)

    assert (made.eligible, made.excluded) == (14, 2)
    assert not SampledTurn.objects.filter(campaign=draft, turn__in=[gone.turn_id, empty.turn_id]).exists()


def test_incomplete_turns_can_be_kept_by_the_design(draft: Campaign) -> None:
    Response.objects.filter(system__name="alpha").first().delete()  # type: ignore[union-attr]
    draft.design = {"kind": "all", "complete_only": False}
    draft.save()
    made = open_campaign(draft)
    assert (made.turns, made.excluded) == (16, 0)
    # 16 user items, 16 x 3 - 1 responses, 16 turns to rate
    assert made.items == 16 + 47 + 16


def test_a_listed_turn_stands_for_itself_only(draft: Campaign) -> None:
    turns = list(Turn.objects.order_by("-pk").values_list("pk", flat=True)[:3])
    draft.design = {"kind": "list", "turns": turns}
    draft.save()
    open_campaign(draft)
    sampled = SampledTurn.objects.filter(campaign=draft)
    assert set(sampled.values_list("turn", flat=True)) == set(turns)
    assert set(sampled.values_list("inclusion_probability", flat=True)) == {1.0}


def test_responses_can_be_rated_one_at_a_time_and_without_the_reference(draft: Campaign) -> None:
    draft.design = {**draft.design, "rate_apart": True, "rate_reference": False}
    draft.save()
    open_campaign(draft)
    rated = Item.objects.filter(campaign=draft, kind="rate")
    assert Counter(rated.values_list("response__system__name", flat=True)) == {"alpha": 6, "beta": 6}


@pytest.mark.parametrize("killed_after", [1, 6, 7, 20, 29])
def test_an_opening_that_was_killed_can_be_run_again(
    draft: Campaign, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "ROWS_PER_TRANSACTION", 5)
    monkeypatch.setattr(opening, "SQLITE_PAUSE_SECONDS", 0.0)

    def die(done: int, total: int) -> None:
        if done >= killed_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_campaign(draft, progress=die)
    draft.refresh_from_db()
    assert draft.state == Campaign.DRAFT
    assert SampledTurn.objects.filter(campaign=draft).exists()

    made = open_campaign(draft)

    assert (made.items, made.slots) == (30, 60)
    assert Item.objects.filter(campaign=draft).count() == 30
    assert Slot.objects.filter(campaign=draft).count() == 60


def test_progress_ends_at_the_total(draft: Campaign) -> None:
    seen: list[tuple[int, int]] = []
    open_campaign(draft, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (36, 36)  # 6 turns and 30 items


@pytest.mark.parametrize(
    ("design", "said"),
    [
        ({"kind": "lottery", "size": 3}, "no sampling design called 'lottery'"),
        ({"kind": "simple"}, "how many turns"),
        ({"kind": "simple", "size": 0}, "above 0"),
        ({"kind": "half", "size": 5}, "at least one of the strata"),
        ({"kind": "half", "size": 5, "strata": ["mood"]}, "Unknown strata: mood"),
        ({"kind": "list"}, "needs the ids"),
        ({"kind": "list", "turns": [10**9]}, "not in the frame"),
        ({"kind": "simple", "size": 17}, "16 turns can be drawn"),
    ],
)
def test_a_design_that_cannot_be_met_is_refused_with_what_to_do(
    draft: Campaign, design: dict[str, object], said: str
) -> None:
    draft.design = design
    draft.save()
    with pytest.raises(OpeningError, match=said):
        open_campaign(draft)
    draft.refresh_from_db()
    assert draft.state == Campaign.DRAFT


def test_an_open_campaign_is_not_opened_again(campaign: Campaign) -> None:
    with pytest.raises(OpeningError, match="only a draft"):
        open_campaign(campaign)
    assert Slot.objects.filter(campaign=campaign).count() == 60


def test_a_campaign_is_paused_closed_and_reopened(campaign: Campaign) -> None:
    assert pause(campaign)
    assert campaign.state == Campaign.PAUSED
    assert reopen(campaign)
    assert close(campaign)
    assert not pause(campaign)
    assert campaign.state == Campaign.CLOSED
    assert reopen(campaign)
    assert campaign.state == Campaign.OPEN


def test_a_draft_is_neither_paused_nor_reopened(draft: Campaign) -> None:
    assert not reopen(draft)
    assert not pause(draft)
    assert draft.state == Campaign.DRAFT


def test_gold_questions_get_items_also_while_the_campaign_runs(draft: Campaign) -> None:
    GoldQuestionFactory.create(campaign=draft)
    GoldQuestionFactory.create(campaign=draft, use="attention")
    GoldQuestionFactory.create(campaign=draft, use="practice")
    open_campaign(draft)
    assert Item.objects.filter(campaign=draft, kind="gold").count() == 2
    GoldQuestionFactory.create(campaign=draft)
    assert opening.write_gold_items(draft) == 1
    assert opening.write_gold_items(draft) == 0
    assert GoldQuestion.objects.filter(campaign=draft, items=None).count() == 1  # the practice question
