from __future__ import annotations

import secrets
import uuid

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

DEFAULT_SCALES = [
    {
        "name": "personalization",
        "question": "How well does the response take up what this user said about tastes, mood and situation?",
        "low": "ignores it",
        "high": "built on it",
        "points": 5,
    },
    {
        "name": "justification",
        "question": "How convincing is the reason it gives for what it recommends or asks?",
        "low": "none",
        "high": "clear and fitting",
        "points": 5,
    },
    {
        "name": "satisfaction",
        "question": "As this user, how satisfied would you be with this response?",
        "low": "not at all",
        "high": "completely",
        "points": 5,
    },
]


def default_scales() -> list[dict[str, object]]:
    return [dict(scale) for scale in DEFAULT_SCALES]


def make_secret() -> str:
    return secrets.token_hex(16)


class Task(models.TextChoices):
    """A queue of a campaign. Slots of gold questions stand in neither: each person has her own, mixed in."""

    VERIFY = "verify", "verify"
    RATE = "rate", "rate"


GOLD = "gold"


class Campaign(models.Model):
    """What is verified and rated, how it is sampled, how often, by whom."""

    DRAFT, OPEN, PAUSED, CLOSED = "draft", "open", "paused", "closed"
    STATES = [(DRAFT, "draft"), (OPEN, "open"), (PAUSED, "paused"), (CLOSED, "closed")]
    BLIND, ASSISTED = "blind", "assisted"

    name = models.SlugField(max_length=64, unique=True)
    title = models.CharField(max_length=120)
    state = models.CharField(max_length=8, choices=STATES, default=DRAFT)
    datasets = models.ManyToManyField("annotation.Dataset", related_name="campaigns")
    systems = models.ManyToManyField(
        "annotation.System", related_name="campaigns", blank=True, help_text="Whose responses are verified and rated."
    )
    classifier = models.ForeignKey("annotation.Classifier", null=True, blank=True, on_delete=models.PROTECT)
    grouping = models.CharField(max_length=24, default="dialogue", help_text="How 28 fine labels become seven.")
    mode = models.CharField(max_length=8, choices=[(BLIND, "blind"), (ASSISTED, "assisted")], default=BLIND)
    hidden_share = models.FloatField(
        default=0.3,
        validators=[MinValueValidator(0.05), MaxValueValidator(0.95)],
        help_text="Assisted mode: the share of assignments whose pre-label stays hidden.",
    )
    design = models.JSONField(
        default=dict, blank=True, help_text='Sampling: {"kind", "size", "strata", "allocation", …}; docs/campaigns.md.'
    )
    seed = models.PositiveBigIntegerField(default=1)
    verify_overlap = models.PositiveSmallIntegerField(default=2, validators=[MinValueValidator(1)])
    rate_overlap = models.PositiveSmallIntegerField(default=2, validators=[MinValueValidator(1)])
    verify_user = models.BooleanField(default=True)
    verify_responses = models.BooleanField(default=True)
    rate_responses = models.BooleanField(default=True)
    scales = models.JSONField(default=default_scales, blank=True)
    separate_raters = models.BooleanField(
        default=True, help_text="Ratings are given by people who did not label that turn."
    )
    allow_single = models.BooleanField(default=False, help_text="A single label counts as verified.")
    lease_minutes = models.PositiveSmallIntegerField(default=30, validators=[MinValueValidator(1)])
    gold_every = models.PositiveSmallIntegerField(default=0, help_text="Mix a gold item in after so many; 0 = never.")
    require_practice = models.BooleanField(default=False)
    consent_text = models.TextField(blank=True, default="", help_text="Markdown. Empty: no consent page.")
    consent_version = models.CharField(max_length=16, blank=True, default="1")
    withdrawal = models.CharField(
        max_length=10, choices=[("anonymise", "anonymise"), ("remove", "remove")], default="anonymise"
    )
    # Counters kept in the transaction of each answer, so that progress is never a count over the slots.
    # Answers wanted and given; gold answers apart.
    verify_total = models.PositiveIntegerField(default=0)
    verify_done = models.PositiveIntegerField(default=0)
    rate_total = models.PositiveIntegerField(default=0)
    rate_done = models.PositiveIntegerField(default=0)
    gold_done = models.PositiveIntegerField(default=0)
    # The queue of a task is a tape: so many items in random order, then what came back, up to the tail.
    verify_items = models.PositiveIntegerField(default=0)
    verify_tail = models.PositiveIntegerField(default=0)
    rate_items = models.PositiveIntegerField(default=0)
    rate_tail = models.PositiveIntegerField(default=0)
    # Every look at intervals of new answers before the planned number is there makes stopping by them less honest.
    looks = models.PositiveIntegerField(default=0, help_text="How often intervals of new answers were computed.")
    last_look = models.CharField(max_length=80, blank=True, default="", help_text="The answers it saw.")
    secret = models.CharField(
        max_length=32, default=make_secret, editable=False, help_text="Veils the row numbers that browsers see."
    )
    created_by = models.ForeignKey("annotation.User", null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(default=timezone.now)
    opened_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.title


class Guideline(models.Model):
    """The codebook of a campaign, in Markdown. A change is a new version; judgments name the version they followed."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="guidelines")
    version = models.PositiveIntegerField()
    markdown = models.TextField()
    change_note = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["campaign", "-version"]
        constraints = [models.UniqueConstraint(fields=["campaign", "version"], name="one_guideline_per_version")]

    def __str__(self) -> str:
        return f"{self.campaign} v{self.version}"


class SampledTurn(models.Model):
    """A turn drawn into a campaign. Its inclusion probability is written here once and is the one estimates use."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="sampled_turns")
    turn = models.ForeignKey("annotation.Turn", on_delete=models.PROTECT, related_name="sampled")
    stratum = models.CharField(max_length=120, blank=True, default="")
    inclusion_probability = models.FloatField()
    draw_order = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["campaign", "turn"], name="turn_sampled_once"),
            models.CheckConstraint(
                condition=Q(inclusion_probability__gt=0) & Q(inclusion_probability__lte=1),
                name="inclusion_probability_in_0_1",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.campaign_id}: turn {self.turn_id}"


