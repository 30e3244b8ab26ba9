from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from evaluation.emotions import EMOTIONS
from evaluation.tables import (
    TableError,
    check_judgments,
    check_ratings,
    check_turns,
    label_codes,
    label_series,
    observed_labels,
    read_table,
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
        ("a.csv", b"item,label\n1,joy,extra\n", "cannot be read as csv"),
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
