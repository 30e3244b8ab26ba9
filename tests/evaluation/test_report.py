"""The report on a small fixed corpus, every figure worked out here by hand; bundles; what changed."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import openpyxl
import pandas as pd
import pytest

from evaluation.emotions import EMOTIONS
from evaluation.groups import MetricOptions
from evaluation.intervals import Estimate
from evaluation.rendering import latex, page, sheets
from evaluation.rendering.notes import Footnotes
from evaluation.report import (
    ReportSettings,
    ReportTables,
    build_report,
    compare,
    dumps,
    recompute,
    write_tables,
)
from evaluation.report_bundle import zipped
from evaluation.report_model import Names, Report, sentence
from evaluation.tables import TableError

# dialogue, turn, user, response of a, response of b, human response: six turns of three dialogues
CORPUS = (
    ("d1", 1, "joy", "joy", "neutral", "joy"),
    ("d1", 2, "neutral", "neutral", "neutral", "neutral"),
    ("d2", 1, "joy", "neutral", "neutral", "joy"),
    ("d2", 2, "surprise", "joy", "neutral", "surprise"),
    ("d3", 1, "sadness", "anger", "neutral", "neutral"),
    ("d3", 2, "neutral", "joy", None, "neutral"),
)


def turns(*, verified: bool = False) -> pd.DataFrame:
    rows = []
    for dialogue, turn, user, a, b, human in CORPUS:
        for system, response in (("a", a), ("b", b), ("reference", human)):
            rows.append(
                {
                    "dialogue": dialogue,
                    "turn": turn,
                    "dataset": "ReDial",
                    "system": system,
                    "user_label": user,
                    "response_label": response,
                    "reference_label": human,
                }
            )
    table = pd.DataFrame(rows)
    if verified:
        # People find that the user of d2/1 was neutral, and agree with everything else.
        table["user_verified"] = table["user_label"].mask((table["dialogue"] == "d2") & (table["turn"] == 1), "neutral")
        table["response_verified"] = table["response_label"]
        table["reference_verified"] = table["reference_label"]
    return table


def judgments() -> pd.DataFrame:
    rows = []
    for dialogue, turn, user, *_ in CORPUS:
        for annotator in ("r1", "r2"):
            label = "joy" if (annotator, dialogue, turn) == ("r2", "d1", 2) else user
            rows.append(
                {
                    "item": f"{dialogue}-{turn}",
                    "annotator": annotator,
                    "label": label,
                    "dialogue": dialogue,
                    "kind": "user",
                    "dataset": "ReDial",
                    "prelabel": user,
                }
            )
    return pd.DataFrame(rows)


def ratings() -> pd.DataFrame:
    rows = []
    for place, (dialogue, turn, *_) in enumerate(CORPUS):
        for annotator, shift in (("q1", 0), ("q2", 1)):
            rows.append(
                {
                    "item": f"{dialogue}-{turn}-a",
                    "annotator": annotator,
                    "dialogue": dialogue,
                    "turn": turn,
                    "dataset": "ReDial",
                    "system": "a",
                    "outcome": "satisfaction",
                    "value": 1 + (place + shift) % 5,
                }
            )
    return pd.DataFrame(rows)


SETTINGS = ReportSettings(title="Small", seed=5, replicates=100, permutations=200, sensitivity=False)


@cache
def unverified() -> Report:
    return build_report(ReportTables(turns()), SETTINGS)


@cache
def complete() -> Report:
    return build_report(ReportTables(turns(verified=True), judgments(), ratings()), SETTINGS)


def row_of(report: Report, table: str, **wanted: object) -> dict:
    found = [row for row in report.table(table).rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1, (table, wanted, found)
    return dict(found[0])


def value_of(cell: object) -> float | None:
    return cell.value if isinstance(cell, Estimate) else cell  # type: ignore[return-value]


def test_the_report_has_its_eleven_sections_in_order():
    report = unverified()
    assert [section.number for section in report.sections] == list(range(11))
    assert len({table.id for section in report.sections for table in section.tables}) == sum(
        len(section.tables) for section in report.sections
    )


def test_alignment_by_hand():
    report = unverified()
    a = row_of(report, "alignment", system="a")
    assert (a["turns"], a["dialogues"], a["verified"]) == (6, 3, 0)
    assert value_of(a["exact_raw"]) == pytest.approx(2 / 6)  # d1/1, d1/2
    assert value_of(a["coarse_raw"]) == pytest.approx(4 / 6)  # and surprise-joy, sadness-anger
    assert (a["coarse_low_raw"], a["coarse_high_raw"]) == (pytest.approx(3 / 6), pytest.approx(4 / 6))
    b = row_of(report, "alignment", system="b")
    assert b["turns"] == 5
    assert value_of(b["exact_raw"]) == pytest.approx(1 / 5)
    human = row_of(report, "alignment", system="human reference")
    assert value_of(human["exact_raw"]) == pytest.approx(5 / 6)
    excluded = row_of(report, "alignment-surprise", system="a", place="excluded")
    assert value_of(excluded["c_raw"]) == pytest.approx(3 / 5)


def test_flatness_by_hand():
    report = unverified()
    a = row_of(report, "flatness", system="a")
    # responses of a: joy 3, neutral 2, anger 1
    bits = -(3 / 6 * math.log2(3 / 6) + 2 / 6 * math.log2(2 / 6) + 1 / 6 * math.log2(1 / 6))
    assert value_of(a["entropy_raw"]) == pytest.approx(bits)
    assert value_of(a["flatness_raw"]) == pytest.approx(bits / math.log2(7))
    assert value_of(a["observed"]) == pytest.approx(bits / math.log2(3))
    assert value_of(a["miller_madow"]) == pytest.approx(bits + 2 / (2 * 6 * math.log(2)))
    b = row_of(report, "flatness", system="b")
    assert value_of(b["flatness_raw"]) == 0
    assert b["observed"].value is None
    assert b["observed"].reason == "no_variation"
    shares = row_of(report, "label-distribution", system="a")
    assert [value_of(shares[e]) for e in EMOTIONS] == pytest.approx([3 / 6, 0, 1 / 6, 0, 0, 0, 2 / 6])


def test_f1_by_hand():
    report = unverified()
    joy = row_of(report, "f1", system="a", emotion="joy")
    # reference joy in d1/1, d2/1; a says joy in d1/1, d2/2, d3/2: tp 1
    assert (joy["support"], joy["predicted"]) == (2, 3)
    assert value_of(joy["precision"]) == pytest.approx(1 / 3)
    assert value_of(joy["recall"]) == pytest.approx(1 / 2)
    assert value_of(joy["f1_raw"]) == pytest.approx(2 / 5)
    assert row_of(report, "f1", system="a", emotion="fear")["f1_raw"].reason == "class_absent"
    macro = row_of(report, "macro-f1", system="a")
    # neutral: reference in d1/2, d3/1, d3/2, a in d1/2, d2/1, tp 1 -> 2/5; anger and surprise 0; four of seven
    assert macro["classes"] == "4 of 7"
    assert value_of(macro["macro_raw"]) == pytest.approx((2 / 5 + 2 / 5 + 0 + 0) / 4)
    assert value_of(macro["all7"]) == pytest.approx((4 / 5) / 7)
    assert value_of(macro["accuracy"]) == pytest.approx(2 / 6)
    assert not any(row["system"] == "human reference" for row in report.table("macro-f1").rows)


def test_confusion_and_patterns_by_hand():
    report = unverified()
    joy = row_of(report, "confusion-user-response-redial", system="a", row="joy")
    assert (joy["turns"], joy["joy"], joy["neutral"]) == (2, 1, 1)
    assert joy["neutral_share"] == pytest.approx(0.5)
    assert report.table("confusion-user-response-redial").paper_counterpart == "Figure 3"
    paper = row_of(report, "paper-patterns", user="joy", response="neutral", system="b")
    assert (paper["turns"], paper["share"]) == (2, 1.0)


def test_comparisons_are_on_common_turns():
    report = unverified()
    pair = row_of(report, "pairs", measure="Exact alignment", first="a", second="b")
    # without d3/2: a 2 of 5, b 1 of 5; the human reference 4 of 5
    assert value_of(pair["difference"]) == pytest.approx(1 / 5)
    first = report.table("ranks").rows[0]
    assert first["system"] == "human reference"
    assert value_of(first["value"]) == pytest.approx(4 / 5)


def test_without_a_human_label_the_title_and_the_warnings_say_so():
    report = unverified()
    assert report.status == "unverified"
    assert "unverified" in report.title
    assert any("classifier" in warning for warning in report.sections[0].warnings)
    row = row_of(report, "alignment", system="a")
    assert row["exact_verified"].value is None
    assert row["exact_corrected"].reason == "no_data"
    assert report.sections[8].tables == ()
    assert report.sections[8].warnings


def test_with_every_turn_verified_the_human_value_stands_beside_the_classifiers():
    report = complete()
    assert report.status == "verified"
    assert report.title == "Small"
    a = row_of(report, "alignment", system="a")
    assert value_of(a["exact_verified"]) == pytest.approx(3 / 6)  # d2/1 is neutral to neutral by human labels
    assert a["exact_verified"].se == 0  # the corpus is known completely
    assert value_of(a["exact_raw"]) == pytest.approx(2 / 6)


def test_reliability_by_hand():
    report = complete()
    row = row_of(report, "agreement", part="all")
    assert (row["items"], row["annotators"]) == (6, 2)
    assert value_of(row["percent_agreement"]) == pytest.approx(5 / 6)
    # coincidences: joy 5, neutral 3, surprise 2, sadness 2 of 12; D_e = 1 - (20 + 6 + 2 + 2) / 132
    expected = 1 - (2 / 12) / (1 - (5 * 4 + 3 * 2 + 2 + 2) / (12 * 11))
    assert value_of(row["krippendorff_alpha"]) == pytest.approx(expected)
    user = row_of(report, "validation", role="user utterance")
    assert value_of(user["accuracy"]) == pytest.approx(5 / 6)
    responses = row_of(report, "validation", role="system response", system="all")
    assert value_of(responses["accuracy"]) == 1
    matrix = row_of(report, "validation-matrix", role="user utterance", emotion="neutral")
    assert (matrix["n"], matrix["joy"], matrix["neutral"]) == (3, 1, 2)


def test_ratings_by_hand_and_the_word_association():
    report = complete()
    quality = row_of(report, "quality", flag="exact match")
    # verified aligned for a: d1/1 (ratings 1, 2), d1/2 (2, 3), d2/1 (3, 4); misaligned: 4, 5; 5, 1; 1, 2
    assert value_of(quality["aligned"]) == pytest.approx((1 + 2 + 2 + 3 + 3 + 4) / 6)
    assert value_of(quality["misaligned"]) == pytest.approx((4 + 5 + 5 + 1 + 1 + 2) / 6)
    aligned, misaligned = np.array([1, 2, 2, 3, 3, 4]), np.array([4, 5, 5, 1, 1, 2])
    expected = np.sign(aligned[:, None] - misaligned[None]).mean()
    assert value_of(quality["delta"]) == pytest.approx(expected)
    section = report.sections[8]
    assert "association" in section.caption
    assert "effect" not in section.tables[3].title
    randomised = build_report(
        ReportTables(turns(verified=True), judgments(), ratings()),
        ReportSettings(seed=5, replicates=50, permutations=100, sensitivity=False, randomised=True),
    )
    assert "effect" in randomised.sections[8].tables[3].title


def test_every_number_has_its_n_and_every_undefined_one_its_sentence():
    plain = json.loads(dumps(unverified()))
    cells = [
        cell
        for section in plain["sections"]
        for table in section["tables"]
        for row in table["rows"]
        for cell in row.values()
        if isinstance(cell, dict)
    ]
    assert len(cells) > 250
    for cell in cells:
        assert isinstance(cell["n"], int)
        if cell["value"] is None:
            assert cell["sentence"].startswith("Undefined, because")
    assert sentence("no_pairs") == "Undefined, because no item has two labels."


def test_every_figure_says_in_words_what_it_shows_and_carries_its_data():
    for section in complete().sections:
        for figure in section.figures:
            assert len(figure.alt) > 40
            assert figure.data


def test_the_same_tables_give_the_same_bytes_whatever_the_order_of_rows():
    shuffled = turns(verified=True).sample(frac=1, random_state=3)
    again = build_report(ReportTables(shuffled, judgments(), ratings()), SETTINGS)
    assert dumps(again) == dumps(complete())


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_bundle_recomputes_byte_for_byte(tmp_path, form):
    cases = pd.DataFrame({"pattern": ["joy → neutral"], "user_text": ["=cmd|x"], "confidence": [0.5], "turn": ["1"]})
    responses = pd.DataFrame({"dataset": ["ReDial"], "system": ["a"], "answered": [6]})
    tables = ReportTables(turns(verified=True), judgments(), ratings(), responses, cases)
    report = build_report(tables, SETTINGS)
    folder = tmp_path / "bundle"
    write_tables(tables, SETTINGS, folder)
    assert "'=cmd|x" in (folder / "tables" / "cases.csv").read_text()
    place = folder
    if form == "zip":
        place = tmp_path / "bundle.zip"
        place.write_bytes(zipped(folder))
    assert dumps(recompute(place)) == dumps(report)
    (folder / "report.json").write_text(dumps(report))
    assert recompute(folder).differences == ()


def test_a_changed_number_in_a_stored_report_is_found(tmp_path):
    write_tables(ReportTables(turns()), SETTINGS, tmp_path)
    stored = json.loads(dumps(unverified()))
    table = next(table for section in stored["sections"] for table in section["tables"] if table["id"] == "alignment")
    table["rows"][0]["exact_raw"]["value"] = 0.9
    (tmp_path / "report.json").write_text(json.dumps(stored))
    found = recompute(tmp_path).differences
    assert len(found) == 1
    assert "alignment" in found[0]
    assert "0.9" in found[0]


def test_what_changed_between_two_reports_is_listed_number_by_number():
    table = turns()
    table.loc[(table["system"] == "b") & (table["dialogue"] == "d3"), "response_label"] = "sadness"
    changes = compare(unverified(), build_report(ReportTables(table), SETTINGS))
    exact = changes[
        (changes["table"] == "alignment") & (changes["column"] == "exact_raw") & (changes["part"] == "value")
    ]
    assert list(exact["row"]) == ["ReDial · b"]
    assert exact["change"].iloc[0] == pytest.approx(2 / 6 - 1 / 5)
    assert compare(unverified(), unverified()).empty


def test_what_is_no_bundle_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(TableError, match=r"folder or \.zip"):
        recompute(tmp_path / "absent")
    with pytest.raises(TableError, match=r"settings\.json"):
        recompute(tmp_path)
    with pytest.raises(ValueError, match="Unknown metric options: colour"):
        ReportSettings.from_json({"options": {"colour": "red"}})


def test_one_system_and_no_reference_still_make_a_report():
    table = turns()
    table = table[table["system"] == "a"].assign(reference_label=None)
    report = build_report(ReportTables(table), SETTINGS)
    assert row_of(report, "macro-f1", system="a")["macro_raw"].reason == "no_data"
    assert report.sections[9].warnings


def test_a_second_labelling_stands_beside_the_first():
    table = turns()
    for role in ("user", "response", "reference"):
        table[f"{role}_label_ekman"] = table[f"{role}_label"].replace("neutral", "joy")
    report = build_report(ReportTables(table), SETTINGS)
    row = row_of(report, "groupings", system="b", measure="Exact alignment")
    assert value_of(row["campaign"]) == pytest.approx(1 / 5)
    assert value_of(row["other"]) == pytest.approx(3 / 5)


NAMES = Names({"ReDial": "ReDial (Li et al., 2018)"}, {"a": "GPT-4o", "b": "GPT-4o"})


def test_people_read_titles_and_the_keys_stand_beside_them_once():
    settings = replace(SETTINGS, names=NAMES)
    tables = ReportTables(turns(verified=True), judgments(), ratings(), cases=pd.DataFrame({"system": ["a"]}))
    report = build_report(tables, settings)
    assert row_of(report, "alignment", system="GPT-4o (a)")["dataset"] == "ReDial (Li et al., 2018)"
    data = row_of(report, "data", system_key="a")
    assert (data["dataset_key"], data["system"]) == ("ReDial", "GPT-4o (a)")  # one title for two: told apart
    text = dumps(replace(report, settings={}))
    assert "GPT-4o (b)" in text
    for section in report.sections:
        for table in section.tables:
            for row in table.rows:
                read = [row.get(key) for key in ("dataset", "system", "first", "second")]
                assert not {"a", "b", "ReDial"} & set(map(str, read)), table.id
        for figure in section.figures:
            assert " a on " not in figure.alt
            assert not {"a", "b"} & set(figure.alt.replace(",", " ").replace(".", " ").split(" ")[-3:]), figure.id
    assert "confusion-user-response-redial" in {table.id for table in report.sections[5].tables}


def test_a_title_moves_no_number_and_hides_no_row_of_a_comparison():
    tables = ReportTables(turns(verified=True), judgments(), ratings())
    titled = build_report(tables, replace(SETTINGS, names=NAMES))
    changes = compare(complete(), titled)
    assert changes.empty, changes


def test_titles_travel_with_the_bundle(tmp_path):
    tables = ReportTables(turns())
    settings = replace(SETTINGS, names=NAMES)
    write_tables(tables, settings, tmp_path)
    assert dumps(recompute(tmp_path)) == dumps(build_report(tables, settings))
    with pytest.raises(ValueError, match="names are given as datasets and systems"):
        ReportSettings.from_json({"names": {"colours": {}}})


def test_a_stratum_that_holds_nothing_but_surprise_does_not_stop_the_report():
    """Where surprise counts as neither, its stratum is empty: strata are predicted labels in the default design."""
    table = turns(verified=True)
    table["stratum"] = table["user_label"]
    table["inclusion_probability"] = 1.0
    report = build_report(ReportTables(table), SETTINGS)
    excluded = row_of(report, "alignment-surprise", system="a", place="excluded")
    # verified pairs of a without surprise: d1/1, d1/2, d2/1 match; d3/1 sadness-anger too; d3/2 neutral-joy does not
    assert value_of(excluded["c_verified"]) == pytest.approx(4 / 5)


def labelled(
    dialogues: int, *, systems: tuple[str, ...] = ("a", "b"), seed: int = 0, **columns: object
) -> pd.DataFrame:
    """Turns of systems, three a dialogue, all verified; labels drawn by a program."""
    rng = np.random.default_rng(seed)
    rows = []
    for dialogue in range(dialogues):
        for turn in range(3):
            user = str(rng.choice(["joy", "neutral", "sadness"]))
            for system in systems:
                said = user if rng.random() < 0.5 else "neutral"
                seen = said if rng.random() < 0.8 else "joy"
                row = {"dataset": "ReDial", "dialogue": str(dialogue), "turn": turn, "system": system}
                row |= {"user_label": user, "response_label": said, "reference_label": "neutral"}
                row |= {"user_verified": user, "response_verified": seen, "reference_verified": "neutral"}
                rows.append(row)
    return pd.DataFrame(rows).assign(**columns)


QUICK = ReportSettings(title="Quick", seed=1, replicates=40, permutations=40, sensitivity=False)


def test_validation_names_the_data_sets_and_systems_of_which_nothing_is_verified():
    table = labelled(12)
    bare = labelled(8, seed=3, dataset="INSPIRED", user_verified=None, response_verified=None)
    table.loc[table["system"] == "b", "response_verified"] = None
    report = build_report(ReportTables(pd.concat([table, bare], ignore_index=True)), QUICK)
    said = [text for text in report.sections[7].warnings if "Validation" in text]
    assert "Validation, user utterance: no text is verified of INSPIRED. The numbers do not speak for them." in said
    assert "Validation, system response: no text is verified of INSPIRED, b. The numbers do not speak for them." in said
    user = row_of(report, "validation", role="user utterance", dataset="all")
    assert "without INSPIRED: no text is verified" in user["accuracy"].notes
    response = row_of(report, "validation", role="system response", dataset="all", system="all")
    only = row_of(report, "validation", role="system response", dataset="all", system="a")
    assert response["accuracy"].value == pytest.approx(only["accuracy"].value)
    assert "without INSPIRED, b: no text is verified" in response["accuracy"].notes
    # nothing but the verified corpus is spoken for: all user labels of ReDial are right
    assert user["accuracy"].value == 1


def test_the_response_rate_counts_drawn_answered_and_resolved_turns_and_bounds_what_is_open():
    table = labelled(1, systems=("a",))
    table = pd.concat([table, labelled(1, systems=("a",), seed=5, dialogue="x")], ignore_index=True)
    table["user_verified"] = ["joy", "joy", "joy", "joy", None, None]
    table["response_verified"] = ["joy", "fear", "joy", None, None, None]
    table["inclusion_probability"] = [0.5, 0.5, 0.25, 0.25, 0.25, None]
    table["stratum"] = ["one", "one", "two", "two", "two", "two"]
    people = pd.DataFrame(
        {
            "item": range(9),
            "annotator": "r",
            "label": "joy",
            "dataset": "ReDial",
            "dialogue": ["0"] * 6 + ["x"] * 3,
            "turn": [0, 1, 2, 0, 1, 2, 0, 0, 1],
            "kind": ["user"] * 3 + ["response"] * 3 + ["user", "response", "user"],
            "system": [None] * 3 + ["a"] * 3 + [None, "a", None],
        }
    )
    report = build_report(ReportTables(table, people), QUICK)
    whole = row_of(report, "response-rate", stratum="all")
    assert (whole["drawn"], whole["answered"], whole["resolved"]) == (5, 4, 3)
    # weights 2, 2, 4, 4, 4: matched 2 + 4, open 4 + 4
    assert (whole["low"], whole["high"]) == (pytest.approx(6 / 16), pytest.approx(14 / 16))
    two = row_of(report, "response-rate", stratum="two")
    assert (two["drawn"], two["answered"], two["resolved"]) == (3, 2, 1)
    assert "response-rate" not in {table.id for table in unverified().sections[0].tables}


def test_raters_of_two_data_sets_with_dialogues_of_one_number_do_not_share_a_dialogue():
    one = ratings()
    other = one.assign(dataset="INSPIRED", item=one["item"] + "-i")
    report = build_report(ReportTables(turns(verified=True), ratings=pd.concat([one, other])), QUICK)
    agreed = row_of(report, "rating-agreement", outcome="satisfaction")
    assert agreed["alpha"].clusters == 6


def test_ratings_between_the_points_of_the_scale_stand_in_the_tables():
    halves = ratings().assign(value=lambda t: t["value"].clip(upper=4) + 0.5)
    report = build_report(ReportTables(turns(verified=True), ratings=halves), QUICK)
    row = row_of(report, "rating-distribution", flag="exact match", state="aligned")
    columns = {column.key: column.title for column in report.table("rating-distribution").columns}
    assert columns["v1.5"] == "1.5"
    assert sum(value for key, value in row.items() if key.startswith("v")) == row["n"] == 6
    agreed = row_of(report, "rating-agreement", outcome="satisfaction")["alpha"]
    whole = row_of(complete(), "rating-agreement", outcome="satisfaction")["alpha"]
    assert agreed.value is not None
    assert agreed.value != whole.value  # 4 and 5 became one; nothing was cut to a whole point


def test_under_ten_dialogues_the_difference_is_called_what_it_is():
    table = complete().table("quality")
    assert {row["model"] for row in table.rows} == {"difference within dialogues, sign flips on ranks"}
    assert "nothing is adjusted" in table.caption
    assert "CR1" not in table.caption
    assert not any("Adjusted" in column.title or "adjusted" in column.title for column in table.columns)


def test_every_word_of_the_confidence_is_the_confidence():
    settings = replace(QUICK, options=replace(QUICK.options, confidence=0.9))
    report = build_report(ReportTables(labelled(12)), settings)
    captions = [figure.caption for section in report.sections for figure in section.figures]
    assert any("90 % intervals" in caption for caption in captions)
    assert not any("95" in caption for caption in captions)
    assert "Rank, 90 % from" in [column.title for column in report.table("ranks").columns]
    page_text = page.document(report.content(), {}, css="")
    assert "Intervals (90 %)" in page_text
    assert "95 %" not in page_text


def assisted(followed: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turns and judgments of a campaign with two arms, whose annotators follow a shown label so often."""
    rng = np.random.default_rng(4)
    table = labelled(60, systems=("a",))
    rows = []
    for row in table.itertuples():
        for annotator in ("r1", "r2", "r3", "r4"):
            shown = rng.random() < 0.5
            own = row.response_verified if rng.random() < 0.9 else "fear"
            label = row.response_label if shown and rng.random() < followed else own
            place = {"item": f"{row.dialogue}-{row.turn}", "annotator": annotator, "label": label, "kind": "response"}
            place |= {"dialogue": row.dialogue, "turn": row.turn, "dataset": row.dataset, "system": "a"}
            rows.append(place | {"arm": "shown" if shown else "hidden", "prelabel": row.response_label})
    return table, pd.DataFrame(rows)


