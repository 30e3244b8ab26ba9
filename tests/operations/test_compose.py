"""The compose file: read by a parser, since no container engine is asked for."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.operations.installation import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("attune:")}
STARTED = {"migrate", "web", "worker", "quick", "beat"}
"""Whose command the tests of this folder start."""


def test_each_command_of_ours_is_one_that_the_tests_start() -> None:
    assert OURS == STARTED
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "operations").glob("*.py"))
    for name in STARTED:
        assert f'"{name}"' in tests


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_pinned_unprivileged_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":\d+\.\d+\.\d+|:\d+\.\d+-", service["image"]), "an image without a version"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
    if name != "migrate":
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    if name == "proxy":  # binds 80 and 443, and may do nothing else that root may
        assert service["cap_add"] == ["NET_BIND_SERVICE"]
    elif name not in OURS:
        assert service["user"] == "999:999"


def test_only_the_proxy_is_reached_from_outside() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"proxy"}


def test_secrets_are_files_and_each_is_made_by_the_script() -> None:
    script = (ROOT / "deploy" / "make-secrets.sh").read_text(encoding="utf-8")
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"deploy/secrets/{name}"}
        assert f"> secrets/{name}" in script
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"SECRET|PASSWORD|TOKEN|DATABASE_URL", variable):
                assert variable.endswith("_FILE")
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert "deploy/secrets" in (ROOT / ".gitignore").read_text(encoding="utf-8")


def test_what_a_service_waits_for_is_well_first() -> None:
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other == "migrate" else "service_healthy"
            assert condition == {"condition": wanted}, name


def test_the_image_runs_as_a_user_of_its_own_and_by_the_command_of_web() -> None:
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (\S+)", image, re.MULTILINE) == ["attune"]
    assert re.findall(r"^FROM (\S+)", image, re.MULTILINE) == ["python:3.11.14-slim-bookworm"] * 2
    shown = re.findall(r'"([^"]*)"', re.search(r"^CMD (.*)$", image, re.MULTILINE).group(1))  # type: ignore[union-attr]
    assert shown == [str(part) for part in SERVICES["web"]["command"]]
