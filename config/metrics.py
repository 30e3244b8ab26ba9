"""What operators watch: requests, over all processes of a server; jobs, the queue, judgments, from the tables."""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry


class Figures(Collector):
    """Gauges from the tables, which are the truth for every process; counters of one process would not be."""

    def describe(self) -> list[Metric]:
        return []  # registering must not ask the database

    def collect(self) -> Iterator[Metric]:
        from django.db.models import Count, Sum
        from django.utils import timezone

        from annotation.models import Campaign, Chunk, Job, Slot
        from annotation.workflow import jobs

        states = GaugeMetricFamily("attune_jobs", "Jobs by kind and state.", labels=["kind", "state"])
        for kind, state, count in Job.objects.order_by().values_list("kind", "state").annotate(n=Count("pk")):
            states.add_metric([kind, state], count)
        yield states
        running = Job.objects.filter(state=Job.RUNNING)
        share = GaugeMetricFamily("attune_job_progress", "Share done of each running job.", labels=["job", "kind"])
        for job in running.filter(total__gt=0)[:100]:
            share.add_metric([str(job.pk), job.kind], min(1.0, job.done / job.total))
        yield share
        waiting = Job.objects.filter(state=Job.QUEUED).count()
        pieces = Chunk.objects.filter(job__state=Job.RUNNING, state=Job.QUEUED).count()
        yield GaugeMetricFamily("attune_queue_depth", "Jobs and chunks of jobs that wait.", value=waiting + pieces)
        yield GaugeMetricFamily("attune_jobs_stranded", "Jobs nobody works on.", value=jobs.stranded().count())
        oldest = (
            Job.objects.filter(state=Job.QUEUED).order_by("created_at").values_list("created_at", flat=True).first()
        )
        age = (timezone.now() - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily("attune_queue_oldest_seconds", "Age of the oldest waiting job.", value=age)
        answers = GaugeMetricFamily("attune_judgments", "Answers that count, by task.", labels=["task"])
        counts = Campaign.objects.aggregate(verify=Sum("verify_done"), rate=Sum("rate_done"), gold=Sum("gold_done"))
        for task, count in counts.items():
            answers.add_metric([task], count or 0)
        yield answers
        leased = Slot.objects.filter(leased_until__gt=timezone.now()).count()
        yield GaugeMetricFamily("attune_leases", "Items in the hands of annotators.", value=leased)


def figures(request: HttpRequest) -> HttpResponse:
    """Show /metrics to whoever has the operator's token, and to nobody when none is set."""
    token = settings.ATTUNE_METRICS_TOKEN
    if not token or not constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {token}"):
        return HttpResponseForbidden("Set ATTUNE_METRICS_TOKEN and send it as a bearer token.\n")
    requests, tables = REGISTRY, CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # config/gunicorn.py
        requests = CollectorRegistry()
        MultiProcessCollector(requests)  # type: ignore[no-untyped-call]
    tables.register(Figures())
    return HttpResponse(generate_latest(requests) + generate_latest(tables), content_type=CONTENT_TYPE_LATEST)
