from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from typing import Any

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa

from evaluation import coefficients as co
from evaluation.agreement import Agreement, AgreementOptions, agreement, bands
from evaluation.emotions import EMOTIONS
from evaluation.intervals import Estimate
from evaluation.tables import TableError

Grid = list[list[Any]]
COEFFICIENTS = (
    "percent_agreement",
    "fleiss_kappa",
    "gwet_ac1",
    "brennan_prediger",
    "conger_kappa",
    "krippendorff_alpha",
)


def table(grid: Grid, dialogue: Callable[[int], object] | None = None) -> pd.DataFrame:
    """Turn items x raters with None for gaps into a judgments table."""
    rows = [(i, f"r{a}", label) for i, row in enumerate(grid) for a, label in enumerate(row) if label is not None]
    frame = pd.DataFrame(rows, columns=["item", "annotator", "label"])
    return frame if dialogue is None else frame.assign(dialogue=[dialogue(i) for i in frame["item"]])


def computed(grid: Grid, labels: list[Any], replicates: int = 0, **options: Any) -> Agreement:
    chosen = AgreementOptions(labels=tuple(str(k) for k in labels), replicates=replicates, **options)
    return agreement(table(grid), chosen)


def from_cross_table(cells: list[list[int]], labels: list[Any]) -> Grid:
    return [[labels[i], labels[j]] for i, row in enumerate(cells) for j, n in enumerate(row) for _ in range(n)]


def from_counts(counts: list[list[int]], labels: list[Any]) -> Grid:
    return [[label for label, n in zip(labels, row, strict=True) for _ in range(n)] for row in counts]


def random_grid(rng: np.random.Generator, items: int, raters: int, categories: int, gaps: float) -> Grid:
    truth = rng.integers(0, categories, items)
    noisy = np.where(rng.random((items, raters)) < 0.6, truth[:, None], rng.integers(0, categories, (items, raters)))
    missing = rng.random((items, raters)) < gaps
    return [
        [None if gap else int(k) for k, gap in zip(*pair, strict=True)] for pair in zip(noisy, missing, strict=True)
    ]


def value(made: Agreement, name: str) -> float:
    found = made.coefficients[name].value
    assert found is not None
    return found


# --- worked examples -------------------------------------------------------------------------------------------------


def test_every_reference_case_is_met_to_its_tolerance(reference: Callable[[str], list[dict[str, Any]]]) -> None:
    cases = reference("agreement")
    assert len(cases) == 7
    checked = 0
    for case in cases:
        given_, tolerance = case["input"], case["tolerance"]
        labels = given_["labels"]
        grid = given_["ratings"] if "ratings" in given_ else from_cross_table(given_["table"], labels)
        for key, expected in case["expected"].items():
            if key in co.WEIGHTINGS:
                made = computed(grid, labels, weights=key)
                for name, number in expected.items():
                    if name.endswith("_se_gwet"):
                        got = made.linearised[name.removesuffix("_se_gwet")].se
                    else:
                        got = made.coefficients[name].value
                    assert got == pytest.approx(number, abs=tolerance), (case["id"], key, name)
                    checked += 1
            elif key.startswith("alpha_"):
                made = computed(grid, labels, level=key.removeprefix("alpha_"))
                assert value(made, "krippendorff_alpha") == pytest.approx(expected, abs=tolerance), (case["id"], key)
                checked += 1
            else:
                checked += check_pairs(grid, labels, expected, tolerance)
    assert checked > 150


def check_pairs(grid: Grid, labels: list[Any], expected: dict[str, dict[str, float]], tolerance: float) -> int:
    by_weights = {
        weights: {"-".join(p.annotators): p for p in computed(grid, labels, weights=weights).pairs}
        for weights in ("identity", "linear", "quadratic")
    }
    checked = 0
    for pair, numbers in expected.items():
        key = "-".join(f"r{a}" for a in pair.split("-"))
        for name, number in numbers.items():
            weights = name.removeprefix("cohen_") if name in ("cohen_linear", "cohen_quadratic") else "identity"
            found = by_weights[weights][key]
            if name == "n":
                assert found.n == number
            elif name == "cohen_se":
                assert found.cohen_se == pytest.approx(number, abs=tolerance), pair
            else:
                estimate = found.values["cohen" if weights != "identity" else name]
                assert estimate.value == pytest.approx(number, abs=tolerance), (pair, name)
            checked += 1
    return checked


FLEISS_1971 = [
    [0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0], [2, 0, 4, 0, 0],
    [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6], [1, 0, 0, 5, 0], [1, 1, 0, 4, 0],
    [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1], [0, 0, 5, 0, 1], [3, 0, 0, 1, 2], [5, 1, 0, 0, 0],
    [0, 2, 0, 4, 0], [1, 0, 2, 0, 3], [0, 0, 0, 0, 6], [0, 1, 0, 5, 0], [0, 2, 0, 1, 3], [2, 0, 0, 4, 0],
    [1, 0, 0, 4, 1], [0, 5, 0, 1, 0], [4, 0, 0, 0, 2], [0, 2, 0, 4, 0], [1, 0, 5, 0, 0], [0, 0, 0, 0, 6],
]  # fmt: skip


def test_fleiss_1971_thirty_patients_and_five_diagnoses() -> None:
    # Fleiss (1971), Psychological Bulletin 76(5), tables 1 and 2: kappa .430 and the kappas of the five diagnoses
    diagnoses = ["depression", "personality disorder", "schizophrenia", "neurosis", "other"]
    made = computed(from_counts(FLEISS_1971, diagnoses), diagnoses)
    assert value(made, "fleiss_kappa") == pytest.approx(0.430, abs=5e-4)
    kappas = [made.per_label[name]["fleiss_kappa"].value for name in diagnoses]
    assert kappas == pytest.approx([0.245, 0.245, 0.520, 0.471, 0.566], abs=6e-4)
    shares = [made.per_label[name]["prevalence"].value for name in diagnoses]
    assert shares == pytest.approx([0.144, 0.144, 0.167, 0.306, 0.239], abs=6e-4)


