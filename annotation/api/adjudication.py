"""What the adjudicator's workbench asks."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotation.access import CampaignAdjudicator
from annotation.api import shapes
from annotation.api.annotation import opened, person
from annotation.models import Campaign
from annotation.workflow.adjudication import decide, disputed, next_disputes


class AdjudicationApi(APIView):
    """Items whose annotators disagree: texts and labels, no names, no system, no prediction."""

    permission_classes = (CampaignAdjudicator,)
    campaign: Campaign

    @extend_schema(
        operation_id="adjudication",
        parameters=[OpenApiParameter("cursor", str)],
        responses=shapes.DisputesSerializer,
    )
    def get(self, request: Request, campaign: str) -> Response:
        user, found = person(request), opened(self.campaign)
        items, following = next_disputes(found, user, cursor=request.query_params.get("cursor", ""))
        return Response({"items": items, "left": disputed(found, user).count(), "next": following})

    @extend_schema(
        operation_id="adjudicate", request=shapes.DecisionSerializer, responses=shapes.DecisionReceiptSerializer
    )
    def post(self, request: Request, campaign: str) -> Response:
        decision = decide(opened(self.campaign), person(request), request.data)
        outcome = decision.outcome
        why: dict[str, Any] = {"reason": outcome.reason, "detail": outcome.detail} if outcome.reason else {}
        return Response({"status": outcome.status, "comments": list(decision.comments), **why})
