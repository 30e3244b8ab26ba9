"""What researchers read: campaigns, agreement, exports, reports, corpora. Scoped to the campaigns they research."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from django.http import Http404, HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotation.access import CampaignResearcher, SignedIn, Staff, campaigns_of
from annotation.api import shapes
from annotation.api.schema import page_of
from annotation.models import Campaign, Dataset, ReportRun, Role, System, User
from annotation.workflow import agreement_export, exports, interchange, overview, steering

EXPORT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "json": "application/json",
    "latex": "application/x-tex",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
SUFFIX = {"latex": "tex"}


class ByName(CursorPagination):
    ordering = "name"
    page_size = 100


class NewestFirst(CursorPagination):
    ordering = "-created_at"
    page_size = 50


class CampaignSerializer(serializers.ModelSerializer[Campaign]):
    datasets = serializers.SlugRelatedField[Dataset](many=True, read_only=True, slug_field="name")
    systems = serializers.SlugRelatedField[System](many=True, read_only=True, slug_field="name")

    class Meta:
        model = Campaign
        fields = (
            *("name", "title", "state", "datasets", "systems", "mode", "grouping", "design", "seed"),
            *("verify_overlap", "rate_overlap", "scales", "verify_total", "verify_done", "rate_total", "rate_done"),
            *("created_at", "opened_at"),
        )
        read_only_fields = fields


class MoveSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=list(steering.MOVES))


class Impossible(APIException):
    """What is asked cannot be done as things stand."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "impossible"


class CampaignListApi(APIView):
    """The campaigns one researches."""

    permission_classes = (SignedIn,)

    @extend_schema(operation_id="campaigns_list", responses=page_of(CampaignSerializer))
    def get(self, request: Request) -> Response:
        found = campaigns_of(cast(User, request.user), [Role.RESEARCHER]).prefetch_related("datasets", "systems")
        page = ByName()
        rows = page.paginate_queryset(found, request, view=self)
        return page.get_paginated_response(CampaignSerializer(rows, many=True).data)


class CampaignApi(APIView):
    permission_classes = (CampaignResearcher,)
    campaign: Campaign

    @extend_schema(operation_id="campaigns_read", responses=CampaignSerializer)
    def get(self, request: Request, campaign: str) -> Response:
        return Response(CampaignSerializer(self.campaign).data)

    @extend_schema(operation_id="campaigns_move", request=MoveSerializer, responses=CampaignSerializer)
    def patch(self, request: Request, campaign: str) -> Response:
        """Pause, close or reopen. 409 where the campaign cannot go there; a draft is opened by a job."""
        to = shapes.read(MoveSerializer, request.data)["state"]
        if not steering.move(self.campaign, to, by=cast(User, request.user)) and self.campaign.state != to:
            raise Impossible(f"The campaign is {self.campaign.state} and cannot be {to}.")
        return Response(CampaignSerializer(self.campaign).data)


class CampaignStateApi(APIView):
    """Progress, people and agreement so far."""

    permission_classes = (CampaignResearcher,)
    campaign: Campaign

    @extend_schema(operation_id="campaigns_state", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, campaign: str) -> Response:
        state = overview.campaign_state(self.campaign)
        return Response(
            {
                "agreement": {title: estimate.to_json() for title, estimate, _ in state.agreement + state.ratings},
                "annotators": [
                    {
                        "pseudonym": one.pseudonym,
                        "verified": one.verified,
                        "rated": one.rated,
                        "median_seconds": one.median_seconds,
                        "gold_right": one.gold_right,
                        "gold_asked": one.gold_asked,
                        "hasty": one.hasty,
                        "holding": one.holding,
                        "active": one.active,
                    }
                    for one in state.annotators
                ],
                "items": state.items,
                "double_labelled": state.double_labelled,
                "unresolved": state.unresolved,
                "needs_attention": state.needs_attention,
                "set_aside": state.set_aside,
                "last_day": state.last_day,
                "days_left": state.days_left,
            }
        )


def stream(lines: Iterable[str], kind: str, name: str) -> StreamingHttpResponse:
    response = StreamingHttpResponse(exports.gathered(lines), content_type=EXPORT_TYPES[kind])
    response["Content-Disposition"] = f'attachment; filename="{name}.{SUFFIX.get(kind, kind)}"'
    response["Cache-Control"] = "private, no-store"
    return response


def choice(request: Request, name: str, allowed: Iterable[str]) -> str:
    """A query parameter from a closed list; the first is the default."""
    options = list(allowed)
    value = str(request.query_params.get(name, options[0]))
    if value not in options:
        raise serializers.ValidationError({name: f"{value!r} is none of: {', '.join(options)}."})
    return value