def test_both_arms_count_only_where_the_shown_label_moved_nobody_and_the_report_says_so():
    moved = ReportTables(*assisted(0.6))
    blind = build_report(moved, QUICK)
    asked = build_report(moved, replace(QUICK, arms="all", verified_arms="hidden"))
    counted = [row_of(report, "agreement", part="all")["percent_agreement"] for report in (blind, asked)]
    assert counted[0] == counted[1]
    (said,) = [text for text in asked.sections[7].warnings if "Pooling" in text]
    assert "does not lie inside +-0.05; labels of the hidden arm alone count." in said
    assert "elsewhere" not in said
    assert row_of(asked, "provenance", field="pooling.pooled")["value"] == "False"
    elsewhere = build_report(moved, replace(QUICK, arms="all"))
    assert any("made elsewhere" in text for text in elsewhere.sections[7].warnings)
    wide = build_report(moved, replace(QUICK, arms="all", pooling_margin=0.9))
    assert row_of(wide, "agreement", part="all")["percent_agreement"] != counted[0]
    assert any("labels of both arms count" in text for text in wide.sections[7].warnings)
    harm = row_of(blind, "anchoring", what="classifier wrong")["effect"]
    assert harm.interval[0] > 0.2
    assert row_of(blind, "anchoring", what="annotator: r3")["effect"].value is not None


