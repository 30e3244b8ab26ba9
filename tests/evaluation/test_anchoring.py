from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from evaluation.anchoring import Anchoring, anchoring_effect, anchoring_power, blind_truth, power_table
from evaluation.emotions import EMOTIONS
from evaluation.pooling import pooling
from evaluation.tables import TableError


def simulated(
    seed: int, annotators: int = 6, items: int = 100, hidden: float = 0.3, followed: float = 0.0, right: float = 0.8
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Simulate annotators who, shown a label, follow it with probability `followed`."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 7, items)
    guess = np.where(rng.random(items) < right, truth, rng.integers(0, 7, items))
    rows = []
    for a in range(annotators):
        arms = rng.permutation(items) < round(hidden * items)
        for i in range(items):
            own = truth[i] if rng.random() < 0.85 else rng.integers(0, 7)
            label = guess[i] if not arms[i] and rng.random() < followed else own
            arm = "hidden" if arms[i] else "shown"
            rows.append((f"i{i}", f"a{a:02d}", EMOTIONS[label], arm, EMOTIONS[guess[i]], f"d{i // 4}"))
    frame = pd.DataFrame(rows, columns=["item", "annotator", "label", "arm", "prelabel", "dialogue"])
    return frame, {f"i{i}": EMOTIONS[k] for i, k in enumerate(truth)}


def made(frame: pd.DataFrame, **options: object) -> Anchoring:
    return anchoring_effect(frame, replicates=200, **options)  # type: ignore[arg-type]


def test_the_effect_and_its_variance_by_hand() -> None:
    rows = []
    for annotator, shown, hidden in (("ada", [1, 1, 1, 0], [1, 0, 0, 0]), ("bo", [1, 1, 0], [1, 0])):
        for arm, agreed in (("shown", shown), ("hidden", hidden)):
            rows += [(f"{annotator}{arm}{i}", annotator, "joy" if y else "fear", arm) for i, y in enumerate(agreed)]
    frame = pd.DataFrame(rows, columns=["item", "annotator", "label", "arm"]).assign(prelabel="joy")
    effect = made(frame).effect
    assert effect.value == pytest.approx(((3 / 4 - 1 / 4) + (2 / 3 - 1 / 2)) / 2)
    variance = ((0.25 / 4 + 0.25 / 4) + (1 / 3 / 3 + 0.5 / 2)) / 4
    assert effect.se == pytest.approx(np.sqrt(variance))
    assert effect.n == 13


def test_following_the_shown_label_is_found() -> None:
    frame, truth = simulated(0, followed=0.5)
    found = made(frame, verified=truth)
    assert found.effect.interval is not None
    assert found.effect.interval[0] > 0
    assert found.rates["shown"] > found.rates["hidden"]  # type: ignore[operator]
    # harm: wrong labels are followed too
    assert (found.by_stratum["classifier wrong"].value or 0) > 0.25
    assert (found.logit.value or 0) > 0
    assert found.dialogue_check.value == pytest.approx(found.effect.value)
    assert found.dialogue_check.clusters == 25
    assert set(found.by_annotator) == {f"a{a:02d}" for a in range(6)}
    assert not found.pooling_allowed()
    json.dumps(found.to_json(), allow_nan=False)


def test_without_an_effect_the_interval_covers_zero_as_often_as_it_says() -> None:
    covered = sum(
        interval[0] <= 0 <= interval[1]
        for seed in range(120)
        if (
            interval := anchoring_effect(
                simulated(seed, items=60)[0].drop(columns="dialogue"), replicates=0
            ).effect.interval
        )
    )
    assert 0.88 <= covered / 120 <= 1.0


def test_pooling_is_allowed_only_inside_the_margin_declared() -> None:
    frame, _ = simulated(1, annotators=10, items=1500, hidden=0.5)
    found = made(frame)
    assert found.effect.interval is not None
    assert found.pooling_allowed(0.05)
    assert not found.pooling_allowed(0.001)


def test_future_annotators_need_eight_of_these() -> None:
    few = made(simulated(2)[0])
    assert few.future.reason == "few_annotators"
    assert any("6 annotators" in warning for warning in few.warnings)
    many = made(simulated(2, annotators=9)[0]).future
    assert many.interval is not None
    assert many.clusters == 9
    assert "annotator bootstrap" in many.method


def test_fewer_than_eight_hidden_labels_are_warned_of_by_name() -> None:
    found = made(simulated(3, items=20, hidden=0.3)[0])
    assert any("fewer than 8 hidden" in warning and "a00" in warning for warning in found.warnings)


def test_the_tables_own_strata_are_reported() -> None:
    frame, _ = simulated(4)
    frame["stratum"] = np.where(frame["prelabel"] == "joy", "joy", "other")
    found = made(frame)
    assert list(found.by_stratum) == ["classifier right", "classifier wrong", "joy", "other"]
    assert found.by_stratum["other"].value is not None


def test_the_same_seed_gives_the_same_checks() -> None:
    frame, truth = simulated(5, annotators=8)
    one, other = (json.dumps(made(frame, verified=truth, seed=3).to_json()) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"arm": None}, "no_data"), ({"label": None}, "no_data"), ({"arm": "shown"}, "no_pairs")],
)
def test_degenerate_tables_give_the_reason(change: dict[str, object], reason: str) -> None:
    frame, _ = simulated(6, items=10)
    found = made(frame.assign(**change))
    assert found.effect.reason == reason
    assert found.effect.value is None
    assert found.logit.value is None
    json.dumps(found.to_json(), allow_nan=False)


