"""Commands that bring responses in: what they say, and the status they end with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from annotation.models import Dataset, Dialogue, Response, System
from annotation.workflow.leases import Lease
from tests.annotation.faulty_server import Faulty, serving
from tests.factories import SystemFactory

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("script", "given", "status", "words"),
    [
        ("ok", {}, 0, "16 answered, of 16 turns"),
        ("500", {}, 3, "0 answered, 16 failed"),
        ("500", {"give_up_after": 3, "concurrency": 1}, 3, "3 turns in a row failed"),
        ("some", {}, 4, "15 answered, 1 failed"),
        ("ok", {"cap_requests": 5}, 5, "The cap of 5 requests is reached"),
        ("401", {}, 2, "refuses the key"),
    ],
)
def test_the_status_says_how_a_run_ended(
    corpus: Dataset,
    serve: Callable[..., Faulty],
    settings: Any,
    capsys: pytest.CaptureFixture[str],
    script: str,
    given: dict[str, Any],
    status: int,
    words: str,
) -> None:
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = True
    faulty = serve(lambda asked, number: ("500" if "user 1 " in asked else "ok") if script == "some" else script)
    options = {"system": "mine", "base_url": faulty.url, "model": "tiny", "attempts": 1, **given}
    if status:
        with pytest.raises(CommandError) as ended:
            call_command("generate_responses", **options)
        assert ended.value.returncode == status
    else:
        call_command("generate_responses", **options)
    assert words in capsys.readouterr().out


def test_what_is_refused_before_anything_is_asked_has_a_status_of_its_own(
    corpus: Dataset, serve: Callable[..., Faulty], settings: Any
) -> None:
    settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS = True
    faulty = serve()
    Lease(SystemFactory.create(name="mine"), "the job 4711")
    with pytest.raises(CommandError, match="the job 4711") as ended:
        call_command("generate_responses", system="mine", base_url=faulty.url, model="tiny")
    assert ended.value.returncode == 1
    assert not faulty.requests


def test_a_dry_run_shows_prompts_of_each_case_and_warns(corpus: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    call_command(
        "generate_responses", system="mine", base_url="https://example.org/v1", model="m", dry_run=True, examples=1
    )
    said = capsys.readouterr().out
    assert said.count("--- case 1, none: turn ") == 1
    assert "warning: No titles were recognised in redial" in said


def test_ctrl_c_keeps_what_came_and_says_so_without_a_trace(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "ATTUNE_DATA_DIR": str(tmp_path),
        "ATTUNE_DATABASE_URL": f"sqlite:///{tmp_path / 'attune.sqlite3'}",
        "ATTUNE_ALLOW_PRIVATE_ENDPOINTS": "1",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    prepare = "import django; django.setup(); from tests.factories import make_corpus; make_corpus(30)"
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "-v0"], env=environment, cwd=ROOT, check=True, timeout=240)
    subprocess.run([sys.executable, "-c", prepare], env=environment, cwd=ROOT, check=True, timeout=240)
    with serving(Faulty(lambda words, number: "ok", seconds=0.1)) as faulty:
        command = [*manage, "generate_responses", "--system", "mine", "--base-url", faulty.url, "--model", "tiny"]
        child = subprocess.Popen(
            [*command, "--concurrency", "2"],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 240
        while sum(faulty.answered.values()) < 6 and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        said, errors = child.communicate(timeout=240)
        answered = sum(faulty.answered.values())
    assert child.returncode == 130
    assert f"{answered} answered, {60 - answered} not asked, of 60 turns" in said
    assert "Traceback" not in errors
    assert "Interrupted; what came is stored" in errors


# Imports ----------------------------------------------------------------------------------------------------------


def chat(number: int) -> str:
    said = [{"speaker": "user", "text": f"Hello {number}"}, {"speaker": "agent", "text": "Try Alien (1979)"}]
    return json.dumps({"dialogue_id": f"d{number}", "utterances": said})


def test_several_files_of_dialogues_come_in_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for number in (1, 2):
        files.append(tmp_path / f"{number}.jsonl")
        files[-1].write_text(chat(number) + "\n")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(CommandError, match=r"empty\.jsonl is empty"):
        call_command("import_dialogues", *map(str, [files[0], tmp_path / "empty.jsonl", files[1]]), dataset="mine")
    assert Dialogue.objects.filter(dataset__name="mine").count() == 2
    assert capsys.readouterr().out.count("messages read") == 2


def test_responses_without_dialogues_name_the_file_to_import_and_a_few_rows(
    corpus: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    rows = [
        {"dialogue_id": f"9{n}", "turn_id": 1, "system": "s", "response": "Hi", "dataset": "redial"} for n in range(40)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    call_command("import_responses", str(path), skip_checks=True)
    said = capsys.readouterr().out
    assert "not taken, 40 x" in said
    assert "the file with the dialogues of redial (redial_dataset.zip)" in said
    assert said.count("r.jsonl, line") == 3
    assert not Response.objects.filter(system__name="s").exists()
    assert not System.objects.filter(name="s").exists()
