"""The committed classifier: MiniLM with the adapter of this repository, on the best runtime the machine has."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotation.inference.base import (
    BASE_TOKENIZER_SHA256,
    BASE_WEIGHTS_SHA256,
    Base,
    ClassifierError,
    find_base,
    sha256_of,
)
from annotation.inference.classifier import LabelScheme, Probabilities, digest_of
from annotation.inference.encoder import Adapter, Shape, load_weights
from annotation.inference.engine import TOKEN_BUDGET, Engine, Runtime
from annotation.inference.openvino_runtime import GRAPH_VERSION, OpenVinoRuntime, build_graph, import_openvino
from annotation.inference.text import PREPROCESSING_VERSION, prepare
from evaluation.emotions import DEFAULT_GROUPING, Grouping

log = logging.getLogger(__name__)

DEFAULT_FOLDER: Final = Path(__file__).resolve().parent / "default"
MAX_TOKENS: Final = 256
"""Longer texts are cut; utterances of recommendation dialogues stay far below."""

GPU_TOKEN_BUDGET: Final = 65_536

NVIDIA_DRIVER: Final = Path("/proc/driver/nvidia")
"""There where a GPU's driver is loaded."""

PROBE_TOLERANCE: Final = 0.03
"""Largest difference that a runtime's 28 probabilities may show to the recorded ones on the probe sentences."""

PROBES: Final = (
    "I absolutely loved that film, thank you so much!",
    "What kind of movies do you usually like?",
    "I am sorry to hear that, it must be hard.",
    "That ending made me furious.",
    "I was terrified the whole time.",
    "Wow, I did not see that coming!",
    "That scene was disgusting.",
    "I have seen it twice with my brother.",
)
"""Sentences written for the self-test; the card records what fp32 arithmetic gives for them."""


@dataclass(frozen=True)
class Card:
    """What `card.json` beside an adapter says of it, as far as loading needs it."""

    name: str
    temperature: Mapping[str, float]
    probes: NDArray[np.float32] | None
    facts: Mapping[str, Any]

    @classmethod
    def beside(cls, adapter: Path) -> Card:
        """Read the card next to an adapter; a missing one gives neutral values, a damaged one an error."""
        path = adapter.with_name("card.json")
        if not path.is_file():
            return cls(adapter.stem, {}, None, {})
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            probes = np.array(facts["probes"], dtype=np.float32) if facts.get("probes") else None
            return cls(str(facts["name"]), dict(facts.get("temperature", {})), probes, facts)
        except (ValueError, KeyError, TypeError) as error:
            raise ClassifierError(f"The classifier's card {path} is damaged: {error}. Restore it.") from error


def native_bf16() -> bool:
    """Say whether this CPU multiplies bf16 in hardware (AVX512-BF16 or AMX); emulated bf16 is slower than fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def usable_threads() -> int:
    """Give the number of cores this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def user_cache() -> Path:
    """Give the folder for files that can be made again: `$XDG_CACHE_HOME/attune` or `~/.cache/attune`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "attune"


def runtimes_to_try(runtime: str) -> list[str]:
    """Give the runtimes in order of preference for this machine, or the one asked for."""
    if runtime != "auto":
        return [runtime]
    formats = ["bf16", "fp32"] if native_bf16() else ["fp32"]
    wanted = [f"{library}-{number_format}" for library in ("openvino", "torch") for number_format in formats]
    # A GPU is only looked for where torch is there anyway: on CPU-only machines importing it costs seconds.
    return ["torch-cuda-bf16", *wanted] if NVIDIA_DRIVER.exists() else wanted


class DefaultClassifier:
    """MiniLM, adapter and 28-way head; see `docs/classifier.md`."""

    def __init__(self, engine: Engine, *, name: str, revision: str, scheme: LabelScheme, card: Card) -> None:
        self.name = name
        self.revision = revision
        self.scheme = scheme
        self.labels = scheme.labels
        self.temperature = scheme.temperature
        self.runtime = engine.runtime.name
        self.card = card.facts
        self._engine = engine

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """Give the 28 probabilities of each text, float32, shape (n, 28), uncalibrated; order kept."""
        return softmax(self._engine.logits(texts))

    def emotions(self, probabilities: NDArray[Any], grouping: str | Grouping = DEFAULT_GROUPING) -> Probabilities:
        """Give the seven calibrated probabilities for rows of 28, shape (n, 7)."""
        return self.scheme.emotions(probabilities, grouping)

    @classmethod
    def load(
        cls,
        *,
        base: Path | str | None = None,
        adapter: Path | str | None = None,
        cache: Path | str | None = None,
        threads: int | None = None,
        runtime: str = "auto",
        allow_hub: bool = False,
    ) -> DefaultClassifier:
        """Load as `classifier.load_default` describes."""
        path = Path(adapter) if adapter is not None else DEFAULT_FOLDER / "adapter.safetensors"
        factors = Adapter.load(path)
        card = Card.beside(path)
        if card.probes is not None and card.probes.shape != (len(PROBES), len(factors.labels)):
            raise ClassifierError(f"The card beside {path} does not belong to this adapter. Restore both files.")
        # The weights themselves are read, and their digest checked, only when no compiled graph of them is at hand.
        found = find_base(base, allow_hub=allow_hub, verify=False)
        if sha256_of(found.tokenizer) != BASE_TOKENIZER_SHA256:
            find_base(base, allow_hub=allow_hub)
        digest = sha256_of(path)
        scheme = LabelScheme(factors.labels, temperature=card.temperature)
        builder = _Builder(found, factors, digest, Path(cache) if cache else user_cache(), threads or usable_threads())
        faults = []
        for wanted in runtimes_to_try(runtime):
            try:
                engine = builder.engine(wanted)
                _self_test(engine, card)
            except ClassifierError as error:
                faults.append(f"{wanted}: {error}")
                log.warning("the runtime %s is not used: %s", wanted, error)
                continue
            revision = digest_of(
                digest,
                BASE_WEIGHTS_SHA256,
                engine.runtime.name,
                str(PREPROCESSING_VERSION),
                str(MAX_TOKENS),
                json.dumps(scheme.to_json(), sort_keys=True),
            )
            return cls(engine, name=card.name, revision=revision, scheme=scheme, card=card)
        raise ClassifierError("No runtime could be used for the classifier. " + " ".join(faults))


def softmax(logits: NDArray[np.float32]) -> Probabilities:
    """Give the probabilities along the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True), dtype=np.float32)


