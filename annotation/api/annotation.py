"""What the workbench asks: queues, items, answers. Every view is scoped to one campaign and one role."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, cast

from django.http import Http404
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import APIException, PermissionDenied, ValidationError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotation.access import CampaignAnnotator, CampaignMember, SignedIn, TokenAuthentication, membership_of
from annotation.api import shapes
from annotation.models import Campaign, Guideline, Membership, Role, Task, User
from annotation.workflow import practice
from annotation.workflow.history import history_of
from annotation.workflow.presentation import present_slots, rendered, unveil_slots
from annotation.workflow.progress import needs_consent, needs_practice, progress_of, queues_of
from annotation.workflow.queue import lease_batch, return_slots
from annotation.workflow.submission import SKIP_REASONS, Refused
from annotation.workflow.verification import submit
from evaluation.emotions import EMOTIONS, PALETTE

IDLE_AFTER_MS = 30_000
TITLES = {
    "joy": _("joy"),
    "sadness": _("sadness"),
    "anger": _("anger"),
    "fear": _("fear"),
    "surprise": _("surprise"),
    "disgust": _("disgust"),
    "neutral": _("neutral"),
}


def person(request: Request) -> User:
    return cast(User, request.user)


class QueuesApi(APIView):
    """The queues of the person who asks."""

    permission_classes = (SignedIn,)

    class OutputSerializer(serializers.Serializer[Any]):
        queues = shapes.QueueSerializer(many=True)

    @extend_schema(operation_id="queues", responses=OutputSerializer)
    def get(self, request: Request) -> Response:
        return Response({"queues": queues_of(person(request))})


class WorkbenchApi(APIView):
    """Everything a workbench needs to know before its first item."""

    permission_classes = (CampaignMember,)
    campaign: Campaign

    @extend_schema(
        operation_id="workbench",
        parameters=[OpenApiParameter("task", str, enum=[*Task.values, "adjudicate"])],
        responses=shapes.WorkbenchSerializer,
    )
    def get(self, request: Request, campaign: str) -> Response:
        user, found = person(request), opened(self.campaign)
        task = request.query_params.get("task", Task.VERIFY)
        if task not in (*Task.values, "adjudicate"):
            raise ValidationError({"task": ["The task is verify, rate or adjudicate."]})
        role = Role.ADJUDICATOR if task == "adjudicate" else Role.ANNOTATOR
        member = membership_of(user, found, role)
        guideline = Guideline.objects.filter(campaign=found).order_by("-version").first()
        annotates = task != "adjudicate"
        return Response(
            {
                "campaign": found.name,
                "title": found.title,
                "task": task,
                "user": {"id": user.pk, "name": user.get_full_name() or user.get_username()},
                "emotions": [
                    {"name": name, "key": str(place), "title": TITLES[name], "colour": PALETTE[name]}
                    for place, name in enumerate(EMOTIONS, start=1)
                ],
                "scales": found.scales,
                "mode": found.mode if annotates else Campaign.BLIND,
                "guideline": guideline
                and {
                    "version": guideline.version,
                    "html": rendered(guideline.markdown),
                    "change_note": guideline.change_note,
                },
                "consent": {
                    "needed": needs_consent(found, member),
                    "version": found.consent_version,
                    "html": rendered(found.consent_text),
                }
                if annotates and found.consent_text
                else None,
                "practice": {
                    "needed": annotates and needs_practice(found, member),
                    "available": annotates and practice.is_available(found),
                },
                "keymap": user.preferences.get("keymap", {}),
                "progress": progress_of(found, member, task) if annotates else adjudication_progress(found, user),
                "lease_seconds": found.lease_minutes * 60,
                "idle_after_ms": IDLE_AFTER_MS,
                "skip_reasons": [{"code": code, "title": title} for code, title in SKIP_REASONS.items()],
                "language": user.preferences.get("language") or get_language(),
            }
        )


def opened(campaign: Campaign) -> Campaign:
    """A draft has no queues yet: for those who work in them it is not there."""
    if campaign.state == Campaign.DRAFT:
        raise Http404
    return campaign


def adjudication_progress(campaign: Campaign, user: User) -> dict[str, Any]:
    for queue in queues_of(user):
        if queue["campaign"] == campaign.name and queue["task"] == "adjudicate":
            return {
                "done": queue["done"],
                "total": queue["total"],
                "mine": queue["mine"],
                "mine_today": 0,
                "pace_ms": None,
                "left": queue["available"],
                "state": campaign.state,
            }
    raise Http404


class DealingApi(APIView):
    """What lease and judgments share: the next items, what is lost, and how far one is."""

    permission_classes = (CampaignAnnotator,)
    campaign: Campaign

    def check(self, request: Request) -> Membership:
        """Refuse to deal before consent and practice."""
        campaign = opened(self.campaign)
        member = membership_of(person(request), campaign, Role.ANNOTATOR)
        if needs_consent(campaign, member):
            raise PermissionDenied(_("Read and accept the consent page first."), code="consent_needed")
        if needs_practice(campaign, member):
            raise PermissionDenied(_("Do the practice round first."), code="practice_needed")
        return member

    def deal(self, request: Request, asked: dict[str, Any]) -> dict[str, Any]:
        user = person(request)
        holding = unveil_slots(self.campaign, user, asked["holding"])
        dealt = lease_batch(
            self.campaign,
            user,
            asked["task"],
            want=asked["want"],
            holding=list(holding),
            client=asked["client"],
        )
        return {
            "items": present_slots(self.campaign, user, dealt.slots),
            "lost": [holding[pk] for pk in dealt.lost],
            "progress": progress_of(self.campaign, dealt.member, asked["task"]),
        }


class LeaseApi(DealingApi):
    """Deal items, and renew the leases of those the browser holds."""

    @extend_schema(operation_id="lease", request=shapes.AskSerializer, responses=shapes.DealtSerializer)
    def post(self, request: Request, campaign: str) -> Response:
        self.check(request)
        return Response(self.deal(request, shapes.read(shapes.AskSerializer, request.data)))


class JudgmentsApi(DealingApi):
    """Take answers, each for itself, and deal the next items in the same answer.

    An answer is acknowledged (`stored`, `set_aside`) only after it is committed. `refused` ones are not stored.
    """

    @extend_schema(operation_id="judgments", request=shapes.JudgmentsSerializer, responses=shapes.ReceiptSerializer)
    def post(self, request: Request, campaign: str) -> Response:
        asked = shapes.read(shapes.JudgmentsSerializer, request.data)
        found = opened(self.campaign)
        outcomes = [submit(found, person(request), given) for given in asked["judgments"]]
        results = [{name: value for name, value in asdict(outcome).items() if value} for outcome in outcomes]
        found.refresh_from_db()
        try:
            self.check(request)
        except PermissionDenied:
            asked["want"] = 0
        return Response({"results": results, **self.deal(request, asked)})


class BeaconAuthentication(SessionAuthentication):
    """A page that is being left can send no header: its CSRF token may come in the body as `csrf`."""

    def enforce_csrf(self, request: Request) -> None:
        plain = request._request
        if "HTTP_X_CSRFTOKEN" not in plain.META:
            try:
                token = json.loads(plain.body).get("csrf")
            except (ValueError, AttributeError):
                token = None
            if isinstance(token, str):
                plain.META["HTTP_X_CSRFTOKEN"] = token
        super().enforce_csrf(request)


class BeaconParser(JSONParser):
    """Beacons are JSON sent as plain text."""

    media_type = "text/plain"


class ReturnApi(APIView):
    """Give leases back when the page is left. What is not one's own is passed over."""

    authentication_classes = (TokenAuthentication, BeaconAuthentication)
    parser_classes = (JSONParser, BeaconParser)
    permission_classes = (CampaignAnnotator,)
    campaign: Campaign

    @extend_schema_serializer(component_name="Return")
    class InputSerializer(serializers.Serializer[Any]):
        slots = serializers.ListField(child=serializers.IntegerField(), max_length=shapes.MOST_HELD)
        csrf = serializers.CharField(required=False)

    @extend_schema(
        operation_id="return", request=InputSerializer, responses={204: OpenApiResponse(description="Given back.")}
    )
    def post(self, request: Request, campaign: str) -> Response:
        asked = shapes.read(self.InputSerializer, request.data)
        user = person(request)
        return_slots(self.campaign, user, list(unveil_slots(self.campaign, user, asked["slots"])))
        return Response(status=status.HTTP_204_NO_CONTENT)


