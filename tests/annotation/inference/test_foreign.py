"""Other people's models: any architecture, safetensors only, a mapping that fits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from annotation.inference.base import ClassifierError
from annotation.inference.classifier import MappingError, load_transformer
from evaluation.emotions import EMOTIONS, GO_EMOTIONS
from tests.annotation.inference.tiny import WORDS

LABELS = ("pleased", "cross", "flat")
MAPPING = {"pleased": "joy", "cross": "anger", "flat": "neutral"}
TEXTS = ["i love it", "what do you like", "", "a film", "i love it", "hate " * 400]


def save_tokeniser(folder: Path) -> None:
    from transformers import BertTokenizerFast

    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizerFast(vocab=str(vocabulary), do_lower_case=True).save_pretrained(folder)


def save_model(folder: Path, architecture: str, labels: tuple[str, ...]) -> Path:
    """Save a tiny random model of the architecture with the package itself, as anyone would."""
    import torch
    from transformers import (
        DistilBertConfig,
        DistilBertForSequenceClassification,
        ElectraConfig,
        ElectraForSequenceClassification,
    )

    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    size = len(WORDS) + 5
    if architecture == "distilbert":
        config = DistilBertConfig(
            vocab_size=size, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=66, **names
        )
        model = DistilBertForSequenceClassification(config)
    else:
        electra = ElectraConfig(
            vocab_size=size,
            embedding_size=16,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=66,
            **names,
        )
        model = ElectraForSequenceClassification(electra)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    save_tokeniser(folder)
    return folder


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("distilbert"), "distilbert", LABELS)


@pytest.fixture(scope="module")
def electra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("electra"), "electra", GO_EMOTIONS)


def expected_logits(folder: Path, texts: list[str]) -> np.ndarray:
    """The same by the package itself, one text at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokeniser = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        rows = [
            model(**tokeniser(" ".join(text.split()), truncation=True, max_length=64, return_tensors="pt")).logits[0]
            for text in texts
        ]
    return torch.stack(rows).numpy()


def test_a_model_of_another_architecture_is_read_through_its_mapping(distilbert: Path) -> None:
    found = load_transformer(distilbert, mapping=MAPPING, threads=1)
    logits = expected_logits(distilbert, TEXTS)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.allclose(found.probabilities(TEXTS), expected, atol=1e-4)
    assert found.labels == LABELS
    seven = found.emotions(found.probabilities(TEXTS))
    assert np.allclose(seven[:, [EMOTIONS.index(MAPPING[label]) for label in LABELS]], expected, atol=1e-4)


def test_a_multi_label_model_with_the_28_labels_needs_no_mapping(electra: Path) -> None:
    found = load_transformer(electra, activation="sigmoid", threads=1)
    fine = found.probabilities(TEXTS)
    assert np.allclose(fine, 1 / (1 + np.exp(-expected_logits(electra, TEXTS))), atol=1e-4)
    assert not np.allclose(fine.sum(-1), 1)
    assert np.allclose(found.emotions(fine, "ekman").sum(-1), 1, atol=1e-5)


def test_labels_may_be_mapped_to_the_28_so_that_the_grouping_decides(distilbert: Path) -> None:
    found = load_transformer(distilbert, mapping=MAPPING | {"flat": "curiosity"}, threads=1)
    row = np.array([[0.1, 0.1, 0.8]])
    assert EMOTIONS[found.emotions(row, "ekman")[0].argmax()] == "surprise"
    assert EMOTIONS[found.emotions(row, "dialogue")[0].argmax()] == "neutral"


@pytest.mark.parametrize(
    ("mapping", "named"),
    [(None, "pleased"), ({"pleased": "joy"}, "cross, flat"), (MAPPING | {"flat": "calm"}, "flat -> calm")],
)
def test_a_wrong_mapping_is_refused_before_the_weights_are_read(
    distilbert: Path, mapping: dict[str, str] | None, named: str
) -> None:
    with pytest.raises(MappingError, match=named):
        load_transformer(distilbert, mapping=mapping)


def test_another_mapping_or_activation_is_another_revision(distilbert: Path) -> None:
    one = load_transformer(distilbert, mapping=MAPPING)
    two = load_transformer(distilbert, mapping=MAPPING | {"cross": "disgust"})
    three = load_transformer(distilbert, mapping=MAPPING, activation="sigmoid")
    assert len({one.revision, two.revision, three.revision}) == 3
    assert one.revision == load_transformer(distilbert, mapping=MAPPING).revision


def test_a_pickled_model_is_refused(distilbert: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((distilbert / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(ClassifierError, match=r"no \.safetensors file"):
        load_transformer(tmp_path, mapping=MAPPING)


def test_code_in_the_models_folder_is_never_run(distilbert: Path, tmp_path: Path) -> None:
    for path in distilbert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.OwnModel"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write('ran')\n")
    with pytest.raises(ClassifierError, match="cannot be loaded"):
        load_transformer(tmp_path, mapping=MAPPING)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "abc123"])
def test_a_hub_model_needs_a_full_commit(revision: str | None) -> None:
    with pytest.raises(ClassifierError, match="40 hexadecimal"):
        load_transformer("someone/some-model", revision=revision, allow_hub=True)


def test_without_leave_the_hub_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ClassifierError, match="not on this machine"):
        load_transformer("someone/some-model", revision="0" * 40)


def test_a_folder_that_is_none_or_holds_no_classifier_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match="no folder"):
        load_transformer(tmp_path / "nowhere")
    with pytest.raises(ClassifierError, match="id2label"):
        load_transformer(tmp_path)
