"""RQ5: the adjusted difference against statsmodels, Cliff's delta by enumeration, and what is undefined."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.miscmodels.ordinal_model import OrderedModel

from evaluation.groups import MetricOptions
from evaluation.ordinal import fit_proportional_odds
from evaluation.rating_means import rating_means
from evaluation.rating_models import cluster_ols, within_context
from evaluation.ratings import associations, by_emotion, cliffs_delta, distribution, wording
from evaluation.tables import TableError, check_ratings, check_turns
from tests.evaluation.reference import cases


def ratings(dialogues: int = 40, effect: float = 0.5, seed: int = 0, annotators: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    lean, mood = rng.normal(0, 0.4, annotators), rng.normal(0, 0.3, dialogues)
    for dialogue in range(dialogues):
        for turn in range(2):
            emotion = rng.choice(["joy", "neutral", "sadness"])
            for system in ("a", "b"):
                aligned = bool(rng.random() < 0.5)
                for annotator in rng.choice(annotators, 2, replace=False):
                    score = 3 + effect * aligned + lean[annotator] + mood[dialogue] + rng.normal(0, 0.8)
                    rows.append(
                        {
                            "item": f"{dialogue}-{turn}-{system}",
                            "annotator": f"r{annotator}",
                            "dialogue": dialogue,
                            "turn": turn,
                            "dataset": "redial",
                            "system": system,
                            "outcome": "satisfaction",
                            "value": int(np.clip(round(score), 1, 5)),
                            "aligned_exact": aligned,
                            "user_emotion": emotion,
                        }
                    )
    return check_ratings(pd.DataFrame(rows))


def test_the_primary_estimate_is_statsmodels_with_clustered_errors():
    table = ratings()
    (found,) = associations(table, replicates=100, sensitivity=False)
    plain = table.assign(
        flag=table["aligned_exact"].astype(float), user_emotion=table["user_emotion"].astype(str), y=table["value"]
    )
    model = smf.ols("y ~ flag + C(user_emotion) + C(system) + C(annotator)", plain)
    theirs = model.fit(
        cov_type="cluster",
        cov_kwds={"groups": plain["dialogue"].astype(int).to_numpy(), "df_correction": True},
        use_t=True,
    )
    assert found.difference.value == pytest.approx(theirs.params["flag"])
    assert found.difference.se == pytest.approx(theirs.bse["flag"])
    assert found.difference.interval == pytest.approx(tuple(theirs.conf_int().loc["flag"]))
    assert found.p == pytest.approx(theirs.pvalues["flag"])
    assert found.difference.clusters == 40


def test_within_contexts_equals_dummies_for_every_context():
    table = ratings(dialogues=15)
    (found,) = associations(table, replicates=50, sensitivity=False)
    plain = table.assign(
        flag=table["aligned_exact"].astype(float), y=table["value"], spot=table["dialogue"] + "/" + table["turn"]
    )
    theirs = smf.ols("y ~ flag + C(system) + C(annotator) + C(spot)", plain).fit(
        cov_type="cluster", cov_kwds={"groups": plain["dialogue"].astype(int).to_numpy()}
    )
    mine = found.sensitivity["within_context"]
    assert mine.value == pytest.approx(theirs.params["flag"])
    # statsmodels counts the dummies of contexts, which lie within dialogues, as parameters: (n - 1) / (n - k)
    inside = theirs.model.exog.shape[1] - plain["spot"].nunique()
    factor = np.sqrt((len(plain) - theirs.model.exog.shape[1]) / (len(plain) - inside))
    assert mine.se == pytest.approx(theirs.bse["flag"] * factor, rel=1e-6)


def test_within_contexts_the_standard_error_is_that_of_the_estimates():
    """One rating of each of two responses: a factor for the contexts' own means made it 1.4 times too wide."""
    found, errors, covered = [], [], 0
    rng = np.random.default_rng(6)
    for _ in range(250):
        turn = np.repeat(np.arange(120), 2)
        aligned = rng.random(240) < 0.5
        value = 3 + 0.5 * aligned + rng.normal(0, 0.5, 120)[turn] + rng.normal(0, 0.8, 240)
        frame = pd.DataFrame({"turn": turn, "system": ["a", "b"] * 120, "annotator": "q", "flag": aligned})
        estimate = within_context(frame.assign(value=value), "flag", turn // 3, 0.95)
        found.append(estimate.value)
        errors.append(estimate.se)
        covered += estimate.interval[0] <= 0.5 <= estimate.interval[1]
    assert np.mean(errors) / np.std(found) == pytest.approx(1.0, abs=0.1)
    assert 0.91 <= covered / 250 <= 0.98


def test_sensitivity_models_find_the_same_direction():
    (found,) = associations(ratings(dialogues=30, effect=0.8), replicates=50)
    assert found.sensitivity["mixed_crossed"].value == pytest.approx(found.difference.value, abs=0.1)
    assert found.sensitivity["proportional_odds"].value > 0


def test_holm_adjusts_over_all_outcomes():
    table = pd.concat([ratings(seed=1), ratings(seed=2).assign(outcome="personalization")], ignore_index=True)
    found = associations(check_ratings(table), replicates=50, sensitivity=False)
    raw = sorted(one.p for one in found)
    assert sorted(one.p_holm for one in found)[0] == pytest.approx(min(1, 2 * raw[0]))


def test_with_few_dialogues_ranks_are_permuted_and_no_interval_is_claimed():
    (found,) = associations(ratings(dialogues=6), replicates=50)
    assert found.difference.interval is None
    assert found.difference.reason == "few_dialogues"
    assert 0 < found.p <= 1


def test_all_aligned_is_undefined_not_zero():
    (found,) = associations(ratings().assign(aligned_exact=True), replicates=50)
    assert found.difference.value is None
    assert found.difference.reason == "no_variation"
    assert found.cliffs_delta.reason == "no_variation"


def test_a_flag_that_its_controls_determine_is_not_identified():
    x = np.column_stack([np.repeat([0.0, 1], 10), np.ones(20), np.repeat([0.0, 1], 10)])
    assert cluster_ols(np.arange(20.0), x, np.arange(20)) is None


def test_cliffs_delta_equals_the_reference():
    found = [
        case for case in cases("intervals_tests") if not hasattr(case, "marks") and "cliffs_delta" in case["expected"]
    ]
    for case in found:
        delta = cliffs_delta(case["input"]["a"], case["input"]["b"])
        assert delta == pytest.approx(case["expected"]["cliffs_delta"], abs=case["tolerance"])


def test_cliffs_delta_by_enumeration():
    rng = np.random.default_rng(1)
    a, b = rng.integers(1, 6, 30), rng.integers(1, 6, 20)
    assert cliffs_delta(a, b) == pytest.approx(np.sign(a[:, None] - b[None]).mean())
    assert cliffs_delta(b, a) == pytest.approx(-cliffs_delta(a, b))


def test_the_distribution_counts_every_rating_once():
    table = ratings()
    counted = distribution(table)
    assert counted["count"].sum() == len(table)
    assert set(counted["value"]) == {1, 2, 3, 4, 5}


def test_a_rating_between_the_points_of_the_scale_is_counted_where_it_stands():
    table = ratings().assign(value=lambda t: t["value"].where(t.index % 7 > 0, 3.5))
    counted = distribution(table)
    assert counted["count"].sum() == len(table)
    assert set(counted["value"]) == {1, 2, 3, 3.5, 4, 5}


def drawn_unequally() -> pd.DataFrame:
    """Every second dialogue was drawn with a tenth of the chance of the others; ratings there are one point lower."""
    table = ratings(dialogues=60, effect=0.0)
    rare = table["dialogue"].astype(int) % 2 == 1
    value = (table["value"] - rare).clip(1, 5)
    return table.assign(value=value, inclusion_probability=np.where(rare, 0.05, 0.5))


def test_ratings_of_turns_drawn_with_different_chances_are_weighted():
    table = drawn_unequally()
    (found,) = associations(table, replicates=100)
    flag = table["aligned_exact"].astype(bool)
    weight = 1 / table["inclusion_probability"]
    assert found.aligned.value == pytest.approx(np.average(table["value"][flag], weights=weight[flag]))
    plain = table.assign(flag=flag.astype(float), emotion=table["user_emotion"].astype(str))
    model = smf.wls("value ~ flag + C(emotion) + C(system) + C(annotator)", plain, weights=weight)
    theirs = model.fit(
        cov_type="cluster",
        cov_kwds={"groups": plain["dialogue"].astype(int).to_numpy(), "df_correction": True},
        use_t=True,
    )
    assert found.model == "weighted least squares"
    assert found.difference.value == pytest.approx(theirs.params["flag"])
    assert found.difference.se == pytest.approx(theirs.bse["flag"])
    both = [(x, wx) for x, wx in zip(table["value"][flag], weight[flag], strict=True)]
    rest = [(y, wy) for y, wy in zip(table["value"][~flag], weight[~flag], strict=True)]
    wins = sum(np.sign(x - y) * wx * wy for x, wx in both for y, wy in rest)
    total = sum(wx for _, wx in both) * sum(wy for _, wy in rest)
    assert found.cliffs_delta.value == pytest.approx(wins / total)
    assert any("unweighted" in note for note in found.sensitivity["proportional_odds"].notes)


def test_equal_chances_change_nothing_and_turns_not_drawn_are_left_out():
    table = ratings()
    (plain,) = associations(table, replicates=50, sensitivity=False)
    (equal,) = associations(table.assign(inclusion_probability=0.3), replicates=50, sensitivity=False)
    assert equal == plain
    some = table.assign(inclusion_probability=np.where(table["dialogue"].astype(int) < 20, 0.3, np.nan))
    (found,) = associations(some, replicates=50, sensitivity=False)
    assert found.difference.clusters == 20
    with pytest.raises(TableError, match="inclusion_probability"):
        check_ratings(table.assign(inclusion_probability=2.0))


def test_the_mean_rating_of_a_system_is_corrected_by_the_classifiers_flag():
    rng = np.random.default_rng(3)
    size = 3000
    aligned = rng.random(size) < 0.4
    turns = pd.DataFrame(
        {
            "dataset": "r",
            "dialogue": np.arange(size) // 5,
            "turn": np.arange(size) % 5,
            "system": "a",
            "user_label": "joy",
            "response_label": np.where(aligned, "joy", "neutral"),
        }
    )
    quality = np.clip(np.round(rng.normal(2.5 + 1.8 * aligned, 0.6)), 1, 5)
    widths, missed = [], 0
    for seed in range(60):
        rows = np.random.default_rng(seed).choice(size, 200, replace=False)
        table = turns.assign(inclusion_probability=np.nan)
        table.loc[rows, "inclusion_probability"] = 200 / size
        rated = turns.loc[rows, ["dataset", "dialogue", "turn", "system"]].astype(str)
        rated = rated.assign(item=np.arange(200), annotator="q", outcome="o", value=quality[rows])
        (found,) = rating_means(check_ratings(rated), check_turns(table), MetricOptions(), scale=(1, 5))
        assert found.human.value == pytest.approx(quality[rows].mean())
        assert (found.turns, found.system) == (200, "a")
        widths.append(np.ptp(found.corrected.interval) / np.ptp(found.human.interval))
        missed += not found.corrected.interval[0] <= quality.mean() <= found.corrected.interval[1]
    assert np.mean(widths) < 0.7
    assert missed <= 8


def test_effects_by_emotion_need_enough_dialogues():
    found = {emotion: estimate for _, emotion, estimate in by_emotion(ratings())}
    assert set(found) == {"joy", "neutral", "sadness"}
    assert found["joy"].interval is not None
    few = by_emotion(ratings(dialogues=4))
    assert all(estimate.reason == "few_dialogues" for _, _, estimate in few)


def test_a_difference_is_called_an_effect_only_where_it_was_randomised():
    assert wording(randomised=False) == "association"
    assert wording(randomised=True) == "effect"


def test_proportional_odds_equal_statsmodels():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 3))
    y = np.digitize(x @ [0.8, -0.3, 0.0] + rng.logistic(size=300), [-1.0, 0.2, 1.5])
    mine = fit_proportional_odds(y, x, np.arange(300) // 3)
    theirs = OrderedModel(pd.Series(pd.Categorical(y, ordered=True)), x, distr="logit").fit(
        method="bfgs", disp=False, cov_type="cluster", cov_kwds={"groups": np.arange(300) // 3}
    )
    assert mine.converged
    assert mine.log_likelihood == pytest.approx(theirs.llf, abs=1e-6)
    assert mine.slopes == pytest.approx(theirs.params.iloc[:3].to_numpy(), abs=1e-3)
    assert mine.errors == pytest.approx(theirs.bse.iloc[:3].to_numpy(), rel=0.03)


def test_a_perfectly_separating_column_does_not_pass_for_a_fit():
    y = np.repeat([0, 1, 2], 20)
    assert not fit_proportional_odds(y, (y == 2)[:, None].astype(float), np.arange(60)).converged
