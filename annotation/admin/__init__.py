"""The admin: the state of everything at a glance, and every long job started, watched and stopped from here."""

from __future__ import annotations

from annotation.admin import campaigns, corpus, dashboard, generation, people, running

__all__ = ["campaigns", "corpus", "dashboard", "generation", "people", "running"]
