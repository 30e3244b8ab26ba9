"""What several tests of the application share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.annotation.faulty_server import Faulty, Script, serving


@pytest.fixture
def serve() -> Iterator[Callable[..., Faulty]]:
    """Start servers that misbehave by a script: `serve(lambda words, number: "500")`."""
    with ExitStack() as stack:

        def start(script: Script | str = "ok", **options: Any) -> Faulty:
            faulty = Faulty(script if callable(script) else lambda words, number: script, **options)
            return stack.enter_context(serving(faulty))

        yield start
