"""How a system is asked, whatever stands behind it: the back ends' common form, and models on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from annotation.inference.answers import Completion, Failure, Outcome, wordless
from annotation.inference.pace import (
    CapReachedError,
    GenerationError,
    NotReadyError,
    Pace,
    Patience,
    StoppedError,
)
from annotation.inference.prompts import Prompt
from annotation.inference.reading import digest_of
from annotation.inference.reasoning import opens_reasoning, without_reasoning

if TYPE_CHECKING:
    from annotation.inference.causal import CausalModel

__all__ = [
    "MAX_NEW_TOKENS",
    "CapReachedError",
    "Decoding",
    "GenerationError",
    "Generator",
    "LocalModel",
    "NotReadyError",
    "Pace",
    "Patience",
    "StoppedError",
]

MAX_NEW_TOKENS: Final = 128
"""The paper's limit (section 5.3)."""


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

    pace: Pace
    """Spaces and counts the requests; a run may put one of its own here before it asks."""

    @property
    def asked(self) -> dict[str, Any]:
        """What every request asks for, as a response keeps it: no key, no address beyond the host."""
        ...

    @property
    def requests(self) -> int:
        """How many requests were sent so far, repeats included."""
        ...

    def prepare(self) -> None:
        """Make ready what asking needs (load a model), once; `complete` does it where nobody has.

        Raises
        ------
        NotReadyError
            It cannot be made ready. Nothing was asked, and no request counts.
        """
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
    _loaded: CausalModel | None = field(default=None, init=False, repr=False)
    _identity: dict[str, Any] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.decoding.temperature != 0:
            raise GenerationError("A local model is asked greedily: temperature 0.")
        if self.batch_size < 1:
            raise GenerationError("The batch size is at least 1.")

    @property
    def asked(self) -> dict[str, Any]:
        from annotation.inference.causal import identity

        if self._identity is None:
            self._identity = identity(self.folder, self.device)
        return {
            "backend": "local",
            "model": Path(self.folder).name if Path(self.folder).is_dir() else self.folder,
            "temperature": 0.0,
            "max_new_tokens": self.decoding.max_new_tokens,
            "batch_size": self.batch_size,
            **self._identity,
        }

    @property
    def requests(self) -> int:
        return self.pace.requests

    def stop(self) -> None:
        self.pace.stopped.set()

    def prepare(self) -> None:
        """Load tokenizer and weights.

        Raises
        ------
        NotReadyError
            See `load`.
        """
        self.load()

    def load(self) -> CausalModel:
        """Load tokenizer and weights, once.

        Raises
        ------
        NotReadyError
            The folder is missing, has no safetensors weights or no usable chat template, holds not the weights that its
            configuration asks for, or asks for its own code; or the device is not there.
        """
        from annotation.inference.causal import load_causal_model

        if self._loaded is None:
            self._loaded = load_causal_model(self.folder, device=self.device, allow_hub=self.allow_hub)
        return self._loaded

    def complete(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        self.load()  # before anything is counted as asked
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
        try:
            return self._generate(self.load(), prompts)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            failure = Failure("out_of_memory", "The prompt does not fit into the GPU's memory.")
        except Exception as error:
            # One odd prompt must not end the run: the batch is halved until it stands alone.
            failure = Failure("model_error", f"The model failed at this prompt ({type(error).__name__}).")
        if len(prompts) == 1:
            return [Outcome(failure, 1)]
        half = len(prompts) // 2
        return [*self._repeated(prompts[:half]), *self._repeated(prompts[half:])]

    def _repeated(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        return [
            Outcome(one.result, one.attempts + 1 if one.attempts else 1, one.adapted) for one in self.complete(prompts)
        ]

    def _generate(self, loaded: CausalModel, prompts: Sequence[Prompt]) -> list[Outcome]:
        rendered = [loaded.render(prompt.messages) for prompt in prompts]
        tokens = [loaded.tokens(one.text) for one in rendered]
        outcomes: list[Outcome | None] = [self._too_long(loaded, len(row)) for row in tokens]
        fitting = [place for place, outcome in enumerate(outcomes) if outcome is None]
        rows = loaded.continued([tokens[place] for place in fitting], self.decoding.max_new_tokens)
        for place, row in zip(fitting, rows, strict=True):
            completion = self._completion(loaded, rendered[place].text, row, len(tokens[place]))
            outcomes[place] = Outcome(completion, 1, ("system_message",) if rendered[place].merged else ())
        return [one for one in outcomes if one is not None]

    def _too_long(self, loaded: CausalModel, tokens: int) -> Outcome | None:
        limit, positions = self.decoding.max_new_tokens, loaded.positions
        if positions is None or tokens + limit <= positions:
            return None
        detail = f"{tokens} tokens and {limit} new ones are more than the {positions} positions of the model."
        return Outcome(Failure("too_long", f"The prompt is too long: {detail}"), 1)

    def _completion(self, loaded: CausalModel, prompt: str, tokens: list[int], tokens_in: int) -> Completion:
        last = next((place for place, token in enumerate(tokens) if token in loaded.ends), None)
        kept = tokens if last is None else tokens[:last]
        said = loaded.text(kept)
        raw = f"<think>{said}" if opens_reasoning(prompt) else said
        apart = without_reasoning(raw)
        return Completion(
            text=apart.answer,
            finish_reason="length" if last is None else "stop",
            tokens_in=tokens_in,
            tokens_out=len(kept),
            model=str(self.asked["model"]),
            reasoning=apart.reasoning,
            unfinished_reasoning=apart.unclosed,
            raw_digest=digest_of(said),
            empty_because=_why_empty(apart.reasoning) if wordless(apart.answer) else "",
        )


def _why_empty(reasoning: int) -> str:
    return "reasoning and no answer" if reasoning else "nothing but blanks, invisible characters or quotation marks"
