from __future__ import annotations

import datetime
import gzip
import ipaddress
import json
import logging
import math
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from annotation.inference.addresses import (
    AddressRefusedError,
    checked_addresses,
    kind_of,
    parse_address,
)
from annotation.inference.answers import Completion, Failure
from annotation.inference.endpoints import Endpoint, retry_after
from annotation.inference.generator import Decoding, GenerationError, Pace, Patience
from annotation.inference.parameters import GenerationParameters, Operator, build_generator, settle
from annotation.inference.prompts import Prompt, Said, TurnData, load_template, render
from annotation.inference.systems import RegistryError, key_for, read_registry, registry
from annotation.inference.transport import GuardedTransport
from tests.annotation.faulty_server import SECRET_IN_BODY, Faulty, Script, answer_to, serving

KEY = "sk-very-secret-4711"
PUBLIC = "93.184.216.34"
QUICK = Patience(attempts=4, first_wait=0.01, longest_wait=5.0)


def prompt(words: str = "Any funny film?") -> Prompt:
    return render(load_template(), TurnData((Said("user", words),)))


def resolving(*addresses: str) -> Any:
    return lambda host, port: list(addresses)


class Server:
    """A faulty server and an endpoint at it, ended with the test."""

    def __init__(self) -> None:
        self.open: list[Any] = []

    def __call__(self, script: Script | str = "ok", *, key: str = "", **options: Any) -> tuple[Faulty, Endpoint]:
        faulty = Faulty(script if callable(script) else lambda words, number: script)
        for name in ("retry_after", "location"):
            if name in options:
                setattr(faulty, name, options.pop(name))
        context = serving(faulty)
        context.__enter__()
        self.open.append(context)
        endpoint = Endpoint(
            base_url=faulty.url,
            model="tiny",
            key=key,
            allow_private=True,
            **{"patience": QUICK, "seconds": 60.0, **options},
        )
        return faulty, endpoint


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    for context in made.open:
        context.__exit__(None, None, None)


def then_ok(fault: str, times: int = 1) -> Script:
    return lambda words, number: fault if number <= times else "ok"


# Which addresses are called ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("93.184.216.34", "public"),
        ("2606:4700::1111", "public"),
        ("127.0.0.1", "private"),
        ("127.8.9.10", "private"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.0.1", "private"),
        ("::1", "private"),
        ("fd12::1", "private"),
        ("169.254.169.254", "forbidden"),
        ("fe80::1", "forbidden"),
        ("0.0.0.0", "forbidden"),
        ("::", "forbidden"),
        ("224.0.0.1", "forbidden"),
        ("255.255.255.255", "forbidden"),
        ("100.100.100.200", "forbidden"),
        ("fd00:ec2::254", "forbidden"),
        ("192.0.0.192", "forbidden"),
        ("::ffff:127.0.0.1", "private"),
        ("::ffff:169.254.169.254", "forbidden"),
        ("::127.0.0.1", "private"),
        ("64:ff9b::7f00:1", "private"),
        ("64:ff9b::a9fe:a9fe", "forbidden"),
        ("64:ff9b::5db8:d822", "public"),
        ("2002:7f00:1::", "private"),
        ("2002:a9fe:a9fe::", "forbidden"),
        ("64:ff9b:1::1", "forbidden"),
        ("fec0::1", "forbidden"),
        ("feff::1", "forbidden"),
        ("fd20:ce::254", "forbidden"),
        ("fd20:ce::253", "private"),
        ("168.63.129.16", "forbidden"),
        ("168.63.129.17", "public"),
        ("169.254.170.2", "forbidden"),
        ("::ffff:168.63.129.16", "forbidden"),
        ("64:ff9b::a83f:8110", "forbidden"),
        ("2002:a83f:8110::", "forbidden"),
        ("::ffff:100.100.100.200", "forbidden"),
        ("64:ff9b::6464:64c8", "forbidden"),
        ("2002:6464:64c8::", "forbidden"),
        ("::ffff:192.0.0.192", "forbidden"),
        ("64:ff9b::c000:c0", "forbidden"),
        ("2002:c000:c0::", "forbidden"),
        ("::ffff:0:169.254.169.254", "forbidden"),
        ("2001:db8::5efe:169.254.169.254", "forbidden"),
        ("fd12::200:5efe:10.0.0.1", "private"),
    ],
)
def test_an_address_is_public_private_or_forbidden_also_when_it_hides_in_another(address: str, kind: str) -> None:
    assert kind_of(ipaddress.ip_address(address)) == kind


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org",
        "gopher://example.org",
        "//example.org",
        "example.org/v1",
        "",
        "https://",
        "https:///v1",
        "https://user@example.org/v1",
        "https://user:word@example.org/v1",
        "https://example.org@169.254.169.254/v1",
        "https://example.org\\@127.0.0.1/v1",
        "https://example.org/v1?key=1",
        "https://example.org/v1?",
        "https://example.org/v1#x",
        "https://example.org:99999/v1",
        "https://exa mple.org/v1",
        "https://example.org/\r\nHost: other",
        "https://[fe80::1%25eth0]/v1",
        "https://[::1/v1",
        "https://" + "a" * 70 + ".org",
        "https://exa%6dple.org/v1",
    ],
)
def test_a_base_url_with_anything_a_base_url_does_not_need_is_refused(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        parse_address(url)


def test_a_base_url_is_rebuilt_from_its_checked_parts() -> None:
    assert parse_address("HTTPS://Api.Example.ORG.:443/v1/").url == "https://api.example.org/v1"
    assert parse_address("http://[::1]:8000/v1").url == "http://[::1]:8000/v1"
    assert parse_address("https://bücher.example/v1").url == "https://xn--bcher-kva.example/v1"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0177.0.0.1", "127.1"]
)
def test_this_machine_is_not_called_however_its_address_is_spelt(host: str) -> None:
    with pytest.raises(AddressRefusedError):
        checked_addresses(parse_address(f"https://{host}/v1"))


