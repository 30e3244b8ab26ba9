from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.corpora.dialogue import (
    Message,
    fill_titles,
    merge_turns,
    normalise,
    repair_apostrophes,
    repair_quotes,
    text_digest,
)


def message(role: str, text: str) -> Message:
    return Message(role, text, text, text, text)  # type: ignore[arg-type]


def test_consecutive_messages_of_one_speaker_become_one_turn_counted_from_zero() -> None:
    turns, empty = merge_turns([message("user", "a"), message("user", "b"), message("recommender", "c")])
    assert [(t.position, t.role, t.raw, t.plain) for t in turns] == [
        (0, "user", "a\nb", "a b"),
        (1, "recommender", "c", "c"),
    ]
    assert turns[0].source_ids == ("a", "b")
    assert empty == 0


def test_an_empty_message_is_counted_and_parts_no_turn() -> None:
    turns, empty = merge_turns([message("user", "a"), message("recommender", " "), message("user", "b")])
    assert [t.raw for t in turns] == ["a\nb"]
    assert empty == 1


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("QUOTATION_MARKHustlersQUOTATION_MARK .", '"Hustlers" .'),
        ("the newQUOTATION_MARKA DayQUOTATION_MARK, yes", 'the new "A Day", yes'),
        ("scary in a QUOTATION_MARKboo!QUOTATION_MARKway", 'scary in a "boo!" way'),
        ("titled QUOTATION_MARKA (2004), its", 'titled "A (2004), its'),
    ],
)
def test_quotation_marks_are_set_apart_on_the_outside_only(given_text: str, shown: str) -> None:
    assert repair_quotes(given_text) == shown


def test_a_run_of_replacement_characters_is_an_apostrophe_a_dash_or_nothing() -> None:
    assert repair_apostrophes("I\ufffd\ufffd\ufffdm fine") == "I'm fine"
    assert repair_apostrophes("well \ufffd\ufffd yes") == "well - yes"
    assert repair_apostrophes("good\ufffd?") == "good?"


def test_an_id_becomes_its_title_or_the_mask_and_an_unknown_id_stays_and_is_named() -> None:
    assert fill_titles("see@7, or @8", {"7": "Heat (1995)"}) == ("see Heat (1995), or @8", ("Heat (1995)",), ("8",))
    assert fill_titles("see @7 or @8", {"7": "Heat (1995)"}, mask=True)[0] == "see [NAME] or [NAME]"


def test_hostile_repetition_is_read_in_linear_time() -> None:
    # five seconds would be nothing for a quadratic reading of these; the whole test takes a fraction of one
    assert repair_apostrophes("a\ufffd" * 300_000).count("'") == 299_999
    assert repair_quotes("QUOTATION_MARK " * 100_000).count('"') == 100_000
    assert len(fill_titles("@1 " * 300_000, {})[2]) == 300_000


def test_texts_differing_in_case_space_or_composition_share_a_digest() -> None:
    assert text_digest("Caf\u00e9  NOIR") == text_digest("cafe\u0301 noir ")
    assert text_digest("cafe noir") != text_digest("caf\u00e9 noir")
    assert len(text_digest("")) == 32


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.lists(st.tuples(st.sampled_from(["user", "recommender"]), st.text(max_size=5))))
def test_merging_keeps_every_text_in_order_and_speakers_alternate(spoken: list[tuple[str, str]]) -> None:
    turns, empty = merge_turns([message(role, text) for role, text in spoken])
    kept = [text for _, text in spoken if text.strip()]
    assert "\n".join(turn.raw for turn in turns) == "\n".join(kept)
    assert len(kept) + empty == len(spoken)
    assert all(a.role != b.role for a, b in pairwise(turns))
