"""The encoder written out, and the adapter on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotation.inference.base import ClassifierError
from annotation.inference.encoder import Adapter, Shape, as_tensors, encode, load_weights
from annotation.inference.openvino_runtime import OpenVinoRuntime, build_graph
from annotation.inference.torch_runtime import TorchRuntime
from tests.annotation.inference.tiny import make_adapter, make_base

IDS = np.array([[2, 5, 6, 7, 3, 0, 0, 0], [2, 8, 3, 0, 0, 0, 0, 0], [2, 9, 10, 11, 12, 13, 14, 3]], dtype=np.int32)
MASK = (IDS != 0).astype(np.int32)


def test_it_computes_what_the_transformers_package_computes(tmp_path: Path) -> None:
    import torch
    from transformers import BertModel

    base = make_base(tmp_path)
    model = BertModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    with torch.inference_mode():
        hidden = model(input_ids=torch.from_numpy(IDS).long(), attention_mask=torch.from_numpy(MASK).long())
        kept = torch.from_numpy(MASK)[:, :, None].float()
        expected = (hidden.last_hidden_state * kept).sum(1) / kept.sum(1)
        weights = as_tensors(load_weights(base), device="cpu", dtype=torch.float32)
        found = encode(weights, Shape.of(base), torch.from_numpy(IDS).long(), torch.from_numpy(MASK))
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_merged_adapter_equals_its_factors_beside_the_weights(tmp_path: Path) -> None:
    import torch

    base, adapter = make_base(tmp_path), make_adapter()
    shape, weights = Shape.of(base), load_weights(base)
    ids, mask = torch.from_numpy(IDS).long(), torch.from_numpy(MASK)
    factors = {
        name: (torch.from_numpy(adapter.down[name]), torch.from_numpy(adapter.up[name])) for name in adapter.down
    }
    beside = encode(
        as_tensors(weights, device="cpu", dtype=torch.float32), shape, ids, mask, adapter=factors, scale=adapter.scale
    )
    merged = encode(as_tensors(adapter.merged(weights), device="cpu", dtype=torch.float32), shape, ids, mask)
    assert torch.allclose(beside, merged, atol=1e-5)
    assert not torch.allclose(
        merged, encode(as_tensors(weights, device="cpu", dtype=torch.float32), shape, ids, mask), atol=1e-2
    )


def test_openvino_and_torch_give_unpadded_what_training_computes_with_padding(tmp_path: Path) -> None:
    import torch

    base, adapter = make_base(tmp_path), make_adapter()
    shape, merged = Shape.of(base), adapter.merged(load_weights(base))
    head = (adapter.head_weight, adapter.head_bias)
    torch_runtime = TorchRuntime(merged, shape, head, number_format="fp32", threads=1)
    openvino = OpenVinoRuntime.compiled(build_graph(merged, shape, head), number_format="fp32", threads=1)
    with torch.inference_mode():
        weights = as_tensors(merged, device="cpu", dtype=torch.float32)
        pooled = encode(weights, shape, torch.from_numpy(IDS).long(), torch.from_numpy(MASK)).numpy()
    trained = pooled @ head[0].T + head[1]
    alone = [row[:length][None] for row, length in zip(IDS, MASK.sum(1), strict=True)]
    for runtime in (torch_runtime, openvino):
        assert np.allclose(np.concatenate(runtime.run(iter(alone))), trained, atol=1e-4)
        # Neighbours change nothing.
        assert np.allclose(runtime.run(iter([np.repeat(alone[1], 3, axis=0)]))[0], trained[1], atol=1e-4)


def test_a_compiled_graph_is_exported_and_read_back(tmp_path: Path) -> None:
    base, adapter = make_base(tmp_path), make_adapter()
    graph = build_graph(adapter.merged(load_weights(base)), Shape.of(base), (adapter.head_weight, adapter.head_bias))
    made = OpenVinoRuntime.compiled(graph, number_format="fp32", threads=1)
    stored = np.frombuffer(bytearray(made.export()), dtype=np.uint8)
    again = OpenVinoRuntime.stored(stored, number_format="fp32", threads=1)
    assert np.array_equal(made.run(iter([IDS]))[0], again.run(iter([IDS]))[0])
    no_graph = np.frombuffer(bytearray(b"not a graph"), dtype=np.uint8)
    with pytest.raises(ClassifierError, match="cannot read"):
        OpenVinoRuntime.stored(no_graph, number_format="fp32", threads=1)


def test_threads_are_not_pinned_so_that_workers_share_no_core(tmp_path: Path) -> None:
    """Pinned, the threads of every process go to the same first cores, and a second worker adds nothing."""
    base, adapter = make_base(tmp_path), make_adapter()
    graph = build_graph(adapter.merged(load_weights(base)), Shape.of(base), (adapter.head_weight, adapter.head_bias))
    made = OpenVinoRuntime.compiled(graph, number_format="fp32", threads=1)
    stored = np.frombuffer(bytearray(made.export()), dtype=np.uint8)
    for runtime in (made, OpenVinoRuntime.stored(stored, number_format="fp32", threads=1)):
        assert runtime._compiled.get_property("ENABLE_CPU_PINNING") is False


def test_an_adapter_survives_saving_in_half_precision(tmp_path: Path) -> None:
    adapter = make_adapter()
    adapter.save(tmp_path / "adapter.safetensors")
    again = Adapter.load(tmp_path / "adapter.safetensors")
    assert again.labels == adapter.labels
    assert again.scale == adapter.scale
    for name, down in adapter.down.items():
        assert np.allclose(again.down[name], down, rtol=1e-3, atol=1e-6)
    assert np.array_equal(again.head_weight, adapter.head_weight)


def test_a_missing_adapter_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"missing.*train_classifier"):
        Adapter.load(tmp_path / "adapter.safetensors")


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_adapter_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "adapter.safetensors"
    make_adapter().save(path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "noise": b"\xff" * 500, "empty": b""}[damage])
    with pytest.raises(ClassifierError, match=r"adapter\.safetensors is damaged"):
        Adapter.load(path)


def test_an_adapter_with_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    adapter = make_adapter()
    next(iter(adapter.up.values()))[0, 0] = np.nan
    adapter.save(tmp_path / "a.safetensors")
    with pytest.raises(ClassifierError, match="damaged"):
        Adapter.load(tmp_path / "a.safetensors")


def test_a_safetensors_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    make_base(tmp_path)
    with pytest.raises(ClassifierError, match="not an adapter"):
        Adapter.load(tmp_path / "model.safetensors")


def test_an_adapter_for_another_encoder_is_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    adapter = make_adapter()
    name = next(iter(adapter.down))
    adapter.down[name] = np.zeros((2, 99), dtype=np.float32)
    with pytest.raises(ClassifierError, match=r"does not fit.*query"):
        adapter.merged(load_weights(base))
