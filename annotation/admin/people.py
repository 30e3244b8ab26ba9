from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from annotation.admin.base import AuditedAdmin, RecordAdmin
from annotation.models import AuditEvent, Invitation, Membership, User

admin.site.unregister(Group)  # roles are memberships


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


@admin.register(AuditEvent)
class AuditEventAdmin(RecordAdmin):
    list_display = ["at", "actor", "action", "target"]
    list_filter = ["action"]
    search_fields = ["target", "actor__username"]
    list_select_related = ["actor"]
