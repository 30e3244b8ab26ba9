"""Systems compared: tests that are exact where they can be, letters and ranks by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evaluation.comparison import common_turns, compare_systems, detectable_difference
from evaluation.emotions import EMOTIONS
from evaluation.groups import MetricOptions, split_groups
from evaluation.patterns import compare_cells, corrected_shares
from evaluation.permutation import permutation_p, sign_flip_p, sign_flips
from evaluation.ranks import compact_letters, rank_chances


def corpus(dialogues: int, follows: dict[str, float], seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size = dialogues * 5
    user = rng.choice(EMOTIONS, size, p=[0.3, 0.05, 0.05, 0.05, 0.1, 0.05, 0.4])
    reference = np.where(rng.random(size) < 0.5, user, "neutral")
    parts = []
    for system, share in follows.items():
        response = reference if system == "reference" else np.where(rng.random(size) < share, user, "neutral")
        parts.append(
            pd.DataFrame(
                {
                    "dialogue": np.repeat(np.arange(dialogues), 5),
                    "turn": np.tile(np.arange(5), dialogues),
                    "dataset": "redial",
                    "system": system,
                    "user_label": user,
                    "response_label": response,
                    "reference_label": reference,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def comparisons(table: pd.DataFrame, **sizes: int) -> dict:
    options = MetricOptions()
    groups = split_groups(table, options)
    found = compare_systems(groups, options, **{"replicates": 400, "permutations": 999, "seed": 3, **sizes})
    return {comparison.measure: comparison for comparison in found}


def test_systems_that_differ_are_separated_and_ranked_and_equal_ones_share_a_letter():
    exact = comparisons(corpus(150, {"good": 0.9, "same": 0.4, "other": 0.4}))["exact"]
    assert exact.systems[0] == "good"
    assert exact.rank_chance[0, 0] == pytest.approx(1.0)
    assert exact.letters[0] != exact.letters[1]
    assert exact.letters[1] == exact.letters[2]
    by_pair = {(pair.first, pair.second): pair for pair in exact.pairs}
    assert by_pair["good", "same"].p_holm < 0.01


def human(table: pd.DataFrame, turned: str, dialogues: int) -> pd.DataFrame:
    """People agree with the classifier in the first dialogues, but hear only neutral in the responses of one system."""
    seen = table["dialogue"] < dialogues
    heard = table["response_label"].mask(table["system"] == turned, "neutral")
    return table.assign(
        user_verified=table["user_label"].where(seen), response_verified=heard.where(seen), inclusion_probability=0.5
    )


def test_letters_rest_on_human_labels_once_there_are_enough():
    """By classifier labels the two are alike; people hear that one of them always answers in the same tone."""
    table = corpus(120, {"a": 0.6, "b": 0.6})
    few = comparisons(human(table, "b", 15))["exact"]
    assert few.basis == "classifier"
    assert few.letters == ("a", "a")
    many = comparisons(human(table, "b", 60))["exact"]
    (pair,) = many.pairs
    assert many.basis == "human"
    assert set(many.letters) == {"a", "b"}
    assert pair.p_holm > 0.05
    assert pair.p_corrected == pair.p_corrected_holm
    assert pair.p_corrected < 0.001
    t = abs(pair.corrected.value / pair.corrected.se)
    freedom = min(pair.corrected.clusters - 1, pair.corrected.n - 2)
    assert pair.p_corrected == pytest.approx(2 * (1 - stats.t.cdf(t, freedom)), abs=1e-12)


def test_a_system_compared_with_its_copy_never_differs():
    table = corpus(40, {"a": 0.5})
    copy = table.assign(system="b")
    for comparison in comparisons(pd.concat([table, copy])).values():
        (pair,) = comparison.pairs
        assert pair.raw.value == 0
        assert pair.p == 1
        assert comparison.letters == ("a", "a")
        assert comparison.rank_chance.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_only_turns_that_every_system_answered_are_compared():
    table = corpus(20, {"a": 0.5, "b": 0.7})
    cut = table.drop(table.index[(table["system"] == "b") & (table["dialogue"] < 5)]).sample(frac=1, random_state=1)
    groups = split_groups(cut, MetricOptions())
    rows = common_turns(groups)
    assert len(rows[0]) == len(rows[1]) == 75
    spots = [
        list(zip(group.dialogues[held], group.turns[held], strict=True))
        for group, held in zip(groups, rows, strict=True)
    ]
    assert spots[0] == spots[1]
    assert comparisons(cut)["exact"].turns == 75


def test_the_human_reference_is_compared_in_alignment_but_not_in_f1_against_itself():
    found = comparisons(corpus(30, {"a": 0.5, "b": 0.7, "reference": 0.0}))
    assert "reference" in found["exact"].systems
    assert "reference" not in found["macro_f1"].systems


def test_few_dialogues_are_permuted_exactly():
    sums = np.array([3.0, 1.0, 2.0, -1.0])
    signs = np.array(list(itertools.product([1, -1], repeat=4)))
    expected = (np.abs(signs @ sums) >= abs(sums.sum())).mean()
    assert sign_flip_p(sums) == pytest.approx(expected)
    assert len(np.concatenate(list(sign_flips(4, 10, 0, "x")))) == 16


def test_random_sign_flips_agree_with_the_exact_ones_and_are_never_zero():
    rng = np.random.default_rng(0)
    sums = rng.normal(0.4, 1, 12)
    exact = sign_flip_p(sums)
    longer = np.concatenate([sums, [0.0]])
    assert sign_flip_p(longer, permutations=20_000) == pytest.approx(exact, abs=0.01)
    assert sign_flip_p(np.ones(40), permutations=99) == pytest.approx(1 / 100)
    assert permutation_p(0, 99, exact=False) == 0.01


def test_under_no_difference_the_permutation_test_rejects_as_rarely_as_it_says():
    rejected = [
        sign_flip_p(np.random.default_rng(s).normal(size=30), permutations=199, seed=s) <= 0.05 for s in range(400)
    ]
    assert 0.02 <= np.mean(rejected) <= 0.085


def test_compact_letters_of_a_chain():
    # a-c apart only: the middle one shares a letter with both
    assert compact_letters(["a", "b", "c"], {("a", "c")}) == ("a", "ab", "b")
    assert compact_letters(["a", "b", "c"], set()) == ("a", "a", "a")
    every = {("a", "b"), ("c", "a"), ("b", "c")}
    assert compact_letters(["a", "b", "c"], every) == ("a", "b", "c")


@pytest.mark.parametrize("seed", range(8))
def test_letters_are_shared_exactly_by_pairs_that_are_not_separated(seed):
    rng = np.random.default_rng(seed)
    systems = list("pqrstu")
    apart = {pair for pair in itertools.combinations(systems, 2) if rng.random() < 0.4}
    letters = dict(zip(systems, compact_letters(systems, apart), strict=True))
    for pair in itertools.combinations(systems, 2):
        assert bool(set(letters[pair[0]]) & set(letters[pair[1]])) == (pair not in apart)


def test_ranks_of_ties_are_shared():
    chance = rank_chances(np.array([[3.0, 1.0], [2.0, 1.0]]))
    assert chance.tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_the_detectable_difference_is_the_sum_of_two_quantiles_times_the_error():
    assert detectable_difference(0.01, 100_000) == pytest.approx(0.01 * (1.95998 + 0.84162), rel=1e-4)
    assert detectable_difference(None, 10) is None


def test_patterns_are_compared_with_the_human_baseline_and_adjusted():
    table = corpus(120, {"flat": 0.1, "reference": 0.0})
    flat, baseline = split_groups(table, MetricOptions())
    cells = compare_cells(flat, baseline, MetricOptions(), replicates=300, permutations=999)
    first = cells[0]
    assert EMOTIONS[first.user] == "joy"
    assert EMOTIONS[first.response] == "neutral"
    assert first.difference.value > 0.2
    assert first.p_adjusted < 0.05
    assert all(cell.turns >= 5 and cell.user != cell.response for cell in cells)


def test_verified_turns_correct_a_difference_that_the_classifier_gets_wrong():
    table = corpus(300, {"a": 0.5, "b": 0.5}, seed=5)
    rng = np.random.default_rng(1)
    drawn = rng.choice(1500, 400, replace=False)
    mask = np.zeros(3000, dtype=bool)
    mask[np.concatenate([drawn, drawn + 1500])] = True
    table["user_verified"] = table["user_label"].where(mask)
    # The humans find every response of system a aligned, the classifier only half of them.
    truth = table["response_label"].where(table["system"] == "b", table["user_label"])
    table["response_verified"] = truth.where(mask)
    (pair,) = comparisons(table)["exact"].pairs
    sign = 1 if pair.first == "a" else -1
    gap = 1 - (table["user_label"] == table["response_label"])[1500:].mean()
    low, high = sorted(sign * bound for bound in pair.corrected.interval)
    assert low < gap < high
    assert abs(pair.raw.value) < 0.05


def test_flatness_and_macro_f1_are_corrected_too_where_the_classifier_is_deaf_to_a_tone():
    """The classifier hears every response of b as neutral; people hear the joy in it."""
    table = corpus(200, {"a": 0.5, "b": 0.5}, seed=9)
    seen = table["dialogue"] < 80
    table["user_verified"] = table["user_label"].where(seen)
    table["reference_verified"] = table["reference_label"].where(seen)
    table["response_verified"] = table["response_label"].where(seen)
    table["inclusion_probability"] = 0.4
    deaf = (table["system"] == "b") & (table["response_label"] == "joy")
    table.loc[deaf, "response_label"] = "neutral"
    found = comparisons(table)
    for measure in ("flatness", "macro_f1"):
        (pair,) = found[measure].pairs
        sign = 1 if pair.first == "a" else -1
        low, high = sorted(sign * bound for bound in pair.corrected.interval)
        assert low < 0 < high, measure
        raw = sorted(sign * bound for bound in pair.raw.interval)
        assert raw[0] > 0, measure
        assert found[measure].basis == "human"
        assert pair.detectable == pytest.approx(detectable_difference(pair.corrected.se, pair.corrected.clusters))


def test_order_and_ranks_follow_the_people_once_there_are_enough():
    table = human(corpus(120, {"a": 0.6, "b": 0.62}, seed=2), "b", 60)
    exact = comparisons(table)["exact"]
    assert exact.basis == "human"
    assert exact.systems == ("a", "b")
    assert exact.values[0].value < exact.values[1].value  # the classifier has them the other way round
    assert exact.corrected[0].value > exact.corrected[1].value
    assert exact.rank_chance[0, 0] > 0.99


def test_a_system_with_next_to_no_answers_is_left_out_by_name_and_the_others_compared_in_full():
    table = corpus(60, {"a": 0.5, "b": 0.7, "c": 0.5})
    few = table[(table["system"] != "c") | (table["dialogue"] < 2)]
    exact = comparisons(few)["exact"]
    assert exact.left_out == ("c",)
    assert set(exact.systems) == {"a", "b"}
    assert exact.turns == 300


def test_turns_drawn_for_each_system_apart_give_no_corrected_difference():
    table = human(corpus(60, {"a": 0.5, "b": 0.7}), "b", 60)
    table.loc[table["system"] == "b", "inclusion_probability"] = 0.25
    (pair,) = comparisons(table)["exact"].pairs
    assert (pair.corrected.value, pair.corrected.reason) == (None, "separate_draws")


def test_a_pattern_is_corrected_by_what_people_heard():
    """The classifier calls half of the joyful answers to joy neutral; people verified two fifths of the dialogues."""
    table = corpus(200, {"a": 0.8, "reference": 0.0}, seed=4)
    seen = table["dialogue"] < 80
    table["user_verified"] = table["user_label"].where(seen)
    table["response_verified"] = table["response_label"].where(seen)
    table["inclusion_probability"] = 0.4
    truth = table[(table["system"] == "a") & (table["user_label"] == "joy")]
    share = (truth["response_label"] == "neutral").mean()
    misheard = (table["system"] == "a") & (table["response_label"] == "joy") & (np.arange(len(table)) % 2 == 0)
    table.loc[misheard, "response_label"] = "neutral"
    system, baseline = split_groups(table, MetricOptions())
    cell = next(
        cell
        for cell in compare_cells(system, baseline, MetricOptions(), replicates=300, permutations=99)
        if (EMOTIONS[cell.user], EMOTIONS[cell.response]) == ("joy", "neutral")
    )
    assert cell.share > share + 0.2
    assert cell.corrected.interval[0] < share < cell.corrected.interval[1]
    assert cell.difference_corrected.value < cell.difference.value - 0.2
    assert cell.difference.n == len(truth)


def test_draws_for_each_system_apart_leave_order_and_letters_to_the_classifier():
    table = human(corpus(60, {"a": 0.3, "b": 0.8}), "b", 60)
    table.loc[table["system"] == "b", "inclusion_probability"] = 0.45
    for measure, found in comparisons(table).items():
        assert found.basis == "classifier", measure
        values = [one.value for one in found.values]
        assert values == sorted(values, reverse=True)
        assert found.pairs[0].detectable is not None


def test_a_pattern_of_a_handful_of_verified_turns_is_not_corrected():
    table = corpus(60, {"a": 0.3, "reference": 0.0})
    joyful = np.flatnonzero((table["system"] == "a") & (table["user_label"] == "joy"))
    for verified, reason in ((4, "few_turns"), (30, None)):
        part = table.assign(user_verified=None, response_verified=None, inclusion_probability=np.nan)
        rows = joyful[:verified]
        part.loc[rows, "user_verified"] = table.loc[rows, "user_label"]
        part.loc[rows, "response_verified"] = table.loc[rows, "response_label"]
        part.loc[rows, "inclusion_probability"] = 0.5
        system, _ = split_groups(part, MetricOptions())
        joy, neutral = EMOTIONS.index("joy"), EMOTIONS.index("neutral")
        found = corrected_shares(system, MetricOptions(), replicates=50)[joy, neutral]
        assert (found.n, found.reason) == (verified, reason)
    assert "lambda = 0 because n = 30 < 100" in found.notes
    assert "Wilson" in found.method


def test_the_difference_of_a_system_and_its_copy_has_no_detectable_difference():
    table = corpus(40, {"a": 0.5})
    (pair,) = comparisons(pd.concat([table, table.assign(system="b")]))["exact"].pairs
    assert pair.detectable is None


def test_a_corrected_macro_f1_of_few_labels_says_that_it_covers_less():
    table = human(corpus(120, {"a": 0.6, "b": 0.6}), "b", 60)
    table["reference_verified"] = table["reference_label"].where(table["dialogue"] < 60)
    (pair,) = comparisons(table)["macro_f1"].pairs
    assert any(note.startswith("n < 600") for note in pair.corrected.notes)
