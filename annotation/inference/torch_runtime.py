"""The encoder in plain torch: the path for a GPU, and the fallback where OpenVINO is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation.inference.encoder import Shape, as_tensors, encode
from annotation.inference.engine import Batch


class TorchRuntime:
    """Runs batches through `encoder.encode` with the adapter merged into the weights."""

    def __init__(
        self,
        weights: dict[str, NDArray[np.float32]],
        shape: Shape,
        head: tuple[NDArray[np.float32], NDArray[np.float32]],
        *,
        number_format: str,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        import torch

        self.name = f"torch-{number_format}" if device == "cpu" else f"torch-{device}-{number_format}"
        self.number_format = number_format
        self._device, self._shape, self._threads = device, shape, threads
        dtype = torch.bfloat16 if number_format == "bf16" else torch.float32
        self._weights = as_tensors(weights, device=device, dtype=dtype)
        # The head stays in float32: it is small, and temperature and thresholds act on its output.
        self._head = as_tensors({"weight": head[0], "bias": head[1]}, device=device, dtype=torch.float32)

    def run(self, batches: Iterator[Batch]) -> list[NDArray[np.float32]]:
        """Give the logits of every batch, in the order of the batches."""
        import torch

        if self._threads:
            torch.set_num_threads(self._threads)
        found: list[Any] = []
        with torch.inference_mode():
            for ids in batches:
                pooled = encode(self._weights, self._shape, torch.from_numpy(ids).to(self._device, torch.int64))
                found.append(torch.nn.functional.linear(pooled, self._head["weight"], self._head["bias"]))
            return [logits.float().cpu().numpy() for logits in found]
