from __future__ import annotations

import pytest

from annotation.models import Campaign, Item, Prediction, Slot, User
from annotation.workflow import overview
from annotation.workflow.agreement_export import agreement_report
from annotation.workflow.opening import OpeningError, open_campaign
from annotation.workflow.planning import Assumptions, count_look, plan
from annotation.workflow.queue import lease_batch
from annotation.workflow.verification import submit
from evaluation.planning import proportion_variance, sample_size
from tests.factories import answer_to


def work(campaign: Campaign, *people: User, want: int = 20) -> None:
    """Let people answer what they are dealt; a program labels."""
    for person in people:
        for slot in lease_batch(campaign, person, "verify", want=want).slots:
            submit(campaign, person, answer_to(campaign, person, slot, label="joy" if slot.pk % 3 else "sadness"))


# --- before it opens --------------------------------------------------------------------------------------------------


def test_a_plan_says_what_the_entered_size_makes_and_writes_nothing(draft: Campaign) -> None:
    found = plan(draft)
    # 16 turns; each makes a user item and three responses (reference, alpha, beta), answered twice
    assert (found.size, found.population, found.excluded) == (6, 16, 0)
    assert (found.items, found.answers) == (24, 48)
    draft.refresh_from_db()
    assert (draft.state, draft.design) == (Campaign.DRAFT, {"kind": "simple", "size": 6})
    assert not Item.objects.filter(campaign=draft).exists()


def test_the_sizes_are_those_of_the_formula_for_what_the_classifier_guesses(draft: Campaign) -> None:
    exact = plan(draft, Assumptions(half_widths=(0.2,), rho=0.5)).measures[0]
    p = float(exact.assumed.split("p = ")[1].split(",")[0])
    common = {"population": 16}
    assert exact.sizes[0].human == sample_size(0.2, proportion_variance(p), **common)  # type: ignore[arg-type]
    assert exact.sizes[0].corrected == sample_size(0.2, proportion_variance(p), rho=0.5, **common)  # type: ignore[arg-type]
    assert exact.corrected is not None
    assert exact.human is not None
    assert exact.corrected < exact.human


def test_another_size_can_be_tried_and_gives_narrower_intervals(draft: Campaign) -> None:
    small, large = plan(draft), plan(draft, Assumptions(size=12))
    assert large.size == 12
    pairs = [(a.human, b.human) for a, b in zip(small.measures, large.measures, strict=True) if not a.reason]
    assert len(pairs) == 4
    assert all(after < before for before, after in pairs)  # type: ignore[operator]
    assert large.detectable[1] < small.detectable[1]  # type: ignore[index]


def test_kappa_counts_the_items_of_a_turn_and_needs_two_labels(draft: Campaign) -> None:
    kappa = plan(draft).measures[-1]
    assert "4 items of each turn" in kappa.assumed
    draft.verify_overlap = 1
    assert "two labels" in plan(draft).measures[-1].reason


def test_unequal_chances_of_the_design_are_counted_as_a_design_effect(draft: Campaign) -> None:
    assert plan(draft).deff == pytest.approx(1.0)
    draft.design = {"kind": "equal", "size": 6, "strata": ["user_label"]}
    assert plan(draft).deff > 1.01


def test_without_predictions_the_plan_says_what_it_cannot_know(draft: Campaign) -> None:
    Prediction.objects.all().delete()
    exact, flat, accuracy, macro_f1, _ = plan(draft).measures
    assert "worst case" in exact.assumed
    assert "pre-label first" in flat.reason
    assert "pre-label first" in macro_f1.reason
    assert not accuracy.reason


def test_labels_without_spread_give_no_plan_instead_of_one_turn(draft: Campaign) -> None:
    # each system says joy and sadness equally often, at which the entropy's variance vanishes
    assert "no spread" in plan(draft).measures[1].reason


def test_what_is_not_verified_is_not_planned(draft: Campaign) -> None:
    draft.verify_responses = False
    reasons = [measure.reason for measure in plan(draft).measures]
    assert reasons[:2] == ["needs user utterances and responses verified", "needs responses verified"]
    assert reasons[2:] == ["", "", ""]


def test_a_campaign_that_could_not_open_has_no_plan_but_a_reason(draft: Campaign) -> None:
    with pytest.raises(OpeningError, match="17"):
        plan(draft, Assumptions(size=17))
    assert draft.design["size"] == 6


# --- while it runs ----------------------------------------------------------------------------------------------------


def test_before_the_first_label_there_is_no_width_and_no_look(campaign: Campaign) -> None:
    state = overview.campaign_state(campaign)
    assert (state.precision, state.planned, state.looks) == ([], 6, 0)


def test_the_page_shows_every_headline_measure_with_what_is_verified_of_the_plan(
    campaign: Campaign, ada: User, bo: User
) -> None:
    work(campaign, ada, bo, want=20)
    state = overview.campaign_state(campaign)
    found = {one.measure: one for one in state.precision}
    assert set(found) == {
        *("exact", "coarse", "flatness", "macro_f1", "accuracy", "classifier_macro_f1"),
        *("krippendorff_alpha", "fleiss_kappa"),
    }
    done = Slot.objects.filter(item__campaign=campaign, state=Slot.DONE)
    double = {item for item in done.values_list("item", flat=True) if done.filter(item=item).count() == 2}
    assert found["krippendorff_alpha"].n == len(double)
    assert found["krippendorff_alpha"].planned == 24
    users = Item.objects.filter(pk__in=double, kind="user").count()
    assert (found["accuracy"].where, found["accuracy"].planned) in {("user utterances", 6), ("responses", 18)}
    if found["accuracy"].where == "user utterances":
        assert found["accuracy"].n <= users
    assert found["exact"].planned == 6
    assert found["exact"].population == 16
    assert found["exact"].early


def test_a_look_is_an_interval_of_answers_that_no_look_has_seen(campaign: Campaign, ada: User, bo: User) -> None:
    work(campaign, ada, want=2)
    assert [overview.campaign_state(campaign).looks for _ in range(3)] == [1, 1, 1]
    work(campaign, bo, want=2)
    # whichever door shows the interval: one look for the new answers
    agreement_report(campaign, replicates=100)
    assert overview.campaign_state(campaign).looks == 2
    campaign.refresh_from_db()
    assert campaign.looks == 2


def test_two_at_once_count_one_look(campaign: Campaign, ada: User) -> None:
    work(campaign, ada, want=2)
    twin = Campaign.objects.get(pk=campaign.pk)
    assert (count_look(campaign), count_look(twin)) == (1, 1)


def test_an_open_campaign_keeps_its_planned_number(draft: Campaign) -> None:
    open_campaign(draft)
    assert overview.campaign_state(draft).planned == draft.sampled_turns.count() == 6
