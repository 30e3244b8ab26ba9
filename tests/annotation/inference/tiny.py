"""A base encoder and foreign models small enough to make in a test; their labels mean nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from annotation.inference.base import Base
from annotation.inference.corpus import Examples, examples_of
from annotation.inference.encoder import LAYER_LINEARS, Adapter
from evaluation.emotions import GO_EMOTIONS

_SENTENCE = "i you it the a film movie love hate sad happy great angry afraid wow what do like have fun"
WORDS = tuple(_SENTENCE.split())
HIDDEN, LAYERS, HEADS, INNER = 16, 2, 4, 32


def make_base(folder: Path, *, seed: int = 0) -> Base:
    """Write a random two-layer BERT encoder with a word-piece tokeniser."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokeniser = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokeniser.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokeniser.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokeniser.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokeniser.save(str(folder / "tokenizer.json"))
    random = np.random.default_rng(seed)

    def matrix(*shape: int) -> np.ndarray:
        return random.normal(0, 0.3, shape).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": matrix(len(vocabulary), HIDDEN),
        "embeddings.position_embeddings.weight": matrix(64, HIDDEN),
        "embeddings.token_type_embeddings.weight": matrix(2, HIDDEN),
        "embeddings.LayerNorm.weight": 1 + matrix(HIDDEN),
        "embeddings.LayerNorm.bias": matrix(HIDDEN),
    }
    for layer in range(LAYERS):
        for name in LAYER_LINEARS:
            rows = INNER if name == "intermediate.dense" else HIDDEN
            columns = INNER if name == "output.dense" else HIDDEN
            weights[f"encoder.layer.{layer}.{name}.weight"] = matrix(rows, columns)
            weights[f"encoder.layer.{layer}.{name}.bias"] = matrix(rows)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            weights[f"encoder.layer.{layer}.{name}.weight"] = 1 + matrix(HIDDEN)
            weights[f"encoder.layer.{layer}.{name}.bias"] = matrix(HIDDEN)
    save_file(weights, folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 64,
        "vocab_size": len(vocabulary),
        "hidden_act": "gelu",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return Base(folder)


def make_adapter(*, seed: int = 1, rank: int = 2) -> Adapter:
    """Give a random adapter that fits the tiny base."""
    random = np.random.default_rng(seed)
    down, up = {}, {}
    for layer in range(LAYERS):
        for name in LAYER_LINEARS:
            rows = INNER if name == "intermediate.dense" else HIDDEN
            columns = INNER if name == "output.dense" else HIDDEN
            down[f"encoder.layer.{layer}.{name}"] = random.normal(0, 0.2, (rank, columns)).astype(np.float32)
            up[f"encoder.layer.{layer}.{name}"] = random.normal(0, 0.2, (rows, rank)).astype(np.float32)
    head = random.normal(0, 0.2, (len(GO_EMOTIONS), HIDDEN)).astype(np.float32)
    return Adapter(down, up, head, np.zeros(len(GO_EMOTIONS), dtype=np.float32), 2.0, GO_EMOTIONS)


def learnable(rows: int, *, seed: int = 0) -> Examples:
    """Give texts whose label follows from one word; made by this program, not by any person."""
    random = np.random.default_rng(seed)
    rule = {"love": "joy", "sad": "sadness", "angry": "anger", "afraid": "fear", "film": "neutral"}
    texts, labels = [], []
    for _ in range(rows):
        word = str(random.choice(list(rule)))
        filler = [
            str(w) for w in random.choice(["i", "you", "it", "the", "a", "do", "have"], size=random.integers(1, 8))
        ]
        texts.append(" ".join([*filler, word]))
        labels.append([GO_EMOTIONS.index(rule[word])])
    return examples_of(texts, labels)
