from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

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
