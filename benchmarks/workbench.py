"""From key to the next item on the glass, in a real Chromium against the real server: `python -m benchmarks.workbench`.

The clock starts at the key event's own time stamp and stops after the frame in which the next item was painted. In
between the answer is written to IndexedDB, because the screen moves on only when the answer is durable. Answers are
given by the program. `--json FILE` writes the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WATCH = """
(() => {
  window.keyToPainted = []
  const shown = () => document.querySelector('[data-slot]')?.dataset.slot
  let pressed = null
  addEventListener('keydown', (event) => {
    if (/^[1-7]$/.test(event.key)) pressed = { at: event.timeStamp, slot: shown() }
  }, true)
  new MutationObserver(() => {
    const now = shown()
    if (pressed === null || now === undefined || now === pressed.slot) return
    const { at } = pressed
    pressed = null
    // A message posted from the frame callback is read once that frame has been painted.
    requestAnimationFrame(() => {
      const channel = new MessageChannel()
      channel.port1.onmessage = () => window.keyToPainted.push(performance.now() - at)
      channel.port2.postMessage(0)
    })
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-slot'] })
})()
"""
# A person's key falls anywhere within a frame, not at its start.
SETTLED = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
    () => setTimeout(done, Math.random() * 17))))"""


@contextmanager
def served_campaign(items: int) -> Iterator[tuple[str, dict[str, str]]]:
    """A live server with a campaign of at least `items` to verify, and the cookie of its annotator."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.test import Client
    from pytest_django.live_server_helper import LiveServer

    from annotation.workflow.opening import open_campaign
    from tests.factories import MembershipFactory, UserFactory, make_campaign, make_corpus

    call_command("migrate", verbosity=0)
    ada = UserFactory.create(username="ada")
    dialogues = -(-items // 8)
    campaign = make_campaign(corpus=make_corpus(dialogues), design={"kind": "simple", "size": 2 * dialogues}, seed=1)
    MembershipFactory.create(user=ada, campaign=campaign)
    open_campaign(campaign)
    client = Client()
    client.force_login(ada, backend="django.contrib.auth.backends.ModelBackend")
    server = LiveServer("127.0.0.1")
    cookie = {
        "name": settings.SESSION_COOKIE_NAME,
        "value": client.cookies[settings.SESSION_COOKIE_NAME].value,
        "url": server.url,
    }
    try:
        yield f"{server.url}/campaigns/{campaign.name}/verify/", cookie
    finally:
        server.stop()


def measure(address: str, cookie: Any, items: int, executable: str) -> list[float]:
    """Milliseconds from key to painted, one per item."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.add_cookies([cookie])
        context.add_init_script(WATCH)
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("[data-slot]")
        for given in range(items):
            page.evaluate(SETTLED)
            page.keyboard.press(str(given % 7 + 1))
            page.wait_for_function("(count) => window.keyToPainted.length > count", arg=given)
            page.wait_for_selector("[data-slot]")
        page.wait_for_selector("[data-status='idle'][data-pending='0']", state="attached")
        times: list[float] = page.evaluate("() => window.keyToPainted")
        browser.close()
    return times


def percentile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workbench", description=__doc__)
    parser.add_argument("--items", type=int, default=200, help="answers to give (default 200)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    asked = parser.parse_args(arguments)
    executable = shutil.which("chromium")
    if executable is None:
        print("There is no Chromium on this machine: install Debian's package `chromium`.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as folder:
        os.environ["ATTUNE_DATA_DIR"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
        with served_campaign(asked.items + 20) as (address, cookie):
            times = measure(address, cookie, asked.items, executable)
    found = {
        "items": len(times),
        "p50_ms": round(percentile(times, 0.5), 1),
        "p95_ms": round(percentile(times, 0.95), 1),
        "max_ms": round(max(times), 1),
    }
    print(f"key to painted, {found['items']} items:", ", ".join(f"{name} {found[name]}" for name in list(found)[1:]))
    print("targets: p50 <= 16 ms, p95 <= 50 ms")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
