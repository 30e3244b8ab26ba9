from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotation.corpora import BadRow, Dialogue, open_corpus, read_redial

Write = Callable[..., Path]
Record = Callable[..., dict[str, Any]]


def only(rows: Any) -> Any:
    (row,) = list(rows)
    return row


def test_roles_titles_entities_and_ids_of_a_dialogue(write: Write, redial_record: Record) -> None:
    dialogue = only(read_redial(write("test.jsonl", [redial_record()])))
    assert dialogue.split == "test"
    first = dialogue.utterances[0]
    assert (first.role, first.source_ids, first.items) == ("user", ("1", "2"), ("Why Him? (2016)",))
    assert first.raw == "Hi\nI said &quot;more like@7 please&quot;"
    assert first.shown == 'Hi\nI said "more like Why Him? (2016) please"'
    assert first.plain == 'Hi I said "more like Why Him? (2016) please"'
    assert [u.role for u in dialogue.utterances] == ["user", "recommender", "user"]
    assert dialogue.meta["initiatorQuestions"] == {"7": {"suggested": 0, "seen": 1, "liked": 1}}
    assert dialogue.meta["respondentQuestions"] == {}


def test_titles_can_be_masked_for_the_classifier_alone(write: Write, redial_record: Record) -> None:
    dialogue = only(read_redial(write("a.jsonl", [redial_record()]), titles="mask"))
    assert dialogue.utterances[0].plain == 'Hi I said "more like [NAME] please"'
    assert "Why Him?" in dialogue.utterances[0].shown


def test_the_variant_without_message_ids_is_read_by_turn_id(write: Write, redial_record: Record) -> None:
    messages = [{"senderWorkerId": 10, "text": "hi", "turn_id": 0}, {"senderWorkerId": 20, "text": "yes", "turn_id": 1}]
    dialogue = only(read_redial(write("a.jsonl", [redial_record(messages=messages)])))
    assert [u.source_ids for u in dialogue.utterances] == [("0",), ("1",)]


def test_an_unknown_movie_id_is_noted_and_the_text_kept(write: Write, redial_record: Record) -> None:
    dialogue = only(read_redial(write("a.jsonl", [redial_record(movieMentions=[])])))
    assert "@7" in dialogue.utterances[0].shown
    assert dialogue.notes == ("message 2: movie id @7 has no title in movieMentions",)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"conversationId": None}, "conversationId missing"),
        ({"respondentWorkerId": 10}, "are the same"),
        ({"messages": "hello"}, "messages is not a list"),
        ({"messages": []}, "no message with text"),
        ({"messages": [{"text": "hi", "senderWorkerId": 99}]}, "message 1: sent by worker 99"),
        ({"messages": [{"senderWorkerId": 10}]}, "message 1: no text"),
        ({"messages": [{"text": "a\x00b", "senderWorkerId": 10}]}, "NUL"),
        ({"messages": [{"text": "a\ud800", "senderWorkerId": 10}]}, "surrogate"),
    ],
)
def test_a_dialogue_that_cannot_be_used_is_reported_with_its_line(
    write: Write, redial_record: Record, changed: dict[str, Any], reason: str
) -> None:
    rows = list(read_redial(write("a.jsonl", [redial_record(1), redial_record(2, **changed), redial_record(3)])))
    assert [type(row) for row in rows] == [Dialogue, BadRow, Dialogue]
    bad = rows[1]
    assert isinstance(bad, BadRow)
    assert (bad.file, bad.line) == ("a.jsonl", 2)
    assert reason in bad.reason


def test_a_duplicate_id_is_reported_with_both_lines(write: Write, redial_record: Record) -> None:
    _, bad = list(read_redial(write("a.jsonl", [redial_record(5), redial_record(5)])))
    assert bad == BadRow("a.jsonl", 2, "conversationId 5 was already on line 1")


def test_the_official_zip_gives_both_splits(tmp_path: Path, redial_record: Record) -> None:
    path = tmp_path / "redial_dataset.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr("train_data.jsonl", json.dumps(redial_record(1)) + "\n")
        archive.writestr("test_data.jsonl", json.dumps(redial_record(2)) + "\n")
    corpus = open_corpus(path)
    assert corpus.format == "redial"
    rows = [row for row in corpus.rows if isinstance(row, Dialogue)]
    assert [(row.source_id, row.split) for row in rows] == [("1", "train"), ("2", "test")]
    assert rows[0].file == "redial_dataset.zip:train_data.jsonl"


def test_gzip_and_plain_give_the_same(write: Write, redial_record: Record) -> None:
    body = json.dumps(redial_record()).encode()
    plain, packed = write("test.jsonl", body), write("test.jsonl.gz", gzip.compress(body))
    assert only(read_redial(plain)).utterances == only(read_redial(packed)).utterances


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test.jsonl.gz", {"dialogues": 1141, "messages": 20195, "empty": 0}),
        ("train_partial.jsonl.gz", {"dialogues": 3460, "messages": 62628, "empty": 13}),
        ("train_extra_ievalm.jsonl.gz", {"dialogues": 727, "messages": 9049, "empty": 1}),
    ],
)
def test_the_published_files_come_in_whole(shared: Path, name: str, expected: dict[str, int]) -> None:
    counts: Counter[str] = Counter(empty=0)
    for row in read_redial(shared / "redial" / name):
        assert isinstance(row, Dialogue), str(row)
        counts["dialogues"] += 1
        counts["messages"] += row.meta["messages"] + row.meta["empty_messages"]
        counts["empty"] += row.meta["empty_messages"]
        if name.startswith("test"):
            assert not any("@" in u.shown and "has no title" in " ".join(row.notes) for u in row.utterances)
    assert counts == expected
