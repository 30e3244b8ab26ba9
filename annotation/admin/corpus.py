from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import TabularInline
from unfold.decorators import action

from annotation.admin.base import AuditedAdmin, RecordAdmin
from annotation.admin.generation import ResponseInline
from annotation.admin.launching import launch
from annotation.models import Classifier, Dataset, Dialogue, ImportRun, Turn, Utterance
from annotation.workflow.prelabel import make_default


@admin.register(Dataset)
class DatasetAdmin(AuditedAdmin):
    list_display = ["name", "title", "licence", "dialogues_count", "created_at"]
    list_filter = ["licence", "created_at"]
    search_fields = ["name", "title"]
    actions_list = ["import_file", "prelabel", "report"]
    readonly_fields = ["created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dataset]:
        queryset: QuerySet[Dataset] = super().get_queryset(request)
        return queryset.annotate(count=Count("dialogues"))

    @admin.display(description="dialogues", ordering="count")
    def dialogues_count(self, dataset: Any) -> int:
        return int(dataset.count)

    @action(description="Import a file", url_path="import-file", icon="upload_file", permissions=["add"])  # type: ignore[untyped-decorator]
    def import_file(self, request: HttpRequest) -> HttpResponse:
        return launch(request, "import")

    @action(description="Pre-label", url_path="prelabel", icon="label", permissions=["add"])  # type: ignore[untyped-decorator]
    def prelabel(self, request: HttpRequest) -> HttpResponse:
        return launch(request, "prelabel")

    @action(description="Run the full metric report", url_path="report", icon="summarize", permissions=["add"])  # type: ignore[untyped-decorator]
    def report(self, request: HttpRequest) -> HttpResponse:
        return launch(request, "report")


class UtteranceInline(TabularInline):  # type: ignore[misc]
    model = Utterance
    fields = ["position", "role", "shown"]
    readonly_fields = fields
    extra = 0
    can_delete = False
    ordering = ["position"]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Dialogue)
class DialogueAdmin(RecordAdmin):
    list_display = ["source_id", "dataset", "split"]
    list_filter = ["dataset", "split"]
    search_fields = ["source_id"]
    list_select_related = ["dataset"]
    inlines = [UtteranceInline]


@admin.register(Utterance)
class UtteranceAdmin(RecordAdmin):
    list_display = ["dialogue", "position", "role", "shown"]
    list_filter = ["role", "dialogue__dataset"]
    search_fields = ["shown"]
    list_select_related = ["dialogue__dataset"]


@admin.register(Turn)
class TurnAdmin(RecordAdmin):
    list_display = ["dialogue", "position", "user_utterance"]
    list_filter = ["dialogue__dataset"]
    search_fields = ["dialogue__source_id", "user_utterance__shown"]
    list_select_related = ["dialogue__dataset", "user_utterance"]
    inlines = [ResponseInline]


@admin.register(Classifier)
class ClassifierAdmin(RecordAdmin):
    list_display = ["name", "revision", "source", "is_default", "created_at"]
    list_filter = ["is_default", "created_at"]
    search_fields = ["name", "revision", "source"]
    actions = ["choose"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field.name for field in Classifier._meta.fields]

    @admin.action(description="Make this the default classifier")
    def choose(self, request: HttpRequest, queryset: QuerySet[Classifier]) -> None:
        row = queryset.first()
        if row is not None and queryset.count() == 1:
            make_default(row)
            self.message_user(request, f"New campaigns and reports use {row}.")
        else:
            self.message_user(request, "Choose exactly one classifier.", level="ERROR")


@admin.register(ImportRun)
class ImportRunAdmin(RecordAdmin):
    list_display = ["file_name", "dataset", "kind", "started_at", "finished_at", "read", "bad"]
    list_filter = ["kind", "dataset"]
    search_fields = ["file_name", "sha256"]
    list_select_related = ["dataset"]

    @admin.display(description="counts")
    def read(self, run: ImportRun) -> str:
        return ", ".join(f"{name} {number}" for name, number in run.counts.items())

    @admin.display(description="problems")
    def bad(self, run: ImportRun) -> int:
        return len(run.problems)
