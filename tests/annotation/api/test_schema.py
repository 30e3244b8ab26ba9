"""Whatever is sent to the API, it does not crash, and every refusal has the one shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from annotation.models import ApiToken, Campaign, Role, User, token_digest
from config.wsgi import application
from tests.factories import MembershipFactory

SECRET = "attune_for-this-test-only"
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


@pytest.fixture
def one_connection() -> Iterator[None]:
    """A whole request through WSGI closes the database connection at its end, and with it the test's transaction."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def api(campaign: Campaign, ada: User, one_connection: None) -> Any:
    """Ada annotates, adjudicates and researches, so that every door of the campaign opens."""
    for role in (Role.ADJUDICATOR, Role.RESEARCHER):
        MembershipFactory(user=ada, campaign=campaign, role=role)
    ApiToken.objects.create(
        user=ada, name="t", scope="write", digest=token_digest(SECRET), expires_at=timezone.now() + timedelta(days=1)
    )
    headers = {"Authorization": f"Bearer {SECRET}", "Host": "localhost"}
    return schemathesis.openapi.from_wsgi("/api/schema/?format=json", application, headers=headers)


def test_nothing_sent_to_an_endpoint_crashes_it(api: Any, campaign: Campaign) -> None:
    answers: Counter[int] = Counter()
    for found in api.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=12, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
        def probe(case: Any) -> None:
            if "campaign" in (case.path_parameters or {}):
                case.path_parameters["campaign"] = campaign.name
            response = case.call(headers={"Authorization": f"Bearer {SECRET}", "Host": "localhost"})
            answers[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)
            kind = response.headers.get("content-type", [""])[0]
            if response.status_code in (400, 403, 404, 405) and "json" in kind:
                assert set(response.json()) >= {"error", "detail"}, case.path

        probe()
    assert answers[200] > 20, answers
    assert answers[400] > 20, answers
    assert answers[401] == 0, answers
