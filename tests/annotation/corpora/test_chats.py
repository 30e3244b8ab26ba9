from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from annotation.corpora import BadRow, Dialogue, open_corpus, read_chats

Write = Callable[..., Path]


def test_a_live_chat_names_the_system_that_spoke(write: Write) -> None:
    utterances = [
        {"turn_id": 0, "speaker": "USER", "text": "hello"},
        {"turn_id": 1, "speaker": "AGENT", "text": ""},
        {"turn_id": 2, "speaker": "USER", "text": "anyone?"},
        {"turn_id": 3, "speaker": "AGENT", "text": "Heat"},
    ]
    record = {"dialogue_id": "c1", "system": "kbrd", "sentiment": "frustrated", "utterances": utterances}
    (dialogue,) = open_corpus(write("a.jsonl", [record])).rows
    assert isinstance(dialogue, Dialogue)
    assert dialogue.recommender == "kbrd"
    assert dialogue.meta["sentiment"] == "frustrated"
    assert [(u.role, u.source_ids) for u in dialogue.utterances] == [("user", ("0", "2")), ("recommender", ("3",))]


def test_an_unknown_speaker_is_reported(write: Write) -> None:
    (bad,) = read_chats(write("a.jsonl", [{"dialogue_id": "c", "utterances": [{"speaker": "narrator", "text": "x"}]}]))
    assert isinstance(bad, BadRow)
    assert "speaker is 'narrator'" in bad.reason


def test_the_published_chats_come_in_whole(shared: Path) -> None:
    for name, expected in (("redial70_dialogues.jsonl", 98), ("crsarena_dialogues.jsonl.gz", 330)):
        rows = list(open_corpus(shared / "llm_responses" / name).rows)
        assert all(isinstance(row, Dialogue) for row in rows)
        assert len(rows) == expected
