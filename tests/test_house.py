"""The house keeps its own rules: documentation, settings, access, the compose file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.urls import URLPattern, URLResolver, get_resolver

from tests.conftest import LONGEST

ROOT = Path(__file__).resolve().parents[1]


def tracked(*suffixes: str) -> list[Path]:
    skipped = {".venv", "node_modules", "var", "staticfiles", "dist", ".git"}
    return [
        path
        for path in ROOT.rglob("*")
        if path.suffix in suffixes and path.is_file() and not skipped.intersection(path.relative_to(ROOT).parts)
    ]


def test_every_setting_has_a_line_in_the_operations_page() -> None:
    settings = (ROOT / "config" / "settings.py").read_text(encoding="utf-8")
    named = set(re.findall(r'env\.\w+\(\s*"(ATTUNE_\w+)"', settings))
    assert named, "the pattern finds no setting"
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert sorted(name for name in named if f"`{name}`" not in page) == []


def test_the_files_of_tests_that_come_first_exist() -> None:
    assert {path.stem for path in (ROOT / "tests").rglob("test_*.py")} >= set(LONGEST)


def test_every_command_is_named_in_the_documentation() -> None:
    folder = ROOT / "annotation" / "management" / "commands"
    commands = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    pages = "\n".join(path.read_text(encoding="utf-8") for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
    assert sorted(name for name in commands if name not in pages) == []


def test_links_between_the_pages_of_the_documentation_lead_somewhere() -> None:
    broken = []
    for page in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


LONG_WITH_A_REASON = {
    "annotation/workflow/frames.py": "the one door to the statistics: its tables share their keys",
    "annotation/workflow/reporting.py": "the making of one bundle, with everything that says where it comes from",
    "evaluation/estimation.py": "estimators that share their variance",
    "evaluation/figures.py": "every kind of figure, one frame and one palette",
}


def test_no_module_grows_past_five_hundred_lines_without_a_reason() -> None:
    modules = [path for path in tracked(".py", ".ts", ".tsx") if "migrations" not in path.parts]
    rooms = ("annotation", "evaluation", "config", "frontend")
    long = {
        str(path.relative_to(ROOT)): lines
        for path in modules
        if path.relative_to(ROOT).parts[0] in rooms
        and "tests" not in path.parts
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert {name: lines for name, lines in long.items() if name not in LONG_WITH_A_REASON or lines > 550} == {}
    assert set(LONG_WITH_A_REASON) <= set(long), "a module has shrunk: take its reason out"


def test_nothing_of_another_project_is_committed() -> None:
    suspicious = re.compile(r"(goemotions|empathetic|redial|inspired).*\.(tsv|csv|jsonl)(\.gz)?$", re.IGNORECASE)
    names = [str(path.relative_to(ROOT)) for path in tracked(".tsv", ".csv", ".jsonl", ".gz")]
    own = {"annotation/demo/redial_demo.jsonl", "annotation/demo/inspired_demo.tsv"}
    foreign = [name for name in names if suspicious.search(Path(name).name) and name not in own]
    assert [name for name in foreign if not name.startswith("docs/sample-report/")] == []


# The compose file: no container engine is needed to see that it hangs together ---------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def test_compose_services_have_health_checks_restart_policies_and_pinned_images(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.search(r":[\w.-]*\d", service["image"]), f"{name} has no pinned image"
        assert not service["image"].endswith(":latest")
        if name != "migrate":
            assert "healthcheck" in service, f"{name} has no health check"
            assert service["restart"] == "unless-stopped", name


def test_compose_names_only_volumes_secrets_and_services_that_exist(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists(), f"{name}: {volume}"
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name


def test_compose_holds_no_secret_and_runs_our_containers_with_least_rights(compose: dict[str, Any]) -> None:
    for name in ("migrate", "web", "worker", "quick", "beat"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        secrets = [key for key in service["environment"] if re.search(r"SECRET|TOKEN|PASSWORD|DATABASE_URL", key)]
        assert secrets
        assert all(key.endswith("_FILE") for key in secrets), name
    assert re.search(r"^USER attune$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)


def test_containers_run_the_programs_that_make_run_starts(compose: dict[str, Any]) -> None:
    from config.run import commands

    local = {name: " ".join(command) for name, command in commands("127.0.0.1", 1).items()}
    web, worker = compose["services"]["web"]["command"], compose["services"]["worker"]["command"]
    assert web[:2] == ["gunicorn", "config.wsgi"]
    assert "gunicorn config.wsgi" in local["web"]
    assert worker[:4] == ["celery", "--app", "config", "worker"]
    assert "celery --app config --quiet worker" in local["worker"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert shlex.split(dockerfile.split("CMD ", 1)[1].strip().strip("[]").replace(",", " "))[:2] == web[:2]


# Access: every view names a rule --------------------------------------------------------------------------------------


def own_views(resolver: URLResolver, prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found += own_views(pattern, route)
        elif isinstance(pattern, URLPattern) and pattern.callback.__module__.startswith("annotation"):
            found.append((route, pattern.callback))
    return found


OPEN_TO_ALL = {"health/live", "health/ready", "join/<str:token>/"}


def test_every_page_and_endpoint_names_its_rule() -> None:
    from annotation.access import Denied

    views = own_views(get_resolver())
    assert len(views) > 20
    for route, callback in views:
        if route.startswith("admin/") or route in OPEN_TO_ALL:
            continue
        api = getattr(callback, "cls", None)
        if api is not None:
            rules = api.permission_classes
            own = "get_permissions" in vars(api)
            assert own or (rules and Denied not in rules), f"{route} names no rule"
        else:
            assert hasattr(callback, "rule") or hasattr(callback, "__wrapped__"), f"{route} names no rule"
