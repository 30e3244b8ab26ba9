"""What a run of generation is given, checked at the door, and the back end that follows from it.

Two hands give it: whoever starts the run chooses `GenerationParameters` (a form, a job's row, a command), and whoever
runs this server chooses what may be reached at all (`Operator`). No field of either ever holds a key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Self

from annotation.inference.addresses import AddressRefusedError, parse_address
from annotation.inference.generator import (
    MAX_NEW_TOKENS,
    Decoding,
    GenerationError,
    Generator,
    LocalModel,
    Pace,
    Patience,
)
from annotation.inference.prompts import DEFAULT_TEMPLATE, Template, TemplateError, load_template
from annotation.inference.systems import RegistryError, SystemEntry, check_key_name, key_for, registry

Backend = Literal["endpoint", "local"]

_SLUG: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "limit": (1, math.inf),
    "history": (-1, 1000),
    "max_new_tokens": (1, 8192),
    "temperature": (0, 2),
    "concurrency": (1, 64),
    "per_minute": (0.01, 100_000),
    "attempts": (1, 20),
    "first_wait": (0, 60),
    "longest_wait": (0, 3600),
    "seconds": (1, 3600),
    "batch_size": (1, 512),
    "price_in": (0, 10_000),
    "price_out": (0, 10_000),
    "cap_requests": (0, math.inf),
    "cap_tokens": (0, math.inf),
    "cap_cost": (0, math.inf),
    "give_up_after": (1, math.inf),
    "examples": (0, 50),
}


@dataclass(frozen=True)
class Operator:
    """What whoever runs this server allows. Never taken from a job.

    Attributes
    ----------
    allow_private
        Endpoints at private addresses, such as a model server in the same house.
    allow_hub
        Downloading models while Attune runs.
    template_folders
        Where own prompt templates are, before those that come with Attune.
    models_folder
        Where local models are; a job names a folder in it.
    at_the_console
        The run was started on this machine's command line, whose user may read every key and folder anyway: keys go to
        the host named beside them, and a local model may lie anywhere.
    """

    allow_private: bool = False
    allow_hub: bool = False
    template_folders: tuple[Path, ...] = ()
    models_folder: Path | None = None
    at_the_console: bool = False


@dataclass(frozen=True)
class GenerationParameters:
    """One run of one system. The defaults are the paper's (section 5.3): greedy, 128 new tokens, the user query alone.

    Attributes
    ----------
    datasets, split, campaign, limit
        Which turns: of these data sets (none: all), this split, this campaign's sample; the first `limit` of them.
    without_reference
        Also turns that have no human reference response (no recommendation is known there: case 1).
    backend, family, base_url, model, key_env, model_folder, device
        Who answers. An endpoint: a family of the registry, or a base URL, the model's name there and the name (never
        the value) of the environment variable with the key. A local model: its folder.
    template, history
        The prompt template, and how many utterances before the user's own it shows (-1: all).
    per_minute, concurrency, attempts, first_wait, longest_wait, seconds
        Pace and patience, per system; seconds are for one request.
    price_in, price_out
        US dollars per million tokens, for the cost.
    cap_requests, cap_tokens, cap_cost
        The run stops before it goes beyond, and says so. Repeats count.
    give_up_after
        So many failures in a row, over all threads, end the run: the endpoint is not well.
    language
        The language the answers are expected in; empty for no check.
    mixed
        Go on although the system's earlier answers were asked for in another way.
    """

    datasets: tuple[str, ...] = ()
    split: str = ""
    campaign: str = ""
    limit: int | None = None
    without_reference: bool = False
    backend: Backend = "endpoint"
    family: str = ""
    base_url: str = ""
    model: str = ""
    key_env: str = ""
    model_folder: str = ""
    device: str = "auto"
    batch_size: int = 8
    template: str = DEFAULT_TEMPLATE
    history: int = 0
    max_new_tokens: int = MAX_NEW_TOKENS
    temperature: float = 0.0
    seed: int | None = 0
    stream: bool = False
    per_minute: float | None = None
    concurrency: int = 4
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0
    seconds: float = 120.0
    price_in: float | None = None
    price_out: float | None = None
    cap_requests: int | None = None
    cap_tokens: int | None = None
    cap_cost: float | None = None
    give_up_after: int = 20
    language: str = "en"
    mixed: bool = False
    dry_run: bool = False
    examples: int = 3

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise GenerationError(f"{name} must lie between {low:g} and {high:g}.")
        if self.backend not in ("endpoint", "local"):
            raise GenerationError("The back end is either endpoint or local.")
        if self.cap_cost is not None and (self.price_in is None or self.price_out is None):
            raise GenerationError("A cap on the cost needs the prices (price_in, price_out).")
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", self.device):
            raise GenerationError("The device is auto, cpu, cuda or cuda:<number>.")
        try:
            check_key_name(self.key_env)
            if self.base_url:
                parse_address(self.base_url)
        except (RegistryError, AddressRefusedError) as error:
            raise GenerationError(str(error)) from None

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Self:
        """Read parameters from a job's row or a form. Names that are not known are refused, their values not repeated.

        Raises
        ------
        GenerationError
            An unknown name, a value of the wrong type or out of its range.
        """
        known = {field.name: field for field in fields(cls)}
        unknown = sorted(str(name)[:40] for name in given if name not in known)
        if unknown:
            raise GenerationError(f"Unknown parameters: {', '.join(unknown)}.")
        return cls(**{name: _typed(name, str(known[name].type), value) for name, value in given.items()})

    def as_mapping(self) -> dict[str, Any]:
        """Give the parameters as a job's row stores them (JSON)."""
        return {**asdict(self), "datasets": list(self.datasets)}

    @property
    def decoding(self) -> Decoding:
        return Decoding(self.max_new_tokens, self.temperature, self.seed)

    def cost(self, tokens_in: int | None, tokens_out: int | None) -> float | None:
        """Give the US dollars for so many tokens, or None where prices or tokens are not known."""
        if self.price_in is None or self.price_out is None or tokens_in is None or tokens_out is None:
            return None
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


