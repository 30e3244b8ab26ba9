"""What each subcommand offers and answers."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.__main__ import main
from evaluation.command.main import COMMANDS
from evaluation.command.metrics import metric_options, option_meanings
from evaluation.emotions import EMOTIONS
from evaluation.planning import macro_f1_sample_size
from evaluation.sampling import draw

STATISTIC = {"value", "n", "interval", "se", "reason", "method", "clusters", "notes"}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def answered(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """Give the object that the command prints."""
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [
        (f"i{i}", f"r{a}", EMOTIONS[truth if rng.random() < 0.8 else int(rng.integers(7))], f"d{i // 4}")
        for i in range(140)
        for truth in [int(rng.integers(7))]
        for a in range(3)
        if rng.random() < 0.8
    ]
    frame = pd.DataFrame(rows, columns=["item", "annotator", "label", "dialogue"])
    file = tmp_path / "labels.csv"
    frame.assign(prelabel=frame.groupby("item")["label"].transform("first")).to_csv(file, index=False)
    return file


# --- help, version, files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_says_what_it_means(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"evaluation.command.{name}").arguments(parser)
    assert [action.dest for action in parser._actions[1:] if len(action.help or "") < 20] == []
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Exit status: 0 when all is well; 1" in shown
    assert "--output FILE" in shown
    assert ("--labels=-2,-1,0" in shown) == (name in ("agreement", "aggregate"))


def test_every_metric_option_has_a_meaning() -> None:
    meanings = option_meanings()
    assert {name for name, _, _ in metric_options()} <= set(meanings)
    assert meanings["aggregation"] == "Alignment pooled over turns, or the mean of dialogue means"


def test_the_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.match(r"attune \d+\.\d+\.\d+ \(Python 3", capsys.readouterr().out)


def test_an_answer_goes_to_a_file_whole_and_prints_nothing(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "answer.json"
    target.write_text("old")
    arguments = ("agreement", labels, "--replicates", 10, "--json")
    _, printed, _ = run(capsys, *arguments)
    assert run(capsys, *arguments, "--output", target) == (0, "", "")
    assert target.read_text(encoding="utf-8") == printed
    assert [file.name for file in tmp_path.iterdir() if "part" in file.name] == []
    status, _, err = run(capsys, *arguments, "--output", tmp_path / "none" / "answer.json")
    assert status == 2
    assert "cannot be written" in err


# --- agreement, aggregate --------------------------------------------------------------------------------------------


def test_agreement_shows_the_classifier_label_by_label_and_its_matrix(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(labels, dtype=str)
    frame.loc[3, "label"] = None
    frame.to_csv(labels, index=False)
    _, out, _ = run(capsys, "agreement", labels, "--replicates", 20)
    assert "1 row without a label count nowhere (row 4)" in out
    assert re.search(r"joy \(\d+ by people, \d+ by the classifier\): precision 0\.", out)
    assert "Misclassification: human label (rows) against classifier label (columns)" in out
    usual = answered(capsys, "agreement", labels, "--replicates", 0)["classifier"]
    single = answered(capsys, "agreement", labels, "--replicates", 0, "--allow-single")["classifier"]
    assert usual["resolved"]["unresolved_single"] == single["resolved"]["single"] > 0
    assert sum(map(sum, single["matrix"]["counts"])) == single["accuracy"]["n"] > usual["accuracy"]["n"]


def test_aggregate_gives_labels_reasons_posteriors_and_annotators(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "crowd.csv"
    body = answered(capsys, "aggregate", labels, "--crowd-kit", exported)
    assert body["n_items"] == len(body["items"]) == body["resolved"] + sum(body["unresolved"].values())
    assert {one["reason"] for one in body["items"]} == {None, "tie", "single"}
    queue = sorted((one["order"], one["reason"] != "tie", -one["entropy"]) for one in body["items"] if one["order"])
    assert [place for place, _, _ in queue] == list(range(1, len(queue) + 1))
    assert [rest for _, *rest in queue] == sorted(rest for _, *rest in queue)
    crowd, given = pd.read_csv(exported), pd.read_csv(labels)
    assert list(crowd.columns) == ["task", "worker", "label"]
    assert len(crowd) == len(given)
    _, table, _ = run(capsys, "aggregate", labels, "--method", "one_coin")
    assert "accuracy by the model" in table
    assert re.search(r"^  i0 ", table, re.MULTILINE)
    for method, model in (("dawid_skene", "full"), ("auto", "one_coin")):
        assert answered(capsys, "aggregate", labels, "--method", method)["model"]["name"] == model


def test_aggregate_of_nothing_gives_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "empty.csv"
    file.write_text("item,annotator,label\n1,a,\n")
    body = answered(capsys, "aggregate", file, "--method", "auto")
    assert body["model"] is None
    assert body["unresolved"] == {"no_data": 1}
    assert "(no_data)" in run(capsys, "aggregate", file)[1]


# --- sample, plan ----------------------------------------------------------------------------------------------------


def test_sample_draws_as_the_library_does_and_writes_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"turn": [f"{i:03d}" for i in range(120)], "label": (["joy"] * 100) + ["fear"] * 20})
    file, target = tmp_path / "turns.csv", tmp_path / "drawn.csv"
    frame.to_csv(file, index=False)
    arguments = ("sample", file, "--id", "turn", "--strata", "label", "--design", "half", "--size", 40, "--seed", 3)
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    expected = draw(frame.rename(columns={"turn": "id", "label": "stratum"}), 40, "half", 3)
    assert out == expected.to_csv(index=False, lineterminator="\n")
    assert out.startswith("id,stratum,inclusion_probability,order\n")
    run(capsys, *arguments, "--output", target)
    assert target.read_text() == out
    assert [unit["id"] for unit in answered(capsys, *arguments)["units"]] == expected["id"].tolist()
    neyman = ("sample", file, "--id", "turn", "--strata", "label", "--design", "neyman", "--size", 40)
    assert run(capsys, *neyman, "--spread", "joy=0.1,fear=0.5")[0] == 0
    assert len(answered(capsys, "sample", file, "--id", "turn", "--design", "all")["units"]) == 120


def test_plan_keeps_the_detectable_difference_under_a_design_effect(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [answered(capsys, "plan", "--half-width", 0.1, "--deff", deff)["sizes"][0] for deff in (1, 2, 4)]
    assert [row["n"] for row in rows] == [88, 175, 350]
    assert [row["detectable_difference"] for row in rows] == pytest.approx([0.142] * 3, abs=1e-3)


def test_plan_divides_the_sample_of_a_finite_corpus_among_its_strata(capsys: pytest.CaptureFixture[str]) -> None:
    body = answered(capsys, "plan", "--half-width", 0.1, "--strata", "10,20", "--population", 30)
    (row,) = body["sizes"]
    assert row["n"] <= 30
    assert {name: sum(parts) for name, parts in row["allocation"].items()} == dict.fromkeys(row["allocation"], row["n"])


def test_plan_sizes_macro_f1_from_a_pilot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(4)
    truth = rng.choice(7, 150, p=[0.4, 0.06, 0.06, 0.06, 0.06, 0.06, 0.3])
    said = np.where(rng.random(150) < 0.8, truth, rng.integers(0, 7, 150))
    names = np.array(EMOTIONS)
    pilot = pd.DataFrame({"human": names[truth], "classifier": names[said]})
    one, counted = tmp_path / "pilot.csv", tmp_path / "counts.csv"
    pilot.to_csv(one, index=False)
    pilot.value_counts().reset_index().to_csv(counted, index=False)
    arguments = ("plan", "--metric", "macro_f1", "--half-width", 0.08, "--design", "half", "simple")
    body = answered(capsys, *arguments, "--confusion", one)
    assert answered(capsys, *arguments, "--confusion", counted) == body
    matrix = np.zeros((7, 7))
    np.add.at(matrix, (said, truth), 1)
    sizes = body["sizes"][0]["n"]
    assert sizes == {
        "half": macro_f1_sample_size(0.08, matrix, "half"),
        "simple": macro_f1_sample_size(0.08, matrix, "simple"),
    }
    assert f"half {sizes['half']}, simple {sizes['simple']}" in run(capsys, *arguments, "--confusion", one)[1]
    for option in ("--rho", "--deff"):
        status, _, err = run(capsys, *arguments, "--confusion", one, option, 0.5)
        assert status == 2
        assert f"takes no {option}" in err
    one.write_text("human,classifier,count\njoy,joy,1.5\n")
    assert "Row 1, column count: '1.5' is no whole number" in run(capsys, *arguments, "--confusion", one)[2]
    one.write_text("human,said\njoy,joy\n")
    assert "lacks the column classifier" in run(capsys, *arguments, "--confusion", one)[2]


# --- metrics, compare ------------------------------------------------------------------------------------------------


@pytest.fixture
def turns(tmp_path: Path) -> Path:
    rng = np.random.default_rng(6)
    rows = []
    for i in range(120):
        user, reference = (EMOTIONS[k] for k in rng.integers(0, 4, 2))
        for system in ("reference", "a", "b"):
            response = reference if system == "reference" else user if rng.random() < 0.6 else EMOTIONS[rng.integers(4)]
            seen = i % 4 == 0
            rows.append(
                {
                    "dialogue": i // 4,
                    "turn": i,
                    "dataset": "demo",
                    "system": system,
                    "user_label": user,
                    "response_label": None if i % 10 == 9 else response,
                    "reference_label": reference,
                    "user_verified": user if seen else None,
                    "response_verified": response if seen else None,
                }
            )
    file = tmp_path / "turns.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


def test_metrics_shows_raw_beside_verified_beside_corrected(turns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "metrics", turns, "--replicates", 30)
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("! Raw values rest on the classifier's labels alone")
    head = next(line for line in lines if line.startswith("demo / a"))
    assert re.fullmatch(r"demo / a: 120 turns in 30 dialogues, 12 excluded, n verified \d+( \(.*\))?", head)
    cell = r"(\d\.\d{4}( \[-?\d\.\d{4}, \d\.\d{4}\]| \(\w+\))?|undefined: \w+)"
    for name in ("exact", "coarse", "macro_f1", "per_emotion joy f1", "share_user joy"):
        found = [line for line in lines if re.match(rf"  {name} +[\du]", line)]
        # one line for each of the two systems and the reference, its three values beside each other
        assert [len(re.findall(cell, line)) for line in found] == [3, 3, 3], name
    assert re.search(r"coarse, surprise anywhere +\d\.\d{4} to \d\.\d{4} +\d\.\d{4} to", out)
    assert re.search(r"  macro_f1 .* of 7 classes\)", out)


def test_compare_gives_pairs_ranks_and_patterns(turns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("compare", turns, "--replicates", 30, "--permutations", 99)
    body = answered(capsys, *arguments)
    assert [(one["dataset"], one["measure"]) for one in body["comparisons"]] == [
        ("demo", measure) for measure in ("exact", "coarse", "flatness", "macro_f1")
    ]
    exact = body["comparisons"][0]
    assert {one["system"] for one in exact["systems"]} == {"a", "b", "reference"}
    for system in exact["systems"]:
        assert set(system["raw"]) == set(system["corrected"]) == STATISTIC
        assert sum(system["rank_chance"]) == pytest.approx(1)
    assert len(exact["pairs"]) == 3
    assert set(exact["pairs"][0]["raw"]) == STATISTIC
    assert {one["system"] for one in body["patterns"]} == {"a", "b"}
    cell = body["patterns"][0]["cells"][0]
    assert cell["user"] in EMOTIONS
    assert set(cell["difference_corrected"]) == STATISTIC
    _, table, _ = run(capsys, *arguments)
    assert re.search(r"1\. (a|b) +raw 0\.\d{4} .* corrected", table)
    assert f"{cell['user']} answered with {cell['response']}: {cell['turns']} turns" in table


def test_compare_of_one_system_says_so(turns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv(turns)
    frame[frame["system"] == "a"].to_csv(turns, index=False)
    status, out, _ = run(capsys, "compare", turns, "--replicates", 5)
    assert status == 0
    assert "no data set has two systems" in out


def test_every_subcommand_is_documented() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"| `{name}" in text, name


def test_the_published_fit_of_1979_comes_without_smoothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reference: Callable[[str], list[dict[str, Any]]]
) -> None:
    """The command wants one label per item and annotator, so the first annotator's three looks are three annotators."""
    (case,) = reference("dawid_skene")
    rows = pd.DataFrame(case["input"]["rows"])
    look = rows.groupby(["item", "annotator"]).cumcount()
    file = tmp_path / "1979.csv"
    rows.assign(annotator=rows["annotator"].astype(str) + "." + look.astype(str)).to_csv(file, index=False)
    body = answered(capsys, "aggregate", file, "--method", "dawid_skene", "--smoothing", 0)
    assert body["model"]["smoothing"] == 0
    right = [int(one["label"]) == label for one, label in zip(body["items"], case["expected"]["labels"], strict=True)]
    assert np.mean(right) > 0.9
