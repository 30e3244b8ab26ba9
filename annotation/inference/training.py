"""Fine-tuning of the default classifier: low-rank adapters and a 28-way head on a frozen encoder.

One seed gives one adapter: order of batches, dropout and initial values all follow from it. A run writes a checkpoint
every few minutes and continues from it after a kill; which device and number format are used is found out here.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from annotation.inference.base import Base, ClassifierError
from annotation.inference.corpus import NEUTRAL, Examples
from annotation.inference.encoder import Adapter, Shape, as_tensors, dropped, encode, load_weights
from annotation.inference.text import prepare
from evaluation.emotions import EMOTIONS, GO_EMOTIONS, GROUPINGS

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

CHECKPOINT_FORMAT: Final = 1


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run makes; two equal recipes on equal data make equal adapters."""

    seed: int = 0
    epochs: int = 4
    batch_rows: int = 64
    max_length: int = 64
    rank: int = 16
    alpha: float = 32.0
    adapter_dropout: float = 0.0
    encoder_dropout: float = 0.1
    head_dropout: float = 0.1
    adapter_rate: float = 1.5e-3
    head_rate: float = 3e-3
    weight_decay: float = 0.01
    warm_up: float = 0.06
    clip: float = 1.0
    average_decay: float = 0.998
    grouped_loss: float = 0.5
    grouping: str = "ekman"
    evaluations_per_epoch: int = 1
    patience: int = 3


@dataclass
class Progress:
    """Where a run stands; handed to the caller's display after every few steps."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float
    best: float | None


def device_and_format() -> tuple[str, str]:
    """Pick the device and the number format to train in: a GPU where there is one, bf16 where it is native."""
    import torch

    if torch.cuda.is_available():
        return "cuda", "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capability = torch.backends.cpu.get_cpu_capability()
    return "cpu", "bf16" if _native_bf16() and "AVX512" in capability.upper() else "fp32"


def _native_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def token_ids(base: Base, texts: tuple[str, ...] | list[str], max_length: int) -> list[NDArray[np.int64]]:
    """Tokenise prepared texts; each gives an array of ids, special tokens included, at most `max_length` long."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base.tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    encoded = tokenizer.encode_batch([prepare(text) for text in texts])
    return [np.asarray(one.ids, dtype=np.int64) for one in encoded]


