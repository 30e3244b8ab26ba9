from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.utils.crypto import constant_time_compare

# Added to the strict policy: the admin's Alpine evaluates expressions and sets inline styles. It is open to superusers
# alone, and no page outside it gets this policy.
ADMIN_POLICY = {"script-src": ["'unsafe-eval'"], "style-src": ["'unsafe-inline'"]}


class AdminPolicy:
    """Give the admin, and only the admin, the content security policy that its scripts need."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith("/admin/"):
            response._csp_update = ADMIN_POLICY  # type: ignore[attr-defined]
        return response


class GuardedMetrics:
    """Show /metrics to whoever has the operator's token, and to nobody when none is set."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/metrics":
            token = settings.ATTUNE_METRICS_TOKEN
            given = request.headers.get("Authorization", "")
            if not token or not constant_time_compare(given, f"Bearer {token}"):
                return HttpResponseForbidden("Set ATTUNE_METRICS_TOKEN and send it as a bearer token.\n")
        return self.get_response(request)
