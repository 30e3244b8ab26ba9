from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from annotation.inference.prompts import (
    BUILT_IN,
    Case,
    Said,
    TemplateError,
    TurnData,
    choose_case,
    load_template,
    recommended,
    render,
    same_title,
    template_names,
)


def turn(*said: tuple[str, str, tuple[str, ...]], reference: tuple[str, ...] | None = ()) -> TurnData:
    return TurnData(tuple(Said(role, text, items) for role, text, items in said), reference)  # type: ignore[arg-type]


HELLO = ("user", "Hi, I want something funny", ())
LIKED = ("user", "I loved The Hangover (2009)", ("The Hangover (2009)",))


# Which case -------------------------------------------------------------------------------------------------------


def test_a_reference_that_names_nothing_is_case_one() -> None:
    assert choose_case(turn(HELLO)) == Case(1, "none")


def test_a_turn_without_a_reference_is_case_one() -> None:
    assert choose_case(turn(HELLO, reference=None)) == Case(1, "none")


def test_a_fresh_item_of_the_reference_is_the_recommendation_of_case_two() -> None:
    assert choose_case(turn(LIKED, reference=("Superbad (2007)",))) == Case(2, "given", ("Superbad (2007)",))


def test_what_the_user_mentioned_at_any_earlier_turn_is_not_recommended() -> None:
    said = (LIKED, ("recommender", "What else?", ()), ("user", "no idea", ()))
    assert recommended(turn(*said, reference=("The Hangover (2009)", "Superbad (2007)"))) == ("Superbad (2007)",)


def test_what_only_the_recommender_mentioned_before_can_be_recommended() -> None:
    said = (HELLO, ("recommender", "Superbad (2007)?", ("Superbad (2007)",)), ("user", "tell me more", ()))
    assert recommended(turn(*said, reference=("Superbad (2007)",))) == ("Superbad (2007)",)


def test_a_recommendation_of_nothing_but_what_the_user_named_is_empty_and_stays_case_two() -> None:
    assert choose_case(turn(LIKED, reference=("The Hangover (2009)",))) == Case(2, "empty")


def test_unfilled_slots_recommend_nothing() -> None:
    assert choose_case(turn(HELLO, reference=("<movie>", "@12345", "[MOVIE_TITLE_0]", " "))) == Case(2, "empty")


def test_two_films_of_one_name_are_an_ambiguous_recommendation() -> None:
    case = choose_case(turn(HELLO, reference=("Halloween (1978)", "Halloween (2018)")))
    assert case == Case(2, "ambiguous", ("Halloween (1978)", "Halloween (2018)"))


def test_a_title_named_twice_is_recommended_once() -> None:
    assert recommended(turn(HELLO, reference=("Superbad (2007)", "superbad  (2007)"))) == ("Superbad (2007)",)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("It (2017)", "it  (2017)", True),
        ("It (2017)", "It", True),
        ("It (2017)", "It (1990)", False),
        ("It", "It Follows", False),
        ("Amélie (2001)", "AME\u0301LIE (2001)", True),
        ("2012", "2012 (2009)", True),
    ],
)
def test_titles_are_the_same_by_their_words_and_by_their_year_where_both_have_one(
    one: str, other: str, same: bool
) -> None:
    assert same_title(one, other) is same


# The words --------------------------------------------------------------------------------------------------------


def test_the_prompt_of_case_one_is_the_papers_and_ends_with_the_user_query() -> None:
    words = render(load_template(), turn(HELLO)).messages[0]["content"]
    assert words.startswith("I will provide you with a user input that contains some sort of chit-chat or question.")
    assert words.endswith('User Input: "Hi, I want something funny"\nOutput:')
    assert "Related Attributes" not in words


def test_the_prompt_of_case_two_carries_the_recommendation() -> None:
    prompt = render(load_template(), turn(LIKED, reference=("Superbad (2007)", "Airplane! (1980)")))
    words = prompt.messages[0]["content"]
    assert words.endswith('Related Attributes: "Superbad (2007), Airplane! (1980)"\nOutput:')
    assert [message["role"] for message in prompt.messages] == ["user"]


def test_an_empty_recommendation_is_shown_empty_so_that_the_papers_rule_applies() -> None:
    words = render(load_template(), turn(LIKED, reference=("The Hangover (2009)",))).messages[0]["content"]
    assert "If user recommendation is empty then ask the user a relevant question" in words
    assert 'Related Attributes: ""' in words


def test_the_templates_say_what_appendix_a_says() -> None:
    shared = os.environ.get("ATTUNE_SHARED") or Path(__file__).resolve().parents[3].parent / "shared"
    paper = Path(shared) / "paper.txt"
    if not paper.is_file():
        pytest.skip("the paper's text is not on this machine")
    printed = " ".join(paper.read_text(encoding="utf-8").split())
    template = load_template()
    for words in (template.case1, template.case2):
        ours = " ".join(re.split(r"\{history\}", words)[0].split()).replace("Now, do", "|Now, do").split("|")
        for part in ours:
            assert part.strip() in printed


def test_by_default_no_history_is_shown_and_on_request_so_much_of_it() -> None:
    said = (HELLO, ("recommender", "Old or\nnew?", ()), ("user", "New", ()))
    words = {
        count: render(load_template(), turn(*said), history=count).messages[0]["content"] for count in (0, 1, 2, -1)
    }
    assert "Conversation so far" not in words[0]
    assert 'Conversation so far:\nRecommender: Old or new?\n\nUser Input: "New"' in words[1]
    assert "User: Hi, I want something funny\nRecommender: Old or new?" in words[2]
    assert words[2] == words[-1]


