"""The full report of a corpus the size of the published one, and the export of 100,000 judgments, timed step by step.

    python -m benchmarks.report [--dialogues 939] [--systems 8] [--judgments 100000] [--replicates 2000]

Two data sets are written into a throw-away database: `--dialogues` dialogues of five turns answered by `--systems`
systems, and a third of that again for the second data set with twelve. Labels and judgments are drawn by this program;
no person has given any of them. Prints one JSON object: seconds, processor seconds by step (on a machine that
is shared these say more), peak memory in MiB, bytes of the bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from typing import Any

FOLDER = tempfile.TemporaryDirectory(prefix="attune-bench-")
os.environ["ATTUNE_DATA_DIR"] = FOLDER.name
os.environ.pop("ATTUNE_DATABASE_URL", None)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import django  # noqa: E402

django.setup()

import numpy as np  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402

from annotation.models import (  # noqa: E402
    Campaign,
    Classifier,
    Dataset,
    Dialogue,
    Item,
    Judgment,
    Membership,
    Prediction,
    Response,
    SampledTurn,
    Slot,
    System,
    Text,
    Turn,
    User,
    Utterance,
)
from annotation.workflow import exports, reporting  # noqa: E402
from evaluation.emotions import GO_EMOTIONS  # noqa: E402

TURNS = 5


def memory() -> int:
    """Peak resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def write_corpus(dialogues: int, systems: int) -> None:
    """Write both data sets with a prediction for every text."""
    reference = System.objects.create(name="reference", kind="human", is_reference=True)
    classifier = Classifier.objects.create(
        name="drawn",
        revision="1",
        labels=list(GO_EMOTIONS),
        settings={"temperature": {"dialogue": 1.1}},
        is_default=True,
    )
    rng = np.random.default_rng(1)
    for name, count, answering in (("redial", dialogues, systems), ("inspired", dialogues // 3, 12)):
        dataset = Dataset.objects.create(name=name, title=name)
        sources = [reference]
        for number in range(answering):
            sources.append(System.objects.get_or_create(name=f"{name}-system-{number:02}")[0])
        _write(dataset, count, sources, classifier, rng)


def _write(
    dataset: Dataset, count: int, sources: list[System], classifier: Classifier, rng: np.random.Generator
) -> None:
    with transaction.atomic():
        made = Dialogue.objects.bulk_create(
            Dialogue(dataset=dataset, source_id=str(n), split="test") for n in range(count)
        )
        said = [(d, t, f"{dataset.name} {d.source_id} {t} user") for d in made for t in range(TURNS)]
        texts = [words for _, _, words in said]
        texts += [f"{words} {source.name}" for _, _, words in said for source in sources]
        digests = {words: f"{dataset.name[0]}{n:031x}" for n, words in enumerate(texts)}
        Text.objects.bulk_create((Text(digest=key, content=words) for words, key in digests.items()), batch_size=5000)
        users = Utterance.objects.bulk_create(
            (
                Utterance(dialogue=d, position=2 * t, role="user", text_id=digests[w], shown=w, raw=w)
                for d, t, w in said
            ),
            batch_size=5000,
        )
        turns = Turn.objects.bulk_create(
            (Turn(dialogue=u.dialogue, user_utterance=u, position=u.position + 1) for u in users), batch_size=5000
        )
        Response.objects.bulk_create(
            (
                Response(turn=turn, system=source, text_id=digests[f"{words} {source.name}"], shown=words, raw=words)
                for turn, (_, _, words) in zip(turns, said, strict=True)
                for source in sources
            ),
            batch_size=5000,
        )
        weights = rng.dirichlet(np.full(len(GO_EMOTIONS), 0.3), len(texts)).astype(np.float16)
        Prediction.objects.bulk_create(
            (
                Prediction(classifier=classifier, text_id=digests[words], probabilities=row.tobytes())
                for words, row in zip(texts, weights, strict=True)
            ),
            batch_size=5000,
        )


def write_campaign(judgments: int) -> Campaign:
    """Write a campaign of two labels per item; the labels follow the drawn predictions in three of four cases."""
    classifier = Classifier.objects.get()
    campaign = Campaign.objects.create(
        name="bench",
        title="Bench",
        classifier=classifier,
        state="closed",
        design={"kind": "simple", "complete_only": False},
    )
    campaign.datasets.set(Dataset.objects.all())
    campaign.systems.set(System.objects.filter(is_reference=False))
    people = [User.objects.create(username=f"person{n}") for n in range(6)]
    for person in people:
        Membership.objects.create(user=person, campaign=campaign, role="annotator")
    rng = np.random.default_rng(2)
    emotions = np.array(["joy", "neutral", "surprise", "sadness"])
    total = Turn.objects.count()
    wanted = judgments // 2
    with transaction.atomic():
        turns = list(Turn.objects.order_by("?").values_list("id", flat=True))
        answers = dict.fromkeys(turns, 0)
        for turn in Response.objects.values_list("turn_id", flat=True):
            answers[turn] += 1
        items: list[Item] = []
        drawn: list[SampledTurn] = []
        for order, turn in enumerate(turns):
            if len(items) >= wanted:
                break
            drawn.append(SampledTurn(campaign=campaign, turn_id=turn, inclusion_probability=1.0, draw_order=order))
            items += [None] * (1 + answers[turn])  # type: ignore[list-item]
        share = len(drawn) / total
        for one in drawn:
            one.inclusion_probability = share
        SampledTurn.objects.bulk_create(drawn, batch_size=5000)
        chosen = {one.turn_id: one for one in drawn}
        rows = [Item(campaign=campaign, kind="user", sampled_turn=one, position=n) for n, one in enumerate(drawn)]
        for response in Response.objects.filter(turn__in=Turn.objects.filter(sampled__campaign=campaign)).iterator():
            rows.append(Item(campaign=campaign, kind="response", sampled_turn=chosen[response.turn_id],
                             response=response, position=len(rows)))  # fmt: skip
        Item.objects.bulk_create(rows, batch_size=5000)
        slots = [
            Slot(item=item, campaign=campaign, task="verify", position=item.position, number=number, state="done",
                 annotator=people[(item.position + number) % len(people)])
            for item in rows
            for number in (0, 1)
        ]  # fmt: skip
        Slot.objects.bulk_create(slots, batch_size=5000)
        truth = rng.choice(emotions, len(rows), p=[0.4, 0.4, 0.1, 0.1])
        Judgment.objects.bulk_create(
            (
                Judgment(
                    item=slot.item,
                    slot=slot,
                    annotator=slot.annotator,
                    action="label",
                    active_ms=2500,
                    label=str(truth[slot.item.position] if rng.random() < 0.8 else rng.choice(emotions)),
                )
                for slot in slots
            ),
            batch_size=5000,
        )
    return campaign


def timed_report(campaign: Campaign | None, replicates: int) -> dict[str, Any]:
    """Make a report; give the seconds of each step and in all."""
    began, worked, last = time.perf_counter(), time.process_time(), time.process_time()
    steps: dict[str, float] = {}
    names: list[str] = []

    def progress(done: int, total: int, message: str) -> None:
        nonlocal last
        now = time.process_time()
        if names:
            steps[names[-1]] = round(now - last, 2)
        names.append(message)
        last = now

    run = reporting.build_report(campaign=campaign, parameters={"replicates": replicates}, progress=progress)
    steps[names[-1]] = round(time.process_time() - last, 2)
    size = sum(file.bytes for file in reporting.files(run))
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
        "cpu_seconds_by_step": steps,
        "rows": run.provenance["counts"]["rows"],
        "peak_mib": memory(),
        "bundle_bytes": size,
    }


def timed_export(campaign: Campaign) -> dict[str, Any]:
    """Stream all judgments as CSV."""
    before, began, worked, size = memory(), time.perf_counter(), time.process_time(), 0
    for part in exports.gathered(exports.export_lines(campaign, "judgments")):
        size += len(part)
    return {
        "judgments": Judgment.objects.count(),
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - worked, 2),
        "bytes": size,
        "memory_grew_mib": memory() - before,
    }


def main() -> None:
    """Run everything and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dialogues", type=int, default=939)
    parser.add_argument("--systems", type=int, default=8)
    parser.add_argument("--judgments", type=int, default=100_000)
    parser.add_argument("--replicates", type=int, default=2000)
    given = parser.parse_args()
    call_command("migrate", verbosity=0)
    write_corpus(given.dialogues, given.systems)
    campaign = write_campaign(given.judgments)
    export = timed_export(campaign)
    result = {
        "export": export,
        "unverified": timed_report(None, given.replicates),
        "with_labels": timed_report(campaign, given.replicates),
        "load": os.getloadavg(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
