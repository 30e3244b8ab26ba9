"""The shapes of what the workbench and the server send each other, checked on the way in and documented both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from annotation.models import Campaign, Judgment, Task
from annotation.workflow.queue import MOST_PER_REQUEST
from annotation.workflow.submission import DEVICES, LONGEST_COMMENT, SKIP_REASONS
from evaluation.emotions import EMOTIONS

MOST_HELD = 100
MOST_JUDGMENTS = 100
MOST_KEYS = 64
COMMAND = re.compile(r"^[a-z][a-z0-9_.:-]{0,39}$")
LONGEST_KEY = 32
DEFAULT_PREFERENCES: dict[str, Any] = {"keymap": {}, "theme": "auto", "language": "", "text_size": "medium"}

Shape = serializers.Serializer[Any]


def read(shape: type[Shape], data: Any) -> dict[str, Any]:
    """The checked input; what does not fit is a 400 that names the field."""
    form = shape(data=data)
    form.is_valid(raise_exception=True)
    return dict(form.validated_data)


class SaidSerializer(Shape):
    role = serializers.ChoiceField(choices=["user", "recommender"])
    text = serializers.CharField()


class CandidateSerializer(Shape):
    key = serializers.CharField(help_text="A, B, …: the place on the screen.")
    id = serializers.CharField(help_text="Of this item and person only.")
    text = serializers.CharField()


class ItemSerializer(Shape):
    """An item to answer. `prelabel` is there only in the arm that shows it."""

    slot = serializers.IntegerField()
    task = serializers.ChoiceField(choices=Task.values)
    kind = serializers.ChoiceField(choices=["user", "response", "rate"])
    context = SaidSerializer(many=True)  # type: ignore[assignment]
    target = SaidSerializer(required=False)
    prelabel = serializers.ChoiceField(choices=EMOTIONS, required=False)
    responses = CandidateSerializer(many=True, required=False)
    leased_until = serializers.DateTimeField(required=False)


class ProgressSerializer(Shape):
    done = serializers.IntegerField()
    total = serializers.IntegerField()
    mine = serializers.IntegerField()
    mine_today = serializers.IntegerField()
    pace_ms = serializers.IntegerField(allow_null=True)
    left = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Campaign.STATES)


class QueueSerializer(Shape):
    campaign = serializers.CharField()
    title = serializers.CharField()
    task = serializers.ChoiceField(choices=[*Task.values, "adjudicate"])
    mine = serializers.IntegerField()
    available = serializers.IntegerField()
    done = serializers.IntegerField()
    total = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Campaign.STATES)
    needs_consent = serializers.BooleanField()
    needs_practice = serializers.BooleanField()
    guideline_version = serializers.IntegerField(allow_null=True)


class PersonSerializer(Shape):
    id = serializers.IntegerField()
    name = serializers.CharField()


class EmotionSerializer(Shape):
    name = serializers.ChoiceField(choices=EMOTIONS)
    key = serializers.CharField()
    title = serializers.CharField()
    colour = serializers.CharField()


class ScaleSerializer(Shape):
    name = serializers.CharField()
    question = serializers.CharField()
    low = serializers.CharField()
    high = serializers.CharField()
    points = serializers.IntegerField()


class GuidelineSerializer(Shape):
    version = serializers.IntegerField()
    html = serializers.CharField()
    change_note = serializers.CharField(allow_blank=True)


class ConsentTextSerializer(Shape):
    needed = serializers.BooleanField()
    version = serializers.CharField()
    html = serializers.CharField()


class PracticeStateSerializer(Shape):
    needed = serializers.BooleanField()
    available = serializers.BooleanField()


class SkipReasonSerializer(Shape):
    code = serializers.ChoiceField(choices=list(SKIP_REASONS))
    title = serializers.CharField()


class WorkbenchSerializer(Shape):
    campaign = serializers.CharField()
    title = serializers.CharField()
    task = serializers.ChoiceField(choices=[*Task.values, "adjudicate"])
    user = PersonSerializer()
    emotions = EmotionSerializer(many=True)
    scales = ScaleSerializer(many=True)
    mode = serializers.ChoiceField(choices=["blind", "assisted"])
    guideline = GuidelineSerializer(allow_null=True)
    consent = ConsentTextSerializer(allow_null=True)
    practice = PracticeStateSerializer()
    keymap = serializers.DictField(child=serializers.CharField())
    progress = ProgressSerializer()
    lease_seconds = serializers.IntegerField()
    idle_after_ms = serializers.IntegerField()
    skip_reasons = SkipReasonSerializer(many=True)
    language = serializers.CharField()


class AskSerializer(Shape):
    """How many items are wanted, and which ones the browser has."""

    task = serializers.ChoiceField(choices=Task.values)
    want = serializers.IntegerField(min_value=0, max_value=MOST_PER_REQUEST)
    holding = serializers.ListField(
        child=serializers.IntegerField(min_value=0), max_length=MOST_HELD, required=False, default=list
    )
    client = serializers.CharField(max_length=36, required=False, allow_blank=True, default="")


class DealtSerializer(Shape):
    items = ItemSerializer(many=True)
    lost = serializers.ListField(child=serializers.IntegerField())
    progress = ProgressSerializer()


class JudgmentSerializer(Shape):
    """One answer. Documentation only: each answer of a request is judged for itself, so that one bad costs no other."""

    id = serializers.UUIDField()
    slot = serializers.IntegerField()
    action = serializers.ChoiceField(choices=Judgment.ACTIONS)
    label = serializers.ChoiceField(choices=EMOTIONS, required=False)  # type: ignore[assignment]
    ratings = serializers.DictField(child=serializers.DictField(child=serializers.IntegerField()), required=False)
    reason = serializers.ChoiceField(choices=list(SKIP_REASONS), required=False)
    comment = serializers.CharField(max_length=LONGEST_COMMENT, required=False, allow_blank=True)
    flagged = serializers.BooleanField(required=False)
    supersedes = serializers.UUIDField(required=False, allow_null=True)
    answered_at = serializers.DateTimeField(required=False, allow_null=True)
    active_ms = serializers.IntegerField(required=False, allow_null=True)
    device = serializers.ChoiceField(choices=DEVICES, required=False)
    guideline_version = serializers.IntegerField(required=False, allow_null=True)


@extend_schema_field(JudgmentSerializer(many=True))
class JudgmentsField(serializers.ListField):
    """A list of answers as they came."""

    child = serializers.JSONField()


class JudgmentsSerializer(AskSerializer):
    judgments = JudgmentsField(max_length=MOST_JUDGMENTS)


class ResultSerializer(Shape):
    id = serializers.CharField()
    status = serializers.ChoiceField(choices=["stored", "duplicate", "set_aside", "refused"])
    reason = serializers.CharField(required=False)
    detail = serializers.CharField(required=False)


class ReceiptSerializer(DealtSerializer):
    results = ResultSerializer(many=True)


class PastAnswerSerializer(Shape):
    id = serializers.UUIDField()
    slot = serializers.IntegerField()
    item = ItemSerializer()
    action = serializers.ChoiceField(choices=Judgment.ACTIONS)
    label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    ratings = serializers.DictField(child=serializers.DictField(child=serializers.IntegerField()))
    reason = serializers.CharField(allow_blank=True)
    comment = serializers.CharField(allow_blank=True)
    flagged = serializers.BooleanField()
    set_aside = serializers.BooleanField()
    received_at = serializers.DateTimeField()


class HistorySerializer(Shape):
    results = PastAnswerSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class PracticeItemSerializer(Shape):
    slot = serializers.CharField()
    task = serializers.ChoiceField(choices=Task.values)
    kind = serializers.ChoiceField(choices=["user", "response"])
    context = SaidSerializer(many=True)  # type: ignore[assignment]
    target = SaidSerializer()


class PracticeSerializer(Shape):
    items = PracticeItemSerializer(many=True)


class PracticeAnswerSerializer(Shape):
    item = serializers.CharField(max_length=20)
    label = serializers.ChoiceField(choices=EMOTIONS)  # type: ignore[assignment]


class FeedbackSerializer(Shape):
    correct = serializers.BooleanField()
    label = serializers.ChoiceField(choices=EMOTIONS)  # type: ignore[assignment]
    explanation = serializers.CharField(allow_blank=True)
    done = serializers.BooleanField()


class LabelCountSerializer(Shape):
    label = serializers.ChoiceField(choices=EMOTIONS)  # type: ignore[assignment]
    count = serializers.IntegerField()


class DisputeSerializer(Shape):
    item = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=["user", "response"])
    context = SaidSerializer(many=True)  # type: ignore[assignment]
    target = SaidSerializer()
    labels = LabelCountSerializer(many=True)
    comments_hidden = serializers.BooleanField()


class DisputesSerializer(Shape):
    items = DisputeSerializer(many=True)
    left = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)


class DecisionSerializer(Shape):
    id = serializers.UUIDField()
    item = serializers.IntegerField()
    label = serializers.ChoiceField(choices=EMOTIONS)  # type: ignore[assignment]
    comment = serializers.CharField(max_length=LONGEST_COMMENT, required=False, allow_blank=True)
    supersedes = serializers.UUIDField(required=False, allow_null=True)


class DecisionReceiptSerializer(Shape):
    status = serializers.ChoiceField(choices=["stored", "duplicate", "refused"])
    comments = serializers.ListField(child=serializers.CharField())
    reason = serializers.CharField(required=False)
    detail = serializers.CharField(required=False)


class PreferencesSerializer(Shape):
    """A closed schema: anything else is refused, so that nothing can be hidden in a person's preferences."""

    keymap = serializers.DictField(
        child=serializers.CharField(max_length=LONGEST_KEY, trim_whitespace=False), required=False
    )
    theme = serializers.ChoiceField(choices=["auto", "light", "dark"], required=False)
    language = serializers.ChoiceField(choices=["", *(code for code, _ in settings.LANGUAGES)], required=False)
    text_size = serializers.ChoiceField(choices=["small", "medium", "large", "larger"], required=False)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := sorted(set(map(str, data)) - set(self.fields))):
            raise ValidationError({name: ["There is no such preference."] for name in unknown[:10]})
        return super().to_internal_value(data)

    def validate_keymap(self, keymap: dict[str, str]) -> dict[str, str]:
        if len(keymap) > MOST_KEYS:
            raise ValidationError(f"At most {MOST_KEYS} keys can be set.")
        if wrong := [name for name in keymap if not COMMAND.match(name)]:
            raise ValidationError(f"{wrong[0][:40]!r} is no name of a command.")
        if len(set(keymap.values())) < len(keymap):
            raise ValidationError("One key cannot do two things.")
        return keymap
