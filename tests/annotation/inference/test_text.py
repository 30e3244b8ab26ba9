"""What a classifier reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.corpora import dialogue as corpora
from annotation.inference.text import (
    normalise,
    plain_inspired,
    plain_redial,
    prepare,
    repair_apostrophes,
    spell_out,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello\t\nWorld ", "hello world"),
        ("Cafe\u0301", "café"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("", ""),
        (" \u00a0 ", ""),
    ],
)
def test_equal_texts_have_one_normal_form(text: str, expected: str) -> None:
    assert normalise(text) == expected
    assert normalise(normalise(text)) == normalise(text)


def test_emoji_become_their_names_once() -> None:
    assert spell_out("so funny 😂😂😂") == "so funny face with tears of joy"
    assert spell_out("👍🏽") == "thumbs up sign"
    assert spell_out("🤷‍♀️ ok") == "shrug ok"


def test_typographic_quotes_become_plain() -> None:
    assert prepare("I don’t “know”") == 'i don\'t "know"'


def test_other_scripts_pass_unchanged() -> None:
    assert prepare("とても面白い") == "とても面白い"


def test_movie_ids_become_titles_and_unknown_ones_a_mask() -> None:
    assert plain_redial("Try @12 &amp; @13!", {"12": "Jaws  (1975)"}) == "Try Jaws (1975) & [NAME] !"
    assert plain_redial("Try @12", {"12": "Jaws (1975)"}, mask_titles=True) == "Try [NAME]"


def test_inspired_marks_are_taken_out() -> None:
    assert plain_inspired("I saw QUOTATION_MARKCobraQUOTATION_MARK") == 'I saw " Cobra "'
    assert plain_inspired("I love [MOVIE_TITLE_0] and [MOVIE_P_ACTOR_1]") == "I love [NAME] and [NAME]"


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("I don?t know", "I don't know"),
        ("I ' m here", "I'm here"),
        ("that \ufffds", "that \ufffds"),
        ("can\ufffdt", "can't"),
    ],
)
def test_torn_apostrophes_are_joined(broken: str, whole: str) -> None:
    assert repair_apostrophes(broken) == whole


def test_a_question_is_not_a_torn_apostrophe() -> None:
    assert repair_apostrophes("Is it good? See you") == "Is it good? See you"


@given(st.text(max_size=60))
def test_the_digest_of_a_text_and_the_classifier_agree_on_what_is_the_same_text(text: str) -> None:
    assert corpora.normalise(text) == normalise(text)
