"""What researchers do to a campaign while it runs, and what they plan: everything the campaign page can do."""

from __future__ import annotations

from typing import Any, cast

from django.http import Http404
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotation.access import CampaignResearcher
from annotation.api import shapes
from annotation.api.research import Impossible
from annotation.models import Campaign, Judgment, Membership, Role, User
from annotation.workflow import accounts, opening, overview, planning, steering, verification
from annotation.workflow.frames import pseudonyms

CANNOT = OpenApiResponse(description="It cannot be done as things stand; `detail` says why.")


class AssumptionsSerializer(shapes.Shape):
    size = serializers.IntegerField(min_value=1, required=False, help_text="Turns; the design's own by default.")
    half_width = serializers.ListField(
        child=serializers.FloatField(min_value=0.005, max_value=0.5), required=False, max_length=8
    )
    rho = serializers.FloatField(min_value=0, max_value=0.99, required=False)
    rho_range = serializers.FloatField(min_value=0, max_value=0.99, required=False)
    accuracy = serializers.FloatField(min_value=0.1, max_value=0.99, required=False)
    kappa = serializers.FloatField(min_value=-0.5, max_value=0.99, required=False)


class PlanApi(APIView):
    """How many turns a wanted half-width takes, per measure, with and without the correction."""

    permission_classes = (CampaignResearcher,)
    throttle_scope = "export"
    campaign: Campaign

    @extend_schema(
        operation_id="campaigns_plan",
        parameters=[AssumptionsSerializer],
        responses={200: OpenApiTypes.OBJECT, 409: CANNOT},
    )
    def get(self, request: Request, campaign: str) -> Response:
        given = shapes.read(AssumptionsSerializer, request.query_params)
        if widths := given.pop("half_width", None):
            given["half_widths"] = tuple(widths)
        try:
            found = planning.plan(self.campaign, planning.Assumptions(**given))
        except opening.OpeningError as error:
            raise Impossible(str(error)) from error
        return Response(found.to_json())


class PrecisionApi(APIView):
    """How wide the headline intervals are by now, and how many more verified units a wanted half-width takes."""

    permission_classes = (CampaignResearcher,)
    throttle_scope = "export"
    campaign: Campaign

    @extend_schema_serializer(component_name="WantedPrecision")
    class InputSerializer(serializers.Serializer[Any]):
        half_width = serializers.FloatField(min_value=0.005, max_value=0.5, default=0.05)

    @extend_schema(
        operation_id="campaigns_precision", parameters=[InputSerializer], responses={200: OpenApiTypes.OBJECT}
    )
    def get(self, request: Request, campaign: str) -> Response:
        wanted = shapes.read(self.InputSerializer, request.query_params)["half_width"]
        state = overview.campaign_state(self.campaign)
        measures = [{**one.to_json(), "more": one.more(wanted)} for one in state.precision]
        return Response(
            {"half_width": wanted, "planned": state.planned, "looks": state.looks, "measures": measures},
        )


class InvitationsApi(APIView):
    """Make a link that whoever follows it becomes a member by. It is shown once."""

    permission_classes = (CampaignResearcher,)
    campaign: Campaign

    @extend_schema_serializer(component_name="Invite")
    class InputSerializer(serializers.Serializer[Any]):
        role = serializers.ChoiceField(choices=Role.values, default=Role.ANNOTATOR)
        uses = serializers.IntegerField(min_value=1, max_value=200, default=1)
        days = serializers.IntegerField(min_value=1, max_value=90, default=14)

    @extend_schema_serializer(component_name="Invitation")
    class OutputSerializer(serializers.Serializer[Any]):
        link = serializers.CharField()

    @extend_schema(operation_id="campaigns_invite", request=InputSerializer, responses={201: OutputSerializer})
    def post(self, request: Request, campaign: str) -> Response:
        given = shapes.read(self.InputSerializer, request.data)
        token = accounts.invite(campaign=self.campaign, by=cast(User, request.user), **given)
        link = request.build_absolute_uri(reverse("join", args=[token]))
        return Response({"link": link}, status=status.HTTP_201_CREATED)


