from __future__ import annotations

from django import forms
from django.contrib.auth.forms import UserCreationForm

from annotation.models import User


class JoinForm(UserCreationForm):  # type: ignore[type-arg]
    """A new account for someone who follows an invitation."""

    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("username",)


class HalfWidthForm(forms.Form):
    """How precise a researcher wants her numbers: value +- half-width."""

    half_width = forms.FloatField(min_value=0.005, max_value=0.5)
