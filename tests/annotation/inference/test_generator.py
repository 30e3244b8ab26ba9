from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation.inference.answers import Completion, Flag, Outcome, flags_of, other_language, storable
from annotation.inference.causal import CausalModel
from annotation.inference.endpoints import Endpoint
from annotation.inference.generator import (
    CapReachedError,
    Decoding,
    GenerationError,
    LocalModel,
    Pace,
    Patience,
    StoppedError,
)
from annotation.inference.prompts import Prompt, Said, TurnData, load_template, render
from tests.annotation.inference.tiny_llama import save_tiny_llama, transformers_serve

TEMPLATE = load_template()


def prompts(count: int) -> list[Prompt]:
    """Prompts of unequal length, of both cases."""
    return [
        render(
            TEMPLATE,
            TurnData(
                (Said("user", f"I like film {number} {'very ' * (number % 7)}much"),),
                (f"Film {number} (2001)",) if number % 2 else None,
            ),
        )
        for number in range(count)
    ]


def texts(outcomes: list[Outcome]) -> list[str]:
    results = [outcome.result for outcome in outcomes]
    assert all(isinstance(result, Completion) for result in results)
    return [result.text for result in results if isinstance(result, Completion)]


# Pace and patience ------------------------------------------------------------------------------------------------


def test_requests_are_spaced_evenly_over_all_threads() -> None:
    pace = Pace(per_minute=1200)  # one every 50 ms
    starts: list[float] = []

    def ask() -> None:
        for _ in range(3):
            pace.take()
            starts.append(time.monotonic())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pace.requests == 9
    assert max(starts) - min(starts) >= 8 * 0.05 - 0.02


def test_not_one_request_is_made_beyond_the_cap() -> None:
    pace = Pace(cap=2)
    pace.take()
    pace.take()
    with pytest.raises(CapReachedError):
        pace.take()
    assert pace.requests == 2


def test_a_pause_holds_the_next_request_back() -> None:
    pace = Pace()
    pace.pause(0.2)
    began = time.monotonic()
    pace.take()
    assert time.monotonic() - began >= 0.19


def test_a_pause_that_comes_meanwhile_holds_those_back_too_who_were_waiting_already() -> None:
    pace = Pace(per_minute=600)  # one every 100 ms
    pace.take()
    starts: list[float] = []

    def ask() -> None:
        pace.take()
        starts.append(time.monotonic())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    paused = time.monotonic()
    pace.pause(0.5)
    for thread in threads:
        thread.join()
    assert min(starts) - paused >= 0.49
    assert max(starts) - min(starts) >= 0.19  # and the spacing holds after it


def test_a_stopped_run_asks_nothing_more_and_wakes_who_waits() -> None:
    pace = Pace(per_minute=1)
    pace.take()
    threading.Timer(0.1, pace.stopped.set).start()
    with pytest.raises(StoppedError):
        pace.take()
    with pytest.raises(StoppedError):
        pace.sleep(60)
    assert pace.requests == 1


def test_waits_double_up_to_the_longest_and_vary_by_half() -> None:
    patience = Patience(first_wait=1.0, longest_wait=8.0)
    for attempt, whole in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (9, 8.0)):
        waits = [patience.wait(attempt) for _ in range(200)]
        assert whole / 2 <= min(waits) < max(waits) <= whole
    assert patience.wait(1, asked=5.0) == 5.0


