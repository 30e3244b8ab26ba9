"""Benchmarks: `make bench`, or one of them with `python -m benchmarks NAME`."""

from __future__ import annotations
