"""A published name stands for one model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from annotation.inference.generator import GenerationError
from annotation.inference.parameters import GenerationParameters, Operator, settle
from annotation.models import Dataset, Response, System
from annotation.workflow.generate import job_parameters
from annotation.workflow.published import check_model
from tests.annotation.faulty_server import Faulty

CONSOLE = Operator(allow_private=True, at_the_console=True)


def tried(system: str, *, as_is: str = "", **given: Any) -> None:
    if "model" in given:
        given["base_url"] = "http://127.0.0.1:1/v1"
    check_model(settle(system, GenerationParameters(**given), CONSOLE), CONSOLE, as_is=as_is)


@pytest.mark.parametrize(
    ("system", "model"),
    [
        ("LLaMA 3.1", "llama-3.1-8b-instant"),
        ("llama-3.1-8b-instant", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama-3-1-8b-instant", "/srv/models/Meta-Llama-3.1-8B-Instruct/"),
        ("gemma2-9b-it", "google/gemma-2-9b-it"),
        ("qwen-2.5-32b", "QWEN2.5-32B-INSTRUCT"),
        ("mistral-saba-24b", "mistral-saba-2502"),
        ("my-own", "gpt2-of-another-kind"),
    ],
)
def test_a_published_name_is_taken_for_its_model_and_its_open_weights(system: str, model: str) -> None:
    tried(system, model=model)


@pytest.mark.parametrize(
    ("system", "model"),
    [
        ("LLaMA 3.1", "gpt2-of-another-kind"),
        ("llama-3.1-8b-instant", "meta-llama/Llama-3.2-3B-Instruct"),
        ("llama-3.1-8b-instant", "llama-3.1-8b-instant-finetuned"),
        ("gemma2-9b-it", "google/gemma-2-2b-it"),
    ],
)
def test_another_model_needs_a_name_of_its_own_or_a_reason(system: str, model: str) -> None:
    with pytest.raises(GenerationError, match="a name of its own"):
        tried(system, model=model)
    tried(system, model=model, as_is="the server calls it so")


def folder(tmp_path: Path, name: str, **config: Any) -> str:
    made = tmp_path / name
    made.mkdir()
    (made / "config.json").write_text(json.dumps(config))
    return str(made)


@pytest.mark.parametrize(
    ("name", "config", "trouble"),
    [
        ("Llama-3.1-8B-Instruct", {"architectures": ["LlamaForCausalLM"]}, ""),
        ("x", {"architectures": ["LlamaForCausalLM"], "_name_or_path": "meta-llama/Llama-3.1-8B-Instruct"}, ""),
        ("Llama-3.1-8B-Instruct", {"architectures": ["GPT2LMHeadModel"]}, "holds a GPT2LMHeadModel"),
        ("Llama-3.1-8B-Instruct", {"architectures": ["LlamaForCausalLM"], "_name_or_path": "me/fine"}, "holds me/fine"),
        ("x", {"architectures": ["LlamaForCausalLM"]}, "holds x"),
    ],
)
def test_a_folder_is_taken_by_its_architecture_and_name(
    tmp_path: Path, name: str, config: dict[str, Any], trouble: str
) -> None:
    given = {"backend": "local", "model_folder": folder(tmp_path, name, **config)}
    if trouble:
        with pytest.raises(GenerationError, match=trouble):
            tried("llama-3.1-8b-instant", **given)
    else:
        tried("llama-3.1-8b-instant", **given)


@pytest.mark.django_db
def test_the_reason_is_kept_with_the_system_and_with_every_answer(
    corpus: Dataset, serve: Callable[..., Faulty], settings: Any
) -> None:
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = True
    options = {"system": "LLaMA 3.1", "base_url": serve().url, "model": "tiny", "limit": 2}
    with pytest.raises(CommandError, match=r"stands for llama-3\.1-8b-instant"):
        call_command("generate_responses", **options)
    assert not System.objects.filter(name="llama-3-1-8b-instant").exists()
    call_command("generate_responses", **options, as_is="our server calls it tiny")
    assert System.objects.get(name="llama-3-1-8b-instant").details["as_is"] == "our server calls it tiny"
    found = Response.objects.filter(system__name="llama-3-1-8b-instant")
    assert {response.source["asked"]["as_is"] for response in found} == {"our server calls it tiny"}


@pytest.mark.parametrize("reason", ["x" * 400, "two\nlines", 5])
def test_a_reason_is_one_line_of_text(reason: object) -> None:
    with pytest.raises(GenerationError, match="one line"):
        job_parameters({"system": "mine", "as_is": reason})
