"""A local model that is not what its folder says, or that a prompt does not suit, says so in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotation.inference.answers import Completion, Failure, flags_of
from annotation.inference.causal import CausalModel, weights_digest
from annotation.inference.generator import Decoding, GenerationError, LocalModel, NotReadyError
from annotation.inference.prompts import Prompt, Said, Template, TurnData, load_template, render
from tests.annotation.inference.tiny_llama import CHAT_TEMPLATE, save_tiny_llama

SHORT = Decoding(max_new_tokens=8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def changed(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    def copy(**config: Any) -> Path:
        folder = tmp_path / "tiny-copy"
        shutil.copytree(tiny, folder)
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}), encoding="utf-8")
        return folder

    return copy


def prompt(words: str = "Any film?", system: str = "") -> Prompt:
    paper = load_template()
    return render(Template("own", paper.case1, paper.case2, system), TurnData((Said("user", words),)))


def refused(folder: Path) -> str:
    local = LocalModel(str(folder), decoding=SHORT)
    with pytest.raises(NotReadyError) as error:
        local.complete([prompt()])
    assert local.requests == 0, "nothing was asked, so no request counts"
    assert isinstance(error.value, GenerationError)
    return str(error.value)


# Loading ----------------------------------------------------------------------------------------------------------


def test_missing_weights_are_not_made_up_at_random(changed: Callable[..., Path]) -> None:
    assert "18 are missing" in refused(changed(num_hidden_layers=4))


def test_weights_that_belong_to_no_part_are_refused(changed: Callable[..., Path]) -> None:
    assert "belong to no part of the model" in refused(changed(num_hidden_layers=1))


def test_weights_of_another_shape_are_refused(changed: Callable[..., Path]) -> None:
    assert "other shapes than config.json describes" in refused(changed(hidden_size=32, intermediate_size=64))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.safetensors", b"garbage!" * 10, "damaged or was copied only in part"),
        ("tokenizer.json", b'{"version": "1.0", "model": {}}', "cannot be loaded"),
        ("tokenizer.json", b'{"x', "cannot be loaded"),
        ("config.json", b"[]", "cannot be loaded"),
        ("chat_template.jinja", b"{% if %}", "chat template cannot be used (TemplateSyntaxError)"),
        ("chat_template.jinja", b"{{ raise_exception('no') }}", "chat template cannot be used (TemplateError)"),
    ],
)
def test_a_damaged_file_is_told_in_a_sentence(
    changed: Callable[..., Path], name: str, content: bytes, says: str
) -> None:
    folder = changed()
    (folder / name).write_bytes(content)
    assert says in refused(folder)


def test_weights_that_were_cut_are_told(changed: Callable[..., Path]) -> None:
    folder = changed()
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "copied only in part" in refused(folder)


def test_a_gpu_that_is_not_there_is_told(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NotReadyError, match="no GPU that can be used"):
        LocalModel(str(tiny), device="cuda").prepare()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(NotReadyError, match="no device cuda:3"):
        LocalModel(str(tiny), device="cuda:3").prepare()


# Which model it was -----------------------------------------------------------------------------------------------


def test_the_record_tells_two_models_of_one_name_apart(tiny: Path, tmp_path: Path) -> None:
    same = shutil.copytree(tiny, tmp_path / "a" / tiny.name)
    other = save_tiny_llama(tmp_path / "b" / tiny.name, seed=8)
    one, copy, another = (LocalModel(str(folder), device="cpu").asked for folder in (tiny, same, other))
    assert one == copy
    assert one["model"] == another["model"]
    assert one["weights"] != another["weights"]
    assert one["tokenizer"] == another["tokenizer"]
    assert (one["device"], one["dtype"]) == ("cpu", "float32")


@pytest.mark.parametrize("place", ["beginning", "middle", "end"])
def test_the_digest_sees_every_tensor(tiny: Path, tmp_path: Path, place: str) -> None:
    folder = shutil.copytree(tiny, tmp_path / "one")
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    tensors = json.loads(content[8:header])
    begin, end = sorted(one["data_offsets"] for name, one in tensors.items() if name != "__metadata__")[3]
    at = {"beginning": begin, "middle": begin + (end - begin) // 2, "end": end - 1}[place]
    content[header + at] ^= 1
    file.write_bytes(content)
    assert weights_digest(folder) != weights_digest(tiny)


def test_the_digest_of_no_weights_is_no_error(tmp_path: Path) -> None:
    for content in (b"", b"x", b"\xff" * 64, (5).to_bytes(8, "little") + b"[1,2]", (2).to_bytes(8, "little") + b"{x"):
        (tmp_path / "model.safetensors").write_bytes(content)
        assert len(weights_digest(tmp_path)) == 16


# Asking -----------------------------------------------------------------------------------------------------------


def test_a_template_that_refuses_a_system_message_gets_it_before_the_users_words(changed: Callable[..., Path]) -> None:
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('not supported') }}{% endif %}"
    folder = changed()
    (folder / "chat_template.jinja").write_text(refuses + CHAT_TEMPLATE, encoding="utf-8")
    local = LocalModel(str(folder), decoding=SHORT)
    plain, told = local.complete([prompt(), prompt(system="Be kind.")])
    assert (plain.adapted, told.adapted) == ((), ("system_message",))
    assert isinstance(told.result, Completion)
    rendered = local.load().render(prompt(system="Be kind.").messages)
    assert rendered.merged
    assert rendered.text.startswith("<|user|>Be kind.\n\n")


def test_a_template_that_leaves_a_system_message_out_gets_it_before_the_users_words(
    changed: Callable[..., Path],
) -> None:
    silent = CHAT_TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
    folder = changed()
    (folder / "chat_template.jinja").write_text(silent, encoding="utf-8")
    loaded = LocalModel(str(folder)).load()
    assert loaded.render(prompt(system="Be kind.").messages).text.startswith("<|user|>Be kind.\n\n")


def test_a_template_that_takes_a_system_message_gets_one(tiny: Path) -> None:
    rendered = LocalModel(str(tiny)).load().render(prompt(system="Be kind.").messages)
    assert not rendered.merged
    assert rendered.text.startswith("<|system|>Be kind.<|end|><|user|>")


def test_a_prompt_that_is_too_long_fails_alone(changed: Callable[..., Path]) -> None:
    local = LocalModel(str(changed(max_position_embeddings=512)), decoding=SHORT)
    short, long, again = local.complete([prompt("a"), prompt("very " * 300), prompt("b")])
    assert isinstance(short.result, Completion)
    assert isinstance(again.result, Completion)
    assert isinstance(long.result, Failure)
    assert long.result.kind == "too_long"
    assert "512 positions" in long.result.detail


def test_a_prompt_at_which_the_model_fails_fails_alone(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalModel(str(tiny), decoding=SHORT)
    whole = CausalModel.continued

    def fails(self: CausalModel, rows: list[list[int]], limit: int) -> list[list[int]]:
        if any(len(row) > 500 for row in rows):
            raise IndexError
        return whole(self, rows, limit)

    monkeypatch.setattr(CausalModel, "continued", fails)
    outcomes = local.complete([prompt("a"), prompt("b"), prompt("very " * 200), prompt("c")])
    kinds = [one.result.kind if isinstance(one.result, Failure) else "" for one in outcomes]
    assert kinds == ["", "", "model_error", ""]


def test_an_answer_is_cut_where_no_end_token_came_and_reasoning_is_taken_off(
    changed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = changed()
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE + "<think>\n", encoding="utf-8")
    local = LocalModel(str(folder), decoding=SHORT)
    loaded = local.load()
    (end,) = loaded.ends

    def says(words: str, *more: int) -> Completion:
        row = [*loaded.tokens(words), *more]
        monkeypatch.setattr(CausalModel, "continued", lambda self, rows, limit: [row])
        (outcome,) = local.complete([prompt()])
        assert isinstance(outcome.result, Completion)
        return outcome.result

    whole = says("Hm.</think>Try it.", end)
    assert (whole.text, whole.finish_reason, whole.reasoning) == ("Try it.", "stop", 3)
    assert flags_of(whole, limit=whole.tokens_out or 0) == ("reasoning_removed",)  # it fills the limit, and ended
    cut = says("Hm, I wonder")
    assert flags_of(cut, limit=cut.tokens_out or 0) == ("truncated", "empty", "reasoning_removed")