# What came back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("Hi! What kind of movies do you like?", ()),
        ("", ("empty",)),
        (" \n\t", ("empty",)),
        ("I'm sorry, but I can't help with that request.", ("refusal",)),
        ("As an AI language model, I cannot watch movies.", ("refusal",)),
        ("I am unable to provide recommendations.", ("refusal",)),
        ("Sorry, I haven't seen that one! Is it good?", ()),
        ("I can't wait to see it, did you like it?", ()),
        ("As a language model I know many films. Which do you like?", ()),
        ("I'm sorry to hear that. A comedy like Superbad could help you feel better.", ()),
        ("Internal Server Error", ("error_text",)),
        ("Error: rate limit exceeded, try again later", ("error_text",)),
        ('{"error": {"message": "overloaded"}}', ("error_text",)),
        ("<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", ("error_text",)),
        ("503 Service Unavailable", ("error_text",)),
        ("Traceback (most recent call last):", ("error_text",)),
        ("The Terror of Error is a good film, have you seen it?", ()),
        ("500 Days of Summer is lovely. Have you seen it?", ()),
        ("404 is a horror film, not found on many lists. Want it?", ()),
        ("¿Te gustan las películas de terror o prefieres una comedia para ver con la familia?", ("wrong_language",)),
        ("Ich habe den Film nicht gesehen, aber er ist sehr gut und die Musik auch.", ("wrong_language",)),
        ("你喜欢什么样的电影?", ("wrong_language",)),
        ("I love La casa de papel and El laberinto del fauno, did you like it?", ()),
        ("You can watch Das Boot.", ()),
        ("good\x00 one, I liked it", ("repaired_characters",)),
    ],
)
def test_what_came_back_is_looked_at(text: str, flags: tuple[Flag, ...]) -> None:
    assert flags_of(Completion(text, "stop"), limit=128) == flags


@pytest.mark.parametrize(
    ("finish", "tokens", "flags"),
    [
        ("stop", 127, ()),
        ("stop", 128, ()),  # a natural end, just where the limit is
        ("stop", 402, ("limit_not_kept",)),
        ("length", 128, ("truncated",)),
        ("LENGTH", None, ("truncated",)),
        ("max_tokens", 128, ("truncated",)),
        ("model_length", 90, ("truncated",)),
        ("length", 402, ("truncated", "limit_not_kept")),
        ("content_filter", 3, ("refusal",)),
        ("SAFETY", 3, ("refusal",)),
        ("EOS_TOKEN", 3, ()),
        ("abort", 3, ("unusual_end",)),
        ("tool_calls", 3, ("unusual_end",)),
        ("", 3, ("unusual_end",)),
        ("", 128, ("truncated", "unusual_end")),
    ],
)
def test_how_an_answer_ended_is_read_from_what_was_told(
    finish: str, tokens: int | None, flags: tuple[Flag, ...]
) -> None:
    assert flags_of(Completion("It is a film", finish, tokens_out=tokens), limit=128) == flags


def test_an_answer_ended_by_the_endpoints_filter_is_a_refusal() -> None:
    assert flags_of(Completion("Hm", "content_filter"), limit=128) == ("refusal",)


def test_the_language_check_can_be_turned_off_and_turned_round() -> None:
    german = "Ich habe den Film nicht gesehen, aber er ist sehr gut und die Musik auch."
    assert flags_of(Completion(german, "stop"), limit=128, language="") == ()
    assert not other_language(german, expected="de")
    assert other_language("I have not seen that film but they say it is good", expected="de")


def test_characters_that_no_database_keeps_are_replaced_and_all_others_kept() -> None:
    assert storable("a\x00b\ud800c é 😀") == "a\ufffdb\ufffdc é 😀"


# A local model ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with transformers_serve(folder, tmp_path_factory.mktemp("cache")) as url:
        yield url


def test_the_local_model_and_a_real_server_give_the_same_greedy_text_at_fifty_turns(folder: Path, served: str) -> None:
    asked = prompts(50)
    local = LocalModel(str(folder), batch_size=8)
    endpoint = Endpoint(base_url=served, model=str(folder), allow_private=True)
    here = [outcome for start in range(0, 50, 8) for outcome in local.complete(asked[start : start + 8])]
    there = [endpoint.complete([prompt])[0] for prompt in asked]
    assert texts(here) == texts(there)
    assert len(set(texts(here))) > 40, "the model says the same whatever it is asked, so nothing is compared"
    ours, theirs = ([outcome.result for outcome in outcomes] for outcomes in (here, there))
    for one, other in zip(ours, theirs, strict=True):
        assert isinstance(one, Completion)
        assert isinstance(other, Completion)
        assert (one.tokens_in, one.finish_reason) == (other.tokens_in, other.finish_reason)
        assert one.tokens_out is not None
        assert one.tokens_out <= 128


