from __future__ import annotations

from django.contrib.auth.forms import UserCreationForm

from annotation.models import User


class JoinForm(UserCreationForm):  # type: ignore[type-arg]
    """A new account for someone who follows an invitation."""

    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("username",)
