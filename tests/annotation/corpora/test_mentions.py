from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotation.corpora import Columns, read_chats, read_table
from annotation.corpora.dialogue import Dialogue
from annotation.corpora.mentions import listed_titles, titles_in


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("Have you seen The Matrix (1999)?", ["The Matrix (1999)"]),
        ("I love Alien (1979) and Heat (1995), and Alien (1979)!", ["Alien (1979)", "Heat (1995)"]),
        ("Try Alien (1979), or “up” (2009).", ["Alien (1979)", "up (2009)"]),
        ("I like Jaws. A Beautiful Mind (2001) too", ["A Beautiful Mind (2001)"]),
        ("Okay, Dr. Strangelove (1964)", ["Dr. Strangelove (1964)"]),
        ("How about Monty Python and the Holy Grail (1975)", ["Monty Python and the Holy Grail (1975)"]),
        ("12 Angry Men (1957)", ["12 Angry Men (1957)"]),
        ("I was born then (1979)", []),
        ("no title here", []),
    ],
)
def test_titles_with_a_year_are_found_in_plain_words(text: str, titles: list[str]) -> None:
    assert list(titles_in(text)) == titles


def test_a_cell_lists_titles_between_bars() -> None:
    assert listed_titles(" Alien (1979) | Heat || Heat") == ("Alien (1979)", "Heat")
    assert listed_titles("") == ()


def items(dialogue: object) -> list[list[str]]:
    assert isinstance(dialogue, Dialogue)
    return [list(utterance.items) for utterance in dialogue.utterances]


def test_a_tables_items_come_from_its_columns_or_from_its_words(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("user,reference,titles\nI saw Heat (1995),Then see Alien (1979) and Brazil (1985),Alien|Brazil\n")
    (named,) = read_table(path, Columns(user="user", reference="reference", items="titles"))
    assert items(named) == [["Heat (1995)"], ["Alien", "Brazil"]]
    (found,) = read_table(path, Columns(user="user", reference="reference"))
    assert items(found) == [["Heat (1995)"], ["Alien (1979)", "Brazil (1985)"]]


def test_a_chats_items_come_from_its_utterances_or_from_its_words(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    said = [
        {"speaker": "user", "text": "Hi"},
        {"speaker": "agent", "text": "See Alien (1979)"},
        {"speaker": "user", "text": "And?"},
        {"speaker": "agent", "text": "That one", "items": ["Brazil"]},
    ]
    path.write_text(json.dumps({"dialogue_id": "a", "utterances": said}))
    (chat,) = read_chats(path)
    assert items(chat) == [[], ["Alien (1979)"], [], ["Brazil"]]
