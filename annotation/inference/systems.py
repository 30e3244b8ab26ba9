"""The registry of systems under study: published names, who serves them, open-weight counterparts, what is retired."""

from __future__ import annotations

import datetime
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from annotation.inference.addresses import Address, parse_address

REGISTRY: Final = Path(__file__).resolve().parent / "systems.toml"

# A variable that is named like a key. Whoever may start a job may name one, so DATABASE_URL and the like must not pass.
_KEY_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]{0,60}_API_KEY")


class RegistryError(Exception):
    """A system, family or key that cannot be used; the message says what to do and quotes no secret."""


@dataclass(frozen=True)
class Family:
    """A family of endpoints: where it is and which environment variable holds its key."""

    name: str
    title: str
    base_url: str
    key_env: str


@dataclass(frozen=True)
class Serving:
    """One way to reach a system: a family and the name it has there. `retired` is the day it was withdrawn."""

    family: Family
    model: str
    retired: datetime.date | None = None
    checked: bool = False


@dataclass(frozen=True)
class SystemEntry:
    """One system of the paper."""

    name: str
    title: str
    published_name: str
    open_weights: str
    same_weights: bool
    note: str
    served_by: tuple[Serving, ...]

    @property
    def retired(self) -> bool:
        """Whether no endpoint is known that still serves it."""
        return all(serving.retired for serving in self.served_by)

    def serving(self, family: str = "") -> Serving:
        """Give the way to reach this system: in the named family, else the first that is not retired.

        Raises
        ------
        RegistryError
            No such family serves it, or every endpoint is retired; says what can be run instead.
        """
        found = [one for one in self.served_by if family in ("", one.family.name)]
        if not found:
            names = ", ".join(one.family.name for one in self.served_by)
            raise RegistryError(f"{self.published_name} is not known to be served by {family[:40]!r} (known: {names}).")
        alive = [one for one in found if not one.retired]
        if alive:
            return alive[0]
        weights = (
            f"Run its open weights {self.open_weights} with a local model folder or any compatible endpoint"
            + ("" if self.same_weights else " (another model: name the system differently)")
            if self.open_weights
            else self.note
        )
        gone = ", ".join(f"{one.family.name} on {one.retired}" for one in found)
        raise RegistryError(f"{self.published_name} was withdrawn by {gone}. {weights.rstrip('.')}.")


@dataclass(frozen=True)
class Registry:
    families: Mapping[str, Family]
    systems: tuple[SystemEntry, ...]

    def find(self, name: str) -> SystemEntry | None:
        """Find a system by its name here, its published name or its title in the paper."""
        wanted = name.strip().casefold()
        for entry in self.systems:
            if wanted in (entry.name.casefold(), entry.published_name.casefold(), entry.title.casefold()):
                return entry
        return None


def read_registry(path: Path = REGISTRY) -> Registry:
    """Read a registry file.

    Raises
    ------
    RegistryError
        The file is not well formed; names what is wrong.
    """
    try:
        known = tomllib.loads(path.read_text(encoding="utf-8"))
        families = {name: Family(name=name, **fields) for name, fields in known["families"].items()}
        systems = tuple(_entry(fields, families) for fields in known["systems"])
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise RegistryError(f"{path.name} is not a registry of systems: {error}.") from None
    return Registry(families, systems)


def _entry(fields: dict[str, Any], families: Mapping[str, Family]) -> SystemEntry:
    served = tuple(
        Serving(families[one["family"]], one["model"], one.get("retired"), bool(one.get("checked", False)))
        for one in fields["served_by"]
    )
    return SystemEntry(
        name=fields["name"],
        title=fields["title"],
        published_name=fields["published_name"],
        open_weights=fields["open_weights"],
        same_weights=fields["same_weights"],
        note=fields.get("note", ""),
        served_by=served,
    )


@lru_cache(maxsize=1)
def registry() -> Registry:
    """Give the registry that comes with Attune, read once."""
    return read_registry()


def check_key_name(name: str) -> None:
    """Refuse what is not the name of an environment variable for keys (`…_API_KEY`), without repeating it.

    It is not repeated because the usual mistake is to enter the key itself.
    """
    if name and not _KEY_NAME.fullmatch(name):
        raise RegistryError(
            "The key is named by its environment variable, in capitals and ending in _API_KEY "
            "(such as GROQ_API_KEY); the key itself is never entered here."
        )


def key_for(name: str, address: Address, *, any_host: bool = False) -> str:
    """Read a key from the environment, for the one host it belongs to.

    A key of a registered family goes to that family's host. Any other goes where the operator says with a second
    variable, `<NAME>_HOST`, or anywhere when `any_host` says that the operator herself named both (the command line).

    Raises
    ------
    RegistryError
        The variable is not set, or is not meant for this host.
    """
    check_key_name(name)
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise RegistryError(f"The environment variable {name} is not set where this runs; put the key there.")
    if any(ord(char) <= 0x20 or ord(char) > 0x7E for char in key):
        raise RegistryError(f"The environment variable {name} holds blanks or characters that no key has.")
    hosts = {parse_address(one.base_url).host for one in registry().families.values() if one.key_env == name}
    hosts |= {host.strip().lower() for host in os.environ.get(f"{name}_HOST", "").split(",") if host.strip()}
    if not any_host and address.host not in hosts:
        raise RegistryError(
            f"The key in {name} is not meant for {address.host}. The operator of this server allows it with "
            f"{name}_HOST={address.host}."
        )
    return key
