"""Whose turn it is to write, on SQLite.

SQLite has one writer, and who finds it busy sleeps and tries again, up to a tenth of a second each time: ten people at
once leave the database idle while some of them wait for a second. A lock on a file hands the turn over at once and in
order. It only makes waiting fair: correctness rests on the transactions, and on writers that do not take a turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from django.db import connection

try:
    import fcntl
except ImportError:  # not on this operating system
    fcntl = None  # type: ignore[assignment]


@contextmanager
def writers_turn() -> Iterator[None]:
    """Wait for the turn to write; elsewhere than on SQLite with a file, or within a transaction, it is always there."""
    name = str(connection.settings_dict["NAME"])
    if fcntl is None or connection.vendor != "sqlite" or connection.in_atomic_block or "memory" in name:
        yield
        return
    with _lock_file(name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _lock_file(database: str) -> Path:
    path = Path(database).resolve()
    beside = path.with_name(f"{path.name}-turn")
    if beside.exists():
        return beside
    try:
        beside.touch()
    except OSError:
        return Path(tempfile.gettempdir()) / f"attune-turn-{blake2b(str(path).encode(), digest_size=8).hexdigest()}"
    return beside
