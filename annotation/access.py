"""Who may do what: one place. Every endpoint is denied unless one of these rules is named on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.defaults import page_not_found
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from annotation.models import ApiToken, Campaign, Membership, Role, User, token_digest

if TYPE_CHECKING:
    from rest_framework.views import APIView

__all__ = [
    "CampaignAdjudicator",
    "CampaignAnnotator",
    "CampaignMember",
    "CampaignResearcher",
    "Denied",
    "SignedIn",
    "Staff",
    "TokenAuthentication",
    "campaigns_of",
    "exception_handler",
    "membership_of",
    "requires_role",
    "requires_staff",
    "roles_of",
]


def roles_of(user: User, campaign: Campaign) -> frozenset[str]:
    """The roles a person holds in a campaign. Superusers research everywhere, but annotate only where invited."""
    roles = set(Membership.objects.filter(user=user, campaign=campaign, active=True).values_list("role", flat=True))
    if user.is_superuser:
        roles.add(Role.RESEARCHER)
    return frozenset(roles)


def campaigns_of(user: User, roles: Iterable[str]) -> QuerySet[Campaign]:
    """The campaigns in which the person holds one of the roles."""
    wanted = list(roles)
    if user.is_superuser and Role.RESEARCHER in wanted:
        return Campaign.objects.all()
    return Campaign.objects.filter(
        memberships__user=user, memberships__active=True, memberships__role__in=wanted
    ).distinct()


def membership_of(user: User, campaign: Campaign, role: str) -> Membership:
    """The person's active membership in that role, or 404: whoever has none must not learn that the campaign exists."""
    membership = Membership.objects.filter(user=user, campaign=campaign, role=role, active=True).first()
    if membership is None:
        raise Http404
    return membership


class Denied(BasePermission):
    """The default of every endpoint: no rule, no access."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return False


class SignedIn(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user and request.user.is_authenticated)


class Staff(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user and request.user.is_authenticated and request.user.is_superuser)


class CampaignMember(BasePermission):
    """Scopes a view to the campaign named in its URL; sets `view.campaign`. Strangers get 404, the wrong role 403."""

    roles: tuple[str, ...] = (Role.ANNOTATOR, Role.ADJUDICATOR, Role.RESEARCHER)

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        campaign = Campaign.objects.filter(name=view.kwargs["campaign"]).first()
        held = roles_of(request.user, campaign) if campaign else frozenset()
        if campaign is None or not held:
            raise Http404
        view.campaign = campaign  # type: ignore[attr-defined]
        return bool(held.intersection(self.roles))


class CampaignAnnotator(CampaignMember):
    roles = (Role.ANNOTATOR,)


class CampaignAdjudicator(CampaignMember):
    roles = (Role.ADJUDICATOR,)


class CampaignResearcher(CampaignMember):
    roles = (Role.RESEARCHER,)


def requires_role(*roles: str) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """For pages under /campaigns/<campaign>/…: the view is called with the Campaign in place of its name."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @login_required
        @wraps(view)
        def guarded(request: HttpRequest, campaign: str, *args: Any, **kwargs: Any) -> HttpResponse:
            found = Campaign.objects.filter(name=campaign).first()
            held = roles_of(cast(User, request.user), found) if found else frozenset()
            if found is None or not held:
                raise Http404
            if not held.intersection(roles):
                raise PermissionDenied
            return view(request, found, *args, **kwargs)

        guarded.rule = roles  # type: ignore[attr-defined]
        return guarded

    return decorate


def requires_staff(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @login_required
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not cast(User, request.user).is_superuser:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    guarded.rule = ("staff",)  # type: ignore[attr-defined]
    return guarded


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`. A read token cannot write; an expired or unknown one is refused."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret:
            return None
        token = ApiToken.objects.select_related("user").filter(digest=token_digest(secret.strip())).first()
        if token is None or token.expires_at <= timezone.now() or not token.user.is_active:
            raise exceptions.AuthenticationFailed("Unknown or expired token. Make a new one under your account.")
        if token.scope == "read" and request.method not in SAFE_METHODS:
            raise exceptions.PermissionDenied("This token may only read.")
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=timezone.now())
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every refusal has one shape: {"error": code, "detail": sentence or field errors}."""
    # Not at the top: rest_framework.views reads the settings that name this module.
    from rest_framework.views import exception_handler as drf_exception_handler

    response = drf_exception_handler(error, context)
    if response is not None:
        code = getattr(error, "default_code", "error")
        detail = response.data.get("detail", response.data) if isinstance(response.data, dict) else response.data
        response.data = {"error": str(getattr(getattr(error, "detail", None), "code", code)), "detail": detail}
    return response


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """An address below /api/ that is none is refused in the API's shape too; elsewhere people get Django's page."""
    if request.path.startswith("/api/"):
        return JsonResponse({"error": "not_found", "detail": "There is nothing at this address."}, status=404)
    return page_not_found(request, exception)
