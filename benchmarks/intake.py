"""Import rows per second and peak memory on the published ReDial data; prints one JSON object.

    python -m benchmarks.intake [--data ../shared/data]

Each measurement runs in a process of its own on a fresh SQLite file with the product's settings, so that the peak
memory is that of one import. `parse` reads without saving: the difference is what the database costs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DIALOGUES = ("redial/test.jsonl.gz", "redial/train_partial.jsonl.gz")
RESPONSES = "llm_responses/redial_kgsf_icedpanda.jsonl.gz"


def parse(data: Path) -> dict[str, Any]:
    """Read the larger file without a database."""
    from annotation.corpora import Dialogue, open_corpus

    began = time.perf_counter()
    corpus = open_corpus(data / DIALOGUES[1])
    rows = sum(row.meta["messages"] + row.meta["empty_messages"] for row in corpus.rows if isinstance(row, Dialogue))
    seconds = time.perf_counter() - began
    return {"rows": rows, "seconds": round(seconds, 3), "rows_per_second": round(rows / seconds)}


def dialogues(data: Path) -> dict[str, Any]:
    """Import both dialogue files, then the first one again."""
    from annotation.workflow.intake import import_dialogues

    reports = [import_dialogues(data / name, dataset="redial") for name in (*DIALOGUES, DIALOGUES[0])]
    return {
        "rows": sum(report.rows for report in reports[:2]),
        "seconds": round(sum(report.seconds for report in reports[:2]), 3),
        "rows_per_second": round(sum(r.rows for r in reports[:2]) / sum(r.seconds for r in reports[:2])),
        "again_rows_per_second": round(reports[2].rows_per_second),
    }


def responses(data: Path) -> dict[str, Any]:
    """Import one system's responses to the test turns, then again."""
    from annotation.workflow.intake import import_dialogues, import_responses

    import_dialogues(data / DIALOGUES[0], dataset="redial")
    first, second = import_responses(data / RESPONSES), import_responses(data / RESPONSES)
    return {
        "rows": first.rows,
        "seconds": round(first.seconds, 3),
        "rows_per_second": round(first.rows_per_second),
        "again_rows_per_second": round(second.rows_per_second),
    }


MEASUREMENTS = {"parse": parse, "dialogues": dialogues, "responses": responses}


def measure(name: str, data: Path) -> dict[str, Any]:
    """Run one measurement in this process and add what it took in memory beyond the loaded program."""
    if name != "parse":
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0, skip_checks=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = MEASUREMENTS[name](data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**result, "peak_mib": round(peak / 1024), "added_mib": round((peak - before) / 1024)}


def main() -> None:
    """Start one process per measurement and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("ATTUNE_SHARED", ROOT.parent / "shared")) / "data"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--measure", choices=list(MEASUREMENTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"no data at {options.data}; name the folder with --data")
    if options.measure:
        print(json.dumps(measure(options.measure, options.data)))
        return
    results = {}
    for name in MEASUREMENTS:
        with tempfile.TemporaryDirectory(prefix="attune-bench-") as folder:
            environment = {**os.environ, "ATTUNE_DATA_DIR": folder, "DJANGO_SETTINGS_MODULE": "config.settings"}
            environment.pop("ATTUNE_DATABASE_URL", None)
            command = [
                sys.executable,
                "-m",
                "benchmarks.intake",
                "--data",
                str(options.data.resolve()),
                "--measure",
                name,
            ]
            done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
            results[name] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({"load_average": os.getloadavg()[0], **results}, indent=2))


if __name__ == "__main__":
    main()