def test_cohen_1968_unweighted_and_weighted_kappa_of_the_same_table() -> None:
    # Cohen (1968), Psychological Bulletin 70(4), table 1: kappa .492; disagreement weights 1, 3, 6 give .348
    shares = np.array([[0.44, 0.05, 0.01], [0.07, 0.20, 0.03], [0.09, 0.05, 0.06]])
    disagreement = np.array([[0, 1, 3], [1, 0, 6], [3, 6, 0]])
    assert co.cohen_values(shares, np.eye(3)) == pytest.approx(0.492, abs=5e-4)
    assert co.cohen_values(shares, 1 - disagreement / 6) == pytest.approx(0.348, abs=5e-4)
    labels = ["personality disorder", "neurosis", "psychosis"]
    made = computed(from_cross_table((200 * shares).round().astype(int).tolist(), labels), labels)
    assert value(made, "cohen_kappa") == pytest.approx(0.492, abs=5e-4)


def test_fleiss_levin_and_paik_print_this_standard_error() -> None:
    # Fleiss, Levin and Paik (2003), section 18.1: 100 subjects, kappa .68 with standard error .087
    cells = np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]], dtype=float)
    assert co.cohen_values(cells, np.eye(3)) == pytest.approx(0.68, abs=5e-3)
    assert co.cohen_standard_error(cells, np.eye(3)) == pytest.approx(0.087, abs=1e-3)


def test_the_paradox_of_kappa_and_what_ac1_says_of_it() -> None:
    # Gwet (2008), British Journal of Mathematical and Statistical Psychology 61: 118, 5, 2, 0
    made = computed(from_cross_table([[118, 5], [2, 0]], ["yes", "no"]), ["yes", "no"])
    assert value(made, "cohen_kappa") == pytest.approx(-0.023, abs=5e-4)
    assert value(made, "gwet_ac1") == pytest.approx(0.941, abs=5e-4)
    assert made.prevalence["yes"].value == pytest.approx(0.972)


