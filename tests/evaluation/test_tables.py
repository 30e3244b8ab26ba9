from __future__ import annotations

import csv
import gzip
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.emotions import EMOTIONS
from evaluation.files import read_table
from evaluation.tables import (
    TableError,
    check_judgments,
    check_ratings,
    check_turns,
    key_text,
    label_codes,
    label_series,
    label_text,
    observed_labels,
)


def judgments(**columns: list[object]) -> pd.DataFrame:
    base: dict[str, list[object]] = {
        "item": [1, 1, 2],
        "annotator": ["ada", "bo", "ada"],
        "label": ["joy", "fear", None],
    }
    return pd.DataFrame(base | columns)


def turns(**columns: list[object]) -> pd.DataFrame:
    base: dict[str, list[object]] = {
        "dialogue": ["d", "d"],
        "turn": [1, 2],
        "system": ["llama", "llama"],
        "user_label": ["joy", "neutral"],
        "response_label": ["joy", ""],
    }
    return pd.DataFrame(base | columns)


def ratings(**columns: list[object]) -> pd.DataFrame:
    base: dict[str, list[object]] = {
        "item": [1, 1],
        "annotator": ["ada", "bo"],
        "dialogue": ["d", "d"],
        "outcome": ["satisfaction", "satisfaction"],
        "value": [4, "5"],
    }
    return pd.DataFrame(base | columns)


def test_labels_become_categories_in_the_declared_order() -> None:
    checked = check_judgments(judgments(label=["neutral", " joy ", ""]))
    assert list(checked["label"].cat.categories) == list(EMOTIONS)
    assert label_codes(checked["label"], EMOTIONS).tolist() == [6, 0, -1]


def test_a_label_outside_the_declared_set_is_refused_with_its_row() -> None:
    with pytest.raises(
        TableError, match="Row 2, column label: the label 'joyful' is not in the declared set"
    ) as caught:
        check_judgments(judgments(label=["joy", "joyful", "fear"]))
    assert (caught.value.row, caught.value.column) == (2, "label")


@pytest.mark.parametrize(
    ("columns", "row", "column"),
    [
        ({"item": [1, None, 2]}, 2, "item"),
        ({"annotator": ["ada", "bo", "  "]}, 3, "annotator"),
        ({"item": [1, 1, 1]}, 3, "item"),
        ({"inclusion_probability": [0.5, 0, 1]}, 2, "inclusion_probability"),
        ({"inclusion_probability": [0.5, 1.5, 1]}, 2, "inclusion_probability"),
        ({"inclusion_probability": [0.5, "half", 1]}, 2, "inclusion_probability"),
        ({"arm": ["shown", "", "visible"]}, 3, "arm"),
        ({"prelabel": ["joy", "happy", "joy"]}, 2, "prelabel"),
        ({"active_ms": [5, float("inf"), 3]}, 2, "active_ms"),
    ],
)
def test_a_bad_cell_names_its_row_and_column(columns: dict[str, list[object]], row: int, column: str) -> None:
    with pytest.raises(TableError) as caught:
        check_judgments(judgments(**columns))
    assert (caught.value.row, caught.value.column) == (row, column)
    assert f"Row {row}, column {column}" in str(caught.value)


def test_a_missing_column_is_named_with_those_that_are_there() -> None:
    with pytest.raises(TableError, match="lacks the column annotator; it has: item, label"):
        check_judgments(judgments().drop(columns="annotator"))


def test_repeated_labels_of_one_annotator_may_be_kept_on_request() -> None:
    frame = judgments(item=[1, 1, 1], annotator=["ada", "ada", "bo"])
    assert len(check_judgments(frame, repeats="keep")) == 3


def test_columns_without_a_contract_are_left_alone() -> None:
    assert check_judgments(judgments(remark=["x", 5, None]))["remark"].tolist()[:2] == ["x", 5]


def test_numbers_as_labels_are_one_label_however_they_are_written() -> None:
    checked = label_series([1, 1.0, "1", None], ["1", "2"])
    assert checked.cat.codes.tolist() == [0, 0, 0, -1]
    assert observed_labels([10, 9.0, "2", None]) == ["2", "9", "10"]


