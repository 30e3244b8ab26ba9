"""The whole thread on the real product: its own processes, its own classifier, a real browser.

Two annotators verify and rate by keyboard, an adjudicator settles their tie, the administrator runs the full report and
reads it. The answers are given by this program; they stand for nobody's judgment and leave with the test.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("built")]

ROOT = Path(__file__).resolve().parents[2]
TURNS = 3
ITEMS = TURNS * 5  # the user, the human reference and three systems


@dataclass(frozen=True)
class Product:
    address: str
    passwords: dict[str, str]
    environment: dict[str, str]

    def manage(self, *command: str) -> str:
        return run(self.environment, "manage.py", *command)


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """What `make run` starts, with a campaign small enough for a test."""
    folder, port = tmp_path_factory.mktemp("product"), free_port()
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "ATTUNE_DATA_DIR": str(folder),
        "ATTUNE_STATIC_ROOT": str(folder / "static"),
        "ATTUNE_DEMO": "0",
        "PORT": str(port),
    }
    run(environment, "manage.py", "migrate", "-v0")
    told = run(environment, "manage.py", "seed_demo", "--turns", str(TURNS))
    passwords = dict(re.findall(r"^  (\w+) +(\S+) ", told, re.MULTILINE))
    with (folder / "log").open("w") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "config.run"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_it_answers(f"{address}/health/ready", supervisor, folder / "log")
        yield Product(address, passwords, environment)
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(timeout=60)


def wait_until_it_answers(address: str, supervisor: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        assert supervisor.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(address, timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture
def signed_in(new_context: Callable[..., BrowserContext], product: Product) -> Callable[[str], Page]:
    def open_as(name: str) -> Page:
        context = new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.goto(f"{product.address}/account/login/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(product.passwords[name])
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="My queues")).to_be_visible(timeout=60_000)
        return page

    return open_as


def begin(page: Page, address: str, *, consent: bool) -> None:
    page.goto(address)
    if consent:
        page.get_by_role("button", name="agree").click()
    page.wait_for_selector("[data-slot]")


def answer(page: Page, *keys: str) -> None:
    """Answer the item on screen, by keys only, and wait for the next one or the end."""
    before = page.locator("[data-slot]").get_attribute("data-slot")
    page.evaluate("() => new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)))")
    for key in keys:
        page.keyboard.press(key)
    expect(page.locator(f"[data-slot='{before}']")).to_have_count(0, timeout=30_000)


def saved(page: Page) -> None:
    expect(page.locator("[data-pending='0']")).to_be_attached(timeout=30_000)


def test_from_two_annotators_to_a_report_that_recomputes_itself(
    product: Product, signed_in: Callable[[str], Page], tmp_path: Path
) -> None:
    campaign = f"{product.address}/campaigns/demo"
    for name, different in (("annotator1", False), ("annotator2", True)):
        page = signed_in(name)
        begin(page, f"{campaign}/verify/", consent=True)
        for number in range(ITEMS):
            answer(page, "7" if different and number < 2 else "1")
        saved(page)
        begin(page, f"{campaign}/rate/", consent=False)
        for _ in range(TURNS):
            cards = page.locator("[data-response]").count()
            assert cards == 4
            answer(page, *"432" * cards, "Enter")
        saved(page)

    page = signed_in("adjudicator")
    page.goto(f"{campaign}/adjudicate/")
    page.wait_for_selector("[data-slot]")
    text = page.locator("main").inner_text()
    assert "annotator1" not in text
    assert "annotator2" not in text
    page.wait_for_timeout(200)
    page.keyboard.press("1")
    expect(page.locator("[data-adjudicate]")).to_contain_text("comment", ignore_case=True)
    answer(page, "Enter")
    saved(page)

    page = signed_in("admin")
    page.goto(f"{product.address}/admin/annotation/job/launch/report/")
    page.get_by_label("Campaign").select_option(label="Demo campaign")
    page.get_by_label("Replicates").fill("200")
    page.get_by_role("button", name="Run the report").click()
    page.wait_for_selector(".job[data-state='running'], .job[data-state='done']", timeout=60_000)
    page.wait_for_selector(".job[data-state='done']", timeout=300_000)
    page.get_by_role("link", name="read the report").click()
    expect(page.get_by_role("heading", name="Headline", exact=False).first).to_be_visible()
    body = page.locator("main").inner_text()
    assert "demo-warm" in body
    assert "none has been verified by people" not in body
    assert Axe().run(page).response["violations"] == []

    report = page.url.rstrip("/").rsplit("/", 1)[-1]
    bundle = tmp_path / "bundle.zip"
    with page.expect_download() as download:
        page.get_by_role("link", name="Everything (ZIP)").click()
    download.value.save_as(bundle)
    said = run(product.environment, "-m", "evaluation", "report", str(bundle))
    assert said
    state = json.loads(product.manage("shell", "--no-imports", "-c", STATE % report).splitlines()[-1])
    assert state == {
        "judgments": 2 * ITEMS + 2 * TURNS,
        "distinct": 2 * ITEMS + 2 * TURNS,
        "adjudicated": 1,
        "bundle": True,
    }


STATE = """
import json
from annotation.models import Adjudication, Judgment, ReportRun
run = ReportRun.objects.get(pk="%s")
print(json.dumps({
    "judgments": Judgment.objects.count(),
    "distinct": Judgment.objects.values("item", "annotator").distinct().count(),
    "adjudicated": Adjudication.objects.filter(standing=True).count(),
    "bundle": bool(run.bundle and run.finished_at),
}))
"""