KRIPPENDORFF_2011: Grid = [
    [1, 1, None, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [None, 5, 5, 5], [None, None, 1, 1], [None, 3, None, None],
]  # fmt: skip


def test_krippendorff_2011_four_observers_with_gaps() -> None:
    # Krippendorff (2011), Computing Krippendorff's alpha-reliability, example C: .743, .815, .849
    for level, printed in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        made = computed(KRIPPENDORFF_2011, [1, 2, 3, 4, 5], level=level)
        assert value(made, "krippendorff_alpha") == pytest.approx(printed, abs=6e-4)


def test_gwet_2014_coefficients_and_errors_of_nearly_the_same_data() -> None:
    # Gwet (2014), tables 2.10 and 5.x (cac.raw4raters of irrCAC): AC1 .77544 (.14295), Fleiss .76117 (.15302)
    # there the only rater of the last item is the third
    data: Grid = [*KRIPPENDORFF_2011[:-1], [None, None, 3, None]]
    made = computed(data, [1, 2, 3, 4, 5], intervals="linearised")
    printed = {"gwet_ac1": 0.77544, "fleiss_kappa": 0.76117, "conger_kappa": 0.76282, "brennan_prediger": 0.77273}
    for name, number in printed.items():
        assert value(made, name) == pytest.approx(number, abs=6e-6)
    assert made.coefficients["gwet_ac1"].se == pytest.approx(0.14295, abs=6e-6)
    assert made.coefficients["fleiss_kappa"].se == pytest.approx(0.15302, abs=6e-6)
    assert made.coefficients["gwet_ac1"].method == "item linearised, t(10)"


# --- second routes ---------------------------------------------------------------------------------------------------


def by_pair_loops(grid: Grid, categories: int) -> dict[str, Fraction]:
    """Go through all pairs in exact fractions: nothing in common with the matrix route."""
    rows = [[k for k in row if k is not None] for row in grid]
    rows = [row for row in rows if row]
    paired = [row for row in rows if len(row) > 1]
    observed = sum(
        Fraction(sum(a == b for a, b in combinations(row, 2)), len(row) * (len(row) - 1) // 2) for row in paired
    ) / Fraction(len(paired))
    shares = [sum(Fraction(row.count(k), len(row)) for row in rows) / len(rows) for k in range(categories)]
    chance = {
        "fleiss_kappa": sum(share * share for share in shares),
        "gwet_ac1": sum(share * (1 - share) for share in shares) / (categories - 1),
        "brennan_prediger": Fraction(1, categories),
    }
    found = {name: (observed - expected) / (1 - expected) for name, expected in chance.items()}
    pool = [k for row in paired for k in row]
    within = sum(Fraction(2 * sum(a != b for a, b in combinations(row, 2)), len(row) - 1) for row in paired)
    across = Fraction(2 * sum(a != b for a, b in combinations(pool, 2)), len(pool) - 1)
    return found | {"percent_agreement": Fraction(observed), "krippendorff_alpha": 1 - within / across}


@pytest.mark.parametrize("seed", range(6))
def test_the_count_matrix_agrees_with_loops_over_pairs_in_fractions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    categories = 2 + seed
    grid = random_grid(rng, 25, 2 + seed % 4, categories, 0.3)
    made = computed(grid, range(categories))
    for name, exact in by_pair_loops(grid, categories).items():
        assert value(made, name) == pytest.approx(float(exact), abs=1e-12), name


@pytest.mark.parametrize("level", co.LEVELS)
@pytest.mark.parametrize("seed", range(5))
def test_alpha_agrees_with_the_krippendorff_package_on_tables_with_gaps(seed: int, level: co.Level) -> None:
    rng = np.random.default_rng(100 + seed)
    grid = random_grid(rng, 40, 2 + seed, 5, 0.1 * seed)
    data = np.array([[np.nan if k is None else k for k in row] for row in grid], dtype=float).T
    expected = krippendorff.alpha(data, level_of_measurement=level, value_domain=np.arange(5.0))
    assert value(computed(grid, range(5), level=level), "krippendorff_alpha") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weights", ["identity", "linear", "quadratic"])
@pytest.mark.parametrize("seed", range(4))
def test_every_pair_agrees_with_scikit_learn_on_the_declared_scale(seed: int, weights: co.Weighting) -> None:
    grid = random_grid(np.random.default_rng(200 + seed), 50, 3, 4, 0.25)
    pairs = computed(grid, range(5), weights=weights).pairs
    assert len(pairs) == 3
    for pair in pairs:
        a, b = (int(name[1:]) for name in pair.annotators)
        both = [(row[a], row[b]) for row in grid if row[a] is not None and row[b] is not None]
        expected = cohen_kappa_score(
            *zip(*both, strict=True), labels=range(5), weights=None if weights == "identity" else weights
        )
        assert pair.n == len(both)
        assert pair.values["cohen"].value == pytest.approx(expected, abs=1e-12)


def test_the_analytic_error_of_cohens_kappa_agrees_with_statsmodels() -> None:
    cells = np.random.default_rng(3).integers(1, 30, (4, 4)).astype(float)
    for weights, name in ((np.eye(4), None), (co.agreement_weights(np.arange(4.0), "quadratic"), "quadratic")):
        expected = cohens_kappa(cells, wt=name)
        assert co.cohen_values(cells, weights) == pytest.approx(expected.kappa, abs=1e-12)
        assert co.cohen_standard_error(cells, weights) == pytest.approx(expected.std_kappa, abs=1e-10)


def test_fleiss_kappa_agrees_with_statsmodels_when_all_items_have_as_many_raters() -> None:
    grid = random_grid(np.random.default_rng(5), 60, 4, 3, 0)
    counts = [[row.count(k) for k in range(3)] for row in grid]
    assert value(computed(grid, range(3)), "fleiss_kappa") == pytest.approx(fleiss_kappa(counts), abs=1e-12)


def test_two_annotators_without_gaps_make_conger_cohen_and_fleiss_scott() -> None:
    grid = random_grid(np.random.default_rng(6), 60, 2, 4, 0)
    for weights in co.WEIGHTINGS:
        made = computed(grid, range(4), weights=weights)
        assert value(made, "conger_kappa") == pytest.approx(value(made, "cohen_kappa"), abs=1e-12)
        assert value(made, "fleiss_kappa") == pytest.approx(value(made, "scott_pi"), abs=1e-12)
        gwet = made.pairs[0].values["gwet"].value
        assert gwet == pytest.approx(value(made, "gwet_ac1" if weights == "identity" else "gwet_ac2"), abs=1e-12)


@pytest.mark.parametrize(
    ("level", "weights"), [("nominal", "identity"), ("ordinal", "quadratic"), ("interval", "linear")]
)
def test_linearised_errors_agree_with_the_jackknife(level: co.Level, weights: co.Weighting) -> None:
    grid = random_grid(np.random.default_rng(7), 120, 3, 4, 0)
    names = ["fleiss_kappa", "conger_kappa", "krippendorff_alpha", "brennan_prediger"]
    whole = computed(grid, range(4), level=level, weights=weights)
    left_out = [computed(grid[:i] + grid[i + 1 :], range(4), level=level, weights=weights) for i in range(len(grid))]
    for name in names:
        values = np.array([value(one, name) for one in left_out])
        jackknife = np.sqrt((len(grid) - 1) * np.var(values))
        assert whole.linearised[name].se == pytest.approx(jackknife, rel=0.03), name


def test_specific_agreement_of_two_raters_is_the_share_of_both_over_either() -> None:
    cells = [[20, 5, 1], [10, 15, 2], [3, 4, 9]]
    made = computed(from_cross_table(cells, ["a", "b", "c"]), ["a", "b", "c"])
    matrix = np.array(cells)
    for k, label in enumerate("abc"):
        expected = 2 * matrix[k, k] / (matrix[k].sum() + matrix[:, k].sum())
        assert made.per_label[label]["specific_agreement"].value == pytest.approx(expected)


def test_one_against_the_rest_is_the_two_category_coefficient() -> None:
    grid = random_grid(np.random.default_rng(8), 50, 3, 4, 0.2)
    made = computed(grid, range(4))
    for k in range(4):
        binary = [[None if x is None else int(x == k) for x in row] for row in grid]
        alone = computed(binary, [0, 1])
        for name in ("krippendorff_alpha", "fleiss_kappa", "gwet_ac1", "percent_agreement"):
            assert made.per_label[str(k)][name].value == pytest.approx(value(alone, name), abs=1e-12)


# --- properties ------------------------------------------------------------------------------------------------------

grids = st.integers(2, 4).flatmap(
    lambda raters: st.lists(
        st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=raters, max_size=raters), min_size=2, max_size=9
    )
)


def all_values(grid: Grid, labels: Any = range(4), **options: Any) -> dict[str, float | None]:
    made = computed(grid, list(labels), **options)
    return {name: estimate.value for name, estimate in made.coefficients.items()}


def same(one: dict[str, float | None], other: dict[str, float | None]) -> bool:
    return one.keys() == other.keys() and all(
        (one[k] is None and other[k] is None) or one[k] == pytest.approx(other[k], abs=1e-9) for k in one
    )


@settings(max_examples=40, deadline=None)
@given(grids, st.permutations(range(4)))
def test_other_names_for_the_labels_change_nothing(grid: Grid, names: list[int]) -> None:
    renamed = [[None if k is None else names[k] for k in row] for row in grid]
    assert same(all_values(grid), all_values(renamed))


@settings(max_examples=40, deadline=None)
@given(grids, st.randoms(use_true_random=False))
def test_the_order_of_items_and_annotators_changes_nothing(grid: Grid, random: Any) -> None:
    columns = list(range(len(grid[0])))
    random.shuffle(columns)
    shuffled = [[row[c] for c in columns] for row in grid]
    random.shuffle(shuffled)
    assert same(all_values(grid), all_values(shuffled))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(2, 4))
def test_copies_of_one_annotator_agree_perfectly_or_not_at_all_measurably(labels: list[int], copies: int) -> None:
    made = all_values([[k] * copies for k in labels])
    varied = len(set(labels)) > 1
    assert made["percent_agreement"] == 1
    assert made["gwet_ac1"] == pytest.approx(1)
    assert made["krippendorff_alpha"] == (pytest.approx(1) if varied else None)
    assert made["fleiss_kappa"] == (pytest.approx(1) if varied else None)


@settings(max_examples=30, deadline=None)
@given(grids, st.sampled_from([0.5, 2, 10]), st.integers(-5, 5))
def test_another_unit_or_origin_of_the_scale_changes_nothing(grid: Grid, unit: float, origin: int) -> None:
    moved = [[None if k is None else k * unit + origin for k in row] for row in grid]
    scale = [k * unit + origin for k in range(4)]
    scale_names = [int(x) if float(x).is_integer() else x for x in scale]
    for options in ({"level": "interval", "weights": "linear"}, {"level": "ordinal", "weights": "quadratic"}):
        assert same(all_values(grid, **options), all_values(moved, scale_names, **options))