def test_the_declared_set_names_each_label_once() -> None:
    with pytest.raises(TableError, match="each label once"):
        label_series(["a"], ["a", "a"])


def test_turns_get_their_optional_columns_and_keep_empty_labels() -> None:
    checked = check_turns(turns())
    assert checked["response_label"].isna().tolist() == [False, True]
    assert checked["reference_label"].isna().all()
    assert "dataset" in checked


def test_a_turn_given_twice_for_one_system_is_refused() -> None:
    with pytest.raises(TableError, match=r"Row 2.*as in row 1"):
        check_turns(turns(turn=[1, 1]))
    assert len(check_turns(turns(turn=[1, 1], system=["llama", "reference"], is_reference=["no", "yes"]))) == 2


def test_flags_are_true_false_or_empty() -> None:
    assert check_turns(turns(is_reference=["True", None]))["is_reference"].tolist() == [True, pd.NA]
    with pytest.raises(TableError, match="Row 2, column is_reference"):
        check_turns(turns(is_reference=["yes", "perhaps"]))


def test_ratings_lie_on_the_declared_scale() -> None:
    assert check_ratings(ratings())["value"].tolist() == [4.0, 5.0]
    with pytest.raises(TableError, match="Row 2, column value: the value 6 is not on the scale 1 to 5"):
        check_ratings(ratings(value=[4, 6]))
    with pytest.raises(TableError, match="Row 2"):
        check_ratings(ratings(annotator=["ada", "ada"]))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl", ".csv.gz"])
def test_every_kind_of_file_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"item": ["01", "2"], "annotator": ["ada", "bo"], "label": ["joy", None]})
    file = tmp_path / f"labels{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(file)
    elif suffix == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_csv(file, index=False, sep="\t" if suffix == ".tsv" else ",")
    checked = check_judgments(read_table(file))
    assert checked["item"].tolist() == ["01", "2"]
    assert checked["label"].tolist()[0] == "joy"
    assert checked["label"].isna().tolist() == [False, True]


def test_words_for_nothing_are_read_as_words(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("item,annotator,label\n1,NA,joy\n")
    assert read_table(file)["annotator"].tolist() == ["NA"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"item,item\n1,2\n", "twice: item"),
        ("a.csv", b"item,label\n1,joy\n2,joy,extra\n", "line 3"),
        ("a.csv", b"item,label\n1,joy,extra\n", r"Row 1 \(line 2\) of a.csv has 3 cells, but there are 2 columns"),
        ("a.csv", b"item,annotator,label\n\n1,a,joy\n2,b\n", r"Row 2 \(line 4\) .* there is none for label"),
        ("a.csv", b'item,label\n1,"joy\n2,fear\n', "line 3, cannot be read"),
        ("a.csv.gz", gzip.compress(b"item,label\n" + b"1,joy\n" * 99)[:-12], "cut off or damaged"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 99)[:20] + b"\xff" * 40, "cut off or damaged"),
        ("a.csv.gz", b"no gzip", "cut off or damaged"),
        ("a.jsonl", b'{"item": 1}\n\n[1]\n', "Line 3 of a.jsonl is no JSON object"),
        ("a.jsonl", b'{"item": 1}\n{"item": x}\n', "Line 2 of a.jsonl .* at character 10"),
        ("a.csv", b"item,label\n1,\xff\n", "not UTF-8"),
        ("a.jsonl", b'{"item": 1}\n{"item"\n', "cannot be read as jsonl"),
        ("a.parquet", b"nothing", "cannot be read as parquet"),
        ("a.xlsx", b"x", "the kinds are: .csv"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(TableError, match=message):
        read_table(file)


def test_times_and_large_numbers_in_json_lines_stay_as_written(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"item": "9007199254740993", "received_at": "2026-01-02T03:04:05Z"}\n')
    assert read_table(file).iloc[0].tolist() == ["9007199254740993", "2026-01-02T03:04:05Z"]


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="There is no file"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ("1.0", "1"),
        (1, "1"),
        (1.0, "1"),
        (np.float32(2.5), "2.5"),
        ("2.50", "2.5"),
        ("+3", "3"),
        ("-0.0", "0"),
        ("01", "1"),
        ("1e2", "100"),
        ("9007199254740993", "9007199254740993"),
        (9007199254740993, "9007199254740993"),
        ("1e999", "1e999"),
        ("inf", "inf"),
        (" joy ", "joy"),
        (True, "true"),
        ("", None),
        (float("nan"), None),
        (unicodedata.normalize("NFD", "é"), "é"),
    ],
)
def test_a_label_is_written_in_one_way(cell: object, label: str | None) -> None:
    assert label_text(cell) == label