def test_annotators_who_always_agree_show_no_variation_rather_than_certainty() -> None:
    frame, _ = simulated(7, items=20)
    found = made(frame.assign(label=frame["prelabel"]))
    assert found.effect.value == 0
    assert found.effect.interval is None
    assert found.effect.reason == "no_variation"


def test_a_table_without_arms_is_refused() -> None:
    frame, _ = simulated(8, items=5)
    with pytest.raises(TableError, match="column arm"):
        made(frame.drop(columns="arm"))


def test_power_grows_with_labels_effect_and_balance() -> None:
    assert anchoring_power(600, 0.3, 0.15, replications=150) > anchoring_power(600, 0.3, 0.05, replications=150)
    assert anchoring_power(1200, 0.3, 0.10, replications=150) > anchoring_power(150, 0.3, 0.10, replications=150)
    assert anchoring_power(600, 0.5, 0.10, replications=300) > anchoring_power(600, 0.1, 0.10, replications=300)
    assert anchoring_power(600, 0.3, 0.0, replications=300) < 0.11
    with pytest.raises(ValueError, match="two assignments"):
        anchoring_power(12, 0.1, 0.1)


def test_the_power_table_has_a_row_for_every_combination() -> None:
    table = power_table((150, 300), (0.3,), (0.1, 0.15), replications=20)
    assert table.columns.tolist() == ["assignments", "hidden_share", "effect", "power"]
    assert len(table) == 4
    assert table.equals(power_table((150, 300), (0.3,), (0.1, 0.15), replications=20))


def test_what_is_right_say_the_others_who_labelled_blind_and_nobody_judges_herself() -> None:
    rows = [("i", "ada", "joy", "hidden"), ("i", "bo", "fear", "hidden"), ("i", "cleo", "fear", "shown")]
    rows += [("j", "ada", "joy", "hidden"), ("j", "bo", "joy", "shown")]
    frame = pd.DataFrame(rows, columns=["item", "annotator", "label", "arm"])
    # i: for ada bo's label, for bo ada's, for cleo a tie; j: for ada nobody's, for bo ada's
    assert [label if isinstance(label, str) else None for label in blind_truth(frame)] == [
        "fear",
        "joy",
        None,
        None,
        "joy",
    ]


def test_harm_is_none_without_an_effect_where_labels_judging_themselves_would_find_some() -> None:
    """Three labels an item, half of them blind, nobody follows: by the blind majority the arms seem to differ."""
    others: dict[str, list[float]] = {"right": [], "wrong": []}
    themselves: dict[str, list[float]] = {"right": [], "wrong": []}
    for seed in range(25):
        frame, _ = simulated(seed, items=300, hidden=0.5)
        frame = frame.groupby("item").sample(3, random_state=seed).reset_index(drop=True)
        blind = frame[frame["arm"] == "hidden"].groupby("item")["label"]
        agreed = blind.first()[(blind.nunique() == 1) & (blind.size() >= 2)].to_dict()
        for found, verified in ((others, None), (themselves, agreed)):
            strata = anchoring_effect(frame, verified=verified, replicates=0, quick=True).by_stratum
            for name in found:
                found[name].append(strata[f"classifier {name}"].value or 0.0)
    assert abs(np.mean(others["right"])) < 0.02
    assert abs(np.mean(others["wrong"])) < 0.04
    assert np.mean(themselves["right"]) < -0.08


def test_following_wrong_labels_is_found_by_the_others_blind_labels() -> None:
    frame, _ = simulated(0, items=200, hidden=0.5, followed=0.5)
    strata = made(frame).by_stratum
    assert (strata["classifier wrong"].interval or (0, 0))[0] > 0.1
    assert (strata["classifier wrong"].value or 0) > (strata["classifier right"].value or 0) + 0.1


def test_arms_are_pooled_only_where_the_effect_lies_inside_the_margin() -> None:
    still, _ = simulated(1, items=500, hidden=0.5)
    moved, _ = simulated(1, items=500, hidden=0.5, followed=0.5)
    assert pooling(still, "all").pooled
    assert "lies inside +-0.05; labels of both arms count" in pooling(still, "all").sentence()
    refused = pooling(moved, "all")
    assert not refused.pooled
    assert "does not lie inside +-0.05; labels of the hidden arm alone count" in refused.sentence()
    assert pooling(moved, "all", 0.9).pooled
    assert not pooling(still, "independent").pooled
    assert pooling(still, "independent").sentence() == ""
    # without two arms nobody was shown a label at random: there is nothing to refuse
    assert pooling(still.assign(arm=None), "all").pooled
    json.dumps(refused.to_json(), allow_nan=False)
