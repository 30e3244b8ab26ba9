"""What leaves the product. Every label here is made by the program in `report_corpus`."""

from __future__ import annotations

import csv
import io
import json
import runpy
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotation.models import Campaign, Item, Judgment, Response, SampledTurn, Slot, Turn, User
from annotation.workflow import agreement_export, exports
from evaluation.agreement import agreement
from tests.annotation.workflow.report_corpus import START, Corpus, make_corpus

pytestmark = pytest.mark.django_db

HOSTILE = (
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    r"\input{/etc/passwd}",
    "../../etc/passwd",
    "@SUM(A1)",
    "+1",
)


@pytest.fixture
def world() -> Corpus:
    return make_corpus()


def rows_of(lines: Iterator[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(lines))))


def test_every_judgment_is_one_row_corrected_ones_too_and_marked(world: Corpus) -> None:
    first = Judgment.objects.filter(action="label").order_by("received_at").first()
    assert first is not None
    Judgment.objects.create(
        item=first.item,
        slot=first.slot,
        annotator=first.annotator,
        action="label",
        label="fear",
        supersedes=first,
        received_at=START + timedelta(days=1),
    )
    rows = rows_of(exports.export_lines(world.campaign, "judgments"))
    assert len(rows) == Judgment.objects.count()
    by_key = {row["judgment"]: row for row in rows}
    assert by_key[str(first.pk)]["standing"] == "false"
    assert sum(row["supersedes"] == str(first.pk) and row["standing"] == "true" for row in rows) == 1


def test_as_of_a_moment_before_the_correction_the_first_answer_stands(world: Corpus) -> None:
    first = Judgment.objects.filter(action="label").order_by("received_at").first()
    assert first is not None
    later = START + timedelta(days=1)
    Judgment.objects.create(
        item=first.item,
        slot=first.slot,
        annotator=first.annotator,
        action="label",
        label="fear",
        supersedes=first,
        received_at=later,
    )
    records = exports.judgment_records(world.campaign, as_of=later - timedelta(minutes=1))
    assert {record["judgment"]: record["standing"] for record in records}[str(first.pk)] is True


def test_nobodys_name_or_account_leaves_the_product(world: Corpus) -> None:
    text = "".join(line for table in exports.TABLES for line in exports.export_lines(world.campaign, table))
    assert "r-a000" in text
    fields = {cell for line in text.splitlines() for cell in line.split(",")}
    assert not fields & {"ada", "bo", "cleo", *(str(person.pk) + "@" for person in world.people.values())}


def test_pandas_reads_the_tidy_judgments_and_gets_the_same_agreement(world: Corpus) -> None:
    table = pd.read_csv(io.StringIO("".join(exports.export_lines(world.campaign, "judgments"))))
    labels = table[(table["action"] == "label") & table["standing"] & (table["kind"] != "gold")]
    found = agreement(labels[["item", "annotator", "label", "dialogue", "dataset"]])
    exported = agreement_export.agreement_report(world.campaign)["sections"][0]["tables"][0]["rows"]
    alpha = next(row for row in exported if row["scope"] == "all" and row["statistic"] == "krippendorff_alpha")
    assert alpha["estimate"]["value"] == found.coefficients["krippendorff_alpha"].to_json()["value"]


def test_ratings_are_one_row_per_response_and_scale(world: Corpus) -> None:
    rows = rows_of(exports.export_lines(world.campaign, "ratings"))
    found = {(row["dialogue"], row["system"]): int(row["value"]) for row in rows}
    assert found == {
        ("d1", "alpha"): 4,
        ("d1", "beta"): 2,
        ("d2", "alpha"): 1,
        ("d2", "beta"): 3,
        ("e1", "alpha"): 2,
        ("e1", "beta"): 5,
    }
    assert {row["position"] for row in rows if row["system"] == "beta"} == {"1"}


def test_verified_labels_say_how_each_was_decided(world: Corpus) -> None:
    rows = rows_of(exports.export_lines(world.campaign, "labels"))
    how = {(row["dialogue"], row["turn"], row["kind"], row["system"]): row["decided_by"] for row in rows}
    assert how["e2", "1", "user", ""] == "adjudication"
    assert how["d1", "3", "reference", "reference"] == "unresolved"
    assert how["d3", "1", "response", "beta"] == "unresolved"
    assert how["d1", "1", "user", ""] == "majority"


