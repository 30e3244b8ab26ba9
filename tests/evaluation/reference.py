"""The reference cases that stand beside the project, read where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(os.environ.get("ATTUNE_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def cases(name: str) -> list[Any]:
    """The cases of one reference file; one skipped stand-in where the folder is absent."""
    path = SHARED / "reference" / "stats" / f"{name}.json"
    if not path.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no reference file {path}"))]
    return list(json.loads(path.read_text())["cases"])