def test_a_real_server_streams_the_same_text(folder: Path, served: str) -> None:
    asked = prompts(3)
    whole = Endpoint(base_url=served, model=str(folder), allow_private=True)
    streamed = Endpoint(base_url=served, model=str(folder), allow_private=True, stream=True)
    at_once, in_pieces = (texts([one.complete([prompt])[0] for prompt in asked]) for one in (whole, streamed))
    # The server's stream leaves an unfinished character at the very end away.
    assert [text.rstrip("\ufffd") for text in in_pieces] == [text.rstrip("\ufffd") for text in at_once]


def test_the_batch_a_prompt_is_in_does_not_change_its_answer(folder: Path) -> None:
    asked = prompts(9)
    local = LocalModel(str(folder), decoding=Decoding(max_new_tokens=32))
    assert texts(local.complete(asked)) == [texts(local.complete([one]))[0] for one in asked]


def test_the_folders_own_sampling_settings_do_not_soften_greedy(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "warm"
    shutil.copytree(folder, other)
    config = (other / "generation_config.json").read_text(encoding="utf-8")
    warm = config.replace("{", '{"do_sample": true, "temperature": 3.0, "repetition_penalty": 1.9,', 1)
    (other / "generation_config.json").write_text(warm, encoding="utf-8")
    asked = prompts(3)
    short = Decoding(max_new_tokens=32)
    assert texts(LocalModel(str(other), decoding=short).complete(asked)) == texts(
        LocalModel(str(folder), decoding=short).complete(asked)
    )


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match="safetensors"):
        LocalModel(str(save_tiny_llama(tmp_path / "pickled", safe=False))).load()


def test_a_model_that_brings_its_own_code_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "code"
    shutil.copytree(folder, other)
    config = (other / "config.json").read_text(encoding="utf-8")
    own = config.replace("{", '{"auto_map": {"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.Config"},', 1)
    (other / "config.json").write_text(own.replace('"llama"', '"own-kind"'), encoding="utf-8")
    (other / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n", encoding="utf-8")
    with pytest.raises(GenerationError):
        LocalModel(str(other)).load()
    assert not (tmp_path / "ran").exists()


def test_a_model_without_a_chat_template_is_refused_with_advice(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "base"
    shutil.copytree(folder, other)
    (other / "chat_template.jinja").unlink()
    with pytest.raises(GenerationError, match="instruction-tuned"):
        LocalModel(str(other)).load()


def test_a_folder_that_is_no_model_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match=r"holds no config\.json"):
        LocalModel(str(tmp_path)).load()


def test_a_local_model_is_greedy_or_nothing() -> None:
    with pytest.raises(GenerationError, match="temperature 0"):
        LocalModel("x", decoding=Decoding(temperature=0.7))


def test_a_cap_within_a_batch_answers_what_it_allows(folder: Path) -> None:
    local = LocalModel(str(folder), decoding=Decoding(max_new_tokens=4), pace=Pace(cap=2))
    outcomes = local.complete(prompts(3))
    assert [outcome.result is not None for outcome in outcomes] == [True, True, False]
    assert local.requests == 2


def test_a_batch_that_does_not_fit_into_memory_is_halved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    local = LocalModel(str(folder), decoding=Decoding(max_new_tokens=4))
    whole = LocalModel._generate

    def small(self: LocalModel, loaded: CausalModel, asked: list[Prompt]) -> list[Outcome]:
        if len(asked) > 2:
            raise torch.OutOfMemoryError
        return whole(self, loaded, asked)

    asked = prompts(5)
    expected = texts(local.complete(asked))
    monkeypatch.setattr(LocalModel, "_generate", small)
    assert texts(local.complete(asked)) == expected
