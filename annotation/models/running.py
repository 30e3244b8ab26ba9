from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone


class Job(models.Model):
    """A long piece of work. This row is the truth, whatever the broker knows: a worker claims it by conditional update,
    renews the lease while it works, and whoever finds the lease lapsed may claim it again."""

    QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
    STATES = [(s, s) for s in (QUEUED, RUNNING, DONE, FAILED, CANCELLED)]
    KINDS = [
        ("import", "import"),
        ("prelabel", "pre-label"),
        ("generate", "generate responses"),
        ("train", "learn from verified labels"),
        ("open", "open a campaign"),
        ("report", "full metric report"),
        ("export", "export"),
    ]
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=12, choices=KINDS)
    parameters = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=STATES, default=QUEUED, db_index=True)
    done = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(default=0)
    message = models.CharField(max_length=200, blank=True, default="")
    error = models.TextField(blank=True, default="")
    result = models.JSONField(default=dict, blank=True)
    cancel_requested = models.BooleanField(default=False)
    worker = models.CharField(max_length=120, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_by = models.ForeignKey("annotation.User", null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        system = self.parameters.get("system") if self.kind == "generate" else None
        outcome = self.message if self.state == self.DONE and self.message else self.state
        return f"{self.get_kind_display()}{f' of {system}' if system else ''}: {outcome}"

    @property
    def finished(self) -> bool:
        return self.state in (self.DONE, self.FAILED, self.CANCELLED)


class Chunk(models.Model):
    """A part of a job that one worker does at a time; parts of one job run on many workers."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    parameters = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=Job.STATES, default=Job.QUEUED)
    done = models.PositiveBigIntegerField(default=0)
    worker = models.CharField(max_length=120, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="one_chunk_per_number")]
        indexes = [models.Index(fields=["job", "state", "number"], name="chunk_next")]

    def __str__(self) -> str:
        return f"{self.job_id} #{self.number}: {self.state}"


class AskingLease(models.Model):
    """Which run asks a system now: a job, or a command. Held until `until`, renewed by the run that knows the token."""

    system = models.OneToOneField("annotation.System", on_delete=models.CASCADE, related_name="lease")
    holder = models.CharField(max_length=120, blank=True, default="")
    token = models.CharField(max_length=32, blank=True, default="")
    since = models.DateTimeField()
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.system_id}: {self.holder}"


class ReportRun(models.Model):
    """A full metric report as computed once: parameters, seed, digests, results and files. Immutable once done."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.OneToOneField(Job, null=True, blank=True, on_delete=models.SET_NULL, related_name="report_run")
    campaign = models.ForeignKey(
        "annotation.Campaign", null=True, blank=True, on_delete=models.PROTECT, related_name="report_runs"
    )
    title = models.CharField(max_length=160, blank=True, default="")
    parameters = models.JSONField(default=dict)
    provenance = models.JSONField(default=dict, blank=True)
    results = models.JSONField(null=True, blank=True)
    bundle = models.CharField(max_length=255, blank=True, default="", help_text="Folder in the storage.")
    as_of = models.DateTimeField(default=timezone.now, help_text="Judgments received until then.")
    affected_by_withdrawal = models.BooleanField(default=False)
    created_by = models.ForeignKey("annotation.User", null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.title or f"report of {self.created_at:%Y-%m-%d %H:%M}"