class GoldQuestion(models.Model):
    """A question whose answer the codebook gives: practice with feedback, mixed in as gold, or an attention check."""

    USES = [("practice", "practice"), ("gold", "gold"), ("attention", "attention check")]
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="gold_questions")
    use = models.CharField(max_length=10, choices=USES)
    context = models.JSONField(default=list, blank=True, help_text='[{"role": "user", "text": "…"}]')
    role = models.CharField(max_length=12, choices=[("user", "user"), ("recommender", "recommender")], default="user")
    text = models.TextField()
    label = models.CharField(max_length=16)
    explanation = models.TextField(blank=True, default="")

    def __str__(self) -> str:
        return f"{self.use}: {self.text[:60]}"


class Item(models.Model):
    """One question: an utterance or response to verify, the responses of a turn to rate, or a gold question."""

    KINDS = [
        ("user", "verify the user"),
        ("response", "verify a response"),
        ("rate", "rate responses"),
        ("gold", "gold"),
    ]
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="campaign_items")
    kind = models.CharField(max_length=8, choices=KINDS)
    sampled_turn = models.ForeignKey(SampledTurn, null=True, blank=True, on_delete=models.CASCADE, related_name="items")
    response = models.ForeignKey(
        "annotation.Response", null=True, blank=True, on_delete=models.PROTECT, related_name="items"
    )
    gold = models.ForeignKey(GoldQuestion, null=True, blank=True, on_delete=models.CASCADE, related_name="items")
    position = models.PositiveIntegerField(help_text="In the campaign's random permutation, per task.")
    needs_attention = models.BooleanField(default=False, help_text="Skipped by too many, or flagged.")
    dispute = models.FloatField(
        null=True, blank=True, help_text="How much a complete set of labels disagrees; ties above 1. Empty: agreed."
    )

    class Meta:
        indexes = [models.Index(fields=["campaign", "dispute"], name="item_disputed")]
        constraints = [
            models.UniqueConstraint(
                fields=["sampled_turn", "kind"], condition=Q(response__isnull=True), name="one_item_per_turn_and_kind"
            ),
            models.UniqueConstraint(
                fields=["sampled_turn", "kind", "response"],
                condition=Q(response__isnull=False),
                name="one_item_per_response",
            ),
            models.UniqueConstraint(
                fields=["gold"], condition=Q(gold__isnull=False), name="one_item_per_gold_question"
            ),
            models.CheckConstraint(
                condition=Q(sampled_turn__isnull=False, gold__isnull=True)
                | Q(sampled_turn__isnull=True, gold__isnull=False),
                name="item_is_sampled_or_gold",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Slot(models.Model):
    """One of the k answers an item wants: free, leased to one person, answered, or skipped (a fresh slot replaces it).

    Claimed by one conditional update, so overlap is exact on any database at any isolation level. `position` is the
    place on the queue's tape: the item's own at first, the end of the tape once the slot came back.
    """

    FREE, LEASED, DONE, SKIPPED = "free", "leased", "done", "skipped"
    STATES = [(FREE, "free"), (LEASED, "leased"), (DONE, "done"), (SKIPPED, "skipped")]
    # The indexes below begin with each of the three foreign keys, so they need none of their own.
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="slots", db_index=False)
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="slots", db_index=False)
    task = models.CharField(max_length=8, choices=[*Task.choices, (GOLD, "gold")])
    position = models.PositiveIntegerField()
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=8, choices=STATES, default=FREE)
    annotator = models.ForeignKey(
        "annotation.User", null=True, blank=True, on_delete=models.PROTECT, related_name="slots", db_index=False
    )
    leased_at = models.DateTimeField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True, help_text="Set while leased, and only then.")
    client = models.CharField(max_length=36, blank=True, default="", help_text="The browser tab that holds the lease.")
    arm = models.CharField(max_length=8, blank=True, default="", choices=[("shown", "shown"), ("hidden", "hidden")])
    prelabel = models.CharField(max_length=16, blank=True, default="", help_text="What the classifier said, kept here.")
    response_order = models.JSONField(default=list, blank=True, help_text="Rating: response ids as they were shown.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["item", "number"], name="one_slot_per_number"),
            models.UniqueConstraint(
                fields=["item", "annotator"], condition=Q(annotator__isnull=False), name="item_once_per_annotator"
            ),
            models.CheckConstraint(
                condition=Q(state="free", annotator__isnull=True) | ~Q(state="free") & Q(annotator__isnull=False),
                name="free_slot_has_no_annotator",
            ),
        ]
        indexes = [
            models.Index(fields=["campaign", "task", "state", "position"], name="slot_next_free"),
            models.Index(fields=["annotator", "campaign", "task", "state"], name="slot_of_annotator"),
            models.Index(fields=["leased_until"], condition=Q(leased_until__isnull=False), name="slot_lapsed"),
        ]

    def __str__(self) -> str:
        return f"item {self.item_id} #{self.number}: {self.state}"


