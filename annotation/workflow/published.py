"""A published name stands for one model: whatever else answers gets a name of its own, or says why it does not.

Servers and folders name models in their own ways, so this goes by names: the published one, those of the registry's
endpoints and of the open weights, without regard to case, punctuation and the path before them. For a folder the
configuration must be of the right family and name the same weights. Who knows better says so (`as_is`), and the reason
is kept with the system and with every answer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from annotation.inference.generator import GenerationError
from annotation.inference.parameters import Asking, Operator
from annotation.inference.systems import SystemEntry

MAX_REASON: Final = 300
_NOT_WORD: Final = re.compile(r"[^a-z0-9]+")
_FAMILY: Final = re.compile(r"[a-z]+")


def check_reason(as_is: object) -> str:
    """Give the reason for another model under a published name, tidied; empty where there is none.

    Raises
    ------
    GenerationError
        It is no text, too long, or holds what no text of one line holds.
    """
    if not isinstance(as_is, str) or len(as_is) > MAX_REASON or not as_is.isprintable():
        raise GenerationError(f"The reason (as_is) is a text of one line, {MAX_REASON} characters at most.")
    return as_is.strip()


def check_model(asking: Asking, operator: Operator, *, as_is: str = "") -> None:
    """Refuse another model under a name of the registry, unless a reason is given.

    Raises
    ------
    GenerationError
        Says what stands there and what to do.
    """
    entry = asking.entry
    if entry is None or as_is:
        return
    given = asking.parameters
    other = _other_folder(entry, given.model_folder, operator) if given.backend == "local" else ""
    if given.backend == "endpoint" and _plain(given.model) not in _known(entry):
        other = f"the endpoint is asked for {given.model[:80]}"
    if other:
        weights = f" or {entry.open_weights}" if entry.open_weights and entry.same_weights else ""
        raise GenerationError(
            f"{entry.title} stands for {entry.published_name}{weights}, but {other}. Give the system that answers a "
            "name of its own; or, if it is the same model under another name, say why (as_is, --as-is)."
        )


def _known(entry: SystemEntry) -> set[str]:
    names = {entry.published_name, *(one.model for one in entry.served_by)}
    if entry.same_weights:
        names.add(entry.open_weights)
    return {_plain(name) for name in names}


def _plain(name: str) -> str:
    """The last part of a path, letters and digits only; Meta's own prefix to Llama is left out."""
    tail = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return _NOT_WORD.sub("", tail.casefold()).removeprefix("meta")


def _other_folder(entry: SystemEntry, name: str, operator: Operator) -> str:
    """Why a folder is not this system's weights, or nothing."""
    root = None if operator.at_the_console else operator.models_folder
    folder = Path(name) if root is None else root / name
    config = _config(folder)
    if config is None:  # a name on the hub; a folder that is not there is refused where it is loaded
        return "" if _plain(name) in _known(entry) else f"the model is called {name[:80]}"
    architectures = [str(one) for one in config.get("architectures") or []] or [str(config.get("model_type", ""))]
    family = _FAMILY.match(_plain(entry.published_name))
    if family and not any(one.casefold().startswith(family[0]) for one in architectures):
        return f"the folder holds a {', '.join(architectures)[:80] or 'model of no named kind'}"
    called = config.get("_name_or_path")
    called = called if isinstance(called, str) and called else folder.resolve().name
    return "" if _plain(called) in _known(entry) else f"the folder holds {called[:80]}"


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        read = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None