def padded(rows: list[NDArray[np.int64]], multiple: int = 8) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay rows of ids side by side, padded to a multiple of `multiple`: ids and mask of shape (rows, length)."""
    length = -(-max(len(row) for row in rows) // multiple) * multiple
    ids = np.zeros((len(rows), length), dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask


def batches(lengths: NDArray[np.int64], *, rows: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Shuffle into batches of texts of similar length; the order follows from seed and epoch alone."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    pool = rows * 50
    made: list[NDArray[np.int64]] = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        made += [part[i : i + rows] for i in range(0, len(part), rows)]
    return [made[index] for index in random.permutation(len(made))]


class Trainer:
    """One training run: parameters, optimiser state, averages and position, all of which a checkpoint holds."""

    def __init__(
        self,
        recipe: Recipe,
        base: Base,
        train: Examples,
        dev: Examples,
        *,
        folder: Path,
        start: Adapter | None = None,
        threads: int | None = None,
    ) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.recipe, self.base, self.train_set, self.dev_set, self.folder = recipe, base, train, dev, folder
        self.device, self.format = device_and_format()
        self.dtype = torch.bfloat16 if self.format == "bf16" else torch.float32
        self.shape = Shape.of(base)
        self.scale = start.scale if start is not None else recipe.alpha / recipe.rank
        self.weights = as_tensors(load_weights(base), device=self.device, dtype=self.dtype)
        self.train_ids = token_ids(base, train.texts, recipe.max_length)
        self.dev_ids = token_ids(base, dev.texts, recipe.max_length)
        self.lengths = np.array([len(ids) for ids in self.train_ids], dtype=np.int64)
        self.steps_per_epoch = len(batches(self.lengths, rows=recipe.batch_rows, seed=recipe.seed, epoch=0))
        self.steps = self.steps_per_epoch * recipe.epochs
        self.grouping = torch.from_numpy(GROUPINGS[recipe.grouping].matrix.astype(np.float32)).to(self.device)
        torch.manual_seed(recipe.seed)
        self.parameters = self._fresh(start)
        self.averages = {name: tensor.detach().clone() for name, tensor in self.parameters.items()}
        groups: list[dict[str, Any]] = [
            {"params": [p for n, p in self.parameters.items() if n.startswith("head.")], "base": recipe.head_rate},
            {"params": [p for n, p in self.parameters.items() if "lora" in n], "base": recipe.adapter_rate},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.best = -math.inf
        self.waited = 0

    # -- parameters -------------------------------------------------------------------------------------------------

    def _fresh(self, start: Adapter | None) -> dict[str, torch.Tensor]:
        import torch

        found: dict[str, torch.Tensor] = {}
        generator = torch.Generator().manual_seed(self.recipe.seed)
        for name in self.shape.linear_names():
            out_size, in_size = self.weights[f"{name}.weight"].shape
            if start is not None:
                found[f"{name}.lora_A"] = torch.from_numpy(start.down[name].copy())
                found[f"{name}.lora_B"] = torch.from_numpy(start.up[name].copy())
                continue
            bound = 1 / math.sqrt(in_size)
            found[f"{name}.lora_A"] = (torch.rand(self.recipe.rank, in_size, generator=generator) * 2 - 1) * bound
            found[f"{name}.lora_B"] = torch.zeros(out_size, self.recipe.rank)
        if start is not None:
            found["head.weight"] = torch.from_numpy(start.head_weight.copy())
            found["head.bias"] = torch.from_numpy(start.head_bias.copy())
        else:
            found["head.weight"] = torch.randn(len(GO_EMOTIONS), self.shape.hidden, generator=generator) * 0.02
            found["head.bias"] = torch.zeros(len(GO_EMOTIONS))
        return {name: tensor.to(self.device).requires_grad_() for name, tensor in found.items()}

    def adapter(self) -> Adapter:
        """Give the averaged parameters as an adapter."""
        values = {name: tensor.detach().float().cpu().numpy() for name, tensor in self.averages.items()}
        names = self.shape.linear_names()
        return Adapter(
            down={name: values[f"{name}.lora_A"] for name in names},
            up={name: values[f"{name}.lora_B"] for name in names},
            head_weight=values["head.weight"],
            head_bias=values["head.bias"],
            scale=self.scale,
            labels=GO_EMOTIONS,
        )

    # -- one step ---------------------------------------------------------------------------------------------------

    def _rate(self) -> float:
        warm = max(1, round(self.recipe.warm_up * self.steps))
        if self.step < warm:
            return (self.step + 1) / warm
        return max(0.0, (self.steps - self.step) / max(1, self.steps - warm))

    def _logits(self, parameters: dict[str, torch.Tensor], rows: list[NDArray[np.int64]], *, training: bool) -> Any:
        import torch
        from torch.nn import functional

        ids, mask = padded(rows)
        factors = {
            name: (parameters[f"{name}.lora_A"], parameters[f"{name}.lora_B"]) for name in self.shape.linear_names()
        }
        pooled = encode(
            self.weights,
            self.shape,
            torch.from_numpy(ids).to(self.device),
            torch.from_numpy(mask).to(self.device),
            adapter=factors,
            scale=self.scale,
            dropout=self.recipe.encoder_dropout if training else 0.0,
            adapter_dropout=self.recipe.adapter_dropout if training else 0.0,
        )
        if training and self.recipe.head_dropout:
            pooled = dropped(pooled, self.recipe.head_dropout)
        return functional.linear(pooled, parameters["head.weight"], parameters["head.bias"])

    def _loss(self, logits: torch.Tensor, chosen: NDArray[np.int64]) -> torch.Tensor:
        """Soft cross-entropy over the 28 labels, plus the same over their seven groups."""
        import torch

        targets = torch.from_numpy(self.train_set.targets[chosen]).to(self.device)
        weights = torch.from_numpy(self.train_set.weights[chosen]).to(self.device)
        silent = torch.from_numpy(self.train_set.without_neutral[chosen]).to(self.device)
        if bool(silent.any()):
            hidden = torch.zeros_like(logits, dtype=torch.bool)
            hidden[:, NEUTRAL] = silent
            logits = logits.masked_fill(hidden, -30.0)
        logp = torch.log_softmax(logits, -1)
        loss = -(targets * logp).sum(-1)
        if self.recipe.grouped_loss:
            grouped = (logp.exp() @ self.grouping).clamp_min(1e-9).log()
            loss = loss + self.recipe.grouped_loss * -((targets @ self.grouping) * grouped).sum(-1)
        return (loss * weights).sum() / weights.sum()

    def _one_step(self, chosen: NDArray[np.int64]) -> float:
        import torch

        rate = self._rate()
        for parameter_group in self.optimiser.param_groups:
            parameter_group["lr"] = parameter_group["base"] * rate
        loss = self._loss(self._logits(self.parameters, [self.train_ids[i] for i in chosen], training=True), chosen)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.recipe.clip)
        self.optimiser.step()
        self.step += 1
        decay = min(self.recipe.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.averages[name].lerp_(parameter, 1 - decay)
        return float(loss.detach())

    # -- the run ----------------------------------------------------------------------------------------------------

    def run(
        self,
        *,
        display: Callable[[Progress], None] | None = None,
        checkpoint_seconds: float = 60.0,
        stop_after: int | None = None,
    ) -> Adapter:
        """Train to the end, or until dev stops improving; give the best adapter, also written to the folder.

        `stop_after` ends the process's part of the run after that many steps, its checkpoint written.
        """
        self._resume()
        interval = max(1, self.steps_per_epoch // self.recipe.evaluations_per_epoch)
        began, first, tokens, saved = time.monotonic(), self.step, 0, time.monotonic()
        smooth = 0.0
        while self.step < self.steps and self.waited < self.recipe.patience:
            if stop_after is not None and self.step - first >= stop_after:
                self._checkpoint()
                return self.adapter()
            chosen = self._batch(self.step)
            loss = self._one_step(chosen)
            tokens += int(self.lengths[chosen].sum())
            smooth = loss if smooth == 0.0 else 0.98 * smooth + 0.02 * loss
            if self.step % interval == 0 or self.step == self.steps:
                self._evaluate()
                self._checkpoint()
                saved = time.monotonic()
            elif time.monotonic() - saved > checkpoint_seconds:
                self._checkpoint()
                saved = time.monotonic()
            if display is not None and (self.step % 10 == 0 or self.step == self.steps):
                spent = time.monotonic() - began
                left = spent / (self.step - first) * (self.steps - self.step)
                best = None if self.best == -math.inf else self.best
                display(Progress(self.step, self.steps, smooth, tokens / spent, left, best))
        return Adapter.load(self.folder / "best.safetensors")

    def _batch(self, step: int) -> NDArray[np.int64]:
        epoch, position = divmod(step, self.steps_per_epoch)
        if getattr(self, "_order_of", None) != epoch:
            self._order = batches(self.lengths, rows=self.recipe.batch_rows, seed=self.recipe.seed, epoch=epoch)
            self._order_of = epoch
        return self._order[position]

    def take(self, adapter: Adapter) -> None:
        """Put an adapter in the place of the averaged parameters, so that `probabilities` are its own."""
        import torch

        for name in self.shape.linear_names():
            self.averages[f"{name}.lora_A"] = torch.from_numpy(adapter.down[name].copy()).to(self.device)
            self.averages[f"{name}.lora_B"] = torch.from_numpy(adapter.up[name].copy()).to(self.device)
        self.averages["head.weight"] = torch.from_numpy(adapter.head_weight.copy()).to(self.device)
        self.averages["head.bias"] = torch.from_numpy(adapter.head_bias.copy()).to(self.device)

    def dev_probabilities(self) -> NDArray[np.float32]:
        """Give the 28 probabilities of the dev rows under the averaged parameters."""
        return self.probabilities(self.dev_ids)

    def probabilities(self, rows: list[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Give the 28 probabilities of tokenised rows under the averaged parameters."""
        import torch

        found = np.zeros((len(rows), len(GO_EMOTIONS)), dtype=np.float32)
        order = np.argsort([len(row) for row in rows], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), 128):
                part = order[start : start + 128]
                logits = self._logits(self.averages, [rows[i] for i in part], training=False)
                found[part] = torch.softmax(logits.float(), -1).cpu().numpy()
        return found

    def _evaluate(self) -> None:
        if len(self.dev_set) == 0:
            self.adapter().save(self.folder / "best.safetensors")
            return
        figures = seven_way(self.dev_set, self.dev_probabilities())
        figures |= {"step": float(self.step)}
        self.history.append(figures)
        # Both target figures count; macro-F1 alone follows the noise of the two rarest classes.
        score = (figures["accuracy"] + figures["macro_f1"]) / 2
        log.info(
            "step %d of %d: dev accuracy %.4f, macro-F1 %.4f",
            self.step,
            self.steps,
            figures["accuracy"],
            figures["macro_f1"],
        )
        if score > self.best:
            self.best, self.waited = score, 0
            self.adapter().save(self.folder / "best.safetensors")
        else:
            self.waited += 1

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        return {
            "format": CHECKPOINT_FORMAT,
            "recipe": dataclasses.asdict(self.recipe),
            "rows": len(self.train_set),
            "dev_rows": len(self.dev_set),
            "number_format": self.format,
        }

    def _checkpoint(self) -> None:
        """Write parameters, averages, optimiser and random state, then swap the file in: a kill leaves the old one."""
        import torch
        from safetensors.torch import save

        tensors = {f"parameter/{name}": value.detach().cpu().contiguous() for name, value in self.parameters.items()}
        tensors |= {f"average/{name}": value.cpu().contiguous() for name, value in self.averages.items()}
        for name, value in self.parameters.items():
            state = self.optimiser.state.get(value)
            if state:
                tensors[f"mean/{name}"] = state["exp_avg"].cpu().contiguous()
                tensors[f"square/{name}"] = state["exp_avg_sq"].cpu().contiguous()
        tensors["random/cpu"] = torch.get_rng_state()
        if self.device == "cuda":
            tensors["random/cuda"] = torch.cuda.get_rng_state()
        position = {"step": self.step, "best": None if self.best == -math.inf else self.best, "waited": self.waited}
        facts = {
            "facts": json.dumps(self._facts()),
            "position": json.dumps(position),
            "history": json.dumps(self.history),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "checkpoint.partial"
        partial.write_bytes(save(tensors, metadata=facts))
        partial.replace(self.folder / "checkpoint.safetensors")

    def _resume(self) -> None:
        import torch
        from safetensors import SafetensorError, safe_open

        path = self.folder / "checkpoint.safetensors"
        if not path.is_file():
            return
        try:
            with safe_open(path, framework="pt") as stream:
                facts = stream.metadata() or {}
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ClassifierError(f"The checkpoint {path} is damaged ({error}). Delete it to start over.") from error
        if json.loads(facts.get("facts", "{}")) != self._facts():
            raise ClassifierError(
                f"{path} belongs to a run with another recipe or other data. "
                f"Give another folder, or delete it to start over."
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
                self.averages[name].copy_(tensors[f"average/{name}"])
        position = json.loads(facts["position"])
        self.step, self.waited = position["step"], position["waited"]
        self.best = -math.inf if position["best"] is None else position["best"]
        self.history = json.loads(facts["history"])
        for name, parameter in self.parameters.items():
            if f"mean/{name}" in tensors:
                self.optimiser.state[parameter] = {
                    "step": torch.tensor(float(self.step)),
                    "exp_avg": tensors[f"mean/{name}"].to(self.device),
                    "exp_avg_sq": tensors[f"square/{name}"].to(self.device),
                }
        torch.set_rng_state(tensors["random/cpu"])
        if self.device == "cuda" and "random/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random/cuda"])


def single_label(examples: Examples, grouping: str = "ekman") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the rows whose labels all fall into one of the seven emotions, and that emotion's index in `EMOTIONS`."""
    given = (examples.targets @ GROUPINGS[grouping].matrix.astype(np.float32)) > 0
    rows = np.flatnonzero(given.sum(-1) == 1)
    return rows, given[rows].argmax(-1)


def seven_way(
    examples: Examples, probabilities: NDArray[np.floating[Any]], grouping: str = "ekman"
) -> dict[str, float]:
    """Give accuracy and macro-F1 over the seven emotions, on the rows that have exactly one."""
    from sklearn.metrics import accuracy_score, f1_score

    rows, truth = single_label(examples, grouping)
    predicted = (probabilities[rows] @ GROUPINGS[grouping].matrix.astype(np.float32)).argmax(-1)
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_f1": float(f1_score(truth, predicted, average="macro", labels=range(len(EMOTIONS)), zero_division=0)),
    }
