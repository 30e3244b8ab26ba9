from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.__main__ import main
from evaluation.emotions import EMOTIONS

STATISTIC = {"value", "n", "interval", "se", "reason", "method", "clusters", "notes"}


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
    file = tmp_path / "labels.csv"
    pd.DataFrame(rows, columns=["item", "annotator", "label", "dialogue"]).to_csv(file, index=False)
    return file


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_agreement_prints_one_json_object_keyed_as_the_reference_files(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "agreement", labels, "--json", "--replicates", 100)
    body = json.loads(out)
    assert status == 0
    names = ("krippendorff_alpha", "fleiss_kappa", "gwet_ac1", "percent_agreement", "cohen_kappa", "brennan_prediger")
    for name in names:
        assert set(body[name]) == STATISTIC
    assert body["krippendorff_alpha"]["interval"][0] < body["krippendorff_alpha"]["value"]
    assert body["cohen_kappa"]["value"] is None
    assert body["cohen_kappa"]["reason"] == "not_two_annotators"
    assert body["n_dialogues"] == 35


def test_agreement_of_a_reference_case_through_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reference: Callable[[str], list[dict[str, Any]]]
) -> None:
    case = next(case for case in reference("agreement") if case["id"] == "gwet-raw5observers")
    rows = [
        (i, a, label)
        for i, row in enumerate(case["input"]["ratings"])
        for a, label in enumerate(row)
        if label is not None
    ]
    file = tmp_path / "raw5.tsv"
    pd.DataFrame(rows, columns=["item", "annotator", "label"]).to_csv(file, sep="\t", index=False)
    arguments = ("agreement", file, "--labels", "0,1,2,3", "--level", "ordinal", "--weights", "quadratic", "--json")
    _, out, _ = run(capsys, *arguments, "--replicates", 20)
    body, expected = json.loads(out), case["expected"]
    assert body["gwet_ac2"]["value"] == pytest.approx(expected["quadratic"]["gwet_ac2"], abs=1e-6)
    assert body["krippendorff_alpha"]["value"] == pytest.approx(expected["alpha_ordinal"], abs=1e-6)
    pair = body["pairwise"]["0-1"]
    assert pair["cohen"]["value"] == pytest.approx(expected["pairwise"]["0-1"]["cohen_quadratic"], abs=1e-6)


