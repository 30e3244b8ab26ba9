"""What an endpoint may send instead of an answer. None of it may end a run, be lost, or be taken for what it is not."""

from __future__ import annotations

import gzip
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from annotation.inference.answers import Completion, Failure, Outcome, flags_of
from annotation.inference.endpoints import Endpoint
from annotation.inference.generator import Pace, Patience
from annotation.inference.prompts import Prompt, Said, TurnData, load_template, render
from annotation.inference.reading import is_other_model
from tests.annotation.inference.raw_server import Raw, Reply, piece, raw_server, said, streamed, whole

KEY = "sk-very-secret-4711"
PROMPT: Prompt = render(load_template(), TurnData((Said("user", "Any funny film?"),)))
Ask = Callable[..., Outcome]


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Raw, Endpoint]]]:
    with ExitStack() as stack:

        def start(reply: Reply | Callable[[int], Reply], **options: Any) -> tuple[Raw, Endpoint]:
            raw = stack.enter_context(raw_server(reply))
            known = {"patience": Patience(2, 0.01, 5.0), "seconds": 20.0, "allow_private": True}
            return raw, Endpoint(base_url=raw.url, model="tiny", **{**known, **options})

        yield start


@pytest.fixture
def ask(serve: Callable[..., tuple[Raw, Endpoint]]) -> Ask:
    return lambda reply, **options: serve(reply, **options)[1].complete([PROMPT])[0]


def completion(outcome: Outcome) -> Completion:
    assert isinstance(outcome.result, Completion), outcome.result
    return outcome.result


def flags(outcome: Outcome) -> tuple[str, ...]:
    return flags_of(completion(outcome), limit=128)


def kind(outcome: Outcome) -> str:
    assert isinstance(outcome.result, Failure), outcome.result
    return outcome.result.kind


# One odd answer costs that answer ---------------------------------------------------------------------------------


def test_json_nested_deeper_than_can_be_read_is_unreadable(ask: Ask) -> None:
    outcome = ask(whole(b"[" * 200_000 + b"]" * 200_000))
    assert (kind(outcome), outcome.attempts) == ("unreadable", 2)


@pytest.mark.parametrize("charset", ["undefined", "idna", "hex", "base64", "zlib", "rot13", "punycode", "no-such"])
def test_a_charset_that_no_text_is_in_hides_neither_a_status_nor_an_answer(ask: Ask, charset: str) -> None:
    odd = {"Content-Type": f"application/json; charset={charset}"}
    assert kind(ask(whole({"error": {"message": "x"}}, 500, **odd))) == "server_error"
    assert completion(ask(whole(said("Alien is good."), **odd))).text == "Alien is good."


@pytest.mark.parametrize("content", [[1], {"text": "x"}, 5, [{"type": "image_url", "image_url": "x"}], True])
def test_content_that_is_no_text_is_unreadable_whole_and_in_a_stream(ask: Ask, content: object) -> None:
    assert kind(ask(whole(said(content)))) == "unreadable"
    assert kind(ask(streamed(piece({"content": content}), piece({}, "stop")), stream=True)) == "unreadable"


@pytest.mark.parametrize(
    "event", [b"[]", b"5", b"null", b"{broken", b"[" * 200_000, {"choices": "abc"}, {"choices": 5}, b'{"x": "\xe9"}']
)
def test_a_piece_that_is_no_piece_is_unreadable(ask: Ask, event: object) -> None:
    assert kind(ask(streamed(event, piece({"content": "x"}, "stop")), stream=True)) == "unreadable"


