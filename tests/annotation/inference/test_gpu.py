"""The path to a GPU, as far as a machine without one can walk it: the choice, the fall-back, the bf16 arithmetic.

No test here has run on a GPU. Where one is needed the CPU stands in for it under its name.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotation.inference import default_classifier, torch_runtime
from annotation.inference.base import ClassifierError
from annotation.inference.classifier import load_default
from annotation.inference.default_classifier import GPU_TOKEN_BUDGET, DefaultClassifier, runtimes_to_try
from annotation.inference.training import device_and_format

TEXTS = [
    f"{start} {middle} {end}"
    for start in ("I", "you", "we all", "nobody")
    for middle in ("loved", "hated", "saw", "was scared by", "laughed about")
    for end in ("that film", "the ending!", "it twice.", "the new one?", "everything 😂")
]


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPU driver is loaded."""
    monkeypatch.setattr(default_classifier, "NVIDIA_DRIVER", tmp_path)


@pytest.fixture
def stand_in(driver: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is the CPU under another name."""

    class StandIn(torch_runtime.TorchRuntime):
        def __init__(self, *args: Any, device: str, **kwargs: Any) -> None:
            super().__init__(*args, device="cpu", **kwargs)
            self.name = f"torch-{device}-{self.number_format}"

    monkeypatch.setattr(torch_runtime, "TorchRuntime", StandIn)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


def test_a_gpu_is_tried_first_where_there_is_a_driver_and_never_elsewhere(
    driver: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert runtimes_to_try("auto")[0] == "torch-cuda-bf16"
    monkeypatch.setattr(default_classifier, "NVIDIA_DRIVER", tmp_path / "absent")
    assert not [name for name in runtimes_to_try("auto") if "cuda" in name]


def test_a_gpu_that_torch_cannot_use_leaves_the_work_to_the_cpu(
    driver: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path_factory: Any
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        loaded = load_default(cache=tmp_path_factory.mktemp("cache"), threads=1)
    assert isinstance(loaded, DefaultClassifier)
    assert loaded.runtime.startswith("openvino-")
    assert "torch-cuda-bf16 is not used: torch sees no GPU" in caplog.text
    with pytest.raises(ClassifierError, match="torch sees no GPU"):
        load_default(runtime="torch-cuda-bf16")


def test_the_gpus_bf16_path_says_what_fp32_says_in_larger_batches(stand_in: None, tmp_path: Path) -> None:
    loaded = load_default(cache=tmp_path, threads=1)
    reference = load_default(cache=tmp_path, threads=1, runtime="torch-fp32")
    assert isinstance(loaded, DefaultClassifier)
    assert loaded.runtime == "torch-cuda-bf16"
    assert loaded._engine.budget == GPU_TOKEN_BUDGET
    assert loaded.revision != reference.revision
    together, exact = loaded.probabilities(TEXTS), reference.probabilities(TEXTS)
    assert np.abs(loaded.emotions(together) - reference.emotions(exact)).max() < 0.03
    alone = np.concatenate([loaded.probabilities([text]) for text in TEXTS])
    assert (loaded.emotions(alone).argmax(-1) == loaded.emotions(together).argmax(-1)).all()


def test_a_gpu_that_computes_something_else_is_not_used(
    stand_in: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    run = torch_runtime.TorchRuntime.run
    monkeypatch.setattr(
        torch_runtime.TorchRuntime, "run", lambda self, batches: [logits[:, ::-1] for logits in run(self, batches)]
    )
    with caplog.at_level(logging.WARNING):
        loaded = load_default(cache=tmp_path, threads=1)
    assert isinstance(loaded, DefaultClassifier)
    assert loaded.runtime.startswith("openvino-")
    assert "on the self-test's sentences" in caplog.text


@pytest.mark.parametrize(("native", "expected"), [(True, ("cuda", "bf16")), (False, ("cuda", "fp32"))])
def test_training_takes_a_gpu_in_bf16_where_it_knows_bf16(
    native: bool, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: native)
    assert device_and_format() == expected
