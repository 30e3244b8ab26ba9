"""A database of its own, reached by many processes at once: SQLite always, PostgreSQL where a server is given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class Site:
    """An installation of the product with its own database; `run` starts a Python program in it."""

    environment: dict[str, str]
    vendor: str

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            **options,
        )

    def run(self, *arguments: str, timeout: float = 300) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An empty, migrated database, made once; every test works on a copy of it."""
    folder = tmp_path_factory.mktemp("stress")
    name = f"attune_{uuid.uuid4().hex[:12]}"
    server = os.environ.get("ATTUNE_TEST_POSTGRES_URL", "")
    if request.param == "postgresql" and not server:
        pytest.skip("ATTUNE_TEST_POSTGRES_URL is not set: no PostgreSQL server to test against")
    if request.param == "postgresql":
        on_server(server, f'CREATE DATABASE "{name}"')
        url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    else:
        url = f"sqlite:///{folder / 'migrated.sqlite3'}"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "ATTUNE_DATA_DIR": str(folder),
        "ATTUNE_DATABASE_URL": url,
        "ATTUNE_LOG_LEVEL": "ERROR",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    for variable in ("ATTUNE_PRODUCTION", "ATTUNE_REDIS_URL"):
        environment.pop(variable, None)
    made = Site(environment, request.param)
    made.run("manage.py", "migrate", "--verbosity", "0", "--skip-checks")
    yield made
    if request.param == "postgresql":
        on_server(server, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def site(migrated: Site, tmp_path: Path) -> Iterator[Site]:
    url = migrated.environment["ATTUNE_DATABASE_URL"]
    if migrated.vendor == "sqlite":
        copy = tmp_path / "stress.sqlite3"
        shutil.copy(url.removeprefix("sqlite:///"), copy)
        yield Site({**migrated.environment, "ATTUNE_DATABASE_URL": f"sqlite:///{copy}"}, migrated.vendor)
        return
    server = os.environ["ATTUNE_TEST_POSTGRES_URL"]
    original, name = urlsplit(url).path[1:], f"attune_{uuid.uuid4().hex[:12]}"
    on_server(server, f'CREATE DATABASE "{name}" TEMPLATE "{original}"')
    fresh = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    yield Site({**migrated.environment, "ATTUNE_DATABASE_URL": fresh}, migrated.vendor)
    on_server(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def on_server(server: str, statement: str) -> None:
    import psycopg

    plain = urlunsplit(urlsplit(server)._replace(scheme="postgresql"))
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]
