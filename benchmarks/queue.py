"""How fast the queue deals and stores: at 1k, 10k and 100k items, one annotator and ten at once.

    python -m benchmarks.queue [--sizes 1000 10000 100000] [--million] [--postgres URL] [--answers 300] [--seconds 20]

Prints one JSON object. Times are of the workflow's functions on a database on disk, in milliseconds, `cpu_ms` the
processor time behind them: what the network and the web server add is measured with the browser tests. The campaigns
are filled by direct insertion, so that a million items take minutes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

REPOSITORY = Path(__file__).parents[1]
TURNS_PER_DIALOGUE = 5
ANNOTATORS = 10


def percentile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def summary(times: list[float]) -> dict[str, float]:
    return {"p50_ms": percentile(times, 0.5), "p95_ms": percentile(times, 0.95), "n": len(times)}


def fill(items: int) -> None:
    """A corpus of `items` user utterances, each to be verified by two of ten people; ready to deal."""
    from django.db import connection, transaction

    from annotation.models import (
        Campaign,
        Dataset,
        Dialogue,
        Guideline,
        Item,
        Membership,
        SampledTurn,
        Slot,
        Text,
        Turn,
        User,
        Utterance,
    )
    from annotation.workflow.insertion import insert_rows

    dataset = Dataset.objects.create(name="bench")
    campaign = Campaign.objects.create(name="bench", title="Bench", state="open", verify_overlap=2)
    Guideline.objects.create(campaign=campaign, version=1, markdown="Label.")
    for number in range(ANNOTATORS):
        user = User.objects.create(username=f"annotator{number}")
        Membership.objects.create(user=user, campaign=campaign, role="annotator")
    Text.objects.create(digest="0" * 32, content="what was said")
    said = "Something funny, please, I had a long week and my sister is coming over tonight."
    per_step = 2000
    for first in range(0, items, per_step):
        numbers = range(first, min(first + per_step, items))
        dialogues = sorted({n // TURNS_PER_DIALOGUE for n in numbers if n % TURNS_PER_DIALOGUE == 0})
        with transaction.atomic():
            insert_rows(Dialogue, ["id", "dataset_id", "source_id"], [(d + 1, dataset.pk, str(d)) for d in dialogues])
            utterances, turns, sampled, rows, slots = [], [], [], [], []
            for n in numbers:
                dialogue, place = n // TURNS_PER_DIALOGUE + 1, n % TURNS_PER_DIALOGUE
                for role, half in (("user", 0), ("recommender", 1)):
                    utterances.append((2 * n + half + 1, dialogue, 2 * place + half, role, "0" * 32, said, said))
                turns.append((n + 1, dialogue, 2 * n + 1, 2 * place + 1))
                sampled.append((n + 1, campaign.pk, n + 1, "", 0.5, n))
                # A stride coprime to the size stands in for the random permutation.
                position = n * 7919 % items
                rows.append((n + 1, campaign.pk, "user", n + 1, position))
                slots += [(n + 1, campaign.pk, "verify", position, number) for number in (1, 2)]
            columns = ["id", "dialogue_id", "position", "role", "text_id", "shown", "raw"]
            insert_rows(Utterance, columns, utterances)
            insert_rows(Turn, ["id", "dialogue_id", "user_utterance_id", "position"], turns)
            columns = ["id", "campaign_id", "turn_id", "stratum", "inclusion_probability", "draw_order"]
            insert_rows(SampledTurn, columns, sampled)
            insert_rows(Item, ["id", "campaign_id", "kind", "sampled_turn_id", "position"], rows)
            insert_rows(Slot, ["item_id", "campaign_id", "task", "position", "number"], slots)
    Campaign.objects.update(verify_items=items, verify_tail=items, verify_total=2 * items)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def step(campaign: Any, user: Any, held: list[Any], times: dict[str, list[float]]) -> None:
    """What one request of the workbench does: store the answer in hand, deal the next item, show it."""
    from annotation.workflow.presentation import present_slots
    from annotation.workflow.queue import lease_batch
    from annotation.workflow.verification import submit
    from tests.factories import answer_to

    if not held:
        held += lease_batch(campaign, user, "verify", want=5, client="bench").slots
    slot = held.pop(0)
    given = answer_to(campaign, user, slot)
    started, cpu = time.perf_counter(), time.process_time()
    outcome = submit(campaign, user, given)
    stored = time.perf_counter()
    dealt = lease_batch(campaign, user, "verify", want=1, holding=[s.pk for s in held], client="bench")
    present_slots(campaign, user, dealt.slots)
    ended = time.perf_counter()
    if outcome.status != "stored":
        raise RuntimeError(f"An answer was not stored: {outcome}")
    held += dealt.slots
    times["submit"].append(1000 * (stored - started))
    times["next_item"].append(1000 * (ended - stored))
    times["both"].append(1000 * (ended - started))
    times["cpu"].append(1000 * (time.process_time() - cpu))


def alone(answers: int) -> dict[str, Any]:
    """One annotator."""
    from annotation.models import Campaign, User

    campaign, user = Campaign.objects.get(), User.objects.get(username="annotator0")
    times: dict[str, list[float]] = {"submit": [], "next_item": [], "both": [], "cpu": []}
    held: list[Any] = []
    for _ in range(answers + 20):
        step(campaign, user, held, times)
    warm = {name: summary(measured[20:]) for name, measured in times.items()}
    return {
        "next_item": warm["next_item"],
        "submit": warm["submit"],
        "cpu_ms": round(statistics.median(times["cpu"][20:]), 2),
    }


def flat_out(number: int, seconds: float, results: Any) -> None:
    from annotation.models import Campaign, User

    campaign, user = Campaign.objects.get(), User.objects.get(username=f"annotator{number}")
    times: dict[str, list[float]] = {"submit": [], "next_item": [], "both": [], "cpu": []}
    held: list[Any] = []
    errors = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        try:
            step(campaign, user, held, times)
        except Exception as error:
            print(repr(error), file=sys.stderr)
            errors += 1
    results.put((times["both"], errors))


def together(seconds: float) -> dict[str, Any]:
    """Ten annotators, each a process, without a pause."""
    from django.db import connection, connections

    connections.close_all()
    if connection.vendor == "postgresql":
        connection.close_pool()  # type: ignore[attr-defined]  # a pool's threads do not survive a fork
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    people = [context.Process(target=flat_out, args=(number, seconds, results)) for number in range(ANNOTATORS)]
    started = time.perf_counter()
    for person in people:
        person.start()
    told = [results.get() for _ in people]
    for person in people:
        person.join()
    took = time.perf_counter() - started
    times = [t for measured, _ in told for t in measured]
    return {
        **summary(times),
        "items_per_second": round(len(times) / took, 1),
        "errors": sum(errors for _, errors in told),
    }


def measure(url: str, items: int, answers: int, seconds: float) -> dict[str, Any]:
    """Everything about one size on one database, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ATTUNE_DATABASE_URL": url.replace("FOLDER", folder),
            "ATTUNE_DATA_DIR": folder,
            "ATTUNE_LOG_LEVEL": "ERROR",
            "OMP_NUM_THREADS": "1",
        }
        program = [sys.executable, "-m", "benchmarks.queue", "--inside", str(items), str(answers), str(seconds)]
        done = subprocess.run(program, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def inside(items: int, answers: int, seconds: float) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, skip_checks=True)
    started = time.perf_counter()
    fill(items)
    filled = time.perf_counter() - started
    result = {"items": items, "fill_seconds": round(filled, 1), "one": alone(answers)}
    if seconds:
        result["ten"] = together(seconds)
    print(json.dumps(result))


