"""The label scheme, storage, and the committed classifier itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from annotation.inference.base import ClassifierError
from annotation.inference.classifier import (
    Classifier,
    LabelScheme,
    LexiconClassifier,
    MappingError,
    classify_stream,
    load_default,
    pack,
    unpack,
)
from annotation.inference.default_classifier import DEFAULT_FOLDER, runtimes_to_try
from evaluation.emotions import EMOTIONS, GO_EMOTIONS

SEVEN = {"pleased": "joy", "cross": "anger", "flat": "neutral"}


def test_the_28_labels_need_no_mapping_and_follow_the_grouping() -> None:
    scheme = LabelScheme(GO_EMOTIONS)
    curious = np.eye(28)[[GO_EMOTIONS.index("curiosity")]]
    assert EMOTIONS[scheme.emotions(curious, "ekman")[0].argmax()] == "surprise"
    assert EMOTIONS[scheme.emotions(curious, "dialogue")[0].argmax()] == "neutral"


def test_the_28_labels_in_another_order_are_still_read_by_name() -> None:
    scheme = LabelScheme(tuple(reversed(GO_EMOTIONS)))
    fear = np.eye(28)[27 - GO_EMOTIONS.index("fear")]
    assert EMOTIONS[scheme.emotions(fear).argmax()] == "fear"


def test_own_labels_are_mapped_and_unreachable_emotions_are_named() -> None:
    scheme = LabelScheme(tuple(SEVEN), SEVEN)
    assert scheme.emotions(np.array([[0.2, 0.3, 0.5]])).tolist() == [
        pytest.approx([0.2, 0, 0.3, 0, 0, 0, 0.5]),
    ]
    assert scheme.unreachable == ("sadness", "fear", "surprise", "disgust")


@pytest.mark.parametrize(
    ("mapping", "named"),
    [
        (None, "pleased, cross, flat"),
        ({"pleased": "joy", "flat": "neutral"}, "cross"),
        (SEVEN | {"bored": "neutral"}, "bored"),
        (SEVEN | {"cross": "rage"}, "cross -> rage"),
    ],
)
def test_a_wrong_mapping_is_refused_with_the_labels_named(mapping: dict[str, str] | None, named: str) -> None:
    with pytest.raises(MappingError, match=named):
        LabelScheme(tuple(SEVEN), mapping)


def test_sigmoid_rows_are_made_to_sum_to_one_even_when_all_are_zero() -> None:
    scheme = LabelScheme(GO_EMOTIONS, activation="sigmoid")
    row = np.zeros(28)
    row[[GO_EMOTIONS.index("joy"), GO_EMOTIONS.index("anger")]] = 0.9, 0.3
    seven = scheme.emotions(np.stack([row, np.zeros(28)]))
    assert seven.sum(-1) == pytest.approx([1, 1])
    assert seven[0, EMOTIONS.index("joy")] == pytest.approx(0.75)


def test_temperature_softens_and_keeps_the_order() -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(28), size=50)
    plain, soft = LabelScheme(GO_EMOTIONS), LabelScheme(GO_EMOTIONS, temperature={"ekman": 2.0})
    one, two = plain.emotions(rows, "ekman"), soft.emotions(rows, "ekman")
    assert np.array_equal(one.argsort(-1), two.argsort(-1))
    assert np.all(two.max(-1) < one.max(-1))
    assert two.sum(-1) == pytest.approx(np.ones(50))
    assert np.array_equal(plain.emotions(rows), soft.emotions(rows)), "another grouping has its own temperature"


def test_a_scheme_survives_json() -> None:
    import json

    for scheme in (
        LabelScheme(GO_EMOTIONS, temperature={"ekman": 1.1}),
        LabelScheme(tuple(SEVEN), SEVEN, activation="sigmoid"),
    ):
        assert LabelScheme.from_json(json.loads(json.dumps(scheme.to_json()))) == scheme


def test_probabilities_survive_storage() -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(28), size=9).astype(np.float32)
    stored = pack(rows)
    assert {len(row) for row in stored} == {56}
    assert np.abs(unpack(stored, 28) - rows).max() < 1e-3
    assert unpack([], 28).shape == (0, 28)
    with pytest.raises(ValueError, match="28 probabilities"):
        unpack([b"xx"], 28)


def test_the_lexicon_satisfies_the_protocol() -> None:
    lexicon: Classifier = LexiconClassifier()
    found = lexicon.probabilities(["I LOVE it", "so sad", "", "plain"])
    assert [EMOTIONS[i] for i in lexicon.emotions(found).argmax(-1)] == ["joy", "sadness", "neutral", "neutral"]
    assert found.dtype == np.float32
    assert lexicon.revision != LexiconClassifier({"love": "anger"}).revision


# -- the committed classifier -------------------------------------------------------------------------------------

EDGE_CASES = {
    "empty": "",
    "blank": " \n\t ",
    "very long": "I loved every minute of it. " * 2000,
    "one long word": "a" * 50_000,
    "emoji": "😂😂❤️👩‍👩‍👧",
    "japanese": "この映画は本当に面白かった",
    "arabic": "أحببت هذا الفيلم كثيرا",
    "control characters": "nice\x00film\x07",
    "lone surrogate": "broken \ud83d emoji",
    "special token": "[CLS] [SEP] [MASK]",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def default(cache: Path) -> Classifier:
    return load_default(cache=cache, threads=1)


def test_plain_sentences_get_the_emotion_anyone_would_give(default: Classifier) -> None:
    expected = {
        "I absolutely love this movie, thank you so much!": "joy",
        "I am so sad that he died.": "sadness",
        "This makes me so angry, what an idiot!": "anger",
        "I am terrified of that.": "fear",
        "Wow, I can't believe it, what a surprise!": "surprise",
        "That is disgusting and gross.": "disgust",
        "What kind of movies do you like?": "neutral",
    }
    found = default.emotions(default.probabilities(list(expected)))
    assert dict(zip(expected, [EMOTIONS[i] for i in found.argmax(-1)], strict=True)) == expected


@pytest.mark.parametrize("name", EDGE_CASES)
def test_any_text_gets_probabilities(default: Classifier, name: str) -> None:
    found = default.probabilities([EDGE_CASES[name]])
    assert found.shape == (1, 28)
    assert found.dtype == np.float32
    assert found.sum() == pytest.approx(1, abs=1e-4)


def test_no_text_gives_no_rows(default: Classifier) -> None:
    assert default.probabilities([]).shape == (0, 28)
    assert default.emotions(default.probabilities([])).shape == (0, 7)


def test_a_text_has_one_label_whatever_its_neighbours_and_order(default: Classifier) -> None:
    random = np.random.default_rng(0)
    words = ["i", "love", "hate", "this", "movie", "so", "good", "bad", "scary", "funny", "what", "do", "thanks"]
    texts = [" ".join(random.choice(words, size=int(random.integers(1, 40)))) for _ in range(150)]
    together = default.probabilities(texts)
    alone = np.concatenate([default.probabilities([text]) for text in texts])
    order = random.permutation(len(texts))
    shuffled = default.probabilities([texts[i] for i in order])
    assert np.array_equal(default.emotions(together).argmax(-1), default.emotions(alone).argmax(-1))
    assert np.abs(together - alone).max() < 1e-3
    assert np.abs(together[order] - shuffled).max() < 1e-3


def test_texts_equal_but_for_case_and_space_are_one_text(default: Classifier) -> None:
    found = default.probabilities(["Great movie", "  great   MOVIE ", "great movie"])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_a_stream_gives_the_same_as_one_call(default: Classifier) -> None:
    texts = [f"I liked number {i}" for i in range(25)]
    parts = list(classify_stream(default, iter(texts), chunk=10))
    assert [len(part) for part in parts] == [10, 10, 5]
    assert np.allclose(np.concatenate(parts), default.probabilities(texts), atol=1e-3)


def test_every_runtime_gives_the_labels_of_plain_fp32(default: Classifier, cache: Path) -> None:
    reference = load_default(cache=cache, threads=1, runtime="torch-fp32")
    texts = [
        f"{start} {middle} {end}"
        for start in ("I", "you", "we all", "nobody")
        for middle in ("loved", "hated", "saw", "was scared by", "laughed about")
        for end in ("that film", "the ending!", "it twice.", "the new one?", "everything 😂")
    ]
    expected = reference.emotions(reference.probabilities(texts))
    assert np.abs(default.emotions(default.probabilities(texts)) - expected).max() < 0.03
    assert (default.emotions(default.probabilities(texts)).argmax(-1) == expected.argmax(-1)).mean() >= 0.99
    assert default.revision != reference.revision, "the number format is part of the revision"


def test_a_cached_graph_gives_the_same(default: Classifier, cache: Path) -> None:
    texts = ["I loved it", "What a bore"]
    again = load_default(cache=cache, threads=1)
    assert again.revision == default.revision
    assert np.array_equal(again.probabilities(texts), default.probabilities(texts))


def test_a_damaged_graph_is_made_again(default: Classifier, tmp_path: Path) -> None:
    texts = ["I loved it", "What a bore"]
    load_default(cache=tmp_path, threads=1)
    (graph,) = tmp_path.glob("graph-*.bin")
    for damage in (
        lambda data: data[:1000],
        lambda data: b"",
        lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    ):
        damaged = damage(graph.read_bytes())
        graph.unlink()
        graph.write_bytes(damaged)
        again = load_default(cache=tmp_path, threads=1)
        assert np.array_equal(again.probabilities(texts), default.probabilities(texts))
        assert graph.read_bytes() != damaged


def test_a_graph_that_is_replaced_in_the_cache_leaves_the_loaded_one_as_it_was(cache: Path) -> None:
    loaded = load_default(cache=cache, threads=1)
    expected = loaded.probabilities(["I loved it"])
    for graph in cache.glob("graph-*.bin"):
        other = graph.with_suffix(".other")
        other.write_bytes(b"something else")
        other.replace(graph)
    assert np.array_equal(loaded.probabilities(["I loved it"]), expected)


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert load_default(cache=tmp_path / "file" / "below", threads=1).probabilities(["hello"]).shape == (1, 28)


def test_a_damaged_committed_adapter_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "adapter.safetensors"
    copy.write_bytes((DEFAULT_FOLDER / "adapter.safetensors").read_bytes()[:-100])
    with pytest.raises(ClassifierError, match="damaged"):
        load_default(adapter=copy)


def test_an_adapter_that_is_not_the_cards_fails_the_self_test(tmp_path: Path) -> None:
    from annotation.inference.encoder import Adapter

    shutil.copy(DEFAULT_FOLDER / "card.json", tmp_path)
    other = Adapter.load(DEFAULT_FOLDER / "adapter.safetensors")
    other.head_bias[3] += 5.0
    other.save(tmp_path / "adapter.safetensors")
    with pytest.raises(ClassifierError, match="self-test"):
        load_default(adapter=tmp_path / "adapter.safetensors", cache=tmp_path, threads=1)


def test_a_damaged_card_is_refused(tmp_path: Path) -> None:
    shutil.copy(DEFAULT_FOLDER / "adapter.safetensors", tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(ClassifierError, match="card"):
        load_default(adapter=tmp_path / "adapter.safetensors")


def test_an_unknown_runtime_is_refused() -> None:
    assert runtimes_to_try("openvino-fp32") == ["openvino-fp32"]
    with pytest.raises(ClassifierError, match="no runtime called"):
        load_default(runtime="abacus-fp32")


def test_loading_and_labelling_open_no_connection_and_import_neither_torch_nor_telemetry(cache: Path) -> None:
    script = f"""
import socket, sys
def refuse(*args, **kwargs):
    raise SystemExit("a connection was opened")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from annotation.inference.classifier import load_default
load_default(cache={str(cache)!r}, threads=1, runtime="openvino-fp32").probabilities(["hello"])
assert "torch" not in sys.modules and "transformers" not in sys.modules
assert not any(name.startswith(("openvino_telemetry.", "openvino.tools.ovc.")) for name in sys.modules)
print("quiet")
"""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "quiet", done.stderr[-2000:]


def test_the_committed_files_are_small() -> None:
    assert sum(path.stat().st_size for path in DEFAULT_FOLDER.iterdir()) < 5_000_000
