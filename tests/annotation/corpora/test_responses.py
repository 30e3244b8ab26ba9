from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotation.corpora import BadRow, CorpusError, Response, open_corpus, read_responses

Write = Callable[..., Path]


def row(**changed: Any) -> dict[str, Any]:
    return {"dialogue_id": "1", "turn_id": 3, "system": "KGSF", "response": "Seen @7 ?", **changed}


def test_the_readable_form_is_shown_and_the_raw_kept(write: Write) -> None:
    (response,) = read_responses(write("a.jsonl", [row(response_readable="Seen Heat &amp; Dust ?")]))
    assert isinstance(response, Response)
    assert (response.raw, response.shown, response.position) == ("Seen @7 ?", "Seen Heat & Dust ?", 3)


def test_ids_and_slots_are_masked_on_request(write: Write) -> None:
    (response,) = read_responses(write("a.jsonl", [row(response="try <movie> or @7")]), titles="mask")
    assert isinstance(response, Response)
    assert response.plain == "try [NAME] or [NAME]"


def test_csv_with_quotes_and_line_breaks_reads_like_jsonl(write: Write) -> None:
    path = write("a.csv", 'dialogue_id,turn_id,system,response\n1,3,bot,"Two lines,\nand a ""quote"""\n1,5,bot,ok\n')
    corpus = open_corpus(path)
    assert corpus.format == "responses"
    first, second = corpus.rows
    assert isinstance(first, Response)
    assert isinstance(second, Response)
    assert first.raw == 'Two lines,\nand a "quote"'
    assert (second.position, second.line) == (5, 4)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"response": " "}, "the response is empty"),
        ({"response": None}, "the response is empty"),
        ({"dialogue_id": ""}, "dialogue_id missing"),
        ({"system": None}, "no system named"),
        ({"turn_id": -1}, "expected a whole number"),
        ({"turn_id": "three"}, "expected a whole number"),
        ({"turn_id": None}, "no place named"),
    ],
)
def test_a_row_that_cannot_be_placed_is_reported(write: Write, changed: dict[str, Any], reason: str) -> None:
    (bad,) = read_responses(write("a.jsonl", [row(**changed)]))
    assert isinstance(bad, BadRow)
    assert reason in bad.reason


def test_the_system_given_for_the_file_wins(write: Write) -> None:
    (response,) = read_responses(write("a.jsonl", [row()]), system="mine")
    assert isinstance(response, Response)
    assert response.system == "mine"


def test_a_table_without_the_response_column_is_refused(write: Write) -> None:
    with pytest.raises(CorpusError, match="column response missing"):
        list(open_corpus(write("a.csv", "dialogue_id,text\n1,hi\n"), "responses").rows)


def test_a_quote_left_open_is_refused_with_its_line(write: Write) -> None:
    body = 'dialogue_id,turn_id,system,response\n1,3,bot,"never closed\n' + "1,5,bot,more words\n" * 20_000
    with pytest.raises(CorpusError, match="is a quote left open"):
        list(open_corpus(write("a.csv", body)).rows)


@pytest.mark.parametrize(
    ("changed", "join"),
    [
        ({}, "position"),
        ({"dialogue_id": "m21-4"}, "line"),
        ({"dataset": "crsarena"}, "line"),
        ({"inspired_dialog_id": "x.pkl", "reference_response": "hello"}, "reference"),
        ({"turn_id": None, "reference_response": "hello"}, "reference"),
    ],
)
def test_each_published_group_is_joined_in_its_own_way(write: Write, changed: dict[str, Any], join: str) -> None:
    (response,) = read_responses(write("a.jsonl", [row(**changed)]))
    assert isinstance(response, Response)
    assert response.keys["join"] == join


def test_every_published_response_file_is_read_to_its_end(shared: Path) -> None:
    counts: Counter[str] = Counter()
    for path in sorted((shared / "llm_responses").glob("*.gz")):
        if "dialogues" in path.name:
            continue
        corpus = open_corpus(path)
        assert corpus.format == "responses", path.name
        for response in corpus.rows:
            counts["bad" if isinstance(response, BadRow) else "read"] += 1
    # 40,972 ReDial + 3,798 INSPIRED + 1,458 CRSArena rows; the seven bad ones hold no text.
    assert counts == {"read": 46_221, "bad": 7}
