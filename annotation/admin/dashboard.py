from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest

from annotation.admin.base import progress_bar
from annotation.models import Campaign, Classifier, Dataset, Job, Prediction, ReportRun, Text


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the admin's first page shows: corpora, running work, campaigns, reports, and what to do next."""
    classifier = Classifier.objects.filter(is_default=True).first()
    texts = Text.objects.count()
    labelled = Prediction.objects.filter(classifier=classifier, fold=-1).count() if classifier else 0
    datasets = list(
        Dataset.objects.annotate(
            dialogue_count=Count("dialogues", distinct=True),
            turn_count=Count("dialogues__turns", distinct=True),
        )
    )
    for dataset in datasets:
        dataset.systems = (  # type: ignore[attr-defined]
            dataset.dialogues.filter(turns__responses__isnull=False)
            .values("turns__responses__system__name")
            .annotate(count=Count("turns__responses"))
            .order_by("turns__responses__system__name")
        )
    jobs = list(Job.objects.filter(Q(state__in=[Job.QUEUED, Job.RUNNING])).order_by("created_at")[:20])
    recent = list(Job.objects.exclude(state__in=[Job.QUEUED, Job.RUNNING])[:8])
    context.update(
        {
            "datasets": datasets,
            "texts": texts,
            "labelled": labelled,
            "classifier": classifier,
            "active_jobs": [(job, progress_bar(job)) for job in jobs],
            "recent_jobs": [(job, progress_bar(job)) for job in recent],
            "campaigns": Campaign.objects.all()[:10],
            "reports": ReportRun.objects.filter(finished_at__isnull=False)[:8],
            "next_step": next_step(datasets, texts, labelled),
        }
    )
    return context


def next_step(datasets: Sequence[Dataset], texts: int, labelled: int) -> tuple[str, str]:
    """The one thing an administrator would do next, and where."""
    launch = "/admin/annotation/job/launch"
    if not datasets:
        return "Import your first dialogues", f"{launch}/import/"
    if labelled < texts:
        return f"Pre-label the {texts - labelled:,} texts that have no prediction", f"{launch}/prelabel/"
    if not Campaign.objects.exclude(opened_at=None).exists():
        return "Open a campaign so that people verify the labels", "/admin/annotation/campaign/add/"
    return "Run the full metric report", f"{launch}/report/"