class ReassignApi(APIView):
    """Let what an annotator holds go to others."""

    permission_classes = (CampaignResearcher,)
    campaign: Campaign

    @extend_schema_serializer(component_name="Reassigned")
    class OutputSerializer(serializers.Serializer[Any]):
        items = serializers.IntegerField()

    @extend_schema(operation_id="campaigns_reassign", request=None, responses=OutputSerializer)
    def post(self, request: Request, campaign: str, pseudonym: str) -> Response:
        member = annotator(self.campaign, pseudonym)
        return Response({"items": steering.reassign(self.campaign, member, by=cast(User, request.user))})


class AnnotatorApi(APIView):
    """Let an annotator out, or in again."""

    permission_classes = (CampaignResearcher,)
    campaign: Campaign

    @extend_schema_serializer(component_name="AnnotatorActive")
    class ActiveSerializer(serializers.Serializer[Any]):
        active = serializers.BooleanField()

    @extend_schema(
        operation_id="campaigns_annotator", request=ActiveSerializer, responses={200: ActiveSerializer, 409: CANNOT}
    )
    def patch(self, request: Request, campaign: str, pseudonym: str) -> Response:
        member = annotator(self.campaign, pseudonym)
        active = shapes.read(self.ActiveSerializer, request.data)["active"]
        if not steering.set_active(self.campaign, member, active=active, by=cast(User, request.user)):
            raise Impossible("Who has withdrawn is not let in again.")
        return Response({"active": active})


def annotator(campaign: Campaign, pseudonym: str) -> Membership:
    member = steering.annotator_of(campaign, pseudonym)
    if member is None:
        raise Http404
    return member


class SetAsideApi(APIView):
    """Answers set aside: what would become of each, and taking them in."""

    permission_classes = (CampaignResearcher,)
    campaign: Campaign

    @extend_schema_serializer(component_name="SetAside")
    class RowSerializer(serializers.Serializer[Any]):
        judgment = serializers.UUIDField()
        item = serializers.IntegerField()
        annotator = serializers.CharField()
        action = serializers.ChoiceField(choices=[Judgment.LABEL, Judgment.RATE, Judgment.SKIP])
        label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
        comment = serializers.CharField(allow_blank=True)
        received_at = serializers.DateTimeField()
        fits = serializers.BooleanField()
        why = serializers.ChoiceField(choices=[*verification.FITS, *verification.FITS_NOT])

    @extend_schema_serializer(component_name="TakeIn")
    class InputSerializer(serializers.Serializer[Any]):
        judgment = serializers.UUIDField(required=False, help_text="One of them; all that fit when left out.")

    @extend_schema_serializer(component_name="TakenIn")
    class OutputSerializer(serializers.Serializer[Any]):
        taken = serializers.IntegerField()
        left = serializers.IntegerField()

    @extend_schema(operation_id="campaigns_set_aside", responses=RowSerializer(many=True))
    def get(self, request: Request, campaign: str) -> Response:
        """The oldest hundred."""
        names = pseudonyms(self.campaign)
        rows = [
            {
                "judgment": one.judgment.pk,
                "item": one.judgment.item_id,
                "annotator": names.get(one.judgment.annotator_id or 0, ""),
                "action": one.judgment.action,
                "label": one.judgment.label,
                "comment": one.judgment.comment,
                "received_at": one.judgment.received_at,
                "fits": one.fits,
                "why": one.why,
            }
            for one in verification.judged_aside(self.campaign, most=100)
        ]
        return Response(rows)

    @extend_schema(
        operation_id="campaigns_take_in", request=InputSerializer, responses={200: OutputSerializer, 409: CANNOT}
    )
    def post(self, request: Request, campaign: str) -> Response:
        named, user = shapes.read(self.InputSerializer, request.data).get("judgment"), cast(User, request.user)
        if named is None:
            taken, left = steering.take_in_all(self.campaign, by=user)
            return Response({"taken": taken, "left": left})
        outcome = steering.take_in(self.campaign, str(named), by=user)
        if outcome is None:
            raise Http404
        if not outcome.fits:
            raise Impossible(str(outcome.sentence))
        return Response({"taken": 1, "left": verification.set_aside(self.campaign).count()})
