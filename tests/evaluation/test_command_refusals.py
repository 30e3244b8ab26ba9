"""What the command does when something is wrong: one line that says what to do, and status 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evaluation.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def started(*arguments: object, environment: dict[str, str] | None = None, **streams: Any) -> Any:
    """Run the command as a process of its own."""
    command = [sys.executable, "-m", "evaluation", *map(str, arguments)]
    kept = streams or {"capture_output": True}
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **(environment or {})}, check=False, **kept)


# --- tables and options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("item,annotator,label\n1,a,1\n1,b,NA\n", "Row 2, column label: 'NA' looks like a missing value"),
        ("item,annotator,label\n1,a,joy\n1,b\n", "Row 2 (line 3) of bad.csv has 2 cells"),
        ("item,annotator,label\n1,a,joy\n1,b,Joy\n", "is it joy?"),
        ('item,annotator,label\n1,a,"joy\n', "cannot be read"),
    ],
)
def test_bad_tables_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(content)
    for command in ("agreement", "aggregate"):
        status, out, err = run(capsys, command, file)
        assert (status, out) == (2, "")
        assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("agreement", "x.csv", "--replicates", "-1"), "--replicates: must be a whole number, 0 or more"),
        (("agreement", "x.csv", "--seed", "-1"), "--seed: must be a whole number, 0 or more"),
        (("agreement", "x.csv", "--confidence", "1"), "--confidence: must be a number above 0 and below 1"),
        (("agreement", "x.csv", "--labels", "joy,"), "--labels: names an empty label"),
        (("agreement", "x.csv", "--labels", ""), "--labels: names an empty label"),
        (("agreement", "x.csv", "--labels", "1,1.0"), "--labels: names 1 more than once"),
        (("metrics", "x.csv", "--replicates", "-5"), "--replicates: must be a whole number, 0 or more"),
        (("plan", "--population", "0"), "--population: must be a whole number, 1 or more"),
        (("plan", "--strata", "10,0,-5"), "--strata: must be a whole number, 1 or more, got '0'"),
        (("plan", "--metric", "mean", "--sd", "-1"), "--sd: must be a number above 0"),
        (("plan", "--p", "nan"), "--p: must be a number at least 0 and at most 1"),
        (("plan", "--half-width", "0"), "--half-width: must be a number above 0"),
        (("plan", "--shares", "a,b"), "--shares: must be a number"),
    ],
)
def test_an_impossible_option_is_named(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--strata", "10,20"), "--strata holds 30 units, but +-0.1 takes 88"),
        (("--n-now", 100), "--n-now needs --half-now"),
        (("--half-now", 0.1), "--half-now needs --n-now"),
        (("--metric", "flatness"), "--shares"),
        (("--metric", "macro_f1"), "--confusion"),
        (("--confusion", "x.csv"), "--metric macro_f1"),
    ],
)
def test_a_plan_that_lacks_something_says_what(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], message: str
) -> None:
    status, out, err = run(capsys, "plan", *arguments, "--json")
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs --size"),
        (("--size", 2), "There is no column id; name one with --id: turn, label, sure"),
        (("--size", 9, "--id", "turn"), "between 1 and the 3 units"),
        (("--size", 2, "--id", "label"), "Row 2, column label: the cell is empty"),
        (("--size", 2, "--id", "turn", "--design", "half"), "no column stratum; name one with --strata"),
        (("--size", 2, "--id", "turn", "--design", "half", "--strata", "label"), "Row 2, column label"),
        (("--size", 2, "--id", "turn", "--design", "uncertainty", "--uncertainty", "sure"), "Row 1, column sure: '0'"),
        (("--size", 2, "--id", "turn", "--design", "neyman", "--strata", "sure", "--spread", "0"), "--spread takes"),
    ],
)
def test_a_sample_that_cannot_be_drawn_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], message: str
) -> None:
    file = tmp_path / "turns.csv"
    file.write_text("turn,label,sure\n1,joy,0\n2,,0.5\n3,fear,1\n")
    status, out, err = run(capsys, "sample", file, *arguments)
    assert (status, out) == (2, "")
    assert message in err


# --- the machine -----------------------------------------------------------------------------------------------------


def test_the_hash_seed_of_a_process_changes_no_number(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    rows = ["1,a,1", "1,b,nan", "2,a,2", "2,b,2.0", "3,a,3", "3,b,3", "4,a,nan", "4,b,2"]
    file.write_text("\n".join(["item,annotator,label", *rows]))
    arguments: tuple[object, ...] = ("agreement", file, "--level", "ordinal", "--weights", "linear", "--replicates", 20)
    refused = started(*arguments, environment={"PYTHONHASHSEED": "1"})
    assert refused.returncode == 2
    assert b"Row 2, column label: 'nan'" in refused.stderr
    arguments += ("--labels", "1,2,3,nan")
    printed = {started(*arguments, environment={"PYTHONHASHSEED": str(seed)}).stdout for seed in (0, 1, 2)}
    assert len(printed) == 1
    assert b"labels (declared): 1, 2, 3, nan" in printed.pop()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_cannot_show_a_letter_shows_its_number(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("item,annotator,label\n1,Zoë,→\n1,b,→\n", encoding="utf-8")
    console = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    shown = started("agreement", file, "--replicates", 0, environment=console)
    assert shown.returncode == 0, shown.stderr
    assert b"labels (observed): \\u2192" in shown.stdout
    answer = started("agreement", file, "--replicates", 0, "--json", environment=console)
    assert json.loads(answer.stdout.decode(encoding))["labels"] == ["→"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_device_is_told_with_status_two() -> None:
    with open("/dev/full", "wb") as full:
        printed = started("plan", stdout=full, stderr=subprocess.PIPE)
    for ended in (printed, started("plan", "--output", "/dev/full")):
        assert ended.returncode == 2
        assert b"cannot be written: No space left" in ended.stderr
        assert b"Traceback" not in ended.stderr


def test_a_reader_who_leaves_early_is_no_error() -> None:
    many = " ".join(["0.1"] * 2000)
    command = f"{sys.executable} -m evaluation plan --half-width {many} | head -1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, cwd=ROOT, check=True)
    assert ended.stdout.endswith(b"\n0\n")
    assert ended.stderr == b""


# --- bundles ---------------------------------------------------------------------------------------------------------


def bundle(folder: Path) -> None:
    """Write the smallest bundle there is."""
    from evaluation.report import ReportSettings, ReportTables, write_tables

    turns = {"dialogue": ["d"], "turn": [1], "system": ["a"], "user_label": ["joy"], "response_label": ["joy"]}
    write_tables(ReportTables(pd.DataFrame(turns)), ReportSettings(replicates=5), folder)


@pytest.mark.parametrize("stored", ["[]", "5", "null", "{}", '{"settings": {}, "sections": [5]}'])
def test_a_stored_report_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stored: str
) -> None:
    bundle(tmp_path)
    (tmp_path / "report.json").write_text(stored)
    status, _, err = run(capsys, "report", tmp_path)
    assert status == 2
    assert "report.json of the bundle is no report" in err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[]", "one object"),
        ("null", "one object"),
        ('{"options": []}', "options must be an object"),
        ('{"scale": [5, 1]}', "scale must be two whole numbers"),
        ('{"scale": 5}', "scale must be two whole numbers"),
        ('{"scale": [1, 2.5]}', "scale must be two whole numbers"),
        ('{"seed": "a"}', "seed must be a whole number"),
        ('{"replicates": -1}', "replicates must be a whole number"),
        ('{"title": 3}', "title must be a text"),
        ('{"names": []}', "names must be an object"),
        ('{"randomised": 1}', "randomised must be true or false"),
        ('{"arms": "both"}', "arms must be independent or all"),
        ('{"options": {"confidence": "x"}}', "confidence must be a number"),
    ],
)
def test_settings_of_the_wrong_kind_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str, message: str
) -> None:
    bundle(tmp_path)
    (tmp_path / "settings.json").write_text(settings)
    status, _, err = run(capsys, "report", tmp_path)
    assert status == 2
    assert message in err