class HistoryApi(APIView):
    """One's own standing answers, newest first."""

    permission_classes = (CampaignAnnotator,)
    campaign: Campaign

    @extend_schema(
        operation_id="history",
        parameters=[OpenApiParameter("task", str, enum=Task.values), OpenApiParameter("cursor", str)],
        responses=shapes.HistorySerializer,
    )
    def get(self, request: Request, campaign: str) -> Response:
        task = request.query_params.get("task", Task.VERIFY)
        if task not in Task.values:
            raise ValidationError({"task": ["The task is verify or rate."]})
        cursor = request.query_params.get("cursor", "")
        results, following = history_of(opened(self.campaign), person(request), task, cursor=cursor)
        return Response({"results": results, "next": following})


class NotAsked(APIException):
    status_code = status.HTTP_400_BAD_REQUEST


class PracticeApi(APIView):
    """The practice round: items of the codebook, each answered with feedback. These answers are no judgments."""

    permission_classes = (CampaignAnnotator,)
    campaign: Campaign

    @extend_schema(operation_id="practice", responses=shapes.PracticeSerializer)
    def get(self, request: Request, campaign: str) -> Response:
        member = membership_of(person(request), opened(self.campaign), Role.ANNOTATOR)
        return Response({"items": practice.practice_items(self.campaign, member)})

    @extend_schema(
        operation_id="practice_answer",
        request=shapes.PracticeAnswerSerializer,
        responses={200: shapes.FeedbackSerializer, 400: OpenApiResponse(description="No such question or label.")},
    )
    def post(self, request: Request, campaign: str) -> Response:
        asked = shapes.read(shapes.PracticeAnswerSerializer, request.data)
        try:
            feedback = practice.answer_practice(opened(self.campaign), person(request), asked["item"], asked["label"])
        except Refused as refusal:
            raise NotAsked(refusal.detail, code=refusal.reason) from refusal
        return Response(asdict(feedback))


