"""RQ5: the adjusted difference against statsmodels, Cliff's delta by enumeration, and what is undefined."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.miscmodels.ordinal_model import OrderedModel

from evaluation.ordinal import fit_proportional_odds
from evaluation.ratings import associations, by_emotion, cliffs_delta, cluster_ols, distribution, wording
from evaluation.tables import check_ratings
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
    assert mine.se == pytest.approx(theirs.bse["flag"], rel=0.02)


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
