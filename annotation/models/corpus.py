from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone


class Dataset(models.Model):
    """A corpus of dialogues, such as ReDial or INSPIRED."""

    name = models.SlugField(max_length=64, unique=True)
    title = models.CharField(max_length=120, blank=True, default="")
    licence = models.CharField(max_length=120, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.title or self.name


class ImportRun(models.Model):
    """One reading of one file: what came in, what did not and why."""

    dataset = models.ForeignKey(Dataset, null=True, blank=True, on_delete=models.SET_NULL, related_name="imports")
    file_name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    kind = models.CharField(
        max_length=16, choices=[("dialogues", "dialogues"), ("responses", "responses"), ("labels", "labels")]
    )
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    counts = models.JSONField(default=dict, blank=True)
    problems = models.JSONField(default=list, blank=True, help_text="The first thousand: file, line, reason.")

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.file_name} ({self.started_at:%Y-%m-%d %H:%M})"


class Text(models.Model):
    """What a classifier reads, once, wherever it occurs. The key is a digest of the normalised content."""

    digest = models.CharField(max_length=32, primary_key=True)
    content = models.TextField()

    def __str__(self) -> str:
        return self.content[:60]


class Speaker(models.TextChoices):
    USER = "user", "user"
    RECOMMENDER = "recommender", "recommender"


class Dialogue(models.Model):
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="dialogues")
    source_id = models.CharField(max_length=120)
    split = models.CharField(max_length=16, blank=True, default="")
    meta = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["dataset", "source_id"], name="dialogue_once_per_dataset")]

    def __str__(self) -> str:
        return f"{self.dataset.name}/{self.source_id}"


class Utterance(models.Model):
    """A turn of speech: consecutive messages of one speaker, merged. `position` counts merged turns from 0."""

    dialogue = models.ForeignKey(Dialogue, on_delete=models.CASCADE, related_name="utterances")
    position = models.PositiveIntegerField()
    role = models.CharField(max_length=12, choices=Speaker.choices)
    text = models.ForeignKey(Text, on_delete=models.PROTECT, related_name="utterances")
    shown = models.TextField(help_text="As people read it: titles in place of ids, entities decoded.")
    raw = models.TextField(help_text="As the source has it.")
    source_ids = models.JSONField(default=list, blank=True)
    items = models.JSONField(default=list, blank=True, help_text="Titles mentioned.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["dialogue", "position"], name="one_utterance_per_position")]

    def __str__(self) -> str:
        return f"{self.role}: {self.shown[:60]}"


class Turn(models.Model):
    """A user utterance and the place of the response that follows it: the unit of every alignment metric."""

    dialogue = models.ForeignKey(Dialogue, on_delete=models.CASCADE, related_name="turns")
    user_utterance = models.OneToOneField(Utterance, on_delete=models.CASCADE, related_name="turn")
    position = models.PositiveIntegerField(help_text="Of the response: the user utterance's position plus one.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["dialogue", "position"], name="one_turn_per_position")]

    def __str__(self) -> str:
        return f"turn {self.position} of {self.dialogue_id}"


class System(models.Model):
    """A source of responses. The human reference of a corpus is one too. (The word model belongs to Django.)"""

    KINDS = [("human", "human"), ("llm", "large language model"), ("neural", "neural"), ("retrieval", "retrieval")]
    name = models.SlugField(max_length=80, unique=True)
    title = models.CharField(max_length=120, blank=True, default="")
    kind = models.CharField(max_length=12, choices=KINDS, default="llm")
    is_reference = models.BooleanField(default=False)
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_reference"], condition=Q(is_reference=True), name="one_reference_system"
            )
        ]

    def __str__(self) -> str:
        return self.title or self.name


class Response(models.Model):
    """What a system said at a turn. `flags` keeps what was checked: truncated, empty, refusal, error text…"""

    turn = models.ForeignKey(Turn, on_delete=models.CASCADE, related_name="responses")
    system = models.ForeignKey(System, on_delete=models.CASCADE, related_name="responses")
    text = models.ForeignKey(Text, on_delete=models.PROTECT, related_name="responses")
    shown = models.TextField()
    raw = models.TextField()
    flags = models.JSONField(default=list, blank=True)
    source = models.JSONField(default=dict, blank=True, help_text="File and keys, or prompt version, digest, tokens.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["turn", "system"], name="one_response_per_turn_and_system")]

    def __str__(self) -> str:
        return f"{self.system_id}: {self.shown[:60]}"


class Generation(models.Model):
    """How a system was asked at a turn and what came of it: behind a generated response, or behind its absence.

    An empty answer has no words to label or rate, so it makes no `Response`; this row keeps that it was given.
    """

    ANSWERED, EMPTY, FAILED = "answered", "empty", "failed"
    STATES = [(s, s) for s in (ANSWERED, EMPTY, FAILED)]
    turn = models.ForeignKey(Turn, on_delete=models.CASCADE, related_name="generations")
    system = models.ForeignKey(System, on_delete=models.CASCADE, related_name="generations")
    state = models.CharField(max_length=8, choices=STATES)
    attempts = models.PositiveIntegerField(default=0, help_text="Requests over all runs, repeats included.")
    error = models.CharField(max_length=20, blank=True, default="", help_text="Kind of the last failure.")
    detail = models.CharField(max_length=200, blank=True, default="", help_text="In our words; never a server's.")
    flags = models.JSONField(default=list, blank=True)
    template = models.CharField(max_length=80, help_text="Name and digest of the prompt template.")
    prompt_digest = models.CharField(max_length=64)
    tokens_in = models.PositiveIntegerField(null=True, blank=True)
    tokens_out = models.PositiveIntegerField(null=True, blank=True)
    cost = models.FloatField(null=True, blank=True, help_text="US dollars, by the prices the run was given.")
    asked = models.JSONField(default=dict, blank=True, help_text="What was asked for: model, temperature, limit, seed.")
    came_back = models.JSONField(default=dict, blank=True, help_text="What the back end said of its answer.")
    finished_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["turn", "system"], name="one_generation_per_turn_and_system")]
        indexes = [models.Index(fields=["system", "state"], name="generation_of_system")]

    def __str__(self) -> str:
        return f"{self.system_id} at turn {self.turn_id}: {self.state}"


class Classifier(models.Model):
    """One revision of an emotion classifier. A change that could change a label is a new revision, a new row."""

    name = models.CharField(max_length=120)
    revision = models.CharField(max_length=80)
    source = models.CharField(max_length=255, blank=True, default="", help_text="default, a folder, or a hub id.")
    labels = models.JSONField(help_text="The fine labels, in the order of the stored probabilities.")
    settings = models.JSONField(default=dict, blank=True, help_text="Temperature, mapping, runtime, number format.")
    is_default = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "revision"], name="one_classifier_per_revision"),
            models.UniqueConstraint(fields=["is_default"], condition=Q(is_default=True), name="one_default_classifier"),
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.revision[:12]}"


class Prediction(models.Model):
    """The probabilities one classifier gives one text: float16 bytes in the order of `Classifier.labels`.

    The argmax is never stored: the grouping into seven emotions is chosen when reading. `fold` is -1 for a classifier
    that has seen no verified label, else the fold whose training left this text's dialogue out.
    """

    classifier = models.ForeignKey(Classifier, on_delete=models.CASCADE, related_name="predictions")
    text = models.ForeignKey(Text, on_delete=models.CASCADE, related_name="predictions")
    fold = models.SmallIntegerField(default=-1)
    probabilities = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["classifier", "text", "fold"], name="one_prediction_per_text")]

    def __str__(self) -> str:
        return f"{self.classifier_id}: {self.text_id}"
