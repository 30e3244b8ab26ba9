"""How fast the queue deals and stores: at 1k, 10k and 100k items, one annotator and ten at once.

    python -m benchmarks.queue [--sizes 1000 10000 100000] [--million] [--postgres URL] [--answers 300] [--seconds 20]

Prints one JSON object. Times are of the workflow's functions on a database on disk, in milliseconds, `cpu_ms` the
processor time behind them: what the network and the web server add is measured with the browser tests. The campaigns
are filled inside the database, so that a million items take a minute or two; `opening` is a second campaign opened over
the same corpus as the admin does it (on SQLite with its pauses for people at work).
"""

from __future__ import annotations

import argparse
import contextlib
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
ROUNDS = 3


def percentile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def summary(times: list[float]) -> dict[str, float]:
    return {"p50_ms": percentile(times, 0.5), "p95_ms": percentile(times, 0.95), "n": len(times)}


def fill(items: int) -> None:
    """A corpus of `items` user utterances, each to be verified by two of ten people; ready to deal."""
    from django.core.management.color import no_style
    from django.db import connection

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

    dataset = Dataset.objects.create(name="bench")
    campaign = Campaign.objects.create(name="bench", title="Bench", state="open", verify_overlap=2)
    Guideline.objects.create(campaign=campaign, version=1, markdown="Label.")
    for number in range(ANNOTATORS):
        user = User.objects.create(username=f"annotator{number}")
        Membership.objects.create(user=user, campaign=campaign, role="annotator")
    Text.objects.create(digest="0" * 32, content="what was said")
    said = "Something funny, please, I had a long week and my sister is coming over tonight."
    dialogues, words = (items - 1) // TURNS_PER_DIALOGUE + 1, {"text_id": f"'{'0' * 32}'", "shown": "%s", "raw": "%s"}
    spread(Dialogue, dialogues, {"id": "n + 1", "dataset_id": str(dataset.pk), "source_id": "CAST(n AS TEXT)"})
    for half, role in enumerate(("user", "recommender")):
        place = {"dialogue_id": f"n / {TURNS_PER_DIALOGUE} + 1", "position": f"2 * (n % {TURNS_PER_DIALOGUE}) + {half}"}
        spread(Utterance, items, {"id": f"2 * n + {half} + 1", **place, "role": f"'{role}'", **words}, said, said)
    place = {"dialogue_id": f"n / {TURNS_PER_DIALOGUE} + 1", "position": f"2 * (n % {TURNS_PER_DIALOGUE}) + 1"}
    spread(Turn, items, {"id": "n + 1", **place, "user_utterance_id": "2 * n + 1"})
    drawn = {"stratum": "''", "inclusion_probability": "0.5", "draw_order": "n"}
    spread(SampledTurn, items, {"id": "n + 1", "campaign_id": str(campaign.pk), "turn_id": "n + 1", **drawn})
    # As `open_campaign` does it: items are written in the order of the tape, and their turns are drawn at random.
    # A stride coprime to the size stands in for the random permutation.
    turn = f"CAST(n AS BIGINT) * 7919 % {items} + 1"
    spread(
        Item,
        items,
        {"id": "n + 1", "campaign_id": str(campaign.pk), "kind": "'user'", "sampled_turn_id": turn, "position": "n"},
    )
    slot = {"item_id": "n / 2 + 1", "campaign_id": str(campaign.pk), "task": "'verify'"}
    spread(Slot, 2 * items, {**slot, "position": "n / 2", "number": "n % 2 + 1"})
    Campaign.objects.update(verify_items=items, verify_tail=items, verify_total=2 * items)
    written = [Dialogue, Utterance, Turn, SampledTurn, Item, Slot]
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), written):
            cursor.execute(statement)
        # What PostgreSQL would do by itself a minute later, while the clock runs.
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def spread(model: Any, count: int, columns: dict[str, str], *given: str) -> None:
    """Insert rows n = 0 … count - 1 inside the database, each column an expression of n; the rest takes its default."""
    from django.db import connection
    from django.db.models import JSONField

    fields = {field.attname: field for field in model._meta.concrete_fields}
    rest = [field for name, field in fields.items() if name not in columns and not field.primary_key]
    defaults = [
        json.dumps(field.get_default()) if isinstance(field, JSONField) else field.get_default() for field in rest
    ]
    names = ", ".join(f'"{name}"' for name in [*(fields[name].column for name in columns), *(f.column for f in rest)])
    values = ", ".join([*columns.values(), *(["%s"] * len(rest))])
    values = values.replace(" % ", " %% ")
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE series(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n < {count - 1}) "
            f'INSERT INTO "{model._meta.db_table}" ({names}) SELECT {values} FROM series',
            [*given, *defaults],
        )


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


