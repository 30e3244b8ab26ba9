from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class ClosedSignup(DefaultAccountAdapter):  # type: ignore[misc]
    """Nobody signs herself up: accounts come from an invitation link, the admin, or single sign-on."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False
