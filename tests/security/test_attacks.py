"""The known holes of other annotation tools, and our own fears: twenty-two attacks, each a test that names its case."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from annotation.corpora.dialogue import CorpusError
from annotation.corpora.opening import open_corpus
from annotation.corpora.reading import Limits
from annotation.inference.addresses import AddressRefusedError, checked_addresses, parse_address
from annotation.models import Campaign, Judgment, Membership, ReportRun, Role, Slot, User
from annotation.workflow import exports, jobs
from annotation.workflow.presentation import slot_veil
from annotation.workflow.queue import lease_batch
from annotation.workflow.verification import submit
from tests.factories import MembershipFactory, UserFactory, answer_to, converse, make_campaign

ROOT = Path(__file__).resolve().parents[2]
SignIn = Callable[[User], Client]
HOSTILE = "<script>alert('spoken')</script><img src=x onerror=alert(1)>{{7*7}}"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_cache() -> None:
    cache.clear()


def product_code() -> dict[str, str]:
    folders = (ROOT / "annotation", ROOT / "config", ROOT / "evaluation")
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for folder in folders
        for path in folder.rglob("*.py")
    }


def start_in_production(**changed: str) -> subprocess.CompletedProcess[str]:
    """Load the settings in a process of its own, as a server does when it starts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    sound = {
        "ATTUNE_PRODUCTION": "1",
        "ATTUNE_SECRET_KEY": uuid.uuid4().hex * 2,
        "ATTUNE_ALLOWED_HOSTS": "attune.example",
        "ATTUNE_DATA_DIR": str(settings.DATA_DIR),
    }
    return subprocess.run(
        [sys.executable, "-c", "import config.settings"],
        cwd=ROOT,
        env=kept | sound | changed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# 1 ----------------------------------------------------------------


def test_case_01_filters_and_orders_are_closed_lists(campaign: Campaign, rhea: User, sign_in: SignIn) -> None:
    """CVE-2023-47117: `updated_by__password__startswith` as a filter leaked password hashes."""
    browser = sign_in(rhea)
    for place in ("/api/campaigns/", "/api/reports/", "/api/jobs/"):
        plain = browser.get(place).json()
        for wanted in ("memberships__user__password__startswith", "created_by__password", "ordering", "order_by"):
            assert browser.get(place, {wanted: "a"}).json() == plain, f"{place} listens to {wanted}"
    refused = browser.get(f"/api/campaigns/{campaign.name}/export/judgments/", {"as": "annotator__password"})
    assert refused.status_code == 400
    assert browser.get(f"/api/campaigns/{campaign.name}/export/auth_user/").status_code == 404


def test_case_01_the_admin_refuses_lookups_across_to_passwords(admin: User, sign_in: SignIn) -> None:
    browser = sign_in(admin)
    for wanted in ("annotator__password__startswith", "annotator__api_tokens__digest__startswith"):
        assert browser.get(f"/admin/annotation/judgment/?{wanted}=a").status_code in (302, 400)


# 2, 3, 19: defaults ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ATTUNE_SECRET_KEY": ""}, "ATTUNE_SECRET_KEY"),
        ({"ATTUNE_SECRET_KEY": "short"}, "ATTUNE_SECRET_KEY"),
        ({"ATTUNE_DEBUG": "1"}, "ATTUNE_DEBUG"),
        ({"ATTUNE_ALLOWED_HOSTS": "*"}, "ATTUNE_ALLOWED_HOSTS"),
        ({"ATTUNE_ALLOWED_HOSTS": ""}, "ATTUNE_ALLOWED_HOSTS"),
    ],
)
def test_case_02_production_does_not_start_insecure(changed: dict[str, str], said: str) -> None:
    """CVE-2023-43791: a secret key in the source forged sessions."""
    done = start_in_production(**changed)
    assert done.returncode != 0
    assert f"ImproperlyConfigured: {said}" in done.stderr