def test_every_kind_of_file_gives_the_same_numbers(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv(labels, dtype=str)
    frame.to_parquet(labels.with_suffix(".parquet"))
    frame.to_json(labels.with_suffix(".jsonl"), orient="records", lines=True)
    printed = {
        run(capsys, "agreement", labels.with_suffix(suffix), "--json", "--replicates", 50)[1]
        for suffix in (".csv", ".parquet", ".jsonl")
    }
    assert len(printed) == 1


def test_the_table_for_people_shows_value_interval_reason_band_and_prevalence(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "agreement", labels, "--replicates", 100)
    assert "krippendorff_alpha" in out
    assert "undefined: not_two_annotators" in out
    assert "Krippendorff 2004, lower bound of the interval" in out
    assert "prevalence: joy 0." in out
    assert "joy against the rest" in out


def test_the_command_is_the_same_byte_for_byte_in_another_process(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["agreement", str(labels), "--json", "--replicates", "60", "--seed", "5"]
    _, here, _ = run(capsys, *arguments)
    there = subprocess.run(
        [sys.executable, "-m", "evaluation", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert there.stdout == here


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("item,annotator\n1,a\n", "lacks the column label"),
        ("item,annotator,label\n1,a,joy\n2,a,joyy\n", "Row 2, column label"),
        ("item,annotator,label\n1,a,joy\n1,a,fear\n", "Row 2"),
        ("item,annotator,label,dialogue\n1,a,joy,d\n1,b,fear,e\n", "another dialogue"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(content)
    status, out, err = run(capsys, "agreement", file, "--json")
    assert status == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("item,annotator,label\n", "no_data"),
        ("item,annotator,label\n1,a,\n", "no_data"),
        ("item,annotator,label\n1,a,joy\n2,a,fear\n", "no_pairs"),
        ("item,annotator,label\n1,a,joy\n1,b,joy\n2,a,joy\n2,b,joy\n", "no_variation"),
    ],
)
def test_degenerate_files_give_null_and_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, reason: str
) -> None:
    file = tmp_path / "thin.csv"
    file.write_text(content)
    status, out, _ = run(capsys, "agreement", file, "--json", "--replicates", 20)
    alpha = json.loads(out)["krippendorff_alpha"]
    assert status == 0
    assert (alpha["value"], alpha["interval"], alpha["reason"]) == (None, None, reason)
    run(capsys, "agreement", file)


def test_plan_answers_in_labels(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("plan", "--p", 0.65, "--half-width", 0.05, "--rho", 0.5, "--n-now", 100, "--half-now", 0.1)
    status, out, _ = run(capsys, *arguments, "--strata", "500,300,100", "--json")
    (row,) = json.loads(out)["sizes"]
    assert status == 0
    assert (row["n"], row["n_human_only"], row["how_many_more"]) == (263, 350, 300)
    assert sum(row["allocation"]["half"]) == 263
    _, table, _ = run(capsys, *arguments)
    assert "n = 263" in table


def test_plan_knows_kappa_flatness_and_means(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "plan", "--metric", "kappa", "--half-width", 0.1, "--json")
    assert json.loads(out)["sizes"][0]["n"] == 131
    _, out, _ = run(capsys, "plan", "--metric", "mean", "--sd", 1, "--half-width", 0.1, "--json")
    assert json.loads(out)["sizes"][0]["n"] == 385
    shares = ("--shares", "0.5,0.25,0.25")
    _, out, _ = run(capsys, "plan", "--metric", "flatness", *shares, "--half-width", 0.05, "--json")
    assert json.loads(out)["sizes"][0]["n"] > 50
    status, _, err = run(capsys, "plan", "--metric", "mean")
    assert status == 2
    assert "--sd" in err


def test_metrics_prints_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    columns = {name: [EMOTIONS[k] for k in rng.integers(0, 7, 60)] for name in ("user_label", "response_label")}
    frame = pd.DataFrame(
        {"dialogue": np.arange(60) // 4, "turn": np.arange(60), "dataset": "demo", "system": "llama", **columns}
    ).assign(reference_label=columns["user_label"])
    file = tmp_path / "turns.csv"
    frame.to_csv(file, index=False)
    status, out, err = run(capsys, "metrics", file, "--json", "--replicates", 30)
    assert status == 0, err
    (group,) = json.loads(out)["groups"]
    exact = np.mean(frame["user_label"] == frame["response_label"])
    assert group["raw"]["exact"]["value"] == pytest.approx(exact)
    assert set(group["raw"]["exact"]) >= STATISTIC
    status, table, _ = run(capsys, "metrics", file, "--replicates", 30)
    assert status == 0
    assert "demo / llama: 60 turns" in table


@pytest.fixture
def verified_turns(tmp_path: Path) -> Path:
    rows = [(f"d{i // 2}", i, EMOTIONS[i % 7], EMOTIONS[i % 3], EMOTIONS[i % 5]) for i in range(60)]
    names = ["dialogue", "turn", "user_label", "response_label", "reference_label"]
    frame = pd.DataFrame(rows, columns=names).assign(dataset="demo", system="llama", inclusion_probability=0.5)
    for role in ("user", "response", "reference"):
        frame[f"{role}_verified"] = frame[f"{role}_label"].where(frame.index % 2 == 0)
    frame["inclusion_probability"] = frame["inclusion_probability"].where(frame.index % 2 == 0)
    file = tmp_path / "turns.csv"
    frame.to_csv(file, index=False)
    return file


def test_metrics_refuses_to_claim_how_verified_labels_were_made(
    verified_turns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "metrics", verified_turns, "--gold", "dawid_skene", "--json")
    assert (status, out) == (2, "")
    assert "python -m evaluation aggregate" in err


def test_every_key_of_the_metrics_is_documented(verified_turns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    (group,) = json.loads(run(capsys, "metrics", verified_turns, "--json", "--replicates", 10)[1])["groups"]
    raw = group["raw"]
    keys = set(group) | set(raw) | set(raw["exact"]) | set(raw["coarse"]) | set(raw["entropy"]) | set(raw["flatness"])
    keys |= set(raw["per_emotion"]["joy"]) | set(raw["macro_f1"]) | set(group["matrices"])
    keys |= set(group["matrices"]["alignment_raw"])
    spelled = {key for key in keys if key.startswith("coarse_surprise_as_")}
    missing = sorted(key for key in keys - spelled if not re.search(rf"\b{key}\b", text))
    assert missing == []


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "report", tmp_path / "none.zip")
    assert status == 2
    assert "none.zip" in err


def test_a_bundle_is_recomputed_and_a_changed_number_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from evaluation.report import ReportSettings, ReportTables, build_report, write_tables
    from evaluation.report_model import dumps

    rng = np.random.default_rng(2)
    columns = {name: [EMOTIONS[k] for k in rng.integers(0, 7, 48)] for name in ("user_label", "response_label")}
    turns = pd.DataFrame(
        {
            "dialogue": [f"d{i // 4}" for i in range(48)],
            "turn": range(48),
            "dataset": "demo",
            "system": "llama",
            **columns,
        }
    )
    tables, settings = ReportTables(turns), ReportSettings(replicates=20, permutations=50, sensitivity=False)
    write_tables(tables, settings, tmp_path)
    status, out, err = run(capsys, "report", tmp_path)
    assert status == 0, err
    assert "no stored report" in out
    stored = dumps(build_report(tables, settings))
    (tmp_path / "report.json").write_text(stored, encoding="utf-8")
    status, out, _ = run(capsys, "report", tmp_path)
    assert status == 0
    assert "every number is reproduced" in out
    exact = np.mean(turns["user_label"] == turns["response_label"])
    changed = stored.replace(f"{exact:.12g}", "0.987")
    assert changed != stored
    (tmp_path / "report.json").write_text(changed, encoding="utf-8")
    status, out, _ = run(capsys, "report", tmp_path, "--json")
    assert status == 1
    assert any("0.987" in difference for difference in json.loads(out)["differences"])


def test_every_key_the_command_prints_is_documented(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = set(text.replace(",", " ").replace("|", " ").split())
    body = json.loads(run(capsys, "agreement", labels, "--json", "--replicates", 10)[1])
    weighted = json.loads(run(capsys, "agreement", labels, "--json", "--replicates", 10, "--weights", "linear")[1])
    keys = {key for key, value in (body | weighted).items() if isinstance(value, dict)}
    keys |= set(body["per_label"]["joy"]) | set(body["pairwise"]["r0-r1"]) - {"annotators"}
    missing = sorted(key for key in keys if not any(f"`{key}`" in word for word in documented))
    assert missing == []