def test_whatever_goes_wrong_with_one_request_is_that_turns_failure(
    serve: Callable[..., tuple[Raw, Endpoint]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, endpoint = serve(whole(said("x")))

    def fail(*args: object) -> Completion:
        raise ZeroDivisionError(KEY)

    monkeypatch.setattr(endpoint, "_whole", fail)
    (outcome,) = endpoint.complete([PROMPT])
    assert isinstance(outcome.result, Failure)
    assert (outcome.result.kind, "ZeroDivisionError" in outcome.result.detail) == ("unreadable", True)
    assert KEY not in outcome.result.detail
    monkeypatch.setattr(endpoint, "_whole", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        endpoint.complete([PROMPT])


# What is read of an answer ----------------------------------------------------------------------------------------


def test_an_answer_in_parts_of_text_is_joined(ask: Ask) -> None:
    parts = [{"type": "text", "text": "Try "}, {"type": "text", "text": "Alien."}]
    assert completion(ask(whole(said(parts)))).text == "Try Alien."
    stream = streamed(piece({"content": parts[:1]}), piece({"content": parts[1:]}, "stop"))
    assert completion(ask(stream, stream=True)).text == "Try Alien."


def test_only_the_first_choice_is_the_answer(ask: Ask) -> None:
    both = said("one")
    both["choices"].insert(0, {"index": 1, "message": {"content": "TWO"}, "finish_reason": "stop"})
    assert completion(ask(whole(both))).text == "one"
    stream = streamed(
        piece({"content": "one "}), piece({"content": "TWO"}, "stop", index=1), piece({"content": "film"}, "stop")
    )
    assert completion(ask(stream, stream=True)).text == "one film"


def test_a_refusal_is_an_answer_whole_and_in_a_stream(ask: Ask) -> None:
    refused = ask(whole(said(None, message={"refusal": "I cannot talk about that."})))
    in_pieces = ask(
        streamed(piece({"refusal": "I cannot talk "}), piece({"refusal": "about that."}, "stop")), stream=True
    )
    for outcome in (refused, in_pieces):
        assert completion(outcome).text == "I cannot talk about that."
        assert flags(outcome) == ("refusal",)


@pytest.mark.parametrize("finish", ["error", "ERROR"])
def test_an_answer_that_ended_in_an_error_is_a_failure_and_asked_again(ask: Ask, finish: str) -> None:
    answers = [whole(said("Half an ans", finish)), whole(said("A whole answer."))]
    assert completion(ask(lambda number: answers[number - 1])).text == "A whole answer."
    assert kind(ask(whole(said("Half an ans", finish)))) == "server_error"


def test_an_error_in_a_body_or_beside_a_choice_is_a_failure_of_its_kind(ask: Ask) -> None:
    assert kind(ask(whole({"error": {"message": "x", "code": 502}}))) == "server_error"
    assert kind(ask(whole({"error": {"message": "x", "code": 429}}))) == "rate_limited"
    assert kind(ask(whole(said("Half", None, choice={"error": {"code": 502}})))) == "server_error"
    assert kind(ask(streamed(piece({"content": "Half"}), {"error": {"message": "x"}}), stream=True)) == "server_error"


@pytest.mark.parametrize("finish", [{"a": 1}, None, "abort", "tool_calls"])
def test_an_end_that_is_none_of_the_usual_is_flagged(ask: Ask, finish: object) -> None:
    assert flags(ask(whole(said("I think you should", finish)))) == ("unusual_end",)


def test_a_number_of_thousands_of_digits_costs_the_count_not_the_answer(ask: Ask) -> None:
    body = (
        b'{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":'
        + b"9" * 6000
        + b"}}"
    )
    assert completion(ask(whole(body))).tokens_in is None


# Reasoning --------------------------------------------------------------------------------------------------------


def test_reasoning_is_taken_off_and_the_record_keeps_that_it_was_there(ask: Ask) -> None:
    raw = "<think>Funny. Which one?</think>\n\nTry Airplane!"
    outcome = ask(whole(said(raw)))
    assert completion(outcome).text == "Try Airplane!"
    assert flags(outcome) == ("reasoning_removed",)
    assert completion(outcome).facts["reasoning_characters"] == len("Funny. Which one?")
    assert len(completion(outcome).facts["raw_digest"]) == 64
    apart = ask(whole(said("Try Airplane!", message={"reasoning_content": "Funny."})))
    assert (completion(apart).text, completion(apart).reasoning) == ("Try Airplane!", 6)
    stream = streamed(
        piece({"reasoning_content": "Fun"}), piece({"reasoning": "ny."}), piece({"content": "Try it."}, "stop")
    )
    assert (completion(ask(stream, stream=True)).text, completion(ask(stream, stream=True)).reasoning) == ("Try it.", 6)
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "Try it."}]
    assert flags(ask(whole(said(parts)))) == ("reasoning_removed",)


def test_reasoning_without_an_end_is_a_cut_answer_without_words(ask: Ask) -> None:
    outcome = ask(whole(said("<think>The user wants a movie and I keep", "stop")))
    assert completion(outcome).text == ""
    assert flags(outcome) == ("truncated", "empty", "reasoning_removed")
    assert completion(outcome).facts["empty_because"] == "reasoning and no answer"


def test_an_answer_without_content_is_empty_and_says_why(ask: Ask) -> None:
    call = {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    called = ask(whole(said(None, "tool_calls", message=call)))
    assert flags(called) == ("empty", "unusual_end")
    assert completion(called).facts["empty_because"] == "a tool call instead of words"
    thought = ask(whole(said(None, "length", message={"reasoning_content": "Hm"})))
    assert flags(thought) == ("truncated", "empty", "reasoning_removed")
    assert completion(ask(whole(said(None)))).facts["empty_because"] == "no content"


# Too long, compressed, and no redirect ----------------------------------------------------------------------------


def test_a_compressed_answer_is_a_kind_of_its_own_and_not_asked_for_again(ask: Ask) -> None:
    outcome = ask(whole(gzip.compress(b"{}"), Content_Encoding="gzip"))
    assert (kind(outcome), outcome.attempts) == ("compressed", 1)
    assert kind(ask(whole(gzip.compress(b"{}"), 500, Content_Encoding="gzip"))) == "server_error"
    assert completion(ask(whole(said("Hi"), Content_Encoding="identity"))).text == "Hi"


def test_an_answer_that_is_too_long_is_a_kind_of_its_own_and_not_asked_for_again(ask: Ask) -> None:
    outcome = ask(whole(b" " * (3 * 1024 * 1024)))
    assert (kind(outcome), outcome.attempts) == ("too_long", 1)
    assert kind(ask(whole(b" " * (3 * 1024 * 1024), 500))) == "server_error"


def test_a_prompt_that_the_model_has_no_room_for_is_too_long(ask: Ask) -> None:
    outcome = ask(whole({"error": {"message": "x", "code": "context_length_exceeded"}}, 400))
    assert (kind(outcome), outcome.attempts) == ("too_long", 1)


def test_the_status_of_a_failure_is_believed_though_its_body_is_cut(ask: Ask) -> None:
    assert kind(ask(b"HTTP/1.1 500 X\r\nContent-Length: 1000\r\n\r\nabc")) == "server_error"


def test_not_modified_is_no_redirect(ask: Ask) -> None:
    assert kind(ask(whole(b"", 304))) == "unreadable"


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_turn_that_was_asked_has_the_kind_of_what_came_back(ask: Ask, attempts: int) -> None:
    outcome = ask(whole({"error": {"message": "x"}}, 400), patience=Patience(attempts, 0.01, 1.0))
    assert outcome.result == Failure("rejected", "HTTP 400")
    outcome = ask(whole({"error": {"message": "x", "param": "seed"}}, 422), patience=Patience(attempts, 0.01, 1.0))
    assert outcome.result == Failure("rejected", "HTTP 422")


def test_finding_out_what_is_not_accepted_uses_up_no_attempt(serve: Callable[..., tuple[Raw, Endpoint]]) -> None:
    refuses = whole({"error": {"message": "x", "param": "seed"}}, 400)
    raw, endpoint = serve(lambda number: refuses if number == 1 else whole(said("Hi")), patience=Patience(1, 0.01, 1.0))
    (outcome,) = endpoint.complete([PROMPT])
    assert (completion(outcome).text, outcome.attempts, outcome.adapted) == ("Hi", 2, ("seed",))
    assert len(raw.times) == 2


# Time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        [(0.0, b"HTTP/1.1 200 OK\r\n"), *[(0.2, b"X-a: b\r\n")] * 50],
        [(0.2, b"HTTP/1.1 103 Early Hints\r\n\r\n")] * 50,
        [(0.0, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), *[(0.2, b" ")] * 50],
        [(9.0, b"")],
    ],
    ids=["headers", "hints", "body", "silence"],
)
def test_a_request_takes_no_longer_than_it_may_whatever_trickles_in(ask: Ask, reply: Reply) -> None:
    began = time.monotonic()
    assert kind(ask(reply, seconds=1.0, patience=Patience(1, 0.01, 1.0))) == "timeout"
    assert time.monotonic() - began < 2.5


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_says_when_to_come_back_says_it_to_all_threads(
    serve: Callable[..., tuple[Raw, Endpoint]], status: int
) -> None:
    busy = whole({"error": {}}, status, Retry_After="1")
    raw, endpoint = serve(lambda number: busy if number == 1 else whole(said("Hi")), pace=Pace(per_minute=600))
    threads = [threading.Thread(target=endpoint.complete, args=([PROMPT],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, *later = raw.times
    # One more may have been under way when the answer came.
    assert sum(moment - first < 0.9 for moment in later) <= 1


# Who answered, and what is logged ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "reported", "other"),
    [
        ("tiny", "tiny", False),
        ("tiny", "", False),
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", False),
        ("gpt-4", "gpt-4-0613", False),
        ("gemini-1.5-flash", "models/gemini-1.5-flash-002", False),
        ("mistral-large-latest", "mistral-large-2411", False),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct", False),
        ("my-llama", "/models/my-llama/", False),
        ("llama3:latest", "llama3", False),
        ("google/gemma-2-9b-it:free", "google/gemma-2-9b-it", False),
        ("/tmp/tiny", "/tmp/tiny@main", False),
        ("tiny", "gpt-2-from-somewhere", True),
        ("gpt-4", "gpt-4-32k-0613", True),
        ("gpt-4", "gpt-4o", True),
        ("llama-3.1-70b", "llama-3.1-8b", True),
        ("llama-3", "llama-3-70b", True),
        ("gemma2-9b-it", "gemma2", True),
        ("qwen-2.5-32b", "qwen-2.5-32b-fp8", True),
    ],
)
def test_another_model_is_told_from_another_spelling_of_its_name(asked: str, reported: str, other: bool) -> None:
    assert is_other_model(asked, reported) is other


def test_an_answer_of_another_model_is_flagged(ask: Ask) -> None:
    outcome = ask(whole(said("Hi", model="gpt-2-from-somewhere")))
    assert completion(outcome).model == "gpt-2-from-somewhere"
    assert flags(outcome) == ("other_model",)


def test_no_library_logs_what_a_server_echoes_even_when_debugging(
    serve: Callable[..., tuple[Raw, Endpoint]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = whole(said(f"Bearer {KEY}", model=KEY), X_Echo=f"Bearer {KEY}", Set_Cookie=f"k={KEY}")
    failing = whole({"error": {"message": KEY, "code": KEY, "param": KEY}}, 500, X_Echo=KEY)
    for reply in (echo, failing):
        raw, endpoint = serve(reply, key=KEY)
        for name in (
            "openai",
            "openai._base_client",
            "httpx2",
            "httpcore2",
            "httpcore2.http11",
            "httpcore2.connection",
        ):
            caplog.set_level(logging.DEBUG, logger=name)
        (outcome,) = endpoint.complete([PROMPT])
        assert f"Bearer {KEY}".encode() in raw.requests[0]
        assert KEY not in repr(outcome)
    assert KEY not in caplog.text