class ConsentApi(APIView):
    """Agree to the consent text as it stands; version and time are recorded."""

    permission_classes = (CampaignAnnotator,)
    campaign: Campaign

    @extend_schema_serializer(component_name="Consent")
    class InputSerializer(serializers.Serializer[Any]):
        version = serializers.CharField(max_length=16)

    @extend_schema(
        operation_id="consent", request=InputSerializer, responses={204: OpenApiResponse(description="Recorded.")}
    )
    def post(self, request: Request, campaign: str) -> Response:
        asked = shapes.read(self.InputSerializer, request.data)
        if asked["version"] != self.campaign.consent_version:
            raise ValidationError({"version": [_("The consent text has changed. Load the page again and read it.")]})
        own = Membership.objects.filter(user=person(request), campaign=self.campaign, role=Role.ANNOTATOR, active=True)
        fresh = own.exclude(consent_version=asked["version"], consented_at__isnull=False)
        fresh.update(consent_version=asked["version"], consented_at=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


class PreferencesApi(APIView):
    """One's own key map, theme, language and text size. What is left out stays as it is."""

    permission_classes = (SignedIn,)

    @extend_schema(operation_id="preferences_read", responses=shapes.PreferencesSerializer)
    def get(self, request: Request) -> Response:
        return Response({**shapes.DEFAULT_PREFERENCES, **person(request).preferences})

    @extend_schema(
        operation_id="preferences_write",
        request=shapes.PreferencesSerializer,
        responses=shapes.PreferencesSerializer,
    )
    def put(self, request: Request) -> Response:
        changed = shapes.read(shapes.PreferencesSerializer, request.data)
        user = person(request)
        user.preferences = {**user.preferences, **changed}
        user.save(update_fields=["preferences"])
        return Response({**shapes.DEFAULT_PREFERENCES, **user.preferences})