def test_human_only_values_and_every_note_are_printed_in_each_form():
    plain = json.loads(dumps(build_report(ReportTables(labelled(12)), QUICK)))
    table = next(table for section in plain["sections"] for table in section["tables"] if table["id"] == "alignment")
    html = page.table_html(table)
    assert "<sup>†</sup> human labels alone: λ = 0 because n &lt; 100." in html
    row = table["rows"][0]
    mark = f'<b title="lambda = 0 because n = {row["exact_corrected"]["n"]} &lt; 100'
    assert mark in html
    assert "All values: fewer than 30 dialogues" in html
    paper = page.table_html(table, printed=160)
    assert "<sup>†</sup> human labels alone" in paper
    tex = latex.table_latex(table)
    assert r"\textsuperscript{\ensuremath{\dagger}}human labels alone: \ensuremath{\lambda} = 0" in tex
    lines = list(csv.DictReader(io.StringIO(sheets.table_csv(table))))
    assert lines[0]["exact_corrected_notes"].startswith("lambda = 0 because n = 36 < 100")
    book = openpyxl.load_workbook(io.BytesIO(sheets.workbook(plain)))
    heads = [cell.value for cell in book["alignment"][2]]
    place = heads.index("Exact %, corrected notes")
    assert str(book["alignment"][3][place].value).startswith("lambda = 0")