def test_json_lines_hold_the_same_records(world: Corpus) -> None:
    rows = rows_of(exports.export_lines(world.campaign, "judgments"))
    records = [json.loads(line) for line in exports.export_lines(world.campaign, "judgments", "jsonl")]
    assert [record["judgment"] for record in records] == [row["judgment"] for row in rows]


def test_a_table_or_format_that_does_not_exist_is_refused_before_the_first_line(world: Corpus) -> None:
    with pytest.raises(ValueError, match="judgments, ratings, labels"):
        exports.export_lines(world.campaign, "secrets")
    with pytest.raises(ValueError, match="csv, jsonl"):
        exports.export_lines(world.campaign, "judgments", "exe")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_in_every_export(world: Corpus, text: str) -> None:
    Judgment.objects.filter(action="label").update(comment=text)
    Response.objects.update(shown=text)
    for table, column in (("judgments", "comment"), ("labels", "text")):
        cells = [row[column] for row in rows_of(exports.export_lines(world.campaign, table)) if row[column]]
        assert any(text in cell for cell in cells)
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
        raw = [json.loads(line)[column] for line in exports.export_lines(world.campaign, table, "jsonl")]
        assert text in raw


def test_memory_stays_flat_however_many_judgments_there_are(world: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "BATCH", 200)

    def peak() -> int:
        tracemalloc.start()
        for _ in exports.gathered(exports.export_lines(world.campaign, "judgments")):
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    many_judgments(world.campaign, world.people["ada"], 2 * exports.BATCH)
    peak()
    small = peak()
    many_judgments(world.campaign, world.people["ada"], 3 * exports.BATCH)
    large = peak()
    assert large < 1.2 * small


def test_the_number_of_queries_grows_only_with_the_batches(world: Corpus) -> None:
    with CaptureQueriesContext(connection) as few:
        list(exports.export_lines(world.campaign, "judgments"))
    many_judgments(world.campaign, world.people["ada"], 500)
    with CaptureQueriesContext(connection) as many:
        list(exports.export_lines(world.campaign, "judgments"))
    assert len(many) == len(few)


def many_judgments(campaign: Campaign, person: User, count: int) -> None:
    """Copies of one label, made by this program, each on an item of its own."""
    turn = Turn.objects.order_by("pk").first()
    sampled = SampledTurn.objects.filter(campaign=campaign, turn=turn).first()
    start = Item.objects.count()
    Item.objects.bulk_create(
        Item(campaign=campaign, kind="gold", gold=gold, position=start) for gold in _gold(campaign, count)
    )
    assert sampled is not None
    items = Item.objects.filter(campaign=campaign, kind="gold", judgments=None)
    slots = Slot.objects.bulk_create(
        Slot(item=item, campaign=campaign, task="gold", position=0, number=1, state="done", annotator=person)
        for item in items
    )
    Judgment.objects.bulk_create(
        Judgment(item=slot.item, slot=slot, annotator=person, action="label", label="joy", comment="x" * 40)
        for slot in slots
    )


def _gold(campaign: Campaign, count: int) -> list[object]:
    from annotation.models import GoldQuestion

    return list(
        GoldQuestion.objects.bulk_create(
            GoldQuestion(campaign=campaign, use="gold", text="so happy", label="joy") for _ in range(count)
        )
    )


# --- agreement -------------------------------------------------------------------------------------------------------


def test_agreement_is_given_by_data_set_role_system_label_pair_and_annotator(world: Corpus) -> None:
    report = agreement_export.agreement_report(world.campaign, replicates=50)
    tables = {table["id"]: table["rows"] for table in report["sections"][0]["tables"]}
    assert {row["scope"] for row in tables["agreement"]} == {
        "all",
        "role",
        "data set",
        "system",
        "data set and role",
        "data set and system",
    }
    assert {row["group"] for row in tables["agreement"] if row["scope"] == "system"} == {"alpha", "beta", "reference"}
    assert {row["annotator"] for row in tables["agreement-per-annotator"]} == {"r-a000", "r-b000"}
    assert {row["label"] for row in tables["agreement-per-label"]} >= {"joy", "neutral"}
    assert tables["agreement-per-pair"]
    assert {row["comparison"] for row in tables["agreement-classifier"]} >= {"classifier against verified labels"}


def test_percent_agreement_is_what_counting_by_hand_gives(world: Corpus) -> None:
    report = agreement_export.agreement_report(world.campaign, replicates=50)
    rows = report["sections"][0]["tables"][0]["rows"]
    value = next(r for r in rows if r["scope"] == "all" and r["statistic"] == "percent_agreement")["estimate"]
    # GIVEN: 24 items, one with a single label, so 23 pairs; d1/3 reference and e2/1 user differ.
    assert value["value"] == pytest.approx(21 / 23)
    assert value["n"] == 23


