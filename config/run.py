"""`make run`: prepare what is missing, then keep a web server and a worker alive until stopped.

One supervisor, two children: gunicorn, and a Celery worker with its beat. A child that dies is started again; a signal
to the supervisor stops both. Every step of the preparation is skipped when there is nothing to do, so that a second
start takes seconds.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


ROOT = Path(__file__).resolve().parent.parent


def data_dir() -> Path:
    """As the settings have it, without paying for the settings."""
    return Path(os.environ.get("ATTUNE_DATA_DIR", str(ROOT / "var")))


def prepare() -> None:
    """Migrate, collect static files and load the demo; nothing at all when nothing of it has changed since."""
    stamp = data_dir() / "prepared.stamp"
    wanted = digest_of([ROOT / "frontend" / "dist", ROOT / "annotation" / "static", ROOT / "annotation" / "migrations"])
    # Only for the database in this folder: another one may be empty however often this machine has started.
    own_database = "ATTUNE_DATABASE_URL" not in os.environ and (data_dir() / "attune.sqlite3").exists()
    collected = Path(os.environ.get("ATTUNE_STATIC_ROOT", str(ROOT / "staticfiles"))).is_dir()
    if own_database and collected and stamp.exists() and stamp.read_text() == wanted:
        return
    import django

    django.setup()
    from django.core.management import call_command

    print("Preparing the database …", flush=True)
    call_command("migrate", verbosity=0)
    print("Collecting static files …", flush=True)
    call_command("collectstatic", interactive=False, verbosity=0)
    from annotation.models import User

    if os.environ.get("ATTUNE_DEMO", "1") != "0" and not User.objects.exists():
        call_command("seed_demo")
    stamp.write_text(wanted)


def digest_of(folders: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                digest.update(f"{path}:{path.stat().st_mtime_ns}:{path.stat().st_size}".encode())
    return digest.hexdigest()


def commands(host: str, port: int) -> dict[str, list[str]]:
    """The children's command lines: the ones that the containers run too."""
    return {
        "web": [
            *(sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", f"{host}:{port}"),
            *("--config", "python:config.gunicorn"),
            *("--worker-class", "gthread", "--workers", "2", "--threads", "4", "--timeout", "60"),
            *("--preload", "--no-control-socket", "--log-level", "warning"),
        ],
        "worker": [
            *(sys.executable, "-m", "celery", "--app", "config", "--quiet", "worker", "--beat"),
            *("--loglevel", "WARNING", "--schedule", str(data_dir() / "beat"), "--without-mingle", "--without-gossip"),
        ],
    }


class Supervisor:
    def __init__(self, children: dict[str, list[str]]) -> None:
        self.children = children
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.stopping = False

    def stop(self, signum: int, frame: FrameType | None) -> None:
        self.stopping = True

    def start(self, name: str) -> None:
        self.running[name] = subprocess.Popen(self.children[name], start_new_session=True)

    def run(self, address: str) -> int:
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        for name in self.children:
            self.start(name)
        announced, failures = False, 0
        while not self.stopping:
            for name, child in self.running.items():
                if child.poll() is not None and not self.stopping:
                    failures += 1
                    print(f"The {name} process ended with code {child.returncode}; starting it again.", flush=True)
                    if not announced and failures > 3:
                        print("It does not start; the reason stands above.", file=sys.stderr)
                        self.end()
                        return 1
                    time.sleep(1)
                    self.start(name)
            if not announced and answers(address):
                print(f"\nAttune is at {address}   (Ctrl+C stops it)\n", flush=True)
                announced = True
            time.sleep(0.2)
        self.end()
        return 0

    def end(self) -> None:
        for child in self.running.values():
            if child.poll() is None:
                child.terminate()
        for child in self.running.values():
            try:
                child.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health/live", timeout=1) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> int:
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    prepare()
    return Supervisor(commands(host, port)).run(f"http://{host}:{port}")


if __name__ == "__main__":
    sys.exit(main())