def test_a_name_that_leads_to_a_private_address_is_refused() -> None:
    with pytest.raises(AddressRefusedError, match="ATTUNE_ALLOW_PRIVATE_ENDPOINTS"):
        checked_addresses(parse_address("https://inside.example.org/v1"), resolver=resolving("10.0.0.5"))


def test_a_name_that_leads_both_outside_and_inside_is_refused() -> None:
    with pytest.raises(AddressRefusedError):
        checked_addresses(parse_address("https://two.example.org"), resolver=resolving(PUBLIC, "127.0.0.1"))


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fd00:ec2::254",
        "fd20:ce::254",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fec0::1",
        "64:ff9b::a9fe:a9fe",
        "2002:a83f:8110::1",
    ],
)
def test_where_clouds_keep_credentials_is_never_called_even_when_private_addresses_are_allowed(address: str) -> None:
    with pytest.raises(AddressRefusedError, match="never called"):
        checked_addresses(parse_address("http://meta.example"), allow_private=True, resolver=resolving(address))


def test_plain_http_stays_inside_the_private_network() -> None:
    with pytest.raises(AddressRefusedError, match="https only"):
        checked_addresses(parse_address("http://api.example.org"), allow_private=True, resolver=resolving(PUBLIC))
    found = checked_addresses(parse_address("http://box.example"), allow_private=True, resolver=resolving("10.0.0.5"))
    assert found == ("10.0.0.5",)


def test_a_host_that_is_not_found_is_refused_by_name() -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    with pytest.raises(AddressRefusedError, match=r"gone\.example was not found"):
        checked_addresses(parse_address("https://gone.example"), resolver=nowhere)


class Recorder(httpx2.BaseTransport):
    """Stands where the network is and keeps what would have been sent."""

    def __init__(self, response: httpx2.Response | None = None) -> None:
        self.sent: list[httpx2.Request] = []
        self.response = response

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(request)
        return self.response or httpx2.Response(200, content=b"{}")


def guarded(inner: Recorder, **options: Any) -> httpx2.Client:
    origin = parse_address("https://api.example.org/v1")
    transport = GuardedTransport(origin=origin, inner=inner, **{"resolver": resolving(PUBLIC), **options})
    return httpx2.Client(transport=transport, trust_env=False)


def test_the_connection_goes_to_the_checked_address_while_host_and_certificate_keep_the_name() -> None:
    network = Recorder()
    guarded(network).post("https://api.example.org/v1/chat")
    (sent,) = network.sent
    assert sent.url.host == PUBLIC
    assert sent.headers["host"] == "api.example.org"
    assert sent.extensions["sni_hostname"] == "api.example.org"


def test_a_name_that_changes_its_answer_after_the_check_gains_nothing() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])
    network = Recorder()
    client = guarded(network, resolver=lambda host, port: next(answers))
    client.post("https://api.example.org/v1/chat")
    with pytest.raises(AddressRefusedError):
        client.post("https://api.example.org/v1/chat")
    assert [request.url.host for request in network.sent] == [PUBLIC]


