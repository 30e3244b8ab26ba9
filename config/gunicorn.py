"""What every gunicorn of Attune needs whatever its command line says: one set of request figures for all its processes.

Each process keeps its figures in files of one folder, and whichever of them is asked for /metrics adds all up. The
folder must be named before the Prometheus client is imported, and lives as long as the server.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

FIGURES = tempfile.mkdtemp(prefix="attune-figures-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = FIGURES


def child_exit(server: Any, worker: Any) -> None:
    """Forget what only a living process can have; what it counted stays counted."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    shutil.rmtree(FIGURES, ignore_errors=True)