def test_notes_are_said_once_and_lambdas_as_a_range():
    def cell(value: float, *notes: str) -> dict[str, object]:
        return {"value": value, "n": 9, "interval": None, "reason": None, "notes": list(notes)}

    table = {
        "id": "t",
        "title": "T",
        "columns": [{"key": "x", "title": "X", "kind": "number"}],
        "rows": [
            {"x": cell(0.1, "few clusters", "lambda = 0.312")},
            {"x": cell(0.2, "few clusters", "lambda = 0.754", "undefined in 3 of 40 resamples, left out")},
            {"x": cell(0.3, "few clusters", "lambda = 0")},
        ],
    }
    notes = Footnotes(table)
    marks = [notes.notes(row["x"]) for row in table["rows"]]
    assert marks == [[], ["a"], ["†"]]
    assert list(notes.lines()) == [
        ("†", "human labels alone: λ = 0, the classifier's labels tell nothing more."),
        ("a", "undefined in some of the resamples, which are left out."),
        ("", "All values: fewer than 30 dialogues (Student's t, wide)."),
        ("", "Other corrected values use λ from 0.31 to 0.75."),
    ]


def test_shares_of_verified_turns_count_each_by_the_inverse_of_its_probability():
    table = labelled(2, systems=("a",), user_verified="joy", user_label="joy")
    table["response_verified"] = ["joy", "joy", "joy", "neutral", "neutral", "neutral"]
    table["inclusion_probability"] = [0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    report = build_report(ReportTables(table), QUICK)
    joy = row_of(report, "confusion-user-response-verified-redial", row="joy")
    # three turns that count 2 and three that count 4: 6 of 18, where half of the drawn turns are joy
    assert (joy["joy"], joy["neutral"]) == (3, 3)
    assert joy["joy_share"] == pytest.approx(1 / 3)
    assert "inverse of its inclusion probability" in report.table("confusion-user-response-verified-redial").caption


def test_a_system_with_next_to_no_answers_is_named_in_section_nine():
    extra = [{**row, "system": "c"} for row in turns().to_dict("records") if row["system"] == "a"][:2]
    table = pd.concat([turns(), pd.DataFrame(extra)], ignore_index=True)
    section = next(one for one in build_report(ReportTables(table), SETTINGS).sections if one.id == "comparison")
    (warning,) = [words for words in section.warnings if words.startswith("Left out")]
    assert warning.startswith("Left out in ReDial")
    assert warning.count(": c.") == 1


def test_ratings_without_a_data_set_are_read():
    table = turns(verified=True).drop(columns="dataset")
    report = build_report(ReportTables(table, ratings=ratings().drop(columns="dataset")), SETTINGS)
    assert report.table("patterns").rows is not None


def test_captions_name_the_options_they_depend_on():
    options = MetricOptions(flatness_classes="observed", f1_truth="user", entropy_correction="miller_madow")
    report = build_report(ReportTables(turns()), replace(SETTINGS, options=options))
    measures = {row["measure"] for row in report.table("headline").rows}
    assert {"Macro-F1 against the user utterance", "Entropy H, bits, Miller-Madow"} <= measures
    assert report.table("flatness").caption.startswith("H over log2 of the number of labels observed")
    assert "of the user utterance of the same turn" in next(s.caption for s in report.sections if s.id == "f1")