def test_case_02_production_starts_with_sound_settings_and_no_key_stands_in_the_source() -> None:
    done = start_in_production()
    assert done.returncode == 0, done.stderr[-1000:]
    assert not re.search(r"SECRET_KEY\s*=\s*[\"'][^\"']+[\"']", product_code()["config/settings.py"])
    assert not settings.DEBUG


def test_case_03_no_self_registration_and_no_import_by_address(client: Client, admin: User, sign_in: SignIn) -> None:
    """CVE-2022-36551: anyone signed up and imported `file:///etc/passwd`."""
    page = client.get("/account/signup/")
    assert b'name="password1"' not in page.content
    for wanted in ("file:///etc/passwd", "http://169.254.169.254/"):
        with pytest.raises((CorpusError, OSError)):
            open_corpus(wanted)
    form = {"kind": "dialogues", "dataset": "x", "file": "file:///etc/passwd"}
    reply = sign_in(admin).post("/admin/annotation/job/launch/import/", form)
    assert reply.status_code == 200  # the form again: a file is wanted
    assert not jobs.Job.objects.exists()


def test_case_04_an_address_is_resolved_once_and_private_ones_are_refused() -> None:
    """CVE-2023-47116: the check looked at one address, the connection went to another."""
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["93.184.216.34", "169.254.169.254"]

    with pytest.raises(AddressRefusedError):
        checked_addresses(parse_address("https://rebind.example/v1"), resolver=rebinding)
    assert asked == ["rebind.example"]
    for inside in ("10.0.0.5", "127.0.0.1", "::1", "169.254.169.254", "::ffff:10.0.0.5"):
        with pytest.raises(AddressRefusedError):
            checked_addresses(parse_address("https://inside.example/v1"), resolver=lambda host, port, to=inside: [to])


def test_case_05_an_import_error_never_repeats_what_was_read(tmp_path: Path) -> None:
    """CVE-2025-25297: an error echoed the body that a server-side request had fetched."""
    secret = "root:x:0:0:very-secret-line"
    path = tmp_path / "dialogues.jsonl"
    path.write_text(f"{secret}\n" * 3)
    with pytest.raises(CorpusError) as error:
        list(open_corpus(path).rows)
    assert "very-secret-line" not in str(error.value)


def test_case_06_secure_defaults_from_the_first_start() -> None:
    """Label Studio turned its guards on only in 1.23.1."""
    assert settings.ATTUNE_ALLOW_HUB is False
    assert settings.ATTUNE_ALLOW_PRIVATE_ENDPOINTS is False
    assert settings.ATTUNE_METRICS_TOKEN == ""
    assert settings.SECRET_KEY
    assert set(settings.ALLOWED_HOSTS) <= {"127.0.0.1", "localhost", "[::1]", "testserver"}
    assert settings.SESSION_COOKIE_HTTPONLY
    assert settings.X_FRAME_OPTIONS == "DENY"