class Judgment(models.Model):
    """One acknowledged answer. Never changed: a correction is a new row that supersedes this one.

    The key is made by the client, so sending it twice stores it once. `set_aside` marks an answer whose lease had
    lapsed and whose slot had gone to someone else: kept for the researcher, used by no estimate unless she takes it in.
    """

    LABEL, RATE, SKIP = "label", "rate", "skip"
    ACTIONS = [(LABEL, "label"), (RATE, "rate"), (SKIP, "skip")]
    PRELABEL = [("agreed", "agreed"), ("corrected", "corrected"), ("not_shown", "not shown")]
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="judgments")
    slot = models.ForeignKey(Slot, null=True, blank=True, on_delete=models.PROTECT, related_name="judgments")
    annotator = models.ForeignKey("annotation.User", null=True, on_delete=models.PROTECT, related_name="judgments")
    action = models.CharField(max_length=8, choices=ACTIONS)
    label = models.CharField(max_length=16, blank=True, default="")
    ratings = models.JSONField(default=dict, blank=True, help_text='{"<response id>": {"satisfaction": 4, …}}')
    reason = models.CharField(max_length=40, blank=True, default="", help_text="Of a skip.")
    comment = models.TextField(blank=True, default="")
    flagged = models.BooleanField(default=False)
    prelabel_outcome = models.CharField(max_length=10, choices=PRELABEL, blank=True, default="")
    supersedes = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="superseded"
    )
    set_aside = models.BooleanField(default=False)
    answered_at = models.DateTimeField(null=True, blank=True, help_text="By the client's clock.")
    received_at = models.DateTimeField(default=timezone.now, db_index=True)
    active_ms = models.PositiveIntegerField(null=True, blank=True, help_text="Time on item without idle time.")
    device = models.CharField(max_length=12, blank=True, default="")
    guideline = models.ForeignKey(Guideline, null=True, blank=True, on_delete=models.PROTECT, related_name="judgments")

    class Meta:
        indexes = [
            models.Index(fields=["annotator", "-received_at"], name="judgment_history"),
            models.Index(fields=["item"], name="judgment_of_item"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.label} on {self.item_id}"


class Adjudication(models.Model):
    """A decision on an item whose annotators disagreed, by someone who did not label it. A change supersedes."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="adjudications")
    adjudicator = models.ForeignKey(
        "annotation.User", null=True, on_delete=models.PROTECT, related_name="adjudications"
    )
    label = models.CharField(max_length=16)
    comment = models.TextField(blank=True, default="")
    standing = models.BooleanField(default=True)
    supersedes = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="superseded"
    )
    received_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["item"], condition=Q(standing=True), name="one_standing_adjudication")
        ]

    def __str__(self) -> str:
        return f"{self.label} on {self.item_id}"
