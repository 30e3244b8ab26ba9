from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

BEHIND = 10
"""By how much a worker's processes stand behind the web server where both run on one machine (see nice(1))."""

app = Celery("attune")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["annotation"])


@worker_process_init.connect
def stand_back(**about: Any) -> None:
    """Somebody waits for the next item, nobody for the next thousand texts; and the processes share the cores."""
    from django.conf import settings

    from annotation.inference.default_classifier import usable_threads

    os.nice(BEHIND)
    if not settings.ATTUNE_CLASSIFIER_THREADS:
        settings.ATTUNE_CLASSIFIER_THREADS = max(1, usable_threads() // settings.CELERY_WORKER_CONCURRENCY)