def _typed(name: str, kind: str, value: Any) -> Any:
    if kind.endswith("| None") and value in (None, ""):
        return None
    kind = kind.removesuffix(" | None")
    if kind.startswith("tuple") and isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        return tuple(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        if kind == "float":
            return float(value)
        if kind == "int" and value == int(value):
            return int(value)
    if kind in ("str", "Backend") and isinstance(value, str) and len(value) <= 300:
        return value.strip()
    raise GenerationError(f"The parameter {name} has the wrong type.")


@dataclass(frozen=True)
class Asking:
    """Everything settled: the system's name and title, its template, and how it is reached."""

    name: str
    title: str
    template: Template
    parameters: GenerationParameters
    entry: SystemEntry | None = None


def settle(system: str, parameters: GenerationParameters, operator: Operator) -> Asking:
    """Find the system and its template, and fill in from the registry what was not given.

    Raises
    ------
    GenerationError
        The name cannot be used, nothing says how the system is reached, every endpoint is retired, or another model
        would answer under the system's name.
    """
    entry = registry().find(system)
    if entry is None and not _SLUG.fullmatch(system):
        raise GenerationError("A system's name is made of letters, digits, - and _ (80 at most).")
    try:
        template = load_template(parameters.template, operator.template_folders)
        if parameters.backend == "endpoint" and not parameters.base_url:
            parameters = _served(system, entry, parameters)
    except (RegistryError, TemplateError) as error:
        raise GenerationError(str(error)) from None
    if parameters.backend == "endpoint" and not parameters.model:
        raise GenerationError("Name the model as the endpoint knows it (model).")
    if parameters.backend == "local" and not parameters.model_folder:
        raise GenerationError("Name the folder of the local model (model_folder).")
    if entry is not None and not entry.same_weights:
        own = {entry.published_name, *(one.model for one in entry.served_by)}
        if parameters.backend == "local" or parameters.model not in own:
            raise GenerationError(
                f"{entry.published_name} cannot be run from other weights: {entry.note} Give the system that answers "
                "a name of its own."
            )
    name = entry.name if entry else system
    return Asking(name, entry.title if entry else system, template, parameters, entry)


def _served(system: str, entry: SystemEntry | None, parameters: GenerationParameters) -> GenerationParameters:
    if entry is None:
        raise GenerationError(
            f"{system} is not in the registry, so give its base URL and model, or the folder of a local model. "
            f"The registry has: {', '.join(one.name for one in registry().systems)}."
        )
    serving = entry.serving(parameters.family)
    known = asdict(parameters) | {
        "base_url": serving.family.base_url,
        "model": parameters.model or serving.model,
        "key_env": parameters.key_env or serving.family.key_env,
        "family": serving.family.name,
    }
    return GenerationParameters(**known)


def build_generator(asking: Asking, operator: Operator) -> Generator:
    """Make the back end. Addresses are checked and the key is read here, before anything is asked.

    Raises
    ------
    GenerationError
        The address may not be called, the key is not there, or the folder is not one that may be used.
    """
    given = asking.parameters
    pace = Pace(given.per_minute, given.cap_requests)
    if given.backend == "local":
        return LocalModel(
            folder=_model_folder(given.model_folder, operator),
            decoding=given.decoding,
            batch_size=given.batch_size,
            device=given.device,
            allow_hub=operator.allow_hub,
            pace=pace,
        )
    from annotation.inference.endpoints import Endpoint  # the client library takes a second to import

    try:
        key = key_for(given.key_env, parse_address(given.base_url), any_host=operator.at_the_console)
    except RegistryError as error:
        raise GenerationError(str(error)) from None
    return Endpoint(
        base_url=given.base_url,
        model=given.model,
        key=key,
        decoding=given.decoding,
        patience=Patience(given.attempts, given.first_wait, given.longest_wait),
        pace=pace,
        concurrency=given.concurrency,
        seconds=given.seconds,
        stream=given.stream,
        allow_private=operator.allow_private,
    )


def _model_folder(name: str, operator: Operator) -> str:
    if operator.at_the_console or (operator.allow_hub and re.fullmatch(r"[\w.-]+/[\w.-]+", name)):
        return name
    if operator.models_folder is None:
        raise GenerationError(
            "Local models are started from a job once the operator sets ATTUNE_MODELS to their folder."
        )
    root = operator.models_folder.resolve()
    folder = (root / name).resolve()
    if not folder.is_relative_to(root) or not folder.is_dir():
        raise GenerationError("There is no such model in the folder that ATTUNE_MODELS names.")
    return str(folder)