def test_case_07_and_08_no_file_of_a_user_is_served_inline(
    campaign: Campaign, rhea: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2023-47115, GHSA-fq23-g58m-799r: an upload came back as a page of our own origin."""
    from annotation.workflow import reporting

    monkeypatch.setattr(reporting, "open_file", lambda run, name: io.BytesIO(HOSTILE.encode()))
    report = ReportRun.objects.create(campaign=campaign, finished_at=timezone.now())
    browser = sign_in(rhea)
    for name in ("report.html", "tables/x.csv", "figures/x.html", "figures/x.js", "uploads/x.svg"):
        reply = browser.get(f"/reports/{report.pk}/files/{name}")
        assert reply["Content-Disposition"].startswith("attachment"), name
        assert reply["X-Content-Type-Options"] == "nosniff"
    drawn = browser.get(f"/reports/{report.pk}/files/figures/bars.svg")
    assert "script-src 'self'" in drawn["Content-Security-Policy"]
    assert not re.search(r"MEDIA_URL|static\(settings", product_code()["config/urls.py"])


# 9, 10: stored script ----------------------------------------------------------------


@pytest.fixture
def hostile(ada: User, rhea: User, cleo: User, admin: User) -> Campaign:
    """A campaign in which every text that came from outside is an attack."""
    from annotation.models import Dataset, System
    from annotation.workflow.opening import open_campaign
    from tests.factories import DatasetFactory, SystemFactory

    corpus: Dataset = DatasetFactory.create(name="hostile", title=HOSTILE)
    system: System = SystemFactory.create(name="evil", title=HOSTILE)
    for number in range(3):
        said = [f"{HOSTILE} {number}{place}" for place in range(5)]
        converse(corpus, said, {system: [f"{HOSTILE} r{number}0", f"{HOSTILE} r{number}1"]})
    found = make_campaign(
        "hostile", corpus=corpus, systems=["evil"], title=HOSTILE, design={"kind": "simple", "size": 4}, seed=3
    )
    found.guidelines.update(markdown=f"# Rules\n\n{HOSTILE}\n\n[x](javascript:alert(1))")
    found.consent_text = HOSTILE
    found.save()
    for user, role in ((ada, Role.ANNOTATOR), (cleo, Role.ADJUDICATOR), (rhea, Role.RESEARCHER)):
        user.first_name = HOSTILE[:150]
        user.save()
        MembershipFactory.create(user=user, campaign=found, role=role, consented_at=timezone.now(), consent_version="1")
    open_campaign(found)
    found.refresh_from_db()
    ReportRun.objects.create(campaign=found, title=HOSTILE[:160])
    jobs.create_job(kind="import", parameters={"file_name": HOSTILE, "dataset": HOSTILE}, user=admin)
    jobs.Job.objects.update(state="failed", error=HOSTILE, message=HOSTILE)
    return found


def assert_harmless(content: str, place: str) -> None:
    assert "<script>alert" not in content, place
    assert not re.search(r"<img[^>]*onerror", content), place
    assert not re.search(r"href=[\"']?\s*javascript:", content, re.IGNORECASE), place


def test_case_09_hostile_text_is_text_on_every_page(
    hostile: Campaign, ada: User, cleo: User, rhea: User, admin: User, sign_in: SignIn
) -> None:
    """CVE-2024-26152: script in imported texts ran in the annotator's browser."""
    slot = lease_batch(hostile, ada, "verify", want=1).slots[0]
    assert submit(hostile, ada, answer_to(hostile, ada, slot, comment=HOSTILE)).status == "stored"
    report = ReportRun.objects.get()
    pages = {
        ada: ["/", "/me/", "/campaigns/hostile/verify/"],
        cleo: ["/campaigns/hostile/adjudicate/"],
        rhea: ["/", "/campaigns/hostile/", f"/reports/{report.pk}/"],
        admin: [
            "/admin/",
            *(
                f"/admin/annotation/{name}/"
                for name in ("dataset", "system", "dialogue", "response", "job", "reportrun")
            ),
            *(f"/admin/annotation/{name}/" for name in ("campaign", "item", "slot", "judgment", "user", "auditevent")),
            f"/admin/annotation/job/{jobs.Job.objects.get().pk}/change/",
            f"/admin/annotation/campaign/{hostile.pk}/change/",
            *(f"/admin/annotation/job/launch/{kind}/" for kind in ("import", "prelabel", "generate", "report")),
        ],
    }
    for user, places in pages.items():
        browser = sign_in(user)
        for place in places:
            reply = browser.get(place)
            assert reply.status_code == 200, place
            assert_harmless(reply.content.decode(), f"{user}: {place}")
    # What the workbench gets is data: JSON that no browser takes for a page; Markdown arrives already cleaned.
    reply = sign_in(ada).get("/api/campaigns/hostile/workbench/")
    assert reply["Content-Type"] == "application/json"
    assert_harmless(reply.json()["guideline"]["html"], "guideline")
    assert_harmless(reply.json()["consent"]["html"], "consent")


def test_case_10_what_changes_something_needs_post_and_a_csrf_token(campaign: Campaign, admin: User, ada: User) -> None:
    """CVE-2025-25296, CVE-2025-47783: a crafted link ran an unsanitised preview as its victim."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    job = jobs.create_job(kind="report", parameters={}, user=admin)
    row = f"/admin/annotation/campaign/{campaign.pk}"
    for link in (f"{row}/close", f"{row}/pause", f"/admin/annotation/job/{job.pk}/cancel"):
        places = [place for place in (link, f"{link}/") if browser.get(place, follow=True).status_code == 200]
        assert places, f"{link} shows no page that asks first"
        assert all(browser.post(place).status_code == 403 for place in places), link
    campaign.refresh_from_db()
    job.refresh_from_db()
    assert campaign.state == Campaign.OPEN
    assert job.state == "queued"
    for place in ("/me/tokens/", f"/campaigns/{campaign.name}/invite/", f"/jobs/{job.pk}/cancel/"):
        assert browser.post(place, {"name": "x"}).status_code == 403, place
        assert browser.get(place).status_code in (403, 404, 405), place
    browser.force_login(ada, backend="django.contrib.auth.backends.ModelBackend")
    address = f"/api/campaigns/{campaign.name}/lease/"
    assert browser.post(address, {"task": "verify"}, content_type="application/json").status_code == 403
    assert browser.post(f"/me/withdraw/{campaign.name}/").status_code == 403


@pytest.mark.parametrize(
    "given",
    [
        {"keymap": {"joy": HOSTILE}},
        {"keymap": {HOSTILE: "j"}},
        {"keymap": {"__proto__": "j"}},
        {"keymap": "x"},
        {"theme": "<script>"},
        {"is_superuser": True},
        {"user": 1, "theme": "dark"},
        {"keymap": {f"joy{n}": str(n) for n in range(500)}},
    ],
)
def test_case_11_preferences_are_a_closed_schema_and_only_ones_own(given: Any, ada: User, sign_in: SignIn) -> None:
    """CVE-2026-22033: script in the hot keys of a profile, and anyone's profile by id."""
    browser = sign_in(ada)
    reply = browser.put("/api/me/preferences/", given, content_type="application/json")
    assert reply.status_code == 400
    ada.refresh_from_db()
    assert ada.preferences == {}
    assert not ada.is_superuser


def test_case_12_the_shipped_proxy_serves_no_file_and_hides_the_figures() -> None:
    """GHSA-cpmr-mw4j-99r7: an alias without its slash in the shipped nginx file read the whole disk."""
    caddy = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
    directives = re.sub(r"#.*", "", caddy)
    assert not re.search(r"\b(root|file_server|alias|handle_path|try_files|php_fastcgi)\b", directives)
    assert re.search(r"respond /metrics\* 404|respond /metrics 404", directives)
    assert re.search(r"reverse_proxy web:8000", directives)


def test_case_13_names_within_archives_are_ours(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2025-25295: a task field became a path in an export."""
    source = product_code()["annotation/workflow/reporting.py"] + product_code()["annotation/workflow/exports.py"]
    assert "extractall" not in "".join(product_code().values())
    assert "file_name(" in source
    from evaluation.rendering.cells import file_name

    for wanted in ("../../etc/passwd", "/etc/passwd", "a\\..\\b", "x\x00y", "..", ""):
        made = file_name(wanted)
        assert re.fullmatch(r"[\w.-]*", made), made
        assert ".." not in made
    from annotation.workflow import reporting

    monkeypatch.setattr(
        sys.modules[reporting.open_file.__module__], "manifest", lambda run: {"files": {"data.csv": {}}}
    )
    report = ReportRun.objects.create(campaign=campaign, finished_at=timezone.now(), bundle="reports/x")
    for wanted in ("../../secret_key", "/etc/passwd", "../x", "..%2fsecret_key"):
        assert reporting.open_file(report, wanted) is None


def test_case_14_nothing_is_unpickled_and_no_remote_code_is_run() -> None:
    """CVE-2025-5173: torch.load of an untrusted file runs what is in it."""
    loaders = re.compile(
        r"torch\.load|\bpickle\b\s*\.|import pickle|cPickle|joblib|dill|shelve|marshal\.|yaml\.load\(|read_pickle"
        r"|allow_pickle\s*=\s*True|trust_remote_code\s*[\"']?\s*[=:]\s*True|(?<![\w.])(eval|exec)\("
    )
    assert [f"{name}: {hit.group()}" for name, text in product_code().items() if (hit := loaders.search(text))] == []
    assert settings.CELERY_TASK_SERIALIZER == "json" if hasattr(settings, "CELERY_TASK_SERIALIZER") else True
    from config.celery import app

    assert set(app.conf.accept_content) == {"json"}


def test_case_15_a_policy_without_inline_script(campaign: Campaign, ada: User, rhea: User, sign_in: SignIn) -> None:
    """A `Function()` in the page forced unsafe-eval on a whole product."""
    for user, place in (
        (ada, "/"),
        (ada, "/campaigns/emotions/verify/"),
        (rhea, "/campaigns/emotions/"),
        (ada, "/me/"),
    ):
        reply = sign_in(user).get(place)
        policy = reply["Content-Security-Policy"]
        assert "unsafe" not in policy, place
        assert "script-src 'self'" in policy
        assert "object-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        for tag in re.findall(r"<script\b[^>]*>", reply.content.decode()):
            assert "src=" in tag or 'type="application/json"' in tag, f"{place}: {tag}"
        assert not re.search(r"\son\w+=[\"']", reply.content.decode()), place
    assert "unsafe" not in Client().get("/account/login/")["Content-Security-Policy"]


def test_case_16_no_parameter_of_a_job_carries_a_key_or_a_forbidden_address(admin: User, sign_in: SignIn) -> None:
    """CVE-2024-40441: parameters of auto-labelling made the server ask any address."""
    for parameters in ({"api_key": "sk-1"}, {"apikey": "x"}):
        reply = sign_in(admin).post(
            "/api/jobs/", {"kind": "generate", "parameters": parameters}, content_type="application/json"
        )
        assert reply.status_code == 400
    for wanted in ("http://169.254.169.254/latest", "file:///etc/passwd", "gopher://x", "https://user:pw@host/"):
        with pytest.raises(AddressRefusedError):
            checked_addresses(parse_address(wanted), resolver=lambda host, port: [host])


def test_case_17_no_door_deletes_in_bulk(campaign: Campaign, admin: User, sign_in: SignIn) -> None:
    """CVE-2026-82834: bulk deletion without a look at whose rows they are."""
    slot = lease_batch(campaign, User.objects.get(username="ada"), "verify", want=1).slots[0]
    submit(campaign, slot.annotator or admin, answer_to(campaign, slot.annotator or admin, slot))
    browser = sign_in(admin)
    for model in ("judgment", "slot", "item", "adjudication", "auditevent", "job", "reportrun"):
        rows = browser.post(
            f"/admin/annotation/{model}/",
            {"action": "delete_selected", "_selected_action": ["1", str(Judgment.objects.get().pk)], "post": "yes"},
        )
        assert rows.status_code in (200, 302, 403)
    assert Judgment.objects.count() == 1
    assert Slot.objects.filter(pk=slot.pk).exists()


def test_case_18_every_lookup_goes_through_the_campaign() -> None:
    """doccano fetched labels by id alone. Here `tests/annotation/test_access_matrix.py` walks every address twice."""
    matrix = (ROOT / "tests" / "annotation" / "test_access_matrix.py").read_text(encoding="utf-8")
    assert "def test_every_address_of_the_url_map_has_a_row_in_the_table" in matrix
    assert "def test_what_is_addressed_by_id_answers_only_within_its_campaign" in matrix
    views = product_code()["annotation/api/annotation.py"] + product_code()["annotation/api/adjudication.py"]
    assert not re.search(r"\.objects\.get\(pk=|get_object_or_404", views)


def test_case_19_no_default_password_or_token_ships() -> None:
    """Argilla: owner / 12345678 and two documented keys."""
    for name, text in product_code().items():
        given = re.search(r"(password|api_?key|token)\s*=\s*[\"'](?!\s*[\"'])[\w-]{4,}[\"']", text, re.IGNORECASE)
        assert given is None or given.group() == 'api_key="set-by-the-transport"', f"{name}: {given.group()}"
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert not re.search(r"PASSWORD:\s*\S", compose.replace("POSTGRES_PASSWORD_FILE", ""))
    assert "secrets.token_urlsafe" in product_code()["annotation/management/commands/seed_demo.py"]


def test_case_20_a_hidden_answer_and_an_admin_key_stay_hidden(
    campaign: Campaign, ada: User, bo: User, rhea: User, sign_in: SignIn
) -> None:
    """Potato: an annotator read another's work, and the admin's key leaked."""
    slot = lease_batch(campaign, ada, "verify", want=1).slots[0]
    submit(campaign, ada, answer_to(campaign, ada, slot, label="disgust", comment="adas-own-comment"))
    browser = sign_in(bo)
    for place in ("workbench/?task=verify", "history/?task=verify"):
        assert "adas-own-comment" not in browser.get(f"/api/campaigns/{campaign.name}/{place}").content.decode()
    everything = json.dumps(browser.get("/me/data.json").json())
    assert "ada" not in everything
    for user in (bo, rhea):
        for place in ("/", "/me/"):
            assert settings.SECRET_KEY not in sign_in(user).get(place).content.decode()


def test_case_21_dependencies_are_pinned_and_audited() -> None:
    """INCEpTION shipped a version for one dependency's hole: one must know what one ships."""
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            assert re.match(r"^[\w.-]+(\[[\w,]+\])?==[\w.]+$", line.strip()), line
    assert "audit.sh" in (ROOT / "scripts" / "check.sh").read_text(encoding="utf-8")


# 22: our own ----------------------------------------------------------------


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_case_22a_an_export_holds_no_formula(start: str, campaign: Campaign, ada: User) -> None:
    slot = lease_batch(campaign, ada, "verify", want=1).slots[0]
    comment = f"{start}HYPERLINK(1)"
    assert submit(campaign, ada, answer_to(campaign, ada, slot, comment=comment)).status == "stored"
    rows = list(csv.DictReader(io.StringIO("".join(exports.export_lines(campaign, "judgments", "csv")), newline="")))
    assert len(rows) == 1
    assert not [value for row in rows for value in row.values() if value and value[0] in "=+@\t\r"]
    assert any("HYPERLINK" in value for value in rows[0].values())
    assert not any(value.startswith("-H") for value in rows[0].values())


def test_case_22b_bombs_are_refused_before_they_unfold(tmp_path: Path) -> None:
    line = b'{"conversationId": "1", "messages": []}\n'
    squeezed = tmp_path / "bomb.jsonl.gz"
    with gzip.open(squeezed, "wb") as target:
        for _ in range(40):
            target.write(b" " * (1 << 20))
        target.write(line)
    small = Limits(ratio_floor=1_000_000)
    with pytest.raises(CorpusError, match="unpacks to more than"):
        open_corpus(squeezed, limits=small)
    packed = tmp_path / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../test_data.jsonl", b" " * (40 << 20))
    with pytest.raises(CorpusError, match="unpacks to more than"):
        open_corpus(packed, limits=small)
    deep = tmp_path / "deep.jsonl"
    deep.write_text('{"messages": ' + "[" * 50_000 + "]" * 50_000 + "}\n")
    with pytest.raises(CorpusError):
        list(open_corpus(deep).rows)


def test_case_22c_in_the_hidden_arm_the_browser_learns_nothing(assisted: Campaign, ada: User, sign_in: SignIn) -> None:
    """Same fields but for the shown label itself, and no trace of arm, prediction, system or row number."""
    body = {"task": "verify", "want": 20, "holding": [], "client": str(uuid.uuid4())}
    items = sign_in(ada).post("/api/campaigns/emotions/lease/", body, content_type="application/json").json()["items"]
    veil = slot_veil(assisted, ada)
    arms: dict[str, list[dict[str, Any]]] = {"shown": [], "hidden": []}
    for item in items:
        arms[Slot.objects.get(pk=veil.unveil(item["slot"])).arm].append(item)
    assert arms["shown"], "the seed gave no shown arm"
    assert arms["hidden"], "the seed gave no hidden arm"
    for item in arms["hidden"]:
        assert not item.get("prelabel")
        text = json.dumps(item)
        assert not re.search(r"hidden|predict|score|probab|alpha|beta|reference|classifier", text), text
    keys = {arm: {frozenset(item) - {"prelabel"} for item in found} for arm, found in arms.items()}
    assert keys["shown"] == keys["hidden"], "the fields themselves tell the arm"


def test_case_22d_an_adjudicator_sees_no_names_and_never_decides_on_her_own_label(
    campaign: Campaign, ada: User, bo: User, cleo: User, sign_in: SignIn
) -> None:
    MembershipFactory.create(user=ada, campaign=campaign, role=Role.ADJUDICATOR)
    for user, label in ((ada, "joy"), (bo, "anger")):
        for slot in lease_batch(campaign, user, "verify", want=20).slots:
            submit(campaign, user, answer_to(campaign, user, slot, label=label))
    disputes = sign_in(cleo).get("/api/campaigns/emotions/adjudication/").json()
    assert disputes["items"]
    text = json.dumps(disputes)
    names = [*Membership.objects.values_list("pseudonym", flat=True), "ada", "Ada", "alpha", "lexicon"]
    assert not [name for name in names if f'"{name}"' in text]
    assert sign_in(ada).get("/api/campaigns/emotions/adjudication/").json()["items"] == []
    for item in disputes["items"]:
        decision = {"id": str(uuid.uuid4()), "item": item["item"], "label": "joy"}
        reply = sign_in(ada).post("/api/campaigns/emotions/adjudication/", decision, content_type="application/json")
        assert reply.json()["status"] == "refused"


def test_case_22e_a_replayed_answer_is_stored_once(campaign: Campaign, ada: User, sign_in: SignIn) -> None:
    slot = lease_batch(campaign, ada, "verify", want=1).slots[0]
    answer = answer_to(campaign, ada, slot)
    body = {"task": "verify", "want": 0, "holding": [], "client": "a", "judgments": [answer, answer]}
    browser = sign_in(ada)
    for _ in range(3):
        reply = browser.post("/api/campaigns/emotions/judgments/", body, content_type="application/json")
        assert {one["status"] for one in reply.json()["results"]} <= {"stored", "duplicate"}
    assert Judgment.objects.count() == 1
    campaign.refresh_from_db()
    assert campaign.verify_done == 1


def test_case_22f_annotators_and_adjudicators_export_nothing(
    campaign: Campaign, ada: User, cleo: User, sign_in: SignIn
) -> None:
    for user in (ada, cleo):
        for place in ("export/judgments/", "export/labels/", "agreement/", "interchange/doccano/", "state/"):
            assert sign_in(user).get(f"/api/campaigns/emotions/{place}").status_code == 403


def test_case_22g_no_model_is_downloaded_at_run_time() -> None:
    assert settings.ATTUNE_ALLOW_HUB is False
    for name, text in product_code().items():
        if re.search(r"from_pretrained\(|snapshot_download\(", text):
            assert re.search(r"local_files_only|if not allow_hub", text), f"{name} may ask the hub"


def test_accounts_are_locked_after_failed_attempts_and_answer_alike_for_unknown_names(client: Client) -> None:
    from tests.factories import PASSWORD

    UserFactory.create(username="vera")
    texts = set()
    for name in ("vera", "nobody-of-that-name"):
        reply = client.post("/account/login/", {"login": name, "password": "wrong password"})
        texts.add(re.sub(r'value="[^"]*"', "", reply.content.decode()))
    assert len(texts) == 1, "the answer tells whether the account exists"
    for _ in range(settings.AXES_FAILURE_LIMIT):
        client.post("/account/login/", {"login": "vera", "password": "wrong password"})
    locked = client.post("/account/login/", {"login": "vera", "password": PASSWORD})
    assert locked.status_code in (403, 429, 200)
    assert "_auth_user_id" not in client.session
