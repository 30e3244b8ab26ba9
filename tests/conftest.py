"""The cast, in every test: Ada and Bo annotate, Cleo adjudicates, Rhea researches, Dan belongs to another campaign."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.cache import cache
from django.test import Client

from annotation.models import Campaign, Classifier, Dataset, Membership, Role, User
from annotation.workflow.opening import open_campaign
from tests.factories import ClassifierFactory, MembershipFactory, UserFactory, make_campaign, make_corpus, predict_all

LONGEST = (
    *("test_faults", "test_backup", "test_running", "test_kill", "test_storage", "test_queue_under_stress"),
    *("test_workers", "test_golden_report", "test_proxy"),
)
"""Files that use no test database: what pytest-django orders by, transactions last, does not concern them."""


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a test by how many bytes it is given, not by which: a gzip holds the second of its making, and processes
    that collect the tests a second apart would not find the same ones."""
    return f"{argname}-of-{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the test database: it runs on SQLite and on PostgreSQL. What does not use it runs once."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if {"db", "transactional_db"}.intersection(fixtures) or item.get_closest_marker("django_db"):
            item.add_marker(pytest.mark.database)


class LongestFirst:
    """Each file runs in one process, and nobody should wait for the last of them. Runs after pytest-django's order."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LongestFirst())


@pytest.fixture(autouse=True)
def forgetful_cache() -> None:
    """Rate limits count in the cache: what one test tried must not lock the next one out."""
    cache.clear()


@pytest.fixture
def ada(db: None) -> User:
    return UserFactory.create(username="ada", first_name="Ada")


@pytest.fixture
def bo(db: None) -> User:
    return UserFactory.create(username="bo", first_name="Bo")


@pytest.fixture
def cleo(db: None) -> User:
    return UserFactory.create(username="cleo", first_name="Cleo")


@pytest.fixture
def dan(db: None) -> User:
    return UserFactory.create(username="dan", first_name="Dan")


@pytest.fixture
def rhea(db: None) -> User:
    return UserFactory.create(username="rhea", first_name="Rhea")


@pytest.fixture
def admin(db: None) -> User:
    return UserFactory.create(username="admin", is_staff=True, is_superuser=True)


@pytest.fixture
def corpus(db: None) -> Dataset:
    """Eight dialogues of two turns, answered by the reference, alpha and beta."""
    return make_corpus()


@pytest.fixture
def classifier(corpus: Dataset) -> Classifier:
    """A lexicon's predictions for every text of the corpus."""
    found = ClassifierFactory.create()
    predict_all(found)
    return found


@pytest.fixture
def draft(corpus: Dataset, classifier: Classifier, ada: User, bo: User, cleo: User, rhea: User) -> Campaign:
    """A blind campaign with its people, not yet open: six turns, two answers per item."""
    campaign = make_campaign(corpus=corpus, design={"kind": "simple", "size": 6}, seed=7)
    # Seeds go by the membership's number: given ones, so that chance falls the same on every database and in any order.
    for number, (user, role) in enumerate(
        [(ada, Role.ANNOTATOR), (bo, Role.ANNOTATOR), (cleo, Role.ADJUDICATOR), (rhea, Role.RESEARCHER)]
    ):
        MembershipFactory.create(pk=900_001 + number, user=user, campaign=campaign, role=role)
    return campaign


@pytest.fixture
def campaign(draft: Campaign) -> Campaign:
    """The same campaign, open: 24 items to verify (6 user, 18 responses) and 6 turns to rate, each by two people."""
    open_campaign(draft)
    draft.refresh_from_db()
    return draft


@pytest.fixture
def assisted(draft: Campaign) -> Campaign:
    """The same campaign in assisted mode, open."""
    draft.mode = Campaign.ASSISTED
    draft.save(update_fields=["mode"])
    open_campaign(draft)
    draft.refresh_from_db()
    return draft


@pytest.fixture
def other_campaign(corpus: Dataset, classifier: Classifier, dan: User) -> Campaign:
    """Another project's campaign over the same corpus: Dan's, in every role. He must see nothing of the first."""
    campaign = make_campaign("other", corpus=corpus, design={"kind": "simple", "size": 4}, seed=11)
    for role in Role.values:
        MembershipFactory.create(user=dan, campaign=campaign, role=role)
    open_campaign(campaign)
    campaign.refresh_from_db()
    return campaign


@pytest.fixture
def member_of() -> Callable[..., Membership]:
    """Find a person's membership: `member_of(ada, campaign)`."""

    def find(user: User, campaign: Campaign, role: str = Role.ANNOTATOR) -> Membership:
        return Membership.objects.get(user=user, campaign=campaign, role=role)

    return find


@pytest.fixture
def sign_in() -> Callable[[User], Client]:
    """A browser in which the person is signed in."""

    def signed_in(user: User) -> Client:
        client = Client(raise_request_exception=True)
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return signed_in


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of its own that holds so many MiB: `small_disk(2)`."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            pytest.skip(f"No file system can be mounted here, so none can be filled up: {done.stderr.strip()[:120]}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], timeout=60, check=True)
