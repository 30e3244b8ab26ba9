"""The encoder in OpenVINO: the graph is written node by node from the merged weights.

Building the graph directly needs neither torch nor an export, takes a fraction of a second, and keeps the labelling
process small. In bf16 on a CPU that has it natively this is the fastest exact-enough runtime that was measured
(`docs/classifier.md`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from annotation.inference.base import ClassifierError
from annotation.inference.encoder import Shape
from annotation.inference.engine import Batch

if TYPE_CHECKING:
    import openvino

GRAPH_VERSION: Final = 3
"""Part of the cache key of compiled graphs."""

_PRECISIONS: Final = {"bf16": "bf16", "fp32": "f32"}


def import_openvino() -> Any:
    """Import OpenVINO without its model converter and with its telemetry shut out.

    Importing the converter takes as long as all the rest of OpenVINO and sends a usage event. The package does without
    either when they cannot be imported, so their import is made to fail.
    """
    for unwanted in ("openvino_telemetry", "openvino.tools.ovc"):
        sys.modules.setdefault(unwanted, None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ClassifierError(
            "OpenVINO is not installed. Install it with: pip install openvino   (or choose the torch runtime)"
        ) from error
    return openvino


def build_graph(weights: dict[str, NDArray[np.float32]], shape: Shape, head: tuple[Any, Any]) -> openvino.Model:
    """Write the encoder, mean pooling and head as an OpenVINO model: unpadded ids (rows, length) -> logits."""
    ov = import_openvino()
    from openvino import opset13 as op

    def constant(array: Any) -> Any:
        return op.constant(np.ascontiguousarray(array))

    def norm(name: str, x: Any) -> Any:
        normed = op.mvn(x, constant(np.array([-1], dtype=np.int64)), True, shape.epsilon, "inside_sqrt")
        return op.add(op.multiply(normed, constant(weights[f"{name}.weight"])), constant(weights[f"{name}.bias"]))

    def linear(name: str, x: Any) -> Any:
        product = op.matmul(x, constant(weights[f"{name}.weight"]), False, True)
        return op.add(product, constant(weights[f"{name}.bias"]))

    ids = op.parameter([-1, -1], ov.Type.i32, name="ids")
    zero, one = constant(np.array([0], dtype=np.int32)), constant(np.array([1], dtype=np.int32))
    length = op.gather(op.shape_of(ids, "i32"), one, zero)
    # The type embedding is the same for every token, so it is added to the positions once.
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    places = op.slice(constant(positions), zero, length, one, zero)
    x = op.add(op.gather(constant(weights["embeddings.word_embeddings.weight"]), ids, zero), places)
    x = norm("embeddings.LayerNorm", x)
    size = shape.hidden // shape.heads
    split = constant(np.array([0, 0, shape.heads, size], dtype=np.int64))
    joined = constant(np.array([0, 0, shape.hidden], dtype=np.int64))
    swap = constant(np.array([0, 2, 1, 3], dtype=np.int64))
    for layer in range(shape.layers):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            op.transpose(op.reshape(linear(f"{name}.attention.self.{part}", x), split, True), swap)
            for part in ("query", "key", "value")
        )
        attended = op.scaled_dot_product_attention(query, key, value)
        attended = op.reshape(op.transpose(attended, swap), joined, True)
        x = norm(f"{name}.attention.output.LayerNorm", op.add(x, linear(f"{name}.attention.output.dense", attended)))
        inner = op.gelu(linear(f"{name}.intermediate.dense", x), "erf")
        x = norm(f"{name}.output.LayerNorm", op.add(x, linear(f"{name}.output.dense", inner)))
    pooled = op.reduce_mean(x, constant(np.array([1], dtype=np.int64)), False)
    logits = op.add(op.matmul(pooled, constant(head[0]), False, True), constant(head[1]))
    return ov.Model([op.result(logits)], [ids], "attune")


class OpenVinoRuntime:
    """Runs batches on the CPU, one stream of one thread per core, so that no core waits for another."""

    def __init__(
        self, compiled: Any, *, number_format: str, threads: int, weights: NDArray[np.uint8] | None = None
    ) -> None:
        ov = import_openvino()
        self._weights = weights  # the graph's own view of them keeps nothing alive
        self.name = f"openvino-{number_format}"
        self.number_format = number_format
        self._compiled = compiled
        self._queue = ov.AsyncInferQueue(compiled, threads)

    @classmethod
    def compiled(cls, graph: openvino.Model, *, number_format: str, threads: int) -> OpenVinoRuntime:
        """Compile a graph for this CPU."""
        ov = import_openvino()
        made = ov.Core().compile_model(graph, "CPU", _settings(number_format, threads))
        return cls(made, number_format=number_format, threads=threads)

    @classmethod
    def stored(cls, data: NDArray[np.uint8], *, number_format: str, threads: int) -> OpenVinoRuntime:
        """Load what `export` gave on the same kind of machine; anything else is a `ClassifierError`.

        The bytes are used where they are: of a mapped file only what is needed is read, and processes share it.
        """
        ov = import_openvino()
        try:
            tensor = ov.Tensor(data, shared_memory=True)
            made = ov.Core().import_model(tensor, "CPU", _settings(number_format, threads))
        except RuntimeError as error:
            raise ClassifierError(f"OpenVINO cannot read it: {error}") from error
        return cls(made, number_format=number_format, threads=threads, weights=data)

    def export(self) -> bytes:
        """Give the compiled graph as bytes."""
        return bytes(self._compiled.export_model().getvalue())

    def run(self, batches: Iterator[Batch]) -> list[NDArray[np.float32]]:
        """Give the logits of every batch, in the order of the batches."""
        found: dict[int, NDArray[np.float32]] = {}

        def keep(request: Any, index: int) -> None:
            found[index] = np.array(request.get_output_tensor(0).data, dtype=np.float32)

        self._queue.set_callback(keep)
        count = 0
        for ids in batches:
            self._queue.start_async({0: ids}, count)
            count += 1
        self._queue.wait_all()
        return [found[index] for index in range(count)]


def _settings(number_format: str, threads: int) -> dict[str, Any]:
    if number_format not in _PRECISIONS:
        raise ClassifierError(f"OpenVINO runs in {' or '.join(_PRECISIONS)}, not in {number_format}.")
    return {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[number_format],
        "NUM_STREAMS": str(threads),
        "INFERENCE_NUM_THREADS": str(threads),
        # Pinned, the threads of every process go to the same first cores: two workers then share one core.
        "ENABLE_CPU_PINNING": "NO",
    }
