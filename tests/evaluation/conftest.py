from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# shared machines are slow at times: a late example is no failure
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

SHARED = Path(os.environ.get("ATTUNE_SHARED", Path(__file__).resolve().parents[3] / "shared"))


@pytest.fixture(scope="session")
def reference() -> Callable[[str], list[dict[str, Any]]]:
    """Give the worked cases of one reference file, such as `agreement`."""

    def cases(name: str) -> list[dict[str, Any]]:
        file = SHARED / "reference" / "stats" / f"{name}.json"
        if not file.is_file():
            pytest.skip(f"the reference cases are not here: {file.name} (set ATTUNE_SHARED to the shared folder)")
        return list(json.loads(file.read_text(encoding="utf-8"))["cases"])

    return cases
