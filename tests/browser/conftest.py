"""A real Chromium, against a live server with a small campaign in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Error, Page

from annotation.models import User

# Playwright's synchronous interface runs inside an event loop, where Django would refuse to touch the database.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 8_000
CLOSING_SECONDS = 30.0


class Chromium:
    """The browser of all tests, started anew once it had to be killed.

    Now and then Chromium never answers the request to close a context, and whoever waits for that waits for ever: the
    run then ends hours later with no word of why. So each closing has its time, and after it the browser is killed.
    """

    def __init__(self, launch: Callable[..., Browser]) -> None:
        self._launch = launch
        self._mark = ""
        self._running: Browser | None = None

    @property
    def running(self) -> Browser:
        if self._running is None or not self._running.is_connected():
            # Chromium passes over a switch that it does not know; by it the process is found again.
            self._mark = f"--attune-tests={uuid.uuid4().hex}"
            self._running = self._launch(args=[*FLAGS, self._mark])
        return self._running

    def close(self, closed: Browser | BrowserContext) -> None:
        watch = threading.Timer(CLOSING_SECONDS, self._kill)
        watch.start()
        try:
            with contextlib.suppress(Error):  # it was killed, or had crashed before
                closed.close()
        finally:
            watch.cancel()

    def end(self) -> None:
        if self._running is not None:
            self.close(self._running)

    def send(self, number: signal.Signals) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                    os.kill(int(process.name), number)

    def _kill(self) -> None:
        self.send(signal.SIGKILL)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("There is no Chromium on this machine: install Debian's package `chromium` to run these tests.")
    return {**browser_type_launch_args, "executable_path": chromium}


@pytest.fixture(scope="session")
def chromium(launch_browser: Callable[..., Browser]) -> Iterator[Chromium]:
    made = Chromium(launch_browser)
    yield made
    made.end()


@pytest.fixture
def new_context(chromium: Chromium) -> Iterator[Callable[..., BrowserContext]]:
    """A browser of someone's own: nothing of it is shared with another context."""
    opened: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        opened.append(chromium.running.new_context(**options))
        return opened[-1]

    yield make
    for context in opened:
        chromium.close(context)


@pytest.fixture(scope="session")
def built() -> None:
    if not (Path(settings.FRONTEND_DIST) / "workbench" / "main.js").exists():
        pytest.fail("The workbench is not built: run `npm ci && npm run build` in frontend/.")


@pytest.fixture
def visit(live_server: Any, new_context: Callable[..., BrowserContext]) -> Callable[..., Page]:
    """Open the site as a person, in a browser of her own: `visit(ada, "/")`."""

    def opened(user: User | None, path: str = "/", **options: Any) -> Page:
        context = new_context(base_url=live_server.url, **options)
        context.set_default_timeout(PATIENCE_MS)
        if user is not None:
            client = Client()
            client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
            cookie = client.cookies[settings.SESSION_COOKIE_NAME]
            context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie.value, "url": live_server.url}])
        page = context.new_page()
        page.goto(path)
        return page

    return opened
