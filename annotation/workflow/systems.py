"""The systems that an import meets, by the names its files give them."""

from __future__ import annotations

import re
from typing import Final

from annotation import models
from annotation.corpora.dialogue import text_digest

_NEURAL: Final = re.compile(r"kgsf|kbrd|revcore|unicrs|barcor|deepcrs", re.IGNORECASE)
_RETRIEVAL: Final = re.compile(r"\bc?rb-?crs", re.IGNORECASE)


class Systems:
    """Systems by the name a file gives them, made when first met."""

    def __init__(self) -> None:
        self._by_name: dict[str, int] = {}
        self._slugs: dict[str, str] = {}
        self._reference_name: str | None = None

    def reference(self) -> int:
        """Primary key of the human reference."""
        if "" not in self._by_name:
            found, _ = models.System.objects.get_or_create(
                is_reference=True, defaults={"name": "human", "title": "Human reference", "kind": "human"}
            )
            self._by_name[""] = found.pk
        return self._by_name[""]

    def is_reference(self, name: str) -> bool:
        if self._reference_name is None:
            self._reference_name = (
                models.System.objects.filter(is_reference=True).values_list("name", flat=True).first() or ""
            )
        return bool(self._reference_name) and self.slug(name) == self._reference_name

    def slug(self, name: str) -> str:
        """The slug of a name. A system keeps the one it was first imported under, whatever its title is changed to."""
        if name not in self._slugs:
            known = models.System.objects.filter(details__imported_as=name[:120])
            self._slugs[name] = known.values_list("name", flat=True).first() or self._new_slug(name)
        return self._slugs[name]

    def _new_slug(self, name: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-").lower()[:64] or "system"
        taken = models.System.objects.filter(name=plain).values_list("details", flat=True).first()
        # Another name that differs in signs only has it already, in the database or in this import.
        if (taken is not None and "imported_as" in taken) or plain in self._slugs.values():
            return f"{plain}-{text_digest(name)[:6]}"
        return plain

    def named(self, name: str) -> int:
        """Primary key of the system of that name."""
        if name not in self._by_name:
            kind = "retrieval" if _RETRIEVAL.search(name) else "neural" if _NEURAL.search(name) else "llm"
            found, _ = models.System.objects.get_or_create(
                name=self.slug(name),
                defaults={"title": name[:120], "kind": kind, "details": {"imported_as": name[:120]}},
            )
            self._by_name[name] = found.pk
        return self._by_name[name]