class ExportApi(APIView):
    """Judgments, ratings or verified labels: one row each, streamed."""

    permission_classes = (CampaignResearcher,)
    throttle_scope = "export"
    campaign: Campaign

    @extend_schema(
        operation_id="campaigns_export",
        parameters=[
            OpenApiParameter("table", str, OpenApiParameter.PATH, enum=list(exports.TABLES)),
            OpenApiParameter("as", str, enum=["csv", "jsonl"]),
        ],
        responses={(200, "text/csv"): OpenApiTypes.STR, (200, "application/x-ndjson"): OpenApiTypes.STR},
    )
    def get(self, request: Request, campaign: str, table: str) -> StreamingHttpResponse:
        if table not in exports.TABLES:
            raise Http404
        kind = cast(exports.Format, choice(request, "as", ["csv", "jsonl"]))
        lines = exports.export_lines(self.campaign, table, kind)
        return stream(lines, kind, f"{self.campaign.name}-{table}")


class InterchangeApi(APIView):
    """The campaign's items and labels as Label Studio JSON or doccano JSONL."""

    permission_classes = (CampaignResearcher,)
    throttle_scope = "export"
    campaign: Campaign

    @extend_schema(
        operation_id="campaigns_interchange",
        parameters=[OpenApiParameter("tool", str, OpenApiParameter.PATH, enum=["label-studio", "doccano"])],
        responses={
            (200, "application/json"): {"type": "array", "items": {"type": "object"}},
            (200, "application/x-ndjson"): OpenApiTypes.STR,
        },
    )
    def get(self, request: Request, campaign: str, tool: str) -> StreamingHttpResponse:
        if tool == "label-studio":
            return stream(interchange.label_studio_json(self.campaign), "json", f"{self.campaign.name}-label-studio")
        if tool == "doccano":
            return stream(interchange.doccano_lines(self.campaign), "jsonl", f"{self.campaign.name}-doccano")
        raise Http404


class AgreementApi(APIView):
    """Agreement statistics with intervals, overall and per role, data set, system, label, pair and annotator."""

    permission_classes = (CampaignResearcher,)
    throttle_scope = "export"
    campaign: Campaign

    @extend_schema(
        operation_id="campaigns_agreement",
        parameters=[
            OpenApiParameter("as", str, enum=["json", "csv", "xlsx", "latex"]),
            OpenApiParameter("replicates", int),
            OpenApiParameter("seed", int),
        ],
        responses={
            (200, "application/json"): OpenApiTypes.OBJECT,
            (200, "text/csv"): OpenApiTypes.STR,
            (200, EXPORT_TYPES["latex"]): OpenApiTypes.STR,
            (200, EXPORT_TYPES["xlsx"]): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request, campaign: str) -> HttpResponse:
        kind = choice(request, "as", ["json", "csv", "xlsx", "latex"])
        report = agreement_export.agreement_report(
            self.campaign,
            replicates=number(request, "replicates", 2000, 100, 20_000),
            seed=number(request, "seed", 1, 0, 2**32 - 1),
        )
        response = HttpResponse(agreement_export.agreement_file(report, kind), content_type=EXPORT_TYPES[kind])
        if kind != "json":
            name = f"{self.campaign.name}-agreement.{SUFFIX.get(kind, kind)}"
            response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


def number(request: Request, name: str, default: int, low: int, high: int) -> int:
    raw = request.query_params.get(name)
    if raw is None:
        return default
    try:
        value = int(raw)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise serializers.ValidationError({name: f"A whole number from {low} to {high} is wanted."})
    return value


class CodebookApi(APIView):
    """What every column of the exports means, in Markdown."""

    permission_classes = (SignedIn,)

    @extend_schema(operation_id="codebook", responses={(200, "text/markdown"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(exports.codebook(), content_type="text/markdown; charset=utf-8")


class ReportSerializer(serializers.ModelSerializer[ReportRun]):
    campaign = serializers.SlugRelatedField[Campaign](read_only=True, slug_field="name")

    class Meta:
        model = ReportRun
        fields = (
            "id",
            "title",
            "campaign",
            "parameters",
            "as_of",
            "affected_by_withdrawal",
            "created_at",
            "finished_at",
        )
        read_only_fields = fields


def reports_of(user: User) -> Any:
    if user.is_superuser:
        return ReportRun.objects.select_related("campaign")
    return ReportRun.objects.filter(campaign__in=campaigns_of(user, [Role.RESEARCHER])).select_related("campaign")


class ReportListApi(APIView):
    permission_classes = (SignedIn,)

    @extend_schema(operation_id="reports_list", responses=page_of(ReportSerializer))
    def get(self, request: Request) -> Response:
        page = NewestFirst()
        rows: list[ReportRun] | None = page.paginate_queryset(reports_of(cast(User, request.user)), request, view=self)
        return page.get_paginated_response(ReportSerializer(rows, many=True).data)


class ReportApi(APIView):
    """One report with all its numbers."""

    permission_classes = (SignedIn,)

    @extend_schema(operation_id="reports_read", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, report_id: str) -> Response:
        found = reports_of(cast(User, request.user)).filter(pk=report_id).first()
        if found is None:
            raise Http404
        return Response({**ReportSerializer(found).data, "provenance": found.provenance, "results": found.results})


class CorpusApi(APIView):
    """The data sets and systems that are there."""

    permission_classes = (Staff,)

    @extend_schema(operation_id="corpus", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        return Response(
            {
                "datasets": list(Dataset.objects.values("name", "title", "licence")),
                "systems": list(System.objects.values("name", "title", "kind", "is_reference")),
            }
        )
