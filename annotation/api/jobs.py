from __future__ import annotations

from typing import Any, cast

from django.http import Http404
from drf_spectacular.utils import extend_schema, extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.exceptions import ParseError
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotation import tasks
from annotation.access import SignedIn, Staff
from annotation.api.schema import page_of
from annotation.inference.generator import GenerationError
from annotation.models import Job, User
from annotation.workflow import generate, jobs, uploads
from annotation.workflow.accounts import record

LAUNCHED = ["prelabel", "generate", "report", "open", "train"]
"""What may be started by name; a file starts its import at `imports/`."""


class JobSerializer(serializers.ModelSerializer[Job]):
    note = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = (
            *("id", "kind", "state", "done", "total", "message", "note", "error", "result"),
            *("created_at", "started_at", "finished_at"),
        )
        read_only_fields = fields

    def get_note(self, job: Job) -> str:
        return jobs.note(job)


class NewestFirst(CursorPagination):
    ordering = "-created_at"
    page_size = 50


class ShallowJSONParser(JSONParser):
    """JSON that a server can read without running out of stack."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().parse(*args, **kwargs)
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None


class JobListApi(APIView):
    """The jobs one may see; a superuser may start new ones."""

    parser_classes = (ShallowJSONParser,)

    def get_permissions(self) -> list[SignedIn | Staff]:
        return [Staff()] if self.request.method == "POST" else [SignedIn()]

    @extend_schema_serializer(component_name="JobStart")
    class InputSerializer(serializers.Serializer[dict[str, object]]):
        kind = serializers.ChoiceField(choices=LAUNCHED)
        parameters = serializers.DictField(default=dict)

    @extend_schema(operation_id="jobs_list", responses=page_of(JobSerializer))
    def get(self, request: Request) -> Response:
        page = NewestFirst()
        found = page.paginate_queryset(jobs.visible(cast(User, request.user)), request, view=self)
        return page.get_paginated_response(JobSerializer(found, many=True).data)

    @extend_schema(operation_id="jobs_start", request=InputSerializer, responses={201: JobSerializer})
    def post(self, request: Request) -> Response:
        form = self.InputSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        user = cast(User, request.user)
        parameters = form.validated_data["parameters"]
        if form.validated_data["kind"] == "generate":
            try:
                generate.checked_job(parameters)
            except GenerationError as error:
                raise serializers.ValidationError({"parameters": str(error)}) from error
        job = jobs.create_job(kind=form.validated_data["kind"], parameters=parameters, user=user)
        tasks.start(job)
        record(user, f"start {job.get_kind_display()}", job.pk)
        return Response(JobSerializer(job).data, status=status.HTTP_201_CREATED)


class ImportApi(APIView):
    """Upload a file of dialogues, responses, or labels and ratings; a worker reads it, the job tells how far it is."""

    permission_classes = (Staff,)
    parser_classes = (MultiPartParser,)

    @extend_schema_serializer(component_name="Import")
    class InputSerializer(serializers.Serializer[dict[str, object]]):
        file = serializers.FileField()
        kind = serializers.ChoiceField(choices=uploads.KINDS)
        dataset = serializers.SlugField(required=False, help_text="Of dialogues; responses find theirs by their keys.")
        split = serializers.SlugField(required=False)
        system = serializers.SlugField(required=False, help_text="Of responses, when the file does not say it.")
        campaign = serializers.SlugField(required=False, help_text="Whose questions labels and ratings answer.")
        columns = serializers.CharField(required=False, help_text="Of a table: one part=column a line.")
        strict = serializers.BooleanField(default=False, help_text="One bad row: import nothing.")

    @extend_schema(operation_id="imports_start", request=InputSerializer, responses={201: JobSerializer})
    def post(self, request: Request) -> Response:
        form = self.InputSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        given = form.validated_data
        try:
            uploads.check_upload(given, given["file"].size)
        except uploads.UploadError as error:
            raise serializers.ValidationError({error.field: str(error)}) from error
        user = cast(User, request.user)
        job = jobs.create_job(kind="import", parameters=uploads.keep_upload(given["file"], given), user=user)
        tasks.start(job)
        record(user, f"start {job.get_kind_display()}", job.pk)
        return Response(JobSerializer(job).data, status=status.HTTP_201_CREATED)


class JobApi(APIView):
    permission_classes = (SignedIn,)

    @extend_schema(operation_id="jobs_read", responses=JobSerializer)
    def get(self, request: Request, job_id: str) -> Response:
        return Response(JobSerializer(found(request, job_id)).data)


class JobCancelApi(APIView):
    permission_classes = (SignedIn,)

    @extend_schema(operation_id="jobs_cancel", request=None, responses=JobSerializer)
    def post(self, request: Request, job_id: str) -> Response:
        job = found(request, job_id)
        if jobs.request_cancel(job):
            record(cast(User, request.user), "cancel job", job.pk)
        job.refresh_from_db()
        return Response(JobSerializer(job).data)


def found(request: Request, job_id: str) -> Job:
    job = jobs.visible(cast(User, request.user)).filter(pk=job_id).first()
    if job is None:
        raise Http404
    return job
