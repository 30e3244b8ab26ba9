"""How fast the emotion classifier is, next to the plain ways, on this machine, in one run.

    python -m benchmarks.classifier                     the demo's sentences
    python -m benchmarks.classifier --texts FILE        one text per line
    python -m benchmarks.classifier --redial FILE       the messages of a ReDial JSONL file (.gz too)

A table goes to standard error, one JSON object to standard output. The plain ways are the transformers pipeline with
the same merged model, one text at a time and in batches of 32; they run on an even sample, because they are slow.
Every way gets the same number of threads. On a machine busy with other work the threads of the plain ways wait for one
another and the ratio flatters the engine: read the CPU-time ratio of `--threads 1` then. The matrix-product rate is
measured with the encoder's own shapes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annotation.inference.base import find_base
from annotation.inference.classifier import load_default
from annotation.inference.default_classifier import DEFAULT_FOLDER, usable_threads
from annotation.inference.encoder import Adapter, load_weights
from annotation.inference.text import plain_redial, prepare
from evaluation.emotions import EMOTIONS

LAYER_WEIGHTS = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
"""Weights of the encoder's linear maps: a token costs two operations for each."""

OPENINGS = ("I loved", "I hated", "Have you seen", "My brother showed me", "I never finished", "Could you suggest")
MIDDLES = ("a quiet film", "that comedy", "something scary", "an old western", "the new one", "a story about a ship")
ENDINGS = ("last week.", "with a happy ending!", "that my kids would like?", "and cried.", "but it was too long", "😂")


def invented(count: int) -> list[str]:
    """Give sentences put together by this program, of the lengths that dialogue has."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        parts = [
            f"{OPENINGS[random.integers(6)]} {MIDDLES[random.integers(6)]} {ENDINGS[random.integers(6)]}"
            for _ in range(1 + int(random.integers(0, 3)))
        ]
        made.append(" ".join(parts) + (f" {number}" if random.random() < 0.85 else ""))
    return made


def redial_texts(path: Path) -> list[str]:
    """Give the messages of a ReDial file with titles in place."""
    data = path.read_bytes()
    texts = []
    for line in (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8").splitlines():
        dialogue = json.loads(line)
        titles = dialogue["movieMentions"] or {}
        texts += [plain_redial(message["text"], titles) for message in dialogue["messages"]]
    return texts


def matrix_rate(number_format: str, threads: int, seconds: float = 1.0) -> float:
    """Give the best measured rate of the encoder's matrix products, in operations per second."""
    import torch

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if number_format == "bf16" else torch.float32
    best = 0.0
    for rows in (512, 1024, 2048, 4096):
        for inner, outer in ((384, 1536), (1536, 384), (384, 384)):
            left, right = torch.randn(rows, inner, dtype=dtype), torch.randn(outer, inner, dtype=dtype)
            for _ in range(3):
                left @ right.T
            # Short windows, the best of them: on a shared machine a long one measures the neighbours.
            ended = time.perf_counter() + seconds / 12
            while time.perf_counter() < ended:
                started = time.perf_counter()
                for _ in range(4):
                    left @ right.T
                best = max(best, 8.0 * rows * inner * outer / (time.perf_counter() - started))
    return best