def alone(answers: int, number: int) -> dict[str, Any]:
    """One annotator."""
    from annotation.models import Campaign, User

    campaign, user = Campaign.objects.get(), User.objects.get(username=f"annotator{number}")
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


def opening() -> dict[str, float]:
    """Open a second campaign over the same corpus: every user utterance, two answers each."""
    from annotation.models import Campaign, Dataset
    from annotation.workflow.opening import open_campaign

    design = {"kind": "all"}
    draft = Campaign.objects.create(name="second", title="Second", verify_overlap=2, design=design)
    Campaign.objects.filter(pk=draft.pk).update(verify_responses=False, rate_responses=False)
    draft.datasets.set(Dataset.objects.all())
    started, cpu = time.perf_counter(), time.process_time()
    opened = open_campaign(draft)
    return {
        "items": opened.items,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
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


def within(url: str, folder: str, step: str, amount: float = 0, number: int = 0) -> dict[str, Any]:
    """Run one step (`fill`, `alone`, `together`, `opening`) on a database, in a process of its own."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "ATTUNE_DATABASE_URL": url,
        "ATTUNE_DATA_DIR": folder,
        "ATTUNE_LOG_LEVEL": "ERROR",
        "OMP_NUM_THREADS": "1",
    }
    program = [sys.executable, "-m", "benchmarks.queue", "--inside", step, str(amount), str(number)]
    done = subprocess.run(program, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def inside(step: str, amount: float, number: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    if step == "fill":
        call_command("migrate", verbosity=0, skip_checks=True)
        started = time.perf_counter()
        fill(int(amount))
        result = {"seconds": round(time.perf_counter() - started, 1)}
    elif step == "alone":
        result = alone(int(amount), number)
    elif step == "together":
        result = together(amount)
    else:
        result = opening()
    print(json.dumps(result))


def on_postgres(server: str, statement: str) -> None:
    import psycopg

    plain = urlunsplit(urlsplit(server)._replace(scheme="postgresql"))
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def bench(*, sizes: list[int], answers: int, seconds: float, postgres: str = "") -> dict[str, Any]:
    """All sizes on SQLite and, where a server is given, on PostgreSQL; ten at once and an opening at 100k or the most.

    One annotator answers in the databases in turn, `ROUNDS` times: what the machine does meanwhile meets all alike.
    """
    crowded = 100_000 if 100_000 in sizes else max(sizes)
    report: dict[str, Any] = {"processors": os.cpu_count(), "load_before": os.getloadavg()[0]}
    for vendor in ["sqlite", *(["postgresql"] if postgres else [])]:
        with contextlib.ExitStack() as ends:
            folder = ends.enter_context(tempfile.TemporaryDirectory())
            urls = {}
            for size in sizes:
                urls[size] = f"sqlite:///{folder}/{size}.sqlite3"
                if vendor == "postgresql":
                    name = f"attune_{uuid.uuid4().hex[:12]}"
                    on_postgres(postgres, f'CREATE DATABASE "{name}"')
                    ends.callback(on_postgres, postgres, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
                    urls[size] = urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
            filled = {size: within(url, folder, "fill", size) for size, url in urls.items()}
            rounds = [
                {size: within(url, folder, "alone", answers, number) for size, url in urls.items()}
                for number in range(ROUNDS)
            ]
            rows = [
                {"items": size, "fill": filled[size], "one": middle([told[size] for told in rounds])} for size in sizes
            ]
            for row in rows:
                if row["items"] == crowded:
                    row["ten"] = within(urls[crowded], folder, "together", seconds)
                    row["opening"] = within(urls[crowded], folder, "opening")
        first, last = rows[0]["one"], rows[-1]["one"]
        report[vendor] = {
            "sizes": rows,
            "next_item_ratio_largest_to_smallest": round(last["next_item"]["p50_ms"] / first["next_item"]["p50_ms"], 2),
            "cpu_ratio_largest_to_smallest": round(last["cpu_ms"] / first["cpu_ms"], 2),
        }
    return report


def middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the rounds of one size, the one whose next item took the median time."""
    return sorted(rounds, key=lambda one: float(one["next_item"]["p50_ms"]))[len(rounds) // 2]


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
        inside(given.inside[0], float(given.inside[1]), int(given.inside[2]))
        return
    sizes = [*given.sizes, *([1_000_000] if given.million else [])]
    print(
        json.dumps(bench(sizes=sizes, answers=given.answers, seconds=given.seconds, postgres=given.postgres), indent=1)
    )


if __name__ == "__main__":
    main()
