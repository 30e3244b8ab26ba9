"""The pages of annotators and researchers are complete in German."""

from __future__ import annotations

import gettext
import re
from pathlib import Path

import pytest

ANNOTATION = Path(__file__).resolve().parents[1] / "annotation"
CATALOGUE = ANNOTATION / "locale" / "de" / "LC_MESSAGES" / "django.mo"
PAGES = ["base", "queues", "workbench", "join", "join_closed", "account", "campaign"]


@pytest.fixture(scope="module")
def german() -> gettext.GNUTranslations:
    with CATALOGUE.open("rb") as handle:
        return gettext.GNUTranslations(handle)


@pytest.mark.parametrize("name", PAGES)
def test_every_word_of_a_page_has_its_german(name: str, german: gettext.GNUTranslations) -> None:
    template = (ANNOTATION / "templates" / "annotation" / f"{name}.html").read_text(encoding="utf-8")
    # a percent sign is doubled in the catalogue
    words = {match[1].replace("%", "%%") for match in re.findall(r"\{% trans(?:late)? (['\"])(.*?)\1", template)}
    assert words
    known = german._catalog  # type: ignore[attr-defined]
    assert sorted(word for word in words if word not in known) == []


def test_emotions_and_skip_reasons_have_their_german(german: gettext.GNUTranslations) -> None:
    from annotation.workflow.submission import SKIP_REASONS
    from evaluation.emotions import EMOTIONS

    known = german._catalog  # type: ignore[attr-defined]
    words = [*EMOTIONS, *(str(reason) for reason in SKIP_REASONS.values())]
    assert [word for word in words if word not in known] == []


def test_what_is_named_by_a_word_of_the_program_has_its_german(german: gettext.GNUTranslations) -> None:
    from annotation.models import Campaign
    from annotation.workflow.overview import REASONS, WIDTH_REASONS
    from annotation.workflow.verification import FITS, FITS_NOT
    from evaluation.precision import TITLES, UNITS

    known = german._catalog  # type: ignore[attr-defined]
    sentences = [str(sentence) for table in (FITS, FITS_NOT, REASONS, WIDTH_REASONS) for sentence in table.values()]
    words = [*TITLES.values(), *UNITS.values(), *sentences, *(title for _, title in Campaign.STATES)]
    assert [word for word in words if word not in known] == []
