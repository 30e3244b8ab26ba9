from __future__ import annotations

from typing import Any

from allauth.account.admin import EmailAddress
from allauth.mfa.admin import Authenticator
from allauth.socialaccount.admin import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.admin import UserSession
from axes.admin import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from annotation.admin.base import AuditedAdmin, RecordAdmin
from annotation.models import AuditEvent, Invitation, Membership, User

admin.site.unregister(Group)  # roles are memberships
# The libraries' own pages would write past the audit log and show keys: single sign-on is configured by settings.
for library in (EmailAddress, SocialAccount, SocialApp, SocialToken, AccessLog, AccessFailureLog):
    admin.site.unregister(library)
for library in (Authenticator, UserSession, AccessAttempt):
    admin.site.unregister(library)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, AuditedAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "is_active", "is_superuser", "last_login"]
    list_filter = ["is_active", "is_superuser"]
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Person", {"fields": ["first_name", "last_name", "email"]}),
        ("Rights", {"fields": ["is_active", "is_staff", "is_superuser"]}),
        ("Dates", {"fields": ["last_login", "date_joined"]}),
    ]
    readonly_fields = ["last_login", "date_joined"]


@admin.register(Membership)
class MembershipAdmin(AuditedAdmin):
    list_display = ["user", "campaign", "role", "pseudonym", "active", "verify_done", "rate_done", "consented_at"]
    list_filter = ["campaign", "role", "active"]
    search_fields = ["user__username", "pseudonym"]
    list_select_related = ["user", "campaign"]
    autocomplete_fields = ["user"]
    fields = ["user", "campaign", "role", "pseudonym", "active", "consented_at", "withdrawn_at"]
    readonly_fields = ["pseudonym", "consented_at", "withdrawn_at"]


@admin.register(Invitation)
class InvitationAdmin(RecordAdmin):
    list_display = ["campaign", "role", "uses_left", "expires_at", "created_by", "created_at"]
    list_filter = ["campaign", "role"]
    search_fields = ["note", "created_by__username"]
    list_select_related = ["campaign", "created_by"]
    exclude = ["token_digest"]


class TakenAwayAdmin(AuditedAdmin):
    """What a person's account has gathered: an administrator may take it away, and that is in the audit log."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Authenticator)
class AuthenticatorAdmin(TakenAwayAdmin):
    """For someone who has lost her phone. The secret itself is not shown."""

    list_display = fields = ["user", "type", "created_at", "last_used_at"]
    list_select_related = ["user"]
    search_fields = ["user__username"]


@admin.register(UserSession)
class UserSessionAdmin(TakenAwayAdmin):
    """Signed-in browsers; who is taken away here signs in again."""

    list_display = fields = ["user", "ip", "user_agent", "created_at", "last_seen_at"]
    list_select_related = ["user"]
    search_fields = ["user__username"]

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        obj.end()

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for obj in queryset:
            obj.end()


@admin.register(AccessAttempt)
class AccessAttemptAdmin(TakenAwayAdmin):
    """Failed sign-ins; taking one away opens the lock before its time."""

    list_display = fields = ["username", "ip_address", "failures_since_start", "attempt_time"]
    search_fields = ["username", "ip_address"]


@admin.register(AuditEvent)
class AuditEventAdmin(RecordAdmin):
    list_display = ["at", "actor", "action", "target"]
    list_filter = ["action"]
    search_fields = ["target", "actor__username"]
    list_select_related = ["actor"]
