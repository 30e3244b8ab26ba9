"""`make bench`: every benchmark, one after the other, each in a process of its own; results as JSON in var/bench.

These machines are shared and noisy: read the ratios, which compare two things in one run, before the absolute figures.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "var" / "bench"


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def run(name: str) -> int:
    print(f"\n== {name}", flush=True)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False
    )
    print(done.stdout, end="")
    print(f"({time.monotonic() - started:.0f} s)", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.txt").write_text(done.stdout, encoding="utf-8")
    return done.returncode


def main() -> int:
    wanted = sys.argv[1:] or names()
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        print(f"No benchmark called {', '.join(unknown)}; there are: {', '.join(names())}.", file=sys.stderr)
        return 2
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()}
    print(json.dumps(machine))
    failed = [name for name in wanted if run(name)]
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
