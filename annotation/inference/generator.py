"""How a system is asked, whatever stands behind it: the back ends' common form, pace and patience, and local models."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from annotation.inference.answers import Completion, Failure, Outcome
from annotation.inference.prompts import Prompt

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS: Final = 128
"""The paper's limit (section 5.3)."""


class GenerationError(Exception):
    """A back end that cannot be used at all: the whole run stops. The message says why, and quotes no server."""


class StoppedError(Exception):
    """The run is being stopped: nothing more is asked."""


class CapReachedError(Exception):
    """The number of requests that the run may make is used up."""


@dataclass(frozen=True)
class Decoding:
    """How the answer is decoded. The paper: greedy (temperature 0), 128 new tokens, no other sampling."""

    max_new_tokens: int = MAX_NEW_TOKENS
    temperature: float = 0.0
    seed: int | None = 0


class Generator(Protocol):
    """Something that answers prompts."""

    batch_size: int
    """How many prompts one call takes."""

    concurrency: int
    """How many calls may run at once."""

    @property
    def asked(self) -> dict[str, Any]:
        """What every request asks for, as a response keeps it: no key, no address beyond the host."""
        ...

    @property
    def requests(self) -> int:
        """How many requests were sent so far, repeats included."""
        ...

    def complete(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        """Answer some prompts, one outcome each, in their order.

        Raises
        ------
        GenerationError
            Nothing will be answered by trying on: the run stops.
        """
        ...

    def stop(self) -> None:
        """Wake whoever waits; nothing more is asked."""
        ...


@dataclass(frozen=True)
class Patience:
    """How often and how long one prompt is tried.

    The wait before attempt k + 1 is `first_wait * 2^(k-1)`, at most `longest_wait`, times a random factor in [0.5, 1];
    a server that says Retry-After is given at least that long. One that asks for more than `longest_wait` ends the run.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0

    def wait(self, attempt: int, *, asked: float | None = None) -> float:
        """Give the seconds to wait after the attempt with this number (from 1)."""
        backoff = min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        return max(backoff, asked or 0.0)


class Pace:
    """Spaces the requests of one system over all its threads, counts them, and stops them at a cap.

    Parameters
    ----------
    per_minute
        The greatest rate, or None. Requests are evenly spaced, so no burst trips a limit counted in seconds.
    cap
        The greatest number of requests, repeats included, or None.
    """

    def __init__(
        self, per_minute: float | None = None, cap: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._cap = cap
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self.requests = 0

    def take(self) -> None:
        """Wait for this request's turn and count it.

        Raises
        ------
        StoppedError
            The run is being stopped.
        CapReachedError
            The cap is used up.
        """
        with self._lock:
            if self._cap is not None and self.requests >= self._cap:
                raise CapReachedError
            now = self._clock()
            start = max(now, self._next)
            self._next = start + self._gap
            self.requests += 1
        if self.stopped.wait(start - now) if start > now else self.stopped.is_set():
            with self._lock:
                self.requests -= 1
            raise StoppedError

    def pause(self, seconds: float) -> None:
        """Let nobody ask for so long: the server said that it is too much."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait, unless the run is stopped meanwhile.

        Raises
        ------
        StoppedError
            The run is being stopped.
        """
        if self.stopped.wait(seconds):
            raise StoppedError


@dataclass
class LocalModel:
    """A causal language model in a folder on this machine, asked greedily and in batches.

    Only safetensors weights are read and no code of the folder is run. bfloat16 on a GPU, float32 on a CPU, where
    bfloat16 is slow and its rounding would make the answer depend on the batch.

    Attributes
    ----------
    folder
        A folder with config, tokenizer (with a chat template) and safetensors weights, or a hub id when `allow_hub`.
    device
        `auto` (a GPU where there is one), `cpu`, or `cuda[:n]`.
    """

    folder: str
    decoding: Decoding = field(default_factory=Decoding)
    batch_size: int = 8
    device: str = "auto"
    allow_hub: bool = False
    pace: Pace = field(default_factory=Pace)
    concurrency: int = field(default=1, init=False)
    _loaded: tuple[Any, Any] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.decoding.temperature != 0:
            raise GenerationError("A local model is asked greedily: temperature 0.")
        if self.batch_size < 1:
            raise GenerationError("The batch size is at least 1.")

    @property
    def asked(self) -> dict[str, Any]:
        return {
            "backend": "local",
            "model": Path(self.folder).name if Path(self.folder).is_dir() else self.folder,
            "temperature": 0.0,
            "max_new_tokens": self.decoding.max_new_tokens,
            "batch_size": self.batch_size,
        }

    @property
    def requests(self) -> int:
        return self.pace.requests

    def stop(self) -> None:
        self.pace.stopped.set()

    def load(self) -> tuple[Any, Any]:
        """Load tokenizer and weights, once.

        Raises
        ------
        GenerationError
            The folder is missing, has no safetensors weights or no chat template, or asks for its own code.
        """
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
        from transformers.utils import logging

        if not self.allow_hub and not (Path(self.folder) / "config.json").is_file():
            raise GenerationError(
                "The model folder holds no config.json. Name a folder on this machine with config, tokenizer and "
                "safetensors weights (models are not downloaded while Attune runs)."
            )
        quiet: Any = logging.disable_progress_bar
        quiet()
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        known = {"local_files_only": not self.allow_hub, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, padding_side="left", **known)
            model: Any = AutoModelForCausalLM.from_pretrained(
                self.folder,
                use_safetensors=True,
                dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32,
                **known,
            )
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise GenerationError(
                f"The model cannot be loaded ({type(error).__name__}). It needs a known architecture, a tokenizer and "
                "*.safetensors weights; models that bring their own code, and pickled weights, are not loaded."
            ) from None
        if not tokenizer.chat_template:
            raise GenerationError("The model has no chat template: take the instruction-tuned version.")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        make_config: Any = GenerationConfig
        # The folder's own is replaced, not overridden: what a call leaves open is filled from it, penalties included.
        model.generation_config = make_config(
            do_sample=False,
            num_beams=1,
            eos_token_id=_as_list(model.generation_config.eos_token_id) or _as_list(tokenizer.eos_token_id),
            pad_token_id=tokenizer.pad_token_id,
        )
        return tokenizer, model.to(device).eval()

    def complete(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        allowed = self._allowed(len(prompts))
        return self._answers(prompts[:allowed]) + [Outcome(None, 0)] * (len(prompts) - allowed)

    def _allowed(self, wanted: int) -> int:
        for count in range(wanted):
            try:
                self.pace.take()
            except (StoppedError, CapReachedError):
                return count
        return wanted

    def _answers(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        import torch

        if not prompts:
            return []
        tokenizer, model = self.load()
        try:
            return [Outcome(one, 1) for one in self._generate(tokenizer, model, prompts)]
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        if len(prompts) == 1:
            return [Outcome(Failure("out_of_memory", "The prompt does not fit into the GPU's memory."), 1)]
        half = len(prompts) // 2
        return [*self._repeated(prompts[:half]), *self._repeated(prompts[half:])]

    def _repeated(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        return [
            Outcome(one.result, one.attempts + 1 if one.attempts else 1, one.adapted) for one in self.complete(prompts)
        ]

    def _generate(self, tokenizer: Any, model: Any, prompts: Sequence[Prompt]) -> list[Completion]:
        import torch

        inputs = tokenizer.apply_chat_template(
            [[dict(message) for message in prompt.messages] for prompt in prompts],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        ).to(model.device)
        ends: list[int] = model.generation_config.eos_token_id
        known = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            rows = model.generate(**known, max_new_tokens=self.decoding.max_new_tokens)
        start = known["input_ids"].shape[1]
        lengths = known["attention_mask"].sum(dim=1).tolist()
        return [
            self._completion(tokenizer, row[start:], length, ends) for row, length in zip(rows, lengths, strict=True)
        ]

    def _completion(self, tokenizer: Any, row: torch.Tensor, tokens_in: int, ends: list[int]) -> Completion:
        tokens: list[int] = row.tolist()
        last = next((place for place, token in enumerate(tokens) if token in ends), None)
        kept = tokens if last is None else tokens[:last]
        return Completion(
            text=tokenizer.decode(kept, skip_special_tokens=True),
            finish_reason="length" if last is None else "stop",
            tokens_in=int(tokens_in),
            tokens_out=len(kept),
            model=str(self.asked["model"]),
        )


def _as_list(ids: int | list[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