def test_a_request_to_another_origin_is_not_sent() -> None:
    network = Recorder()
    for url in ("https://other.example.org/v1", "http://api.example.org/v1", "https://api.example.org:8443/v1"):
        with pytest.raises(AddressRefusedError, match="left the checked origin"):
            guarded(network).post(url)
    assert network.sent == []


def test_only_the_key_for_this_host_leaves_whatever_a_client_library_adds() -> None:
    network = Recorder()
    headers = {"Authorization": "Bearer other", "OpenAI-Organization": "org", "OpenAI-Project": "p", "Cookie": "c=1"}
    guarded(network, credentials=f"Bearer {KEY}").post("https://api.example.org/v1", headers=headers)
    guarded(network).post("https://api.example.org/v1", headers=headers)
    with_key, without = (dict(request.headers) for request in network.sent)
    assert with_key["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in without
    assert not {"openai-organization", "openai-project", "cookie"} & (with_key.keys() | without.keys())


def test_a_compressed_answer_is_refused_before_it_can_grow() -> None:
    packed = httpx2.Response(
        200, headers={"content-encoding": "gzip"}, stream=httpx2.ByteStream(gzip.compress(b"0" * 10**6))
    )
    with pytest.raises(httpx2.RemoteProtocolError, match="compressed"):
        guarded(Recorder(packed)).post("https://api.example.org/v1")


def test_an_address_that_may_not_be_called_ends_the_run_before_anything_is_sent() -> None:
    with pytest.raises(GenerationError, match="private address"):
        Endpoint(base_url="http://127.0.0.1:9/v1", model="tiny")


def test_a_redirect_is_not_followed_and_ends_the_run(server: Server) -> None:
    inside = Faulty(lambda words, number: "ok")
    with serving(inside):
        outside, endpoint = server("redirect", location=f"{inside.url}/chat/completions", key=KEY)
        with pytest.raises(GenerationError, match="redirect, which is not followed"):
            endpoint.complete([prompt()])
        assert sum(outside.requests.values()) == 1
        assert sum(inside.requests.values()) == 0


# What is asked ----------------------------------------------------------------------------------------------------


def test_the_request_is_the_papers_greedy_and_128_new_tokens(server: Server) -> None:
    faulty, endpoint = server()
    asked = prompt()
    (outcome,) = endpoint.complete([asked])
    (body,) = faulty.bodies
    assert body == {
        "model": "tiny",
        "messages": [dict(message) for message in asked.messages],
        "temperature": 0.0,
        "max_tokens": 128,
        "seed": 0,
    }
    assert isinstance(outcome.result, Completion)
    assert outcome.result.text == answer_to(asked.messages[0]["content"])
    assert (outcome.result.finish_reason, outcome.result.model, outcome.attempts) == ("stop", "tiny", 1)
    assert outcome.result.tokens_in == len(asked.messages[0]["content"].split())


def test_a_streamed_answer_is_the_same_answer(server: Server) -> None:
    whole = server()[1].complete([prompt()])[0].result
    streamed = server(stream=True)[1].complete([prompt()])[0].result
    assert whole == streamed


def test_a_seed_that_is_not_accepted_is_left_out_from_then_on_and_that_is_told(server: Server) -> None:
    faulty, endpoint = server("no_seed")
    first = endpoint.complete([prompt("one")])[0]
    second = endpoint.complete([prompt("two")])[0]
    assert ["seed" in body for body in faulty.bodies] == [True, False, False]
    assert (first.attempts, second.attempts) == (2, 1)
    assert first.adapted == second.adapted == ("seed",)


def test_an_objection_that_is_not_named_is_found_by_trying(server: Server) -> None:
    faulty, endpoint = server("no_seed_unsaid")
    outcomes = [endpoint.complete([prompt(words)])[0] for words in ("one", "two")]
    assert [outcome.adapted for outcome in outcomes] == [("seed",), ("seed",)]
    assert sum(faulty.requests.values()) == 3


def test_a_rejection_that_no_change_mends_changes_nothing_for_the_next_prompt(server: Server) -> None:
    faulty, endpoint = server(lambda words, number: "400" if "bad" in words else "ok")
    rejected, answered = (endpoint.complete([prompt(words)])[0] for words in ("bad", "good"))
    assert rejected.result == Failure("rejected", "HTTP 400")
    assert answered.adapted == ()
    assert faulty.bodies[-1]["seed"] == 0


def test_the_newer_name_of_the_token_limit_is_used_where_the_older_is_refused(server: Server) -> None:
    faulty, endpoint = server("no_max_tokens")
    assert isinstance(endpoint.complete([prompt()])[0].result, Completion)
    assert faulty.bodies[-1]["max_completion_tokens"] == 128
    assert "max_tokens" not in faulty.bodies[-1]


def test_many_threads_meet_the_same_objection_and_all_get_their_answer(server: Server) -> None:
    _, endpoint = server("no_seed")
    outcomes: list[Any] = []
    threads = [
        threading.Thread(target=lambda word=word: outcomes.extend(endpoint.complete([prompt(word)])))
        for word in "abcdefgh"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert all(isinstance(outcome.result, Completion) for outcome in outcomes)


# What goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["429", "500", "503", "wrong_json", "other_json", "html", "cut"])
def test_a_passing_fault_is_outlived(server: Server, fault: str) -> None:
    faulty, endpoint = server(then_ok(fault, 2))
    (outcome,) = endpoint.complete([prompt()])
    assert isinstance(outcome.result, Completion)
    assert outcome.attempts == 3
    assert sum(faulty.answered.values()) == 1


@pytest.mark.parametrize("fault", ["stall", "drip"])
def test_an_answer_that_does_not_come_in_time_is_asked_again(server: Server, fault: str) -> None:
    _, endpoint = server(then_ok(fault), seconds=1.5)
    (outcome,) = endpoint.complete([prompt()])
    assert isinstance(outcome.result, Completion)
    assert outcome.attempts == 2


def test_a_stream_that_is_cut_is_no_answer_but_asked_again(server: Server) -> None:
    _, endpoint = server(then_ok("cut"), stream=True)
    (outcome,) = endpoint.complete([prompt()])
    assert isinstance(outcome.result, Completion)
    assert outcome.result.text == answer_to(prompt().messages[0]["content"])
    assert outcome.attempts == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429", "rate_limited"),
        ("500", "server_error"),
        ("cut", "cut_off"),
        ("wrong_json", "unreadable"),
        ("html", "unreadable"),
        ("stall", "timeout"),
    ],
)
def test_a_fault_that_stays_is_a_failure_of_its_kind_after_every_attempt(server: Server, fault: str, kind: str) -> None:
    faulty, endpoint = server(fault, patience=Patience(2, 0.01, 1.0), seconds=0.3 if fault == "stall" else 60.0)
    (outcome,) = endpoint.complete([prompt()])
    assert isinstance(outcome.result, Failure)
    assert (outcome.result.kind, outcome.attempts) == (kind, 2)
    assert sum(faulty.requests.values()) == 2


