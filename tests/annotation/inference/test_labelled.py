"""Labelled tables of every shape that people bring."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from annotation.inference.base import ClassifierError
from annotation.inference.labelled import Labelled, read_labelled
from evaluation.emotions import EMOTIONS


def read(path: Path, content: str | bytes, **given: object) -> Labelled:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = {"text_column": "text", "label_column": "label", **given}
    return read_labelled(path, **options)  # type: ignore[arg-type]


def emotions(rows: Labelled) -> list[list[str]]:
    return [[emotion for emotion, given in zip(EMOTIONS, row, strict=True) if given] for row in rows.targets]


def test_labels_are_emotions_fine_labels_or_their_ids(tmp_path: Path) -> None:
    content = 'text,label\n"one, two",joy\nthree,Curiosity\nfour,14\nfive,bliss\n'
    rows = read(tmp_path / "a.csv", content)
    assert rows.texts == ["one, two", "three", "four"]
    assert emotions(rows) == [["joy"], ["surprise"], ["fear"]]
    assert rows.left_out == ["row 5: 'bliss' is no known label"]
    assert emotions(read(tmp_path / "a.csv", content, grouping="dialogue"))[1] == ["neutral"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,label,text\n1,fear,one\n2,neutral,two\n"),
        ("a.csv", "\ufefftext;label;note\r\none;fear;a, b\r\ntwo;neutral;\r\n"),
        ("a.tsv", "label\ttext\r\nfear\tone\r\nneutral\ttwo\r\n"),
        ("a.jsonl", '{"text": "one", "label": "fear"}\n\n{"text": "two", "label": 27, "note": null}\n'),
        ("a.jsonl", '{"text": "one", "label": ["fear"]}\n{"label": ["neutral"], "text": "two"}\n'),
        ("a.jsonl.gz", gzip.compress(b'{"text": "one", "label": "fear"}\n{"text": "two", "label": "neutral"}')),
    ],
)
def test_formats(tmp_path: Path, name: str, content: str | bytes) -> None:
    rows = read(tmp_path / name, content)
    assert (rows.texts, emotions(rows)) == (["one", "two"], [["fear"], ["neutral"]])


def test_a_quoted_cell_may_hold_lines_and_an_unquoted_format_quotation_marks(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", 'text,label\n"one\ntwo",joy\n').texts == ["one\ntwo"]
    assert read(tmp_path / "a.tsv", 'text\tlabel\n"one\tjoy\nt\u2028wo\tjoy\n').texts == ['"one', "t\u2028wo"]


def test_the_published_files_of_goemotions_have_no_names_and_several_labels(tmp_path: Path) -> None:
    rows = read(
        tmp_path / "test.tsv", "Sorry, and thanks\t25,15\tee1\nFine!\t0,18\tee2\n", text_column="1", label_column="2"
    )
    assert emotions(rows) == [["joy", "sadness"], ["joy"]]
    assert rows.single.tolist() == [1]


@pytest.mark.parametrize("cell", ["joy, fear", "joy;fear", "joy|fear", '["joy", "fear"]', "['joy', 'fear']"])
def test_several_labels_in_one_cell(tmp_path: Path, cell: str) -> None:
    assert emotions(read(tmp_path / "a.tsv", f"text\tlabel\nboth\t{cell}\n")) == [["joy", "fear"]]


def test_other_labels_are_read_as_told(tmp_path: Path) -> None:
    content = "text,label\none,Happy\ntwo,scared\n"
    told = {"happy": "joy", "scared": "nervousness"}
    assert emotions(read(tmp_path / "a.csv", content, mapping=told)) == [["joy"], ["fear"]]
    with pytest.raises(ClassifierError, match="'happy' cannot be read as 'bliss'"):
        read(tmp_path / "a.csv", content, mapping={"happy": "bliss"})


def test_rows_without_text_or_label_are_left_out_and_named(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", "text,label\n,joy\none,\ntwo\nthree,joy\n")
    assert rows.texts == ["three"]
    assert rows.left_out == ["row 2: no text", "row 3: no label", "row 4: no label"]
    rows = read(tmp_path / "a.jsonl", '{"text": "one", "label": "joy"}\n{"text": null}\n{"text": "two"}\n')
    assert rows.left_out == ["row 2: no text", "row 3: no label"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "words,label\nx,joy\n", r"no column text; it has: label, words.*--text-column"),
        ("a.csv", "", r"no column text and no column label; it has: none"),
        ("a.csv", "text,label\nx,happy\ny,happy\nz,sad\n", r"its labels are 'happy' \(2\), 'sad' \(1\).*--map"),
        ("a.csv", "text,label\n", "no row that can be used"),
        ("a.csv", b"text,label\n\xff\xfe,joy\n", "UTF-8"),
        ("a.csv.gz", b"no archive", "cannot be read"),
        ("a.jsonl", "{\n", "line 1, is not JSON"),
        ("a.jsonl", "[1]\n", "line 1, is not a JSON object"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    with pytest.raises(ClassifierError, match=said):
        read(tmp_path / name, content)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"a\.csv cannot be read: No such file"):
        read_labelled(tmp_path / "a.csv", text_column="text", label_column="label")
