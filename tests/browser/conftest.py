"""A real Chromium, against a live server with a small campaign in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import BrowserContext, Page

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


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("There is no Chromium on this machine: install Debian's package `chromium` to run these tests.")
    return {**browser_type_launch_args, "executable_path": chromium, "args": FLAGS}


@pytest.fixture(scope="session")
def built() -> None:
    if not (Path(settings.FRONTEND_DIST) / "workbench" / "main.js").exists():
        pytest.fail("The workbench is not built: run `npm ci && npm run build` in frontend/.")


@pytest.fixture
def visit(live_server: Any, new_context: Any) -> Callable[..., Page]:
    """Open the site as a person, in a browser of her own: `visit(ada, "/")`."""

    def opened(user: User | None, path: str = "/", **options: Any) -> Page:
        context: BrowserContext = new_context(base_url=live_server.url, **options)
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