def test_a_request_that_is_rejected_is_not_repeated_once_the_endpoint_has_answered(server: Server) -> None:
    faulty, endpoint = server(lambda words, number: "400" if "bad" in words else "ok")
    endpoint.complete([prompt("good")])
    (outcome,) = endpoint.complete([prompt("bad")])
    assert outcome.result == Failure("rejected", "HTTP 400")
    assert sum(faulty.requests.values()) == 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [("401", "refuses the key"), ("404", "does not know"), ("402", "payment"), ("gone", "model_decom")],
)
def test_what_will_not_change_by_trying_again_ends_the_run(server: Server, fault: str, says: str) -> None:
    faulty, endpoint = server(fault)
    with pytest.raises(GenerationError, match=says):
        endpoint.complete([prompt()])
    assert sum(faulty.requests.values()) == 1


def test_retry_after_is_waited_for_by_every_thread(server: Server) -> None:
    faulty, endpoint = server(then_ok("429"), retry_after="0.4")
    began = time.monotonic()
    endpoint.complete([prompt()])
    assert faulty.times[1] - began >= 0.4


def test_a_server_that_asks_for_too_long_a_wait_ends_the_run_for_now(server: Server) -> None:
    _, endpoint = server("429", retry_after="3600")
    with pytest.raises(GenerationError, match="asks to wait 3600 s"):
        endpoint.complete([prompt()])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT"}, 60.0),
        ({"retry-after": "Wed, 31 Dec 2025 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "1, 2"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "1000000000"}, 1e9),
        ({"retry-after": "9" * 400}, math.inf),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 -0000"}, 0.0),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:00 +99999999"}, 0.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2300"}, 251635075199.0 + 23 * 3600),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
    assert retry_after(headers, now=lambda: now) == seconds


def test_an_endless_wait_ends_the_run_as_a_long_one_does(server: Server) -> None:
    _, endpoint = server("429", retry_after="9" * 400)
    with pytest.raises(GenerationError, match="asks to wait inf s"):
        endpoint.complete([prompt()])


def test_a_stopped_run_does_not_wait_out_its_back_off(server: Server) -> None:
    pace = Pace()
    _, endpoint = server("500", pace=pace, patience=Patience(5, 30.0, 60.0))
    threading.Timer(0.2, endpoint.stop).start()
    (outcome,) = endpoint.complete([prompt()])
    assert outcome.result is None
    assert outcome.attempts == 1


# What must not be told --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["429", "500", "400", "401", "404", "other_json", "html", "no_seed", "gone", "cut"])
def test_no_message_quotes_what_a_server_sent_or_the_key(
    server: Server, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, endpoint = server(fault, key=KEY, patience=Patience(2, 0.01, 1.0))
    told = ""
    try:
        told = repr(endpoint.complete([prompt()]))
    except GenerationError as error:
        told = "".join(traceback.format_exception(error)) + repr(error)
    ours = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("openai"))
    assert SECRET_IN_BODY not in told + ours
    assert KEY not in told + caplog.text
    assert KEY not in repr(endpoint) + json.dumps(endpoint.asked)


def test_a_server_that_sends_the_key_back_does_not_get_it_stored(server: Server) -> None:
    faulty, endpoint = server("echo_key", key=KEY)
    (outcome,) = endpoint.complete([prompt()])
    assert faulty.headers[0]["authorization"] == f"Bearer {KEY}"
    assert isinstance(outcome.result, Completion)
    assert KEY not in repr(outcome)
    assert "[key removed]" in outcome.result.text


def test_keys_of_the_environment_do_not_travel_by_themselves(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    faulty, endpoint = server()
    assert isinstance(endpoint.complete([prompt()])[0].result, Completion)
    assert KEY not in json.dumps(faulty.headers)


# Keys and the registry --------------------------------------------------------------------------------------------


def test_a_key_goes_only_to_the_host_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    monkeypatch.setenv("HOUSE_API_KEY", KEY)
    assert key_for("GROQ_API_KEY", parse_address("https://api.groq.com/openai/v1")) == KEY
    for name in ("GROQ_API_KEY", "HOUSE_API_KEY"):
        with pytest.raises(RegistryError, match="is not meant for evil"):
            key_for(name, parse_address("https://evil.example/v1"))
    monkeypatch.setenv("HOUSE_API_KEY_HOST", "models.example, llm.example")
    assert key_for("HOUSE_API_KEY", parse_address("https://llm.example/v1")) == KEY
    assert key_for("GROQ_API_KEY", parse_address("https://my.example"), any_host=True) == KEY


def test_a_variable_that_is_no_key_cannot_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_SECRET_KEY", KEY)
    for name in ("ATTUNE_SECRET_KEY", "ATTUNE_DATABASE_URL", "PATH", "groq_api_key"):
        with pytest.raises(RegistryError):
            key_for(name, parse_address("https://api.groq.com"), any_host=True)


def test_a_key_entered_in_place_of_its_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(GenerationError) as refused:
        GenerationParameters.from_mapping({"key_env": KEY})
    assert KEY not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(GenerationError) as unknown:
        GenerationParameters.from_mapping({"api_key": KEY})
    assert KEY not in str(unknown.value)


def test_a_key_that_is_not_set_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    with pytest.raises(RegistryError, match="GROQ_API_KEY is not set"):
        key_for("GROQ_API_KEY", parse_address("https://api.groq.com"))


def test_the_registry_holds_the_papers_six_systems_by_their_published_names() -> None:
    published = {entry.published_name: entry.title for entry in registry().systems}
    assert published == {
        "llama-3.1-8b-instant": "LLaMA 3.1",
        "llama-3.2-3b-preview": "LLaMA 3.2",
        "gemma2-9b-it": "Gemma2",
        "gemini-1.5-flash-8b": "Gemini",
        "qwen-2.5-32b": "Qwen",
        "mistral-saba-24b": "Mistral",
    }


def test_every_base_url_of_the_registry_is_one_that_would_be_called() -> None:
    for family in registry().families.values():
        assert parse_address(family.base_url).scheme == "https"
        assert family.key_env.endswith("_API_KEY")


def test_a_system_whose_endpoint_is_retired_says_so_and_what_to_run_instead() -> None:
    llama = registry().find("llama-3.2-3b-preview")
    assert llama is not None
    with pytest.raises(RegistryError, match=r"withdrawn by groq on 2025-04-14\..*meta-llama/Llama-3\.2-3B-Instruct"):
        llama.serving("groq")
    assert llama.serving().family.name == "huggingface"
    gemini = registry().find("Gemini")
    assert gemini is not None
    assert gemini.retired
    with pytest.raises(RegistryError, match="cannot be run again"):
        gemini.serving()


def test_another_models_answers_are_not_stored_under_a_papers_name() -> None:
    local = GenerationParameters(backend="local", model_folder="mistral-small")
    with pytest.raises(GenerationError, match="a name of its own"):
        settle("mistral-saba-24b", local, Operator())
    same = GenerationParameters(backend="local", model_folder="gemma-2-9b-it")
    assert settle("gemma2-9b-it", same, Operator()).name == "gemma2-9b-it"


def test_one_command_settles_address_model_and_key_from_the_registry() -> None:
    given = settle("llama-3.1-8b-instant", GenerationParameters(), Operator()).parameters
    assert (given.family, given.model, given.key_env) == (
        "huggingface",
        "meta-llama/Llama-3.1-8B-Instruct",
        "HF_API_KEY",
    )
    assert (given.max_new_tokens, given.temperature, given.history) == (128, 0.0, 0)


def test_a_system_that_nobody_knows_needs_an_address_and_a_name() -> None:
    with pytest.raises(GenerationError, match="The registry has: llama-3-1-8b-instant"):
        settle("my-system", GenerationParameters(), Operator())
    with pytest.raises(GenerationError, match="Name the model"):
        settle("my-system", GenerationParameters(base_url="https://x.example"), Operator())
    with pytest.raises(GenerationError, match="letters, digits"):
        settle("my system", GenerationParameters(), Operator())


def test_a_broken_registry_file_says_what_is_wrong(tmp_path: Any) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[[systems]]\nname = 1\n", encoding="utf-8")
    with pytest.raises(RegistryError, match=r"mine\.toml is not a registry"):
        read_registry(path)


@pytest.mark.parametrize(
    "given",
    [
        {"concurrency": 0},
        {"temperature": "0"},
        {"temperature": float("nan")},
        {"history": 1.5},
        {"dry_run": 1},
        {"datasets": "redial"},
        {"base_url": "file:///etc/passwd"},
        {"base_url": "https://user:word@example.org"},
        {"backend": "shell"},
        {"device": "cuda:0; rm"},
        {"cap_cost": 1.0},
        {"limit": float("inf")},
        {"model": "x" * 301},
        {"unknown": True},
    ],
)
def test_parameters_are_checked_at_the_door(given: dict[str, Any]) -> None:
    with pytest.raises(GenerationError):
        GenerationParameters.from_mapping(given)


def test_parameters_survive_the_way_through_a_jobs_row() -> None:
    given = GenerationParameters(datasets=("redial",), limit=5, cap_tokens=100, per_minute=30.0, seed=None)
    assert GenerationParameters.from_mapping(json.loads(json.dumps(given.as_mapping()))) == given


def test_a_job_names_only_models_below_the_operators_folder(tmp_path: Any) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    operator = Operator(models_folder=tmp_path / "models")

    def folder(name: str, operator: Operator = operator) -> str:
        parameters = GenerationParameters(backend="local", model_folder=name)
        return build_generator(settle("mine", parameters, operator), operator).folder  # type: ignore[attr-defined,no-any-return]

    assert folder("tiny") == str((tmp_path / "models" / "tiny").resolve())
    for outside in ("../other", str(tmp_path / "other"), "/etc", "missing"):
        with pytest.raises(GenerationError):
            folder(outside)
    with pytest.raises(GenerationError, match="ATTUNE_MODELS"):
        folder("tiny", Operator())
    assert folder(str(tmp_path / "other"), Operator(at_the_console=True)) == str(tmp_path / "other")


def test_the_decoding_that_is_recorded_is_the_decoding_that_is_asked(server: Server) -> None:
    faulty, endpoint = server(decoding=Decoding(max_new_tokens=16, temperature=0.0, seed=None))
    endpoint.complete([prompt()])
    assert endpoint.asked["max_new_tokens"] == faulty.bodies[0]["max_tokens"] == 16
    assert "seed" not in faulty.bodies[0]
    assert endpoint.asked["seed"] is None
