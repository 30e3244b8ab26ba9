"""Files that come in through the admin's form and the API: kept, read by a worker, and gone afterwards."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotation import tasks
from annotation.models import Campaign, Dialogue, Item, Job, Judgment, Response, User

pytestmark = pytest.mark.django_db

FORM = "/admin/annotation/job/launch/import/"
API = "/api/imports/"
SignIn = Callable[[User], Client]


def table(suffix: str) -> SimpleUploadedFile:
    rows = pd.DataFrame(
        {"talk": ["a", "a"], "said": ["Hi", "Thanks!"], "human": ["Hello", "Bye"], "gpt": ["Yes?", "Enjoy"]}
    )
    if suffix == "csv":
        content = rows.to_csv(index=False).encode()
    elif suffix == "tsv":
        content = rows.to_csv(index=False, sep="\t").encode()
    elif suffix == "jsonl":
        content = rows.to_json(orient="records", lines=True).encode()
    else:
        buffer = io.BytesIO()
        (rows.to_parquet if suffix == "parquet" else rows.to_excel)(buffer, index=False)
        content = buffer.getvalue()
    return SimpleUploadedFile(f"triplets.{suffix}", content)


COLUMNS = "dialogue=talk\nuser=said\n\nreference=human\nsystem:GPT=gpt\n"


@pytest.mark.parametrize("door", [FORM, API])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_any_table_of_triplets_comes_in_with_its_columns_named(
    admin: User, sign_in: SignIn, door: str, suffix: str
) -> None:
    given = {"kind": "dialogues", "dataset": "study", "columns": COLUMNS, "file": table(suffix)}
    reply = sign_in(admin).post(door, given)
    assert reply.status_code == (302 if door == FORM else 201)
    job = Job.objects.get()
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert (job.state, job.error) == (Job.DONE, "")
    assert Dialogue.objects.get(dataset__name="study").turns.count() == 2
    said = Response.objects.filter(system__title="GPT").order_by("turn__position").values_list("shown", flat=True)
    assert list(said) == ["Yes?", "Enjoy"]
    assert not default_storage.exists(job.parameters["upload"])


@pytest.mark.parametrize("door", [FORM, API])
def test_labels_made_elsewhere_come_in_through_both_doors(
    admin: User, sign_in: SignIn, campaign: Campaign, door: str
) -> None:
    item = Item.objects.filter(campaign=campaign, kind="user").select_related("sampled_turn__turn__dialogue").first()
    assert item is not None
    assert item.sampled_turn is not None
    turn = item.sampled_turn.turn
    row = f"dialogue,turn,annotator,label\n{turn.dialogue.source_id},{turn.position},kim,joy\nnowhere,1,kim,joy\n"
    given = {"kind": "labels", "campaign": campaign.name, "file": SimpleUploadedFile("coded.csv", row.encode())}
    sign_in(admin).post(door, given)
    job = Job.objects.get(kind="import")
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert job.result["created"] == {"labels": 1}
    assert [(bad["file"], bad["line"]) for bad in job.result["problems"]] == [("coded.csv", 3)]
    assert Judgment.objects.get(item=item).device == "imported"


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"kind": "dialogues"}, "dataset", "name of their data set"),
        ({"kind": "dialogues", "dataset": "x", "columns": "user"}, "columns", "PART=COLUMN"),
        ({"kind": "dialogues", "dataset": "x", "columns": "colour=x"}, "columns", "no part &#x27;colour"),
        ({"kind": "dialogues", "dataset": "x", "columns": "reference=x"}, "columns", "user utterance"),
        ({"kind": "responses", "columns": "user=x"}, "columns", "names its own columns"),
        ({"kind": "labels"}, "campaign", "need the campaign"),
    ],
)
def test_what_no_worker_could_import_is_refused_at_the_door(
    admin: User, sign_in: SignIn, given: dict[str, Any], field: str, said: str
) -> None:
    browser = sign_in(admin)
    page = browser.post(FORM, {**given, "file": table("csv")})
    assert page.status_code == 200
    assert said in page.content.decode()
    answer = browser.post(API, {**given, "file": table("csv")})
    assert answer.status_code == 400
    assert said.replace("&#x27;", "'") in str(answer.json()["detail"][field])
    assert not Job.objects.exists()


def test_a_column_that_the_table_lacks_fails_the_job_by_name_and_leaves_no_file(admin: User, sign_in: SignIn) -> None:
    given = {"kind": "dialogues", "dataset": "study", "columns": "user=question", "file": table("csv")}
    sign_in(admin).post(FORM, given)
    job = Job.objects.get()
    tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert job.state == Job.FAILED
    assert "column question missing (found: talk, said, human, gpt)" in job.error
    assert not default_storage.exists(job.parameters["upload"])


def test_a_file_too_large_for_the_web_is_refused_saying_what_else_to_do(
    admin: User, sign_in: SignIn, settings: Any
) -> None:
    settings.ATTUNE_UPLOAD_MAX_BYTES = 10
    answer = sign_in(admin).post(API, {"kind": "dialogues", "dataset": "x", "file": table("csv")})
    assert "manage.py" in str(answer.json()["detail"]["file"])