@settings(max_examples=30, deadline=None)
@given(grids, st.integers(2, 3))
def test_items_repeated_leave_the_chance_corrected_shares_alone(grid: Grid, times: int) -> None:
    once, often = all_values(grid), all_values(grid * times)
    for name in ("percent_agreement", "gwet_ac1", "brennan_prediger"):
        assert once[name] == pytest.approx(often[name])


@settings(max_examples=40, deadline=None)
@given(grids)
def test_sums_of_dialogues_add_up_to_the_whole_and_one_more_label_is_one_addition(grid: Grid) -> None:
    labels = [(i, k) for i, row in enumerate(grid) for k in row if k is not None]
    items = np.array([i for i, _ in labels], dtype=np.int64)
    codes = np.array([k for _, k in labels], dtype=np.int64)
    counts = co.count_matrix(items, codes, 4, len(grid))
    whole = co.total_sums(counts)
    parts = co.cluster_sums(counts, np.arange(len(grid)) % 3, 3)
    assert parts.sum(axis=0) == pytest.approx(whole, abs=1e-9)
    grown, sums = np.zeros_like(counts), np.zeros_like(whole)
    for item, code in labels:
        co.add_label(grown, sums, item, code)
    assert np.array_equal(grown, counts)
    assert sums == pytest.approx(whole, abs=1e-9)


# --- intervals -------------------------------------------------------------------------------------------------------


def simulated(rng: np.random.Generator, dialogues: int, items: int = 5, raters: int = 3) -> pd.DataFrame:
    """Simulate labels whose difficulty is shared within dialogues."""
    rows = []
    for d in range(dialogues):
        right = rng.beta(8, 2)
        for i in range(items):
            truth = rng.integers(7)
            rows += [
                (f"{d}-{i}", f"r{a}", EMOTIONS[truth if rng.random() < right else rng.integers(7)], f"d{d}")
                for a in range(raters)
            ]
    return pd.DataFrame(rows, columns=["item", "annotator", "label", "dialogue"])


def test_the_same_seed_gives_the_same_report_and_another_seed_another() -> None:
    frame = simulated(np.random.default_rng(0), 35)
    reports = [
        json.dumps(agreement(frame, AgreementOptions(replicates=200, seed=seed)).to_json()) for seed in (1, 1, 2)
    ]
    assert reports[0] == reports[1]
    assert reports[0] != reports[2]


def test_dialogues_are_resampled_when_they_are_known_and_items_when_not() -> None:
    frame = simulated(np.random.default_rng(1), 35)
    options = AgreementOptions(replicates=400)
    by_dialogue = agreement(frame, options).coefficients["krippendorff_alpha"]
    by_item = agreement(frame.drop(columns="dialogue"), options).coefficients["krippendorff_alpha"]
    assert by_dialogue.value == by_item.value
    assert by_dialogue.clusters == 35
    assert by_dialogue.method == "dialogue bootstrap, percentile, 400"
    assert by_item.clusters == 175
    assert by_item.method == "item bootstrap, percentile, 400"
    assert (by_dialogue.se or 0) > (by_item.se or 1)


def test_the_bootstrap_of_sums_equals_the_coefficients_of_resampled_rows() -> None:
    frame = simulated(np.random.default_rng(2), 6)
    from evaluation.intervals import cluster_weights

    weights = next(iter(cluster_weights(6, 4, 9, name="agreement")))
    made = agreement(frame, AgreementOptions(replicates=4, seed=9))
    for name in COEFFICIENTS:
        values = []
        for row in weights:
            parts = [
                frame.loc[frame["dialogue"] == f"d{d}"].assign(item=lambda f, c=copy: f["item"] + f"#{c}")
                for d in range(6)
                for copy in range(int(row[d]))
            ]
            values.append(value(agreement(pd.concat(parts), AgreementOptions(replicates=0)), name))
        assert made.coefficients[name].se == pytest.approx(np.std(values, ddof=1), abs=1e-10), name


def test_the_dialogue_bootstrap_covers_alpha_better_than_ignoring_dialogues() -> None:
    # the reduced form of the simulation in docs/metrics.md
    covered, truth = coverage(simulations=120, dialogues=30, replicates=200)
    assert 0.4 < truth < 0.9
    assert covered >= 0.88


@pytest.mark.slow
def test_the_dialogue_bootstrap_covers_alpha_as_documented() -> None:
    covered, _ = coverage(simulations=1000, dialogues=30, replicates=500)
    assert 0.91 <= covered <= 0.97


def coverage(simulations: int, dialogues: int, replicates: int) -> tuple[float, float]:
    def alpha(frame: pd.DataFrame, draws: int, seed: int) -> Estimate:
        items = frame["item"].factorize()[0]
        codes = frame["label"].map({label: k for k, label in enumerate(EMOTIONS)}).to_numpy()
        counts = co.count_matrix(items, codes, 7)
        clusters = frame.groupby(items)["dialogue"].first().factorize()[0]
        layout = co.Layout(7)
        values = np.arange(7.0)

        def evaluate(sums: Any) -> Any:
            return co.krippendorff_values(layout.coincidence(sums), values, "nominal")

        from evaluation.intervals import bootstrap_estimate, cluster_weights

        sums = co.cluster_sums(counts, clusters, clusters.max() + 1)
        blocks = cluster_weights(len(sums), draws, seed)
        resampled = np.concatenate([np.empty(0), *(evaluate(block @ sums) for block in blocks)])
        point = float(evaluate(sums.sum(axis=0)))
        return bootstrap_estimate(point, resampled, n=len(counts), clusters=len(sums))

    truth = alpha(simulated(np.random.default_rng(99), 4000), 0, 0).value
    assert truth is not None
    hits = 0
    for seed in range(simulations):
        interval = alpha(simulated(np.random.default_rng(seed), dialogues), replicates, seed).interval
        hits += interval is not None and interval[0] <= truth <= interval[1]
    return hits / simulations, truth


def test_few_dialogues_are_said_to_be_few() -> None:
    made = agreement(simulated(np.random.default_rng(3), 12), AgreementOptions(replicates=100))
    assert "few clusters" in made.coefficients["krippendorff_alpha"].notes
    assert made.coefficients["krippendorff_alpha"].method == "dialogue bootstrap SE, t(11), 100"


# --- degenerate input ------------------------------------------------------------------------------------------------