def test_what_a_user_says_is_not_read_as_a_placeholder() -> None:
    words = render(load_template(), turn(("user", "{recommendation} {history} {0} }{", ()))).messages[0]["content"]
    assert 'User Input: "{recommendation} {history} {0} }{"' in words


def test_the_digest_of_a_prompt_changes_with_its_words_alone() -> None:
    template = load_template()
    first, again, other = (render(template, turn(said)) for said in (HELLO, HELLO, LIKED))
    assert first.digest == again.digest != other.digest
    assert len(first.digest) == 64


# Own templates ----------------------------------------------------------------------------------------------------


def write(folder: Path, name: str, **parts: str) -> Path:
    (folder / name).mkdir()
    for part, words in parts.items():
        (folder / name / f"{part}.txt").write_text(words, encoding="utf-8")
    return folder


def test_an_own_template_is_found_by_its_folder_and_may_speak_to_the_system_first(tmp_path: Path) -> None:
    write(
        tmp_path,
        "warm-1",
        case1="Answer warmly: {user_input}",
        case2="{{}} {user_input} / {recommendation}",
        system="Be kind.",
    )
    template = load_template("warm-1", [tmp_path])
    prompt = render(template, turn(LIKED, reference=("Superbad (2007)",)))
    assert [dict(message) for message in prompt.messages] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "{} I loved The Hangover (2009) / Superbad (2007)"},
    ]
    assert template_names([tmp_path]) == ["appendix-a-1", "warm-1"]


def test_a_byte_order_mark_is_no_word_of_a_template(tmp_path: Path) -> None:
    write(tmp_path, "own", case1="a {user_input}", case2="{user_input} {recommendation}")
    before = load_template("own", [tmp_path])
    for name in ("case1", "case2"):
        path = tmp_path / "own" / f"{name}.txt"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (tmp_path / "own" / "template.toml").write_bytes(b'\xef\xbb\xbftitle = "Own"\n')
    after = load_template("own", [tmp_path])
    assert (after.version, after.case1, after.title) == (before.version, "a {user_input}", "Own")


def test_a_blank_system_message_is_none(tmp_path: Path) -> None:
    write(tmp_path, "own", case1="a {user_input}", case2="{user_input} {recommendation}")
    before = load_template("own", [tmp_path]).version
    (tmp_path / "own" / "system.txt").write_text(" \n\t\n", encoding="utf-8")
    template = load_template("own", [tmp_path])
    assert (template.system, template.version) == ("", before)
    assert [message["role"] for message in render(template, turn(HELLO)).messages] == ["user"]


def test_empty_brackets_are_no_year() -> None:
    case = choose_case(turn(HELLO, reference=("Akira ()", "Akira (1988)", "Heat ( )")))
    assert case.items == ("Akira", "Heat")


def test_a_changed_word_is_another_version(tmp_path: Path) -> None:
    write(tmp_path, "own", case1="a {user_input}", case2="{user_input} {recommendation}")
    before = load_template("own", [tmp_path]).version
    (tmp_path / "own" / "case1.txt").write_text("b {user_input}", encoding="utf-8")
    assert load_template("own", [tmp_path]).version != before
    assert before.startswith("own@")


def test_the_version_of_the_papers_template_is_pinned() -> None:
    """A changed word of Appendix A would silently be another study: change the folder's name with the words."""
    assert load_template().version == "appendix-a-1@df4bb264e4cb"


@pytest.mark.parametrize(
    ("case1", "case2", "says"),
    [
        ("no place", "{user_input} {recommendation}", "{user_input} is missing"),
        ("{user_input}", "{user_input}", "{recommendation} is missing"),
        ("{user_input} {recommendation}", "{user_input} {recommendation}", "{recommendation} is no placeholder"),
        ("{user_input.__class__}", "{user_input} {recommendation}", "is no placeholder"),
        ("{user_input!r}", "{user_input} {recommendation}", "write {user_input} alone"),
        ("{user_input:>9}", "{user_input} {recommendation}", "write {user_input} alone"),
        ("{user_input} {}", "{user_input} {recommendation}", "is no placeholder"),
        ("{user_input} {", "{user_input} {recommendation}", "write a literal brace twice"),
        ("", "{user_input} {recommendation}", "case1.txt is missing or empty"),
        ("{user_input}" + "x" * 20_000, "{user_input} {recommendation}", "longer than"),
    ],
)
def test_a_template_with_a_wrong_placeholder_is_refused_with_its_file_named(
    tmp_path: Path, case1: str, case2: str, says: str
) -> None:
    write(tmp_path, "own", case1=case1, case2=case2)
    with pytest.raises(TemplateError, match=re.escape(says)) as refused:
        load_template("own", [tmp_path])
    assert "own/case" in str(refused.value)


@pytest.mark.parametrize("name", ["../appendix-a-1", "/etc", "", "A", "a" * 65])
def test_a_templates_name_is_no_path(name: str) -> None:
    with pytest.raises(TemplateError):
        load_template(name)


def test_an_unknown_template_is_answered_with_those_there_are() -> None:
    with pytest.raises(TemplateError, match="appendix-a-1"):
        load_template("appendix-b")


def test_history_for_a_template_without_a_place_for_it_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "own", case1="{user_input}", case2="{user_input} {recommendation}")
    with pytest.raises(TemplateError, match="so no history can be shown"):
        render(load_template("own", [tmp_path]), turn(HELLO), history=2)


def test_the_templates_that_come_with_the_product_say_where_they_are_from() -> None:
    for name in template_names():
        assert load_template(name).source
        assert (BUILT_IN / name / "template.toml").is_file()
