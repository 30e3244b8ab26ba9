"""A causal language model from a folder: loaded whole or not at all, and told apart from others of the same name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from annotation.inference.pace import NotReadyError

_SAMPLE: Final = 4096
"""Bytes of a tensor's beginning, middle and end that the digest of the weights takes."""

_LARGEST_HEADER: Final = 100_000_000

_HELPS: Final = (
    "It needs a known architecture, a tokenizer and *.safetensors weights; models that bring their own code, and "
    "pickled weights, are not loaded."
)


@dataclass(frozen=True)
class Rendered:
    """A prompt as the model's own template writes it; `merged`: the system message was put before the user's words."""

    text: str
    merged: bool = False


@dataclass
class CausalModel:
    """Tokenizer and model, ready to be asked."""

    tokenizer: Any
    model: Any
    ends: list[int]
    positions: int | None
    """How many tokens the model can see, prompt and answer together (None: not limited)."""

    def render(self, messages: Sequence[Mapping[Any, str]]) -> Rendered:
        """Write a chat as the model's template has it.

        Some templates refuse a system message, and some leave it out without a word: then it stands before the user's.

        Raises
        ------
        NotReadyError
            The template writes no chat at all.
        """
        chat = [dict(message) for message in messages]
        system = [message["content"] for message in chat if message["role"] == "system"]
        if not system:
            return Rendered(self._written(chat))
        try:
            text = self._written(chat)
        except NotReadyError:
            text = ""
        if all(words.strip() in text for words in system):
            return Rendered(text)
        rest = [message for message in chat if message["role"] != "system"]
        rest[0] = {**rest[0], "content": "\n\n".join([*system, rest[0]["content"]])}
        return Rendered(self._written(rest), merged=True)

    def _written(self, chat: list[dict[str, str]]) -> str:
        from jinja2 import TemplateError

        name = ""
        try:
            return str(self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            name = type(error).__name__
        raise NotReadyError(
            f"The model's chat template cannot be used ({name}): mend chat_template.jinja or tokenizer_config.json in "
            "the model's folder, or take them from the model's publisher anew."
        )

    def tokens(self, text: str) -> list[int]:
        """Give the token ids of a rendered prompt; the template has written the special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, tokens: list[int]) -> str:
        """Give the words of some tokens, without special ones."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def continued(self, rows: list[list[int]], limit: int) -> list[list[int]]:
        """Continue prompts greedily, left-padded to one length, and give the new tokens alone."""
        import torch

        if not rows:
            return []
        inputs = self.tokenizer.pad({"input_ids": rows}, padding=True, return_tensors="pt").to(self.model.device)
        known = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            found = self.model.generate(**known, max_new_tokens=limit)
        new: list[list[int]] = found[:, known["input_ids"].shape[1] :].tolist()
        return new


def load_causal_model(folder: str, *, device: str = "auto", allow_hub: bool = False) -> CausalModel:
    """Load tokenizer and weights.

    Raises
    ------
    NotReadyError
        The folder is no model, its weights are not exactly those that its configuration asks for, its chat template
        cannot be used, or the device is not there.
    """
    import torch
    from transformers.utils import logging

    if not allow_hub and not (Path(folder) / "config.json").is_file():
        raise NotReadyError(
            "The model folder holds no config.json. Name a folder on this machine with config, tokenizer and "
            "safetensors weights (models are not downloaded while Attune runs)."
        )
    quiet: Any = logging.disable_progress_bar
    quiet()
    place = _checked_device(device)
    trouble = ""
    try:
        tokenizer, model, info = _read(folder, place, allow_hub)
    except (torch.OutOfMemoryError, MemoryError):
        trouble = "The model does not fit into the memory of the device; take a smaller one, or another device."
    except Exception as error:  # the libraries raise whatever they like, a tokenizer file's error as a bare Exception
        trouble = _why(error)
    if trouble:
        raise NotReadyError(trouble)
    _refuse_other_weights(info)
    if not tokenizer.chat_template:
        raise NotReadyError("The model has no chat template: take the instruction-tuned version.")
    ends = _as_list(model.generation_config.eos_token_id) or _as_list(tokenizer.eos_token_id)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not ends or tokenizer.pad_token_id is None:
        raise NotReadyError(
            "The model names no token that ends an answer: its generation_config.json lacks eos_token_id."
        )
    _make_greedy(model, ends, tokenizer.pad_token_id)
    loaded = CausalModel(tokenizer, model.eval(), ends, _positions(model.config))
    loaded.render([{"role": "user", "content": "Hello"}])
    return loaded


def _why(error: Exception) -> str:
    name = type(error).__name__
    if name == "SafetensorError":
        return "A weights file is damaged or was copied only in part. Copy the *.safetensors files anew."
    if "size mismatch" in str(error) or "mismatched" in str(error):
        return (
            "The weights have other shapes than config.json describes. Copy the whole folder from its publisher anew."
        )
    return f"The model cannot be loaded ({name}). {_HELPS}"


def _checked_device(device: str) -> str:
    import torch

    there = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if there else "cpu"
    if device.startswith("cuda"):
        if not there:
            raise NotReadyError("There is no GPU that can be used here: choose the device cpu or auto.")
        number = int(device.partition(":")[2] or 0)
        if number >= torch.cuda.device_count():
            raise NotReadyError(
                f"There is no device {device} here: there are {torch.cuda.device_count()} GPUs, from 0."
            )
    return device


def _read(folder: str, device: str, allow_hub: bool) -> tuple[Any, Any, dict[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    known = {"local_files_only": not allow_hub, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **known)
    read: Any = AutoModelForCausalLM.from_pretrained
    model, info = read(
        folder,
        use_safetensors=True,
        dtype=getattr(torch, dtype_of(device)),
        output_loading_info=True,
        **known,
    )
    return tokenizer, model.to(device), info


def dtype_of(device: str) -> str:
    """Name the number format on a device."""
    return "bfloat16" if device.startswith("cuda") else "float32"


def _refuse_other_weights(info: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of the configuration: what is missing would be made up at random."""
    wrong = {
        "are missing": info.get("missing_keys"),
        "have another shape": info.get("mismatched_keys"),
        "belong to no part of the model": info.get("unexpected_keys"),
        "could not be read": info.get("error_msgs"),
    }
    said = [f"{len(names)} {what}" for what, names in wrong.items() if names]
    if said:
        raise NotReadyError(
            f"The weights are not those that config.json describes: of the tensors {', '.join(said)}. Copy the whole "
            "folder from the model's publisher anew; a model with missing weights would answer at random."
        )


def _make_greedy(model: Any, ends: list[int], pad: int) -> None:
    from transformers import GenerationConfig

    make_config: Any = GenerationConfig
    # The folder's own is replaced, not overridden: what a call leaves open is filled from it, penalties included.
    model.generation_config = make_config(do_sample=False, num_beams=1, eos_token_id=ends, pad_token_id=pad)


def _positions(config: Any) -> int | None:
    inner = config.get_text_config() if hasattr(config, "get_text_config") else config
    positions = getattr(inner, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def _as_list(ids: int | list[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


# Which model it is -------------------------------------------------------------------------------------------------


def identity(folder: str, device: str) -> dict[str, Any]:
    """Give what tells one local model from another of its name: digests of weights and tokenizer, device and format.

    Reads files only; a hub id has no folder yet, and no digests.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    where = {"device": device.partition(":")[0], "dtype": dtype_of(device)}
    path = Path(folder)
    if not path.is_dir():
        return where
    return {"weights": weights_digest(path), "tokenizer": _tokenizer_digest(path), **where}


def weights_digest(folder: Path) -> str:
    """Give sixteen digits over configuration and weights, the same wherever the folder lies.

    Of every weights file: its name, length and header (names, types, shapes and places of all tensors), and of each
    tensor its beginning, middle and end. So it takes no longer for a large model than for a small one to tell two
    trainings of one architecture apart; it identifies, it does not prove that no byte was changed.
    """
    digest = hashlib.sha256()
    for name in ("config.json", "generation_config.json"):
        _take(digest, name, folder / name)
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(f"\n{file.name} {file.stat().st_size}\n".encode())
        _take_tensors(digest, file)
    return digest.hexdigest()[:16]


def _tokenizer_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    names = ["tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"]
    for name in [*names, "chat_template.jinja", "chat_template.json", "vocab.json", "merges.txt", "added_tokens.json"]:
        _take(digest, name, folder / name)
    return digest.hexdigest()[:16]


def _take(digest: Any, name: str, file: Path) -> None:
    if file.is_file():
        digest.update(f"\n{name}\n".encode())
        digest.update(file.read_bytes())


def _take_tensors(digest: Any, file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as weights:
        length = int.from_bytes(weights.read(8), "little")
        if length > min(size, _LARGEST_HEADER):
            return  # no weights file; loading says so
        header = weights.read(length)
        digest.update(header)
        try:
            tensors = json.loads(header)
            spans = sorted(tuple(one["data_offsets"]) for name, one in tensors.items() if name != "__metadata__")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return
        for begin, end in spans:
            for place in (begin, begin + (end - begin) // 2, max(begin, end - _SAMPLE)):
                weights.seek(8 + length + place)
                digest.update(weights.read(min(_SAMPLE, max(0, end - place))))