def reasons(made: Agreement) -> dict[str, str | None]:
    return {name: made.coefficients[name].reason for name in COEFFICIENTS}


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        ([[None, None], [None, None]], "no_data"),
        ([["joy", None], ["fear", None]], "no_pairs"),
        ([["joy", None], [None, "fear"]], "no_pairs"),
    ],
    ids=["all missing", "one rater", "no overlap"],
)
def test_without_pairs_everything_is_undefined_with_the_reason(grid: Grid, reason: str) -> None:
    frame = table(grid) if reason != "no_data" else pd.DataFrame({"item": [1], "annotator": ["a"], "label": [None]})
    made = agreement(frame, AgreementOptions(replicates=50))
    assert set(reasons(made).values()) == {reason}
    assert all(made.coefficients[name].value is None for name in COEFFICIENTS)
    json.dumps(made.to_json(), allow_nan=False)


def test_one_category_gives_full_agreement_but_no_kappa() -> None:
    made = agreement(table([["joy", "joy", "joy"]] * 5), AgreementOptions(replicates=50))
    for name in ("percent_agreement", "gwet_ac1", "brennan_prediger"):
        assert made.coefficients[name].value == 1
        assert made.coefficients[name].interval is None
    for name in ("fleiss_kappa", "conger_kappa", "krippendorff_alpha"):
        assert made.coefficients[name].value is None
        assert made.coefficients[name].reason == "no_variation"


def test_the_declared_or_observed_number_of_labels_moves_ac1_as_documented() -> None:
    grid = from_cross_table([[40, 5], [5, 10]], ["joy", "fear"])
    declared = agreement(table(grid), AgreementOptions(replicates=0))
    observed = agreement(table(grid), AgreementOptions(replicates=0, categories="observed"))
    assert declared.facts["labels"] == list(EMOTIONS)
    assert observed.facts["labels"] == ["joy", "fear"]
    p, a = np.array([0.75, 0.25]), 50 / 60
    for made, k in ((declared, 7), (observed, 2)):
        chance = (p * (1 - p)).sum() / (k - 1)
        assert value(made, "gwet_ac1") == pytest.approx((a - chance) / (1 - chance))
        assert value(made, "brennan_prediger") == pytest.approx((a - 1 / k) / (1 - 1 / k))
    assert value(declared, "fleiss_kappa") == pytest.approx(value(observed, "fleiss_kappa"))


def test_one_item_has_shares_without_interval_and_no_coefficient_from_its_own_chance() -> None:
    made = agreement(table([["joy", "fear", "joy"]]), AgreementOptions(replicates=50))
    assert made.coefficients["percent_agreement"].value == pytest.approx(1 / 3)
    assert set(reasons(made).values()) == {"one_item"}
    assert made.coefficients["krippendorff_alpha"].value is None


def test_one_dialogue_has_values_without_intervals() -> None:
    frame = table(random_grid(np.random.default_rng(4), 20, 3, 7, 0), lambda item: "d")
    frame["label"] = [EMOTIONS[int(k)] for k in frame["label"]]
    made = agreement(frame, AgreementOptions(replicates=50))
    for name in COEFFICIENTS:
        assert made.coefficients[name].value is not None
        assert made.coefficients[name].interval is None
        assert made.coefficients[name].reason == "one_dialogue"


def test_labels_outside_the_declared_set_are_refused_with_the_row() -> None:
    with pytest.raises(TableError, match="Row 3, column label"):
        agreement(table([["joy", "fear"], ["jo", "fear"]]))


def test_an_item_in_two_dialogues_is_refused() -> None:
    frame = table([["joy", "fear"]]).assign(dialogue=["d1", "d2"])
    with pytest.raises(TableError, match="another dialogue"):
        agreement(frame)


def test_an_error_names_the_row_of_the_table_as_it_came() -> None:
    frame = table([["joy", "fear"], ["joy", "fear"]]).assign(
        dialogue=["a", "a", "b", "c"], arm=["shown", "hidden", "hidden", "hidden"]
    )
    with pytest.raises(TableError, match="Row 3, column dialogue"):
        agreement(frame)


def test_crowds_of_annotators_get_analytic_errors_for_their_pairs() -> None:
    rng = np.random.default_rng(12)
    made = agreement(table(random_grid(rng, 30, 26, 7, 0.2)), AgreementOptions(replicates=2))
    assert len(made.pairs) == 325
    methods = {pair.values["cohen"].method for pair in made.pairs if pair.values["cohen"].interval}
    assert all(method.startswith("item linearised") for method in methods)
    assert made.coefficients["krippendorff_alpha"].method.startswith("item bootstrap")


def test_the_interval_level_needs_numbers() -> None:
    with pytest.raises(TableError, match="numbers"):
        agreement(table([["joy", "fear"]]), AgreementOptions(level="interval"))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="level is 'ratio'"):
        AgreementOptions(level="ratio")  # type: ignore[arg-type]


def test_labels_other_than_emotions_are_taken_as_observed_and_said_so() -> None:
    made = agreement(table([["4", "5"], ["1", "1"], ["5", "5"]]), AgreementOptions(replicates=0))
    assert made.facts["label_set"] == "observed"
    assert made.facts["labels"] == ["1", "4", "5"]


# --- annotators, pairs, classifier -----------------------------------------------------------------------------------


def test_each_annotator_is_compared_with_the_majority_of_the_others() -> None:
    grid = [
        ["joy", "joy", "joy"],
        ["joy", "fear", "fear"],
        ["fear", "joy", "fear"],
        ["joy", "fear", "anger"],
        ["joy", None, None],
    ]
    made = agreement(table(grid), AgreementOptions(replicates=50))
    first = made.annotators[0]
    assert first.annotator == "r0"
    assert first.values["percent"].n == 2
    assert first.values["percent"].value == 0.5
    assert (first.unresolved, first.alone) == (2, 1)
    assert first.labels["joy"] == 4


def test_pairs_without_common_items_have_no_agreement() -> None:
    made = agreement(table([["joy", "joy", None], ["fear", None, "fear"]]), AgreementOptions(replicates=20))
    by_names = {pair.annotators: pair for pair in made.pairs}
    assert by_names[("r1", "r2")].n == 0
    assert by_names[("r1", "r2")].values["cohen"].reason == "no_pairs"
    assert by_names[("r0", "r1")].values["cohen"].reason in ("no_variation", "one_item")


