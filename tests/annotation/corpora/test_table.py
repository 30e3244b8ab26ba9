from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from annotation.corpora import BadRow, Columns, CorpusError, Dialogue, Response, open_corpus

Write = Callable[..., Path]
LONG = Columns(user="q", dialogue="d", turn="t", reference="gold", response="a", system="s")
ROWS = [
    {"d": "x", "t": 0, "q": "hello", "gold": "hi there", "s": "one", "a": "hey"},
    {"d": "x", "t": 0, "q": "hello", "gold": "hi there", "s": "two", "a": "yo"},
    {"d": "x", "t": 1, "q": "a comedy", "gold": "Airplane!", "s": "one", "a": "Clue"},
    {"d": "y", "t": 0, "q": "bye", "gold": "", "s": "one", "a": "goodbye"},
]


def save(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_excel(path, index=False)
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_every_kind_of_table_gives_the_same_dialogues_and_responses(tmp_path: Path, ending: str) -> None:
    path = save(pd.DataFrame(ROWS), tmp_path / f"triplets.{ending}")
    rows = list(open_corpus(path, columns=LONG).rows)
    dialogues = [row for row in rows if isinstance(row, Dialogue)]
    responses = [row for row in rows if isinstance(row, Response)]
    assert [[(u.position, u.role, u.shown) for u in d.utterances] for d in dialogues] == [
        [
            (0, "user", "hello"),
            (1, "recommender", "hi there"),
            (2, "user", "a comedy"),
            (3, "recommender", "Airplane!"),
        ],
        [(0, "user", "bye")],
    ]
    assert [(r.dialogue_id, r.position, r.system, r.raw) for r in responses] == [
        ("x", 1, "one", "hey"),
        ("x", 1, "two", "yo"),
        ("x", 3, "one", "Clue"),
        ("y", 1, "one", "goodbye"),
    ]
    assert len(rows) == len(dialogues) + len(responses)


def test_wide_tables_have_one_column_per_system_and_need_no_ids(tmp_path: Path) -> None:
    path = save(pd.DataFrame([{"q": "hello", "gold": "hi", "gpt": "hey", "bert": "yo"}] * 2), tmp_path / "w.csv")
    columns = Columns(user="q", reference="gold", systems={"gpt": "GPT", "bert": "BERT"})
    rows = list(open_corpus(path, columns=columns).rows)
    assert [row.source_id for row in rows if isinstance(row, Dialogue)] == ["row-2", "row-3"]
    assert [(row.system, row.position) for row in rows if isinstance(row, Response)] == [("GPT", 1), ("BERT", 1)] * 2


def test_what_does_not_fit_is_reported(tmp_path: Path) -> None:
    wrong = [
        *ROWS,
        {**ROWS[0], "d": "x"},
        {**ROWS[3], "d": "z", "q": ""},
        {**ROWS[3], "d": "z", "t": "first"},
        {**ROWS[3], "d": "z"},
        {**ROWS[3], "d": "z", "q": "other words"},
    ]
    path = save(pd.DataFrame(wrong), tmp_path / "t.csv")
    reasons = {row.line: row.reason for row in open_corpus(path, columns=LONG).rows if isinstance(row, BadRow)}
    assert "do not stand together" in reasons[6]
    assert reasons[7] == "no value for q"
    assert "expected a whole number" in reasons[8]
    assert reasons[10] == "turn 0 of dialogue z has other texts on line 9"


def test_a_missing_column_is_refused_by_name(tmp_path: Path) -> None:
    for ending in ("csv", "parquet", "xlsx"):
        path = save(pd.DataFrame(ROWS), tmp_path / f"t.{ending}")
        with pytest.raises(CorpusError, match="column question missing"):
            list(open_corpus(path, columns=Columns(user="question")).rows)


@pytest.mark.parametrize("ending", ["parquet", "xlsx"])
def test_a_truncated_table_is_refused(tmp_path: Path, ending: str) -> None:
    path = save(pd.DataFrame(ROWS), tmp_path / f"t.{ending}")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorpusError, match="damaged or truncated"):
        list(open_corpus(path, columns=LONG).rows)


def test_a_response_column_needs_a_system_column(write: Write) -> None:
    mapping: dict[str, Any] = {"user": "q", "response": "a"}
    with pytest.raises(CorpusError, match="no system column"):
        list(open_corpus(write("t.csv", "q,a\nx,y\n"), columns=Columns(**mapping)).rows)
