from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotation.corpora import BadRow, CorpusError, Dialogue, open_corpus
from annotation.corpora.reading import Limits, check_file, parse_object

Write = Callable[..., Path]
Record = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "is empty once unpacked"),
        ("a.jsonl", "hi".encode("utf-16"), "is UTF-16"),
        ("a.png", b"\x89PNG\r\n\x1a\n\x00\x00", "is a binary file"),
        ("a.zip", b"PK\x03\x04 and no more", "damaged or truncated zip"),
        ("a.jsonl.gz", b"\x1f\x8b and no more of it", "damaged"),
        ("a.txt", b"just some words\nand more\n", "is not recognised"),
        ("a.csv", b"a,b\n1,2\n", "is a table: say which column"),
    ],
)
def test_a_file_that_is_no_corpus_is_refused_with_a_reason(
    write: Write, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(CorpusError, match=message):
        open_corpus(write(name, content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be opened: No such file"):
        open_corpus(tmp_path / "nothing.jsonl")
    with pytest.raises(CorpusError, match="is a folder"):
        open_corpus(tmp_path)


def test_a_truncated_gzip_is_refused_before_its_first_row(write: Write, redial_record: Record) -> None:
    body = "".join(json.dumps(redial_record(n)) + "\n" for n in range(200)).encode()
    packed = gzip.compress(body)
    with pytest.raises(CorpusError, match=r"truncated: the compressed data ends after line \d+; nothing was imported"):
        open_corpus(write("a.jsonl.gz", packed[: len(packed) // 2]))


def test_a_damaged_zip_member_is_refused(tmp_path: Path, redial_record: Record) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("test_data.jsonl", json.dumps(redial_record()) + "\n")
    body = path.read_bytes().replace(b"Sure", b"Sore", 1)
    path.write_bytes(body)
    with pytest.raises(CorpusError, match="damaged"):
        open_corpus(path)


@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_a_bomb_is_refused_while_it_unpacks(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"bomb.{kind}"
    body = b"a" * 3_000_000
    if kind == "gz":
        path.write_bytes(gzip.compress(body))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bomb.jsonl", body)
    with pytest.raises(CorpusError, match="unpacks to more than 200 times its size"):
        check_file(path, limits=Limits(ratio_floor=1_000_000))


def test_a_line_beyond_the_limit_is_reported_and_the_next_one_read(write: Write, redial_record: Record) -> None:
    good = json.dumps(redial_record()).encode()
    path = write("a.jsonl", b'{"x": "' + b"y" * 50_000_000 + b'"}\n' + good + b"\n")
    bad, dialogue = list(open_corpus(path).rows)
    assert bad == BadRow("a.jsonl", 1, "the line is longer than 5,000,000 bytes and was left out")
    assert isinstance(dialogue, Dialogue)
    assert dialogue.line == 2


def test_a_line_in_another_encoding_is_named_by_line_and_byte(write: Write, redial_record: Record) -> None:
    good = json.dumps(redial_record()).encode()
    _, bad = list(open_corpus(write("a.jsonl", good + b"\n" + '{"a": "caf\u00e9"}'.encode("latin-1"))).rows)
    assert bad == BadRow(
        "a.jsonl", 2, "not UTF-8: byte 11 of the line is 0xe9; save the file as UTF-8 and import it again"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested deeper"),
        ('{"a": ' * 70 + "1" + "}" * 70, "nested deeper than 64"),
        ("[1, 2]", "this line holds a list"),
        ('{"a": 1', "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
    ],
)
def test_hostile_or_broken_json_gives_a_reason(text: str, reason: str) -> None:
    parsed = parse_object(text)
    assert isinstance(parsed, str)
    assert reason in parsed


def test_many_brackets_that_do_not_nest_are_no_bomb() -> None:
    assert parse_object(json.dumps({"a": [[] for _ in range(500)]})) == {"a": [[] for _ in range(500)]}


def test_a_byte_order_mark_and_dos_line_ends_do_no_harm(write: Write, redial_record: Record) -> None:
    path = write("a.jsonl", b"\xef\xbb\xbf" + json.dumps(redial_record()).encode() + b"\r\n\r\n")
    (dialogue,) = open_corpus(path).rows
    assert isinstance(dialogue, Dialogue)
