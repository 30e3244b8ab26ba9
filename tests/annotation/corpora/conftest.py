from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(os.environ.get("ATTUNE_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published data sets, which is never part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"the published data sets are not at {SHARED}; set ATTUNE_SHARED to their folder")
    return SHARED


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a small file: a text, bytes, or records as JSONL."""

    def put(name: str, content: str | bytes | list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(record) + "\n" for record in content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def conversation(number: int = 1, **changed: Any) -> dict[str, Any]:
    """A ReDial record of four messages: the seeker sends two in a row, the second names film 7."""
    record = {
        "conversationId": str(number),
        "initiatorWorkerId": 10,
        "respondentWorkerId": 20,
        "movieMentions": {"7": "Why Him%3F  (2016)"},
        "initiatorQuestions": {"7": {"suggested": 0, "seen": 1, "liked": 1}},
        "respondentQuestions": [],
        "messages": [
            {"timeOffset": 0, "text": "Hi", "senderWorkerId": 10, "messageId": 1},
            {"timeOffset": 5, "text": "I said &quot;more like@7 please&quot;", "senderWorkerId": 10, "messageId": 2},
            {"timeOffset": 9, "text": "Sure", "senderWorkerId": 20, "messageId": 3},
            {"timeOffset": 12, "text": "bye", "senderWorkerId": 10, "messageId": 4},
        ],
    }
    return {**record, **changed}


_OFFICIAL = """dialog_id utt_id speaker turn_id text text_with_placeholder movies genres people_names movie_dict
genre_dict actor_dict director_dict others_dict expert_label second_label fine_label coarse_label movie_id"""
INSPIRED_HEADER = _OFFICIAL.split()


def inspired_tsv(*rows: tuple[str, str, str, str, str]) -> str:
    """An INSPIRED file from (dialog_id, utt_id, speaker, text, movies)."""
    lines = ["\t".join(INSPIRED_HEADER)]
    for dialog_id, utt_id, speaker, text, movies in rows:
        cells = dict.fromkeys(INSPIRED_HEADER, "")
        cells |= {"dialog_id": dialog_id, "utt_id": utt_id, "speaker": speaker, "text": text, "movies": movies}
        lines.append("\t".join(cells.values()))
    return "\n".join(lines) + "\n"


@pytest.fixture
def redial_record() -> Callable[..., dict[str, Any]]:
    return conversation


@pytest.fixture
def inspired_text() -> Callable[..., str]:
    return inspired_tsv