def with_classifier(frame: pd.DataFrame, rng: np.random.Generator, right: float) -> pd.DataFrame:
    truth = frame.groupby("item")["label"].agg(lambda labels: labels.mode().iloc[0])
    guess = {item: label if rng.random() < right else EMOTIONS[int(rng.integers(7))] for item, label in truth.items()}
    return frame.assign(prelabel=frame["item"].map(guess))


def test_the_classifier_stands_beside_the_annotators() -> None:
    rng = np.random.default_rng(11)
    frame = with_classifier(simulated(rng, 60), rng, 0.4)
    made = agreement(frame, AgreementOptions(replicates=300)).classifier
    assert made is not None
    accuracy, kappa = made.values["accuracy"], made.values["cohen_kappa"]
    assert accuracy.value == pytest.approx(0.48, abs=0.08)
    assert (kappa.value or 1) < (accuracy.value or 0)
    assert made.human["krippendorff_alpha"].value == value(agreement(frame), "krippendorff_alpha")
    difference = made.left_out["difference"]
    assert difference.interval is not None
    assert difference.interval[1] < 0
    assert difference.value == pytest.approx(
        (made.left_out["classifier"].value or 0) - (made.left_out["annotator"].value or 0)
    )
    assert sum(made.prevalence.values()) == pytest.approx(1)


def test_the_left_out_comparison_by_hand() -> None:
    frame = table([["joy", "joy", "fear"], ["fear", "fear", "fear"]]).assign(
        prelabel=["joy", "joy", "joy", "anger", "anger", "anger"]
    )
    made = agreement(frame, AgreementOptions(replicates=20)).classifier
    assert made is not None
    # item 0: only r2 leaves a majority (joy): classifier right, r2 wrong; item 1: three times fear, classifier wrong
    assert made.left_out["classifier"].value == pytest.approx(1 / 4)
    assert made.left_out["annotator"].value == pytest.approx(3 / 4)
    assert made.values["accuracy"].value == pytest.approx(1 / 2)


def test_an_adjudicated_label_replaces_the_majority_for_the_classifier_only() -> None:
    frame = table([["joy", "fear"], ["fear", "fear"]]).assign(prelabel=["joy", "joy", "fear", "fear"])
    plain = agreement(frame, AgreementOptions(replicates=0))
    decided = agreement(frame, AgreementOptions(replicates=0), verified={0: "fear"})
    assert plain.classifier is not None
    assert decided.classifier is not None
    assert plain.classifier.values["accuracy"].n == 1
    assert decided.classifier.values["accuracy"].value == 0.5
    assert value(plain, "percent_agreement") == value(decided, "percent_agreement")


def test_judgments_made_with_the_prelabel_in_sight_are_left_out_unless_asked_for() -> None:
    frame = table([["joy", "joy"], ["fear", "joy"], ["joy", "fear"]]).assign(
        arm=["shown", "shown", "hidden", "hidden", "hidden", "hidden"]
    )
    hidden = agreement(frame, AgreementOptions(replicates=0))
    everything = agreement(frame, AgreementOptions(replicates=0, arms="all"))
    assert value(hidden, "percent_agreement") == 0
    assert hidden.facts["shown_arm_left_out"] == 2
    assert value(everything, "percent_agreement") == pytest.approx(1 / 3)


# --- bands -----------------------------------------------------------------------------------------------------------


def test_bands_speak_of_the_lower_bound_and_name_their_scale() -> None:
    wide = Estimate(0.85, 30, (0.55, 0.95), 0.1)
    made = bands(
        {
            "fleiss_kappa": wide,
            "krippendorff_alpha": wide,
            "gwet_ac1": wide,
            "percent_agreement": wide,
            "cohen_kappa": Estimate(0.9, 3, reason="one_item"),
        }
    )
    assert made["fleiss_kappa"]["band"] == "moderate"
    assert made["fleiss_kappa"]["scale"] == "Landis-Koch 1977"
    assert made["krippendorff_alpha"] == {
        "scale": "Krippendorff 2004",
        "of": "lower bound of the interval",
        "band": "not reliable",
    }
    assert set(made) == {"fleiss_kappa", "krippendorff_alpha"}


def test_the_json_is_keyed_as_documented() -> None:
    made = agreement(simulated(np.random.default_rng(5), 4), AgreementOptions(replicates=20)).to_json()
    keys = {"value", "n", "interval", "se", "reason", "method", "clusters", "notes"}
    for name in (*COEFFICIENTS, "cohen_kappa", "scott_pi"):
        assert set(made[name]) == keys
    assert set(made["per_label"]) == set(EMOTIONS)
    assert set(made["pairwise"]) == {"r0-r1", "r0-r2", "r1-r2"}
    assert set(made["pairwise"]["r0-r1"]) == {"annotators", "n", "percent", "cohen", "scott", "gwet", "cohen_se"}
    assert set(made["prevalence"]) == set(EMOTIONS)
    assert made["classifier"] is None
    weighted = agreement(
        table([["1", "2"], ["3", "3"]]), AgreementOptions(weights="linear", level="ordinal", replicates=5)
    ).to_json()
    assert {"weighted_agreement", "gwet_ac2", "percent_agreement"} <= set(weighted)
    assert "gwet_ac1" not in weighted


# --- labels as they are written --------------------------------------------------------------------------------------


def test_one_number_is_one_label_however_it_is_written_and_declared() -> None:
    frame = table([["1", "1.0"], ["2", "2"], ["3.0", "3"], ["2.5", "2.50"]])
    for labels in (None, ("1.0", "2", "2.5", "3"), ("1", "2", "2.50", "3.0")):
        made = agreement(frame, AgreementOptions(labels=labels, level="interval", replicates=0))
        assert made.facts["labels"] == ["1", "2", "2.5", "3"]
        assert value(made, "krippendorff_alpha") == 1


def test_the_interval_level_never_falls_back_to_positions() -> None:
    # two texts, one number in floating point
    frame = table([["9007199254740993", "9007199254740992"], ["1", "1"]])
    for bad in (frame, table([["1", "2"], ["high", "1"]]), table([["1", "inf"], ["2", "1"]])):
        with pytest.raises(TableError, match=r"distinct numbers.*--labels"):
            agreement(bad, AgreementOptions(level="interval", replicates=0))


