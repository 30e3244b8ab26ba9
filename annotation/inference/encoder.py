"""The MiniLM encoder with its adapter and head, in plain torch: for training, and wherever no faster runtime is.

A BERT encoder is six equal layers of matrix products; written out, it needs neither the transformers package (two
seconds of import) nor an adapter library, and the same function trains, evaluates and labels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from annotation.inference.base import Base, ClassifierError

if TYPE_CHECKING:
    import torch

LAYER_LINEARS: Final = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
"""The linear maps of one encoder layer; each can carry an adapter."""

ADAPTER_FORMAT: Final = "attune-lora/1"


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    epsilon: float

    @classmethod
    def of(cls, base: Base) -> Shape:
        """Read the sizes from the base encoder's configuration."""
        config = base.config
        return cls(
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            heads=int(config["num_attention_heads"]),
            intermediate=int(config["intermediate_size"]),
            epsilon=float(config["layer_norm_eps"]),
        )

    def linear_names(self) -> list[str]:
        """Give the names of all linear maps, first layer first."""
        return [f"encoder.layer.{layer}.{name}" for layer in range(self.layers) for name in LAYER_LINEARS]


def load_weights(base: Base) -> dict[str, NDArray[np.float32]]:
    """Read the base encoder's tensors, by name, as float32."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(base.weights)
    except (SafetensorError, OSError) as error:
        raise ClassifierError(f"The base encoder {base.weights} cannot be read: {error}") from error
    return {name: array.astype(np.float32) for name, array in tensors.items() if array.dtype != np.int64}


@dataclass(frozen=True)
class Adapter:
    """A low-rank difference to the base encoder, and the head on top (Hu et al. 2022, *LoRA*).

    Attributes
    ----------
    down, up
        For each adapted linear map its factors A, shape (rank, in), and B, shape (out, rank);
        the map becomes W + scale · B A.
    head_weight, head_bias
        Shapes (labels, hidden) and (labels,).
    """

    down: dict[str, NDArray[np.float32]]
    up: dict[str, NDArray[np.float32]]
    head_weight: NDArray[np.float32]
    head_bias: NDArray[np.float32]
    scale: float
    labels: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write one safetensors file, factors in float16; replaces an older file in one step."""
        from safetensors.numpy import save

        tensors = {f"{name}.lora_A": array.astype(np.float16) for name, array in self.down.items()}
        tensors |= {f"{name}.lora_B": array.astype(np.float16) for name, array in self.up.items()}
        tensors["head.weight"] = self.head_weight.astype(np.float32)
        tensors["head.bias"] = self.head_bias.astype(np.float32)
        facts = {"format": ADAPTER_FORMAT, "scale": repr(self.scale), "labels": json.dumps(list(self.labels))}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(save(tensors, metadata=facts))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Adapter:
        """Read an adapter; a missing, damaged or foreign file is a `ClassifierError` that says so."""
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise ClassifierError(
                f"The classifier's adapter {path} is missing. Restore it from the repository, "
                f"or train it again with: manage.py train_classifier"
            )
        try:
            with safe_open(path, framework="np") as stream:
                facts = stream.metadata() or {}
                tensors = {name: stream.get_tensor(name).astype(np.float32) for name in stream.keys()}  # noqa: SIM118
            if facts.get("format") != ADAPTER_FORMAT:
                raise ClassifierError(
                    f"{path} is not an adapter of the format {ADAPTER_FORMAT}: it says {facts.get('format')!r}."
                )
            adapter = cls(
                down={name[:-7]: array for name, array in tensors.items() if name.endswith(".lora_A")},
                up={name[:-7]: array for name, array in tensors.items() if name.endswith(".lora_B")},
                head_weight=tensors["head.weight"],
                head_bias=tensors["head.bias"],
                scale=float(facts["scale"]),
                labels=tuple(json.loads(facts["labels"])),
            )
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise ClassifierError(
                f"The classifier's adapter {path} is damaged ({error}). Restore it from the repository, "
                f"or train it again with: manage.py train_classifier"
            ) from error
        adapter._check(path)
        return adapter

    def _check(self, path: Path) -> None:
        finite = all(np.isfinite(array).all() for array in (*self.down.values(), *self.up.values(), self.head_weight))
        if set(self.down) != set(self.up) or len(self.labels) != len(self.head_bias) or not finite:
            raise ClassifierError(
                f"The classifier's adapter {path} is damaged (its tensors do not belong together or are not finite). "
                f"Restore it from the repository, or train it again with: manage.py train_classifier"
            )

    def merged(self, weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Give the base weights with W + scale · B A in place of each adapted W; the input is left as it is."""
        merged = dict(weights)
        for name, down in self.down.items():
            key = f"{name}.weight"
            if key not in merged or merged[key].shape != (self.up[name].shape[0], down.shape[1]):
                raise ClassifierError(f"The adapter does not fit the base encoder at {name}; use the encoder it names.")
            merged[key] = merged[key] + self.scale * (self.up[name] @ down)
        return merged


def encode(
    weights: dict[str, torch.Tensor],
    shape: Shape,
    ids: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    adapter: dict[str, tuple[torch.Tensor, torch.Tensor]] | None = None,
    scale: float = 1.0,
    dropout: float = 0.0,
    adapter_dropout: float = 0.0,
) -> torch.Tensor:
    """Encode a batch and pool it over its tokens.

    Parameters
    ----------
    weights
        The encoder's tensors, in the number format to compute in.
    ids, mask
        Token ids and 1/0 mask, both of shape (rows, length); no mask: there is no padding.
    adapter
        Factors (A, B) by linear map, when they are not merged into the weights.
    dropout, adapter_dropout
        Probabilities, for training; 0 leaves the arithmetic alone.

    Returns
    -------
    Tensor
        Mean over each row's real tokens, float32, shape (rows, hidden).
    """
    import torch
    from torch.nn import functional

    def drop(x: torch.Tensor) -> torch.Tensor:
        return dropped(x, dropout) if dropout else x

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(
            x, (shape.hidden,), weights[f"{name}.weight"], weights[f"{name}.bias"], shape.epsilon
        )

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        y = functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
        if adapter is not None and name in adapter:
            down, up = adapter[name]
            z = dropped(x, adapter_dropout) if adapter_dropout else x
            y = y + functional.linear(functional.linear(z, down.to(x.dtype)), up.to(x.dtype) * scale)
        return y

    rows, length = ids.shape
    x = functional.embedding(ids, weights["embeddings.word_embeddings.weight"])
    x = x + weights["embeddings.position_embeddings.weight"][:length]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = drop(norm("embeddings.LayerNorm", x))
    hidden = None
    if mask is not None:
        hidden = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill(mask == 0, -1e4)[:, None, None, :]
    head_size = shape.hidden // shape.heads
    for layer in range(shape.layers):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            linear(f"{name}.attention.self.{part}", x).view(rows, length, shape.heads, head_size).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        # Written out: on a CPU the fused kernel's backward pass takes a third of a training step.
        scores = torch.matmul(query, key.transpose(-1, -2)) * head_size**-0.5
        if hidden is not None:
            scores = scores + hidden
        attended = torch.matmul(torch.softmax(scores, -1), value)
        attended = attended.transpose(1, 2).reshape(rows, length, shape.hidden)
        x = norm(f"{name}.attention.output.LayerNorm", x + drop(linear(f"{name}.attention.output.dense", attended)))
        inner = functional.gelu(linear(f"{name}.intermediate.dense", x))
        x = norm(f"{name}.output.LayerNorm", x + drop(linear(f"{name}.output.dense", inner)))
    if mask is None:
        return x.to(torch.float32).mean(1)
    kept = mask.to(torch.float32)[:, :, None]
    return (x.to(torch.float32) * kept).sum(1) / kept.sum(1).clamp(min=1.0)


def dropped(x: torch.Tensor, probability: float) -> torch.Tensor:
    """Set entries to zero with a probability rounded to 1/256 and scale up the rest.

    One 64-bit draw decides eight entries; torch's own dropout draws per entry and takes a quarter of a step on a CPU.
    """
    import torch

    threshold = round(probability * 256)
    draws = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    keep = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
    return x * (keep.to(x.dtype) * (256 / (256 - threshold)))


def as_tensors(weights: dict[str, Any], *, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Move numpy tensors to a device in one number format."""
    import torch

    return {
        name: torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)
        for name, array in weights.items()
    }