def save_merged(folder: Path) -> None:
    """Write the merged model as a plain transformers folder, for the pipeline.

    The committed head sits on mean pooling, the package's on a tanh of the first token. The benchmark only needs the
    same encoder and a head of the same size, so the pooler is the identity; labels of this copy are not used.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    base = find_base()
    adapter = Adapter.load(DEFAULT_FOLDER / "adapter.safetensors")
    config = BertConfig(**{**base.config, "num_labels": len(adapter.labels)})
    model = BertForSequenceClassification(config)
    merged = {f"bert.{name}": torch.from_numpy(array) for name, array in adapter.merged(load_weights(base)).items()}
    merged["classifier.weight"] = torch.from_numpy(adapter.head_weight)
    merged["classifier.bias"] = torch.from_numpy(adapter.head_bias)
    model.load_state_dict(merged, strict=False)
    model.save_pretrained(folder)
    BertTokenizerFast(tokenizer_file=str(base.tokenizer)).save_pretrained(folder)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Give wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def cold_start(cache: Path, threads: int) -> dict[str, float]:
    """Start a fresh process, load, label one text; give its seconds and its peak memory."""
    script = (
        "import time; t = time.perf_counter()\n"
        "from annotation.inference.classifier import load_default\n"
        f"c = load_default(cache={str(cache)!r}, threads={threads}); c.probabilities(['hello'])\n"
        "import json, re\n"
        # VmHWM, because the peak that getrusage reports is inherited from the process that started this one.
        "peak = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()).group(1)) / 1024\n"
        "print(json.dumps({'seconds': time.perf_counter() - t, 'peak_rss_mib': peak}))"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(texts: Sequence[str], *, threads: int, sample: int, cache: Path, runtime: str = "auto") -> dict[str, Any]:
    """Run every way on the texts (the plain ones on an even sample) and give rates and ratios."""
    classifier = load_default(cache=cache, threads=threads, runtime=runtime)
    classifier.probabilities(list(texts[:200]))
    wall, cpu = timed(lambda: classifier.probabilities(texts))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    number_format = classifier.runtime.rpartition("-")[2]  # type: ignore[attr-defined]
    engine = {"texts_per_second": len(texts) / wall, "cpu_seconds": cpu, "seconds": wall, "peak_rss_mib": peak}

    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    few = list(texts[:: max(1, len(texts) // sample)])[:sample]
    with tempfile.TemporaryDirectory() as folder:
        save_merged(Path(folder))
        plain = pipeline("text-classification", model=folder, tokenizer=folder, device="cpu", top_k=None)
        options = {"truncation": True, "max_length": 256}
        plain(few[:8], **options)
        single_wall, single_cpu = timed(lambda: [plain(text, **options) for text in few])
        batched_wall, batched_cpu = timed(lambda: plain(few, batch_size=32, **options))

    reference = load_default(cache=cache, threads=threads, runtime="openvino-fp32")
    distinct = list({prepare(text): text for text in texts}.values())
    ours, exact = classifier.probabilities(distinct), reference.probabilities(distinct)
    agreement = {
        grouping: float(
            (classifier.emotions(ours, grouping).argmax(-1) == reference.emotions(exact, grouping).argmax(-1)).mean()
        )
        for grouping in ("ekman", "dialogue")
    }
    shuffled = np.random.default_rng(0).permutation(len(distinct))[:1000]
    alone = np.concatenate([classifier.probabilities([distinct[i]]) for i in shuffled])
    stable = float((classifier.emotions(alone).argmax(-1) == classifier.emotions(ours[shuffled]).argmax(-1)).mean())

    tokens = sum(len(row.ids) for row in _encodings(distinct))
    rate = matrix_rate(number_format, threads)
    per_text = {"one by one": single_cpu / len(few), "batches of 32": batched_cpu / len(few)}
    return {
        "texts": len(texts),
        "distinct": len(distinct),
        "tokens_run": tokens,
        "threads": threads,
        "runtime": classifier.runtime,  # type: ignore[attr-defined]
        "revision": classifier.revision,
        "engine": engine,
        "pipeline_one_by_one": {
            "texts_per_second": len(few) / single_wall,
            "cpu_seconds_per_text": per_text["one by one"],
        },
        "pipeline_batch_32": {
            "texts_per_second": len(few) / batched_wall,
            "cpu_seconds_per_text": per_text["batches of 32"],
        },
        "ratio_to_one_by_one": engine["texts_per_second"] * single_wall / len(few),
        "ratio_to_batch_32": engine["texts_per_second"] * batched_wall / len(few),
        "cpu_ratio_to_one_by_one": per_text["one by one"] / (cpu / len(texts)),
        "cpu_ratio_to_batch_32": per_text["batches of 32"] / (cpu / len(texts)),
        "matrix_rate_gflops": rate / 1e9,
        "fraction_of_matrix_rate": 2 * LAYER_WEIGHTS * tokens / wall / rate,
        "cpu_fraction_of_matrix_rate": 2 * LAYER_WEIGHTS * tokens / cpu / (rate / threads),
        "agreement_with_fp32": agreement,
        "same_label_alone_and_in_batches": stable,
        "cold_start": cold_start(cache, threads),
        "emotions": {
            emotion: float((classifier.emotions(ours).argmax(-1) == index).mean())
            for index, emotion in enumerate(EMOTIONS)
        },
    }


def _encodings(texts: list[str]) -> list[Any]:
    from tokenizers import Tokenizer

    tokeniser = Tokenizer.from_file(str(find_base().tokenizer))
    tokeniser.no_padding()
    tokeniser.enable_truncation(256)
    encodings: list[Any] = tokeniser.encode_batch([prepare(text) for text in texts])
    return encodings


def table(found: dict[str, Any]) -> str:
    """Lay the result out for a reader."""
    rows = [
        ("pipeline, one by one", found["pipeline_one_by_one"]["texts_per_second"], 1.0),
        (
            "pipeline, batches of 32",
            found["pipeline_batch_32"]["texts_per_second"],
            found["ratio_to_one_by_one"] / found["ratio_to_batch_32"],
        ),
        (f"engine, {found['runtime']}", found["engine"]["texts_per_second"], found["ratio_to_one_by_one"]),
    ]
    lines = [f"{found['texts']:,} texts, {found['distinct']:,} distinct, {found['threads']} threads", ""]
    lines += [f"{name:<28}{rate:>10,.0f} texts/s {ratio:>7.1f} x" for name, rate, ratio in rows]
    lines += [
        "",
        f"to batches of 32                 {found['ratio_to_batch_32']:.1f} x",
        f"the same ratios in CPU time      {found['cpu_ratio_to_one_by_one']:.1f} x and"
        f" {found['cpu_ratio_to_batch_32']:.1f} x",
        f"of the matrix-product rate       {found['fraction_of_matrix_rate']:.0%} of wall,"
        f" {found['cpu_fraction_of_matrix_rate']:.0%} of CPU time ({found['matrix_rate_gflops']:,.0f} GFLOP/s)",
        f"labels as in fp32                {found['agreement_with_fp32']['ekman']:.2%} ekman,"
        f" {found['agreement_with_fp32']['dialogue']:.2%} dialogue",
        f"same label alone and in batches  {found['same_label_alone_and_in_batches']:.2%}",
        f"cold start                       {found['cold_start']['seconds']:.2f} s,"
        f" {found['cold_start']['peak_rss_mib']:,.0f} MiB",
        f"peak memory while labelling      {found['engine']['peak_rss_mib']:,.0f} MiB",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--texts", type=Path, help="one text per line")
    source.add_argument("--redial", type=Path, help="a ReDial JSONL file")
    parser.add_argument("--count", type=int, default=10_000, help="texts at most")
    parser.add_argument("--sample", type=int, default=200, help="texts for the plain ways")
    parser.add_argument("--threads", type=int, default=usable_threads())
    parser.add_argument("--runtime", default="auto", help="for example openvino-fp32, as on a CPU without bf16")
    chosen = parser.parse_args(arguments)
    if chosen.redial:
        texts = redial_texts(chosen.redial)[: chosen.count]
    elif chosen.texts:
        texts = chosen.texts.read_text(encoding="utf-8").splitlines()[: chosen.count]
    else:
        texts = invented(chosen.count)
    with tempfile.TemporaryDirectory() as cache:
        found = measure(texts, threads=chosen.threads, sample=chosen.sample, cache=Path(cache), runtime=chosen.runtime)
    print(table(found), file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