def test_a_word_for_nothing_is_no_category_of_an_undeclared_set() -> None:
    frame = table([["1", "nan"], ["2", "2"]])
    with pytest.raises(TableError, match=r"Row 2, column label: 'nan' .* leave the cell empty"):
        agreement(frame)
    declared = AgreementOptions(labels=("1", "2", "nan"), level="ordinal", weights="linear", replicates=0)
    assert agreement(frame, declared).facts["labels"] == ["1", "2", "nan"]


def test_headers_with_spaces_are_the_same_headers() -> None:
    frame = table([["x", "y"], ["x", "x"]])
    spaced = frame.set_axis([" item", "annotator ", " label "], axis=1)
    options = AgreementOptions(replicates=50)
    assert agreement(spaced, options).to_json() == agreement(frame, options).to_json()
    assert agreement(spaced, options).facts["labels"] == ["x", "y"]


def test_composed_and_decomposed_letters_are_one_label() -> None:
    made = agreement(table([["é", "e\u0301"], ["a", "a"]]), AgreementOptions(replicates=0))
    assert value(made, "percent_agreement") == 1


def test_emotions_but_for_their_case_are_warned_of() -> None:
    made = agreement(table([["Joy", "Fear"], ["Joy", "joy?"]]), AgreementOptions(replicates=0))
    assert made.facts["label_set"] == "observed"
    assert len(made.facts["warnings"]) == 2
    assert "'Joy' is 'joy' but for its case" in made.facts["warnings"][1]
    both = agreement(table([["x", "X"]]), AgreementOptions(replicates=0)).facts["warnings"]
    assert both[0].startswith("'X' and 'x' differ by case only")
    assert agreement(table([["joy", "fear"]]), AgreementOptions(replicates=0)).facts["warnings"] == []


def test_rows_without_a_label_are_named() -> None:
    frame = table([["joy", "fear"]] * 6)
    frame.loc[[1, 4, 6, 7, 8, 9], "label"] = None
    facts = agreement(frame, AgreementOptions(replicates=0)).facts
    assert (facts["n_without_label"], facts["rows_without_label"]) == (6, [2, 5, 7, 8, 9])


def test_an_item_in_another_data_set_is_said_to_be_that() -> None:
    frame = table([["joy", "fear"], ["joy", "joy"]]).assign(dialogue="d", dataset=["A", "A", "A", "B"])
    with pytest.raises(
        TableError, match="Row 3, column dataset: the item lies in the same dialogue of another data set in row 4"
    ):
        agreement(frame)


def test_negative_seeds_and_replicates_are_refused() -> None:
    for wrong in ({"seed": -1}, {"replicates": -1}):
        with pytest.raises(ValueError, match="must not be negative"):
            AgreementOptions(**wrong)  # type: ignore[arg-type]


# --- weights and categories ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", co.WEIGHTINGS)
def test_observed_categories_change_k_only_and_never_the_scale(weights: co.Weighting) -> None:
    rng = np.random.default_rng(13)
    # the middle and the ends of a declared scale of seven are never used
    grid = [[None if k is None else (1, 2, 5)[k] for k in row] for row in random_grid(rng, 40, 3, 3, 0.1)]
    declared = computed(grid, range(7), weights=weights, level="ordinal")
    observed = computed(grid, range(7), weights=weights, level="ordinal", categories="observed")
    moved = {"gwet_ac1", "gwet_ac2", "brennan_prediger"}
    for name, estimate in declared.coefficients.items():
        if name not in moved:
            assert observed.coefficients[name].value == estimate.value, name
            assert observed.linearised.get(name) == declared.linearised.get(name), name
    for name in moved & set(declared.coefficients):
        assert observed.coefficients[name].value != pytest.approx(declared.coefficients[name].value)
    # AC by hand: T_w and K of the three labels that occur, with the weights of the scale of seven
    table_of = co.agreement_weights(np.arange(7.0), weights)[np.ix_([1, 2, 5], [1, 2, 5])]
    pi = np.array([observed.prevalence[label].value for label in ("1", "2", "5")])
    agreed = value(observed, "percent_agreement" if weights == "identity" else "weighted_agreement")
    chance = table_of.sum() / 6 * (pi * (1 - pi)).sum()
    name = "gwet_ac1" if weights == "identity" else "gwet_ac2"
    assert value(observed, name) == pytest.approx((agreed - chance) / (1 - chance))


def test_observed_categories_leave_no_classifier_label_out() -> None:
    frame = table([["joy", "joy"], ["fear", "fear"]]).assign(prelabel=["joy", "joy", "anger", "anger"])
    made = agreement(frame, AgreementOptions(categories="observed", replicates=0)).classifier
    assert made is not None
    # nobody says anger, yet the classifier did, and was wrong
    assert made.values["accuracy"].value == 0.5


# --- linearised errors -----------------------------------------------------------------------------------------------


def test_linearised_intervals_of_single_labels_agree_with_the_jackknife() -> None:
    grid = random_grid(np.random.default_rng(17), 120, 3, 4, 0)
    whole = computed(grid, range(4), intervals="linearised")
    left_out = [computed(grid[:i] + grid[i + 1 :], range(4)) for i in range(len(grid))]
    for name, estimate in whole.per_label["2"].items():
        values = np.array([one.per_label["2"][name].value for one in left_out], dtype=float)
        assert estimate.se == pytest.approx(np.sqrt((len(grid) - 1) * np.var(values)), rel=0.04), name
        assert estimate.interval is not None
        assert estimate.method == "item linearised, t(119)"


@pytest.mark.parametrize("weights", co.WEIGHTINGS)
def test_the_errors_of_a_pair_are_gwets_errors_of_two_raters(weights: co.Weighting) -> None:
    made = computed(
        random_grid(np.random.default_rng(18), 60, 2, 4, 0), range(4), weights=weights, intervals="linearised"
    )
    (pair,) = made.pairs
    assert pair.values["scott"].se == pytest.approx(made.linearised["fleiss_kappa"].se)
    gwet = made.linearised["gwet_ac1" if weights == "identity" else "gwet_ac2"]
    assert pair.values["gwet"].se == pytest.approx(gwet.se)
    assert pair.values["gwet"].interval == pytest.approx(gwet.interval)
    assert made.annotators[0].values["scott"].interval is not None