def test_a_key_is_text_as_it_stands_but_for_whole_numbers() -> None:
    assert [key_text(cell) for cell in (1, 1.0, "1.0", "01", " a ", None)] == ["1", "1", "1.0", "01", "a", None]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_the_same_number_is_the_same_label_in_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"item": [1, 2, 3], "annotator": ["a", "a", "a"], "label": [1.0, 2.5, 10.0]})
    file = tmp_path / f"labels{suffix}"
    if suffix == ".csv":
        frame.to_csv(file, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(file)
    else:
        frame.to_json(file, orient="records", lines=True)
    found = observed_labels(read_table(file)["label"])
    assert found == ["1", "2.5", "10"]
    assert check_judgments(read_table(file), ["1.0", "2.50", "10"])["label"].tolist() == found


def test_labels_that_look_like_missing_values_are_refused_when_none_are_declared() -> None:
    for text in ("NA", "nan", "None", "null", "N/A"):
        with pytest.raises(TableError, match=r"Row 2, column label: .* leave the cell empty"):
            observed_labels(["joy", text])
        assert label_codes(["joy", text], ["joy", text]).tolist() == [0, 1]
    with pytest.raises(TableError, match=r"Row 1, column label: .*'NA'.* leave the cell empty"):
        label_codes(["NA"], EMOTIONS)


def test_a_near_miss_is_told_what_it_may_be() -> None:
    with pytest.raises(TableError, match=r"'Joy'.*is it joy"):
        label_codes(["Joy"], EMOTIONS)
    with pytest.raises(TableError, match=r"'suprise'.*is it surprise"):
        label_codes(["suprise"], EMOTIONS)


def test_true_and_one_are_two_labels_and_a_list_is_none(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    rows: list[dict[str, Any]] = [{"item": i, "annotator": "a", "label": cell} for i, cell in enumerate([True, 1, 1.0])]
    file.write_text("\ufeff" + "\n".join(map(json.dumps, rows)), encoding="utf-8")
    table = read_table(file)
    assert list(table.columns) == ["item", "annotator", "label"]
    assert observed_labels(table["label"]) == ["1", "true"]
    assert label_codes(table["label"], ["true", "1"]).tolist() == [0, 1, 1]
    for cell in (["joy"], {"a": 1}):
        file.write_text(json.dumps({"item": 1, "annotator": "a", "label": cell}), encoding="utf-8")
        for check in (check_judgments, lambda frame: observed_labels(frame["label"])):
            with pytest.raises(TableError, match="Row 1, column label: there is a list or an object"):
                check(read_table(file))


def test_a_list_in_a_parquet_cell_is_refused_where_it_counts(tmp_path: Path) -> None:
    frame = pd.DataFrame({"item": [1], "annotator": ["a"], "label": [["joy"]], "note": [[1, 2]]})
    frame.to_parquet(tmp_path / "labels.parquet")
    table = read_table(tmp_path / "labels.parquet")
    with pytest.raises(TableError, match="Row 1, column label"):
        check_judgments(table)
    assert len(check_judgments(table.assign(label="joy"))) == 1


def test_true_is_no_rating() -> None:
    with pytest.raises(TableError, match="Row 1, column value: True is not a number"):
        check_ratings(ratings(value=[True, 4]))


def test_a_text_of_any_length_is_read(tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    file.write_text("item,note\n1," + "x" * 200_000 + "\n")
    assert read_table(file)["note"].str.len().tolist() == [200_000]


def test_reading_a_long_cell_leaves_the_limit_of_the_process_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    file = tmp_path / "long.csv"
    file.write_text("item,text\n1," + "x" * 200_000 + "\n")
    assert len(read_table(file)["text"][0]) == 200_000
    assert csv.field_size_limit() == before
