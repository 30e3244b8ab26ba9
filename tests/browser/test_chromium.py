"""The tests' own browser: what keeps a run from waiting for ever."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser

from tests.browser import conftest
from tests.browser.conftest import Chromium

pytestmark = pytest.mark.browser


def test_a_browser_that_never_closes_is_killed_and_replaced(
    launch_browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "CLOSING_SECONDS", 1.0)
    chromium = Chromium(launch_browser)
    first = chromium.running
    context = first.new_context()
    context.new_page()
    chromium.send(signal.SIGSTOP)  # it lives, and answers nothing
    chromium.close(context)
    assert not first.is_connected()
    assert chromium.running is not first
    page = chromium.running.new_context().new_page()
    page.set_content("<p>here again</p>")
    assert page.inner_text("p") == "here again"
    monkeypatch.undo()
    chromium.end()