def test_every_format_of_the_agreement_export_holds_the_same_number(world: Corpus) -> None:
    report = agreement_export.agreement_report(world.campaign, replicates=50)
    as_csv = pd.read_csv(io.BytesIO(agreement_export.agreement_file(report, "csv")))
    percent = as_csv[(as_csv["scope"] == "all") & (as_csv["statistic"] == "percent_agreement")]["value"].iloc[0]
    book = openpyxl.load_workbook(io.BytesIO(agreement_export.agreement_file(report, "xlsx")))
    sheet = book["agreement"]
    line = next(row for row in sheet.iter_rows(min_row=3, values_only=True) if row[2] == "percent_agreement")
    plain = json.loads(agreement_export.agreement_file(report, "json"))["sections"][0]["tables"][0]["rows"][0]
    assert percent == line[3] == plain["estimate"]["value"] == pytest.approx(21 / 23, abs=1e-11)
    assert r"percent\_agreement & 0.913" in agreement_export.agreement_file(report, "latex").decode()
    assert sheet.freeze_panes == "B3"


def test_a_campaign_nobody_has_worked_in_exports_undefined_with_the_reason(world: Corpus) -> None:
    empty = Campaign.objects.create(name="empty", title="Empty")
    rows = agreement_export.agreement_report(empty, replicates=50)["sections"][0]["tables"][0]["rows"]
    assert rows
    assert all(row["estimate"]["value"] is None and row["estimate"]["reason"] for row in rows)


# --- the commands ----------------------------------------------------------------------------------------------------


def test_the_commands_write_files_and_name_what_does_not_exist(world: Corpus, tmp_path: Path) -> None:

    folder = tmp_path
    call_command(
        "export_agreement",
        "pilot",
        "--format",
        "json",
        "--replicates",
        "20",
        "--output",
        str(folder / "agreement.json"),
    )
    assert json.loads((folder / "agreement.json").read_text())["title"] == "Agreement statistics: Pilot"
    call_command("export_labels", "pilot", "--table", "labels", "--output", str(folder / "labels.csv"))
    assert (folder / "labels.csv").read_text().startswith("item,kind,dataset")
    with pytest.raises(CommandError, match="no campaign called 'nothing'"):
        call_command("export_labels", "nothing")
    with pytest.raises(CommandError, match="time zone"):
        call_command("export_agreement", "pilot", "--as-of", "2026-01-01T00:00")


def test_the_codebook_explains_every_column() -> None:
    text = exports.codebook()
    for _, fields in exports.TABLES.values():
        for field in fields:
            assert f"`{field.name}`" in text


SNIPPETS = Path(__file__).resolve().parents[3] / "docs" / "snippets"


def by_load_py(file: Path) -> dict[str, tuple[float, int]]:
    found = runpy.run_path(str(SNIPPETS / "load.py"))["percent_agreement"](pd.read_csv(file))
    return {str(name): (row["percent_agreement"], int(row["n"])) for name, row in found.iterrows()}


def by_load_r(file: Path) -> dict[str, tuple[float, int]]:
    program = shutil.which("Rscript")
    if program is None:
        pytest.skip("Rscript is not installed (Debian: r-base-core)")
    run = subprocess.run(
        [program, str(SNIPPETS / "load.R"), str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    header, *lines = run.stdout.splitlines()
    assert header.split() == ["dataset", "percent_agreement", "n"]
    return {name: (float(value), int(n)) for name, value, n in (line.split() for line in lines)}


@pytest.mark.parametrize("load", [by_load_py, by_load_r])
def test_the_documented_snippets_give_the_agreement_of_the_export(
    world: Corpus, tmp_path: Path, load: Callable[[Path], dict[str, tuple[float, int]]]
) -> None:
    file = tmp_path / "judgments.csv"
    file.write_text("".join(exports.export_lines(world.campaign, "judgments")))
    rows = agreement_export.agreement_report(world.campaign, replicates=20)["sections"][0]["tables"][0]["rows"]
    expected = {
        row["group"]: (row["estimate"]["value"], row["estimate"]["n"])
        for row in rows
        if row["scope"] == "data set" and row["statistic"] == "percent_agreement"
    }
    found = load(file)
    assert set(found) == set(expected) == {"inspired", "redial"}
    for dataset, (value, n) in expected.items():
        assert found[dataset] == (pytest.approx(value, abs=1e-6), n)