def _self_test(engine: Engine, card: Card) -> None:
    """Refuse a runtime that is not finite, or differs on the probe sentences from what was recorded at training."""
    found = softmax(engine.logits(PROBES))
    if not np.isfinite(found).all():
        raise ClassifierError("its probabilities are not finite.")
    if card.probes is not None:
        difference = float(np.abs(found - card.probes).max())
        if difference > PROBE_TOLERANCE:
            raise ClassifierError(
                f"on the self-test's sentences its probabilities differ by {difference:.3f} from the recorded ones "
                f"(at most {PROBE_TOLERANCE} is expected)."
            )


@dataclass(frozen=True)
class _Builder:
    """Makes the engine for a runtime by name; reads the base weights only when it must."""

    base: Base
    adapter: Adapter
    digest: str
    cache: Path
    threads: int

    def engine(self, wanted: str) -> Engine:
        from tokenizers import Tokenizer

        tokeniser = Tokenizer.from_file(str(self.base.tokenizer))
        tokeniser.no_padding()
        tokeniser.enable_truncation(MAX_TOKENS)
        budget = GPU_TOKEN_BUDGET if "cuda" in wanted else TOKEN_BUDGET
        return Engine(tokeniser, self._runtime(wanted), prepare, len(self.adapter.labels), budget=budget)

    def _runtime(self, wanted: str) -> Runtime:
        library, _, number_format = wanted.rpartition("-")
        if library == "openvino":
            return self._openvino(number_format)
        if library in ("torch", "torch-cuda"):
            return self._torch(number_format, "cuda" if library.endswith("cuda") else "cpu")
        raise ClassifierError(f"There is no runtime called {wanted!r}.")

    def _head(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.adapter.head_weight, self.adapter.head_bias

    def _merged(self) -> dict[str, NDArray[np.float32]]:
        verified = find_base(self.base.folder)
        return self.adapter.merged(load_weights(verified))

    def _torch(self, number_format: str, device: str) -> Runtime:
        try:
            import torch
        except ImportError as error:
            raise ClassifierError("torch is not installed. Install it with: pip install torch") from error
        if device == "cuda" and not torch.cuda.is_available():
            raise ClassifierError("torch sees no GPU.")
        from annotation.inference.torch_runtime import TorchRuntime

        shape = Shape.of(self.base)
        return TorchRuntime(
            self._merged(), shape, self._head(), number_format=number_format, device=device, threads=self.threads
        )

    def _openvino(self, number_format: str) -> Runtime:
        key = digest_of(
            self.digest,
            BASE_WEIGHTS_SHA256,
            number_format,
            str(GRAPH_VERSION),
            import_openvino().__version__,
            _cpu_name(),
            str(self.threads),
        )
        compiled = self.cache / f"graph-{key}.bin"
        stored = _read_checked(compiled)
        if stored is not None:
            try:
                return OpenVinoRuntime.stored(stored, number_format=number_format, threads=self.threads)
            except ClassifierError as error:
                log.warning("the compiled graph %s is made again: %s", compiled, error)
        shape = Shape.of(self.base)
        graph = build_graph(self._merged(), shape, self._head())
        made = OpenVinoRuntime.compiled(graph, number_format=number_format, threads=self.threads)
        _write_checked(compiled, made.export())
        return made


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("model name")), "")


def _checksum(data: Any) -> str:
    """Give a checksum against damage, not against malice: who can write the file can write its checksum too."""
    return f"{zlib.crc32(data):08x}"


def _read_checked(path: Path) -> NDArray[np.uint8] | None:
    """Map a cache file into memory when its checksum file agrees, else give nothing.

    The mapping is private, and the file is only ever replaced, so what was checked is what is run.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="c")
        expected = path.with_suffix(".crc32").read_text(encoding="ascii").strip()
    except (OSError, ValueError):  # numpy cannot map an empty file
        return None
    return data if _checksum(data) == expected else None


def _write_checked(path: Path, data: bytes) -> None:
    """Write a cache file and its checksum, each in one step; a cache that cannot be written is only slower."""
    import tempfile  # not needed where the graph is at hand, and starting quickly counts

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for target, content in (
            (path, data),
            (path.with_suffix(".crc32"), _checksum(data).encode("ascii")),
        ):
            handle, partial = tempfile.mkstemp(dir=path.parent, prefix=target.name)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.replace(partial, target)
    except OSError as error:
        log.warning("the compiled graph could not be kept in %s: %s", path.parent, error)