def test_pairs_that_share_no_item_are_counted_and_not_listed() -> None:
    made = agreement(table([["joy", "joy", None], ["fear", None, "fear"]]), AgreementOptions(replicates=5)).to_json()
    assert set(made["pairwise"]) == {"r0-r1", "r0-r2"}
    assert made["pairs_without_common_items"] == 1


# --- the classifier and the verified label ---------------------------------------------------------------------------


def test_the_classifier_is_compared_unweighted_whatever_the_weights() -> None:
    rng = np.random.default_rng(19)
    frame = with_classifier(simulated(rng, 40), rng, 0.6)
    plain = agreement(frame, AgreementOptions(replicates=30))
    weighted = agreement(frame, AgreementOptions(replicates=30, weights="quadratic", level="ordinal"))
    assert plain.classifier is not None
    assert weighted.classifier is not None
    assert weighted.classifier.to_json() == plain.classifier.to_json()
    assert set(plain.classifier.human) == {"percent_agreement", "fleiss_kappa", "gwet_ac1", "krippendorff_alpha"}
    assert weighted.classifier.human["fleiss_kappa"].value == value(plain, "fleiss_kappa")


def test_a_single_label_is_verified_only_where_that_is_allowed() -> None:
    frame = table([["joy", None], ["fear", "fear"], ["joy", "fear"]]).assign(prelabel="joy")
    usual = agreement(frame, AgreementOptions(replicates=0)).classifier
    single = agreement(frame, AgreementOptions(replicates=0, allow_single=True)).classifier
    assert usual is not None
    assert single is not None
    assert (usual.values["accuracy"].n, usual.values["accuracy"].value) == (1, 0)
    assert (single.values["accuracy"].n, single.values["accuracy"].value) == (2, 0.5)
    assert usual.resolved["unresolved_single"] == single.resolved["single"] == 1
    assert usual.resolved["unresolved_tie"] == 1


def test_the_adjudicated_label_of_the_table_decides_for_the_classifier() -> None:
    frame = table([["joy", "fear"], ["fear", "fear"], ["joy", None]]).assign(
        prelabel=["joy", "joy", "joy", "joy", "joy"], gold_label=["joy", None, "joy", "joy", None]
    )
    made = agreement(frame, AgreementOptions(replicates=0))
    assert made.classifier is not None
    assert made.classifier.resolved["adjudicated"] == 2
    assert (made.classifier.values["accuracy"].n, made.classifier.values["accuracy"].value) == (2, 1)
    # a mapping comes before the column, and keys are keys however they are written
    told = agreement(frame, AgreementOptions(replicates=0), verified={0.0: "fear", 2: "joy"}).classifier
    assert told is not None
    assert (told.values["accuracy"].n, told.values["accuracy"].value) == (3, pytest.approx(2 / 3))
    with pytest.raises(TableError, match="Row 2, column gold_label: the item '0' has another"):
        agreement(frame.assign(gold_label=["joy", "fear", None, None, None]))


@pytest.mark.parametrize(
    ("verified", "message"),
    [({"1.0": "joy"}, "item '1.0' is not in"), ({1: "glee"}, "label 'glee'"), ({1: ""}, "empty")],
)
def test_an_adjudication_that_fits_nothing_is_refused(verified: dict[Any, str], message: str) -> None:
    frame = table([["joy", "fear"], ["fear", "fear"]]).assign(prelabel="joy")
    with pytest.raises(TableError, match=message):
        agreement(frame, AgreementOptions(replicates=0), verified=verified)


def test_the_prelabel_belongs_to_the_item_whichever_row_carries_it() -> None:
    frame = table([["joy", "joy", "fear"], ["fear", "fear", "fear"]]).assign(
        arm=["hidden", "hidden", "shown"] * 2, prelabel=[None, None, "joy", None, None, "joy"]
    )
    skipped = frame.assign(arm="hidden")
    skipped.loc[[2, 5], "label"] = None
    for each in (frame, skipped):
        made = agreement(each, AgreementOptions(replicates=0)).classifier
        assert made is not None
        assert (made.values["accuracy"].n, made.values["accuracy"].value) == (2, 0.5)


def test_precision_recall_and_f1_of_each_label_with_the_titled_matrix() -> None:
    human = ["joy"] * 4 + ["fear"] * 3 + ["anger"] * 3
    said = ["joy", "joy", "joy", "fear", "fear", "fear", "joy", "anger", "anger", "joy"]
    frame = table([[label, label] for label in human]).assign(prelabel=np.repeat(said, 2))
    for intervals in ("bootstrap", "linearised"):
        made = agreement(frame, AgreementOptions(replicates=200, intervals=intervals)).classifier  # type: ignore[arg-type]
        assert made is not None
        # joy: said 5 times, 3 of them right, 4 by people
        scores = made.per_label["joy"]
        assert [scores[name].value for name in ("precision", "recall", "f1")] == pytest.approx([3 / 5, 3 / 4, 6 / 9])
        assert all(scores[name].interval is not None for name in scores)
        absent = made.per_label["disgust"]
        assert [absent[name].reason for name in absent] == ["never_predicted", "no_support", "class_absent"]
    body = made.to_json()
    assert body["per_label"]["joy"]["support"] == 4
    assert body["per_label"]["joy"]["predicted"] == 5
    assert body["matrix"]["title"].startswith("Misclassification: human label (rows)")
    place = {label: k for k, label in enumerate(body["matrix"]["labels"])}
    assert body["matrix"]["counts"][place["anger"]][place["joy"]] == 1
    # F1 of joy by its definition: 3 hits of worth 2, 1 missed, 2 false, n = 10
    ratio, whole = 6 / 9, 9
    squares = 3 * (2 - 2 * ratio) ** 2 + 3 * ratio**2
    assert made.per_label["joy"]["f1"].se == pytest.approx(np.sqrt(10 / 9 * squares) / whole)


def test_every_number_of_the_json_has_at_most_twelve_digits() -> None:
    rng = np.random.default_rng(23)
    frame = with_classifier(simulated(rng, 20), rng, 0.7)
    for intervals in ("bootstrap", "linearised"):
        made = agreement(frame, AgreementOptions(replicates=40, intervals=intervals, allow_single=True)).to_json()  # type: ignore[arg-type]

        def check(part: Any) -> None:
            if isinstance(part, dict | list):
                for one in part.values() if isinstance(part, dict) else part:
                    check(one)
            elif isinstance(part, float):
                assert part == float(f"{part:.12g}")

        check(made)
