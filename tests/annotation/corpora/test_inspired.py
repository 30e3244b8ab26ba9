from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotation.corpora import BadRow, CorpusError, Dialogue, open_corpus, read_inspired

Write = Callable[..., Path]
Text = Callable[..., str]


def test_rows_become_turns_with_quotes_mended_and_titles_listed(write: Write, inspired_text: Text) -> None:
    path = write(
        "dev.tsv",
        inspired_text(
            ("d1", "1", "RECOMMENDER", "Hi!", ""),
            ("d1", "2", "RECOMMENDER", 'Did you see QUOTATION_MARKHeatQUOTATION_MARK, the "old" one?', "Heat (1995)"),
            ("d1", "3", "SEEKER", "I\ufffd\ufffdm not sure", ""),
        ),
    )
    corpus = open_corpus(path)
    (dialogue,) = corpus.rows
    assert corpus.format == "inspired"
    assert isinstance(dialogue, Dialogue)
    assert dialogue.split == "valid"
    first, second = dialogue.utterances
    assert first.shown == 'Hi!\nDid you see "Heat", the "old" one?'
    assert (first.source_ids, first.items) == (("1", "2"), ("Heat (1995)",))
    assert (second.role, second.shown, second.raw) == ("user", "I'm not sure", "I\ufffd\ufffdm not sure")


def test_titles_without_their_year_are_masked(write: Write, inspired_text: Text) -> None:
    path = write("a.tsv", inspired_text(("d", "1", "SEEKER", "I liked heat, not heatwaves", "Heat (1995)")))
    (dialogue,) = read_inspired(path, titles="mask")
    assert isinstance(dialogue, Dialogue)
    assert dialogue.utterances[0].plain == "I liked [NAME], not heatwaves"


def test_a_missing_column_names_itself(write: Write) -> None:
    with pytest.raises(CorpusError, match="column speaker missing"):
        list(read_inspired(write("a.tsv", "dialog_id\tutt_id\ttext\nd\t1\thi\n")))


def three_dialogues(inspired_text: Text) -> list[str]:
    rows = [(d, str(n), "SEEKER" if n % 2 else "RECOMMENDER", f"{d} says {n}", "") for d in "abc" for n in (1, 2, 3)]
    return inspired_text(*rows).splitlines()


@pytest.mark.parametrize(
    ("line", "left_out"),
    [(3, "a"), (4, "a"), (5, "b"), (7, "b"), (8, "c"), (10, "c")],
)
def test_an_unreadable_row_takes_its_own_dialogue_along_and_no_other(
    write: Write, inspired_text: Text, line: int, left_out: str
) -> None:
    lines = [text.encode() for text in three_dialogues(inspired_text)]
    lines[line - 1] = b"\xff" + lines[line - 1]
    rows = list(read_inspired(write("a.tsv", b"\n".join(lines))))
    kept = {row.source_id for row in rows if isinstance(row, Dialogue)}
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert kept == set("abc") - {left_out}
    assert bad[0].line == line
    assert "not UTF-8: byte 1 of the line is 0xff" in bad[0].reason
    assert bad[1].reason == f"dialogue {left_out} left out: line {line} could not be read"


def test_a_nul_in_any_kept_cell_is_reported(write: Write, inspired_text: Text) -> None:
    # a NUL near the beginning would make the whole file a binary one
    rows = (("z", "1", "SEEKER", "long " * 1000, ""), ("a", "1", "SEEKER", "hi", "He\x00at"))
    _, bad = read_inspired(write("a.tsv", inspired_text(*rows)))
    assert isinstance(bad, BadRow)
    assert "NUL" in bad.reason


def test_rows_of_a_dialogue_that_do_not_stand_together_are_reported(write: Write, inspired_text: Text) -> None:
    rows = list(
        read_inspired(
            write(
                "a.tsv",
                inspired_text(
                    ("a", "1", "SEEKER", "x", ""), ("b", "1", "SEEKER", "y", ""), ("a", "2", "SEEKER", "z", "")
                ),
            )
        )
    )
    assert [type(row) for row in rows] == [Dialogue, Dialogue, BadRow]
    assert "dialogue was already on line 2" in rows[2].reason  # type: ignore[union-attr]


def test_a_short_row_is_kept_and_noted_and_a_long_one_reported(write: Write, inspired_text: Text) -> None:
    short = inspired_text(("a", "1", "SEEKER", "hi", "")).rstrip("\n").rstrip("\t") + "\n"
    (dialogue,) = read_inspired(write("a.tsv", short))
    assert isinstance(dialogue, Dialogue)
    assert "cells are missing" in dialogue.notes[0]
    long = inspired_text(("a", "1", "SEEKER", "hi", "")).rstrip("\n") + "\tmore\n"
    rows = list(read_inspired(write("b.tsv", long)))
    assert [row.reason for row in rows if isinstance(row, BadRow)] == ["20 cells where the header has 19"]


def test_the_published_files_come_in_whole(shared: Path) -> None:
    def counts(name: str) -> tuple[int, int]:
        rows: list[Any] = list(read_inspired(shared / "inspired" / name))
        assert all(isinstance(row, Dialogue) for row in rows)
        assert not any("QUOTATION_MARK" in u.shown for row in rows for u in row.utterances)
        return len(rows), sum(row.meta["messages"] for row in rows)

    assert counts("test.tsv") == (84, 2955)
    assert counts("dev.tsv") == (99, 3538)
    assert counts("train_reconstructed.jsonl.gz") == (801, 16982)