def on_postgres(server: str, statement: str) -> None:
    import psycopg

    plain = urlunsplit(urlsplit(server)._replace(scheme="postgresql"))
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def bench(*, sizes: list[int], answers: int, seconds: float, postgres: str = "") -> dict[str, Any]:
    """All sizes on SQLite and, where a server is given, on PostgreSQL. Ten at once are measured at 100k or the most."""
    crowded = 100_000 if 100_000 in sizes else max(sizes)
    report: dict[str, Any] = {"processors": os.cpu_count(), "load_before": os.getloadavg()[0]}
    for vendor in ["sqlite", *(["postgresql"] if postgres else [])]:
        rows = []
        for size in sizes:
            url, name = "sqlite:///FOLDER/bench.sqlite3", f"attune_{uuid.uuid4().hex[:12]}"
            if vendor == "postgresql":
                on_postgres(postgres, f'CREATE DATABASE "{name}"')
                url = urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
            try:
                rows.append(measure(url, size, answers, seconds if size == crowded else 0))
            finally:
                if vendor == "postgresql":
                    on_postgres(postgres, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        first, last = rows[0]["one"], rows[-1]["one"]
        report[vendor] = {
            "sizes": rows,
            "next_item_ratio_largest_to_smallest": round(last["next_item"]["p50_ms"] / first["next_item"]["p50_ms"], 2),
            "cpu_ratio_largest_to_smallest": round(last["cpu_ms"] / first["cpu_ms"], 2),
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--postgres", default=os.environ.get("ATTUNE_TEST_POSTGRES_URL", ""))
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        inside(int(given.inside[0]), int(given.inside[1]), float(given.inside[2]))
        return
    sizes = [*given.sizes, *([1_000_000] if given.million else [])]
    print(
        json.dumps(bench(sizes=sizes, answers=given.answers, seconds=given.seconds, postgres=given.postgres), indent=1)
    )


if __name__ == "__main__":
    main()
