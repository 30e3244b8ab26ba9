"""Which network addresses this server may call on somebody's behalf.

A base URL typed into a form must not become a way into the network the server stands in. So an address is https to a
public host, or (when the operator allows private ones) a host in a private network; a name is looked up once and the
connection goes to the very address that was checked, which leaves a name that changes its answer nothing to gain.
Link-local addresses and the others where clouds keep their credentials are never called.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], list[str]]

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_TRANSLATED: Final = ipaddress.IPv6Network("::ffff:0:0:0/96")
# Where clouds keep the credentials of a machine, whatever else those addresses are, and whoever allows private ones.
_METADATA: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "169.254.0.0/16",  # nearly all clouds
            "fd00:ec2::/32",  # AWS
            "fd20:ce::254/128",  # Google
            "168.63.129.16/32",  # Azure: a public address that leads inside
            "100.100.100.200/32",  # Alibaba
            "192.0.0.0/24",  # Oracle
            "fe80::/10",
            "fec0::/10",  # site-local of old; Python calls it global
        ),
    )
)
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|[0-9a-f:.]+")


class AddressRefusedError(Exception):
    """An address that must not be called; the message says why and what to do, and quotes no answer of any server."""


@dataclass(frozen=True)
class Address:
    """A base URL that passed the first check: its parts, without user, query or fragment."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The base URL, rebuilt from the checked parts."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"https": 443, "http": 80}[self.scheme]
        return f"{self.scheme}://{host}{'' if self.port == default else f':{self.port}'}{self.path}"


def parse_address(base_url: str) -> Address:
    """Take a base URL apart and refuse what no base URL needs.

    Raises
    ------
    AddressRefusedError
        Another scheme than http or https, a user or password in front of the host, a query or fragment, blanks, control
        characters or backslashes (which programs read differently), no host, or a port out of range.
    """
    if not base_url or any(ord(char) <= 0x20 or ord(char) == 0x7F for char in base_url) or "\\" in base_url:
        raise AddressRefusedError("The base URL is empty or holds blanks, control characters or backslashes.")
    try:
        parts = urlsplit(base_url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".")
        host = host if ":" in host else host.encode("idna").decode("ascii").lower()
    except (ValueError, UnicodeError):
        raise AddressRefusedError("The base URL cannot be read; write it as https://host/path.") from None
    if parts.scheme not in ("http", "https"):
        raise AddressRefusedError("The base URL must begin with https:// (or http:// for an allowed private address).")
    if "@" in parts.netloc:
        raise AddressRefusedError("The base URL holds a user name or password; keys belong in an environment variable.")
    if parts.query or parts.fragment or "?" in base_url or "#" in base_url:
        raise AddressRefusedError("The base URL holds a query or fragment; keys belong in an environment variable.")
    if not _HOST.fullmatch(host):
        raise AddressRefusedError("The base URL names no usable host.")
    return Address(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/"))


def resolve(host: str, port: int) -> list[str]:
    """Look a name up and give its addresses in the order the system prefers them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def embedded(address: IPAddress) -> IPAddress:
    """Give the IPv4 address that an IPv6 address carries (mapped, 6to4, Teredo, NAT64, ISATAP …), else itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address.teredo is not None:
            return address.teredo[1]
        # ISATAP: the IPv4 address behind 0000:5efe or 0200:5efe.
        isatap = (int(address) >> 32) & 0xFDFFFFFF == 0x00005EFE
        if address in _NAT64 or address in _TRANSLATED or isatap or (int(address) >> 32 == 0 and int(address) > 1):
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def kind_of(address: IPAddress) -> str:
    """Say whether an address is `public`, `private` (also loopback) or `forbidden` (link-local, reserved…)."""
    plain = embedded(address)
    if any(one.version == network.version and one in network for one in (plain, address) for network in _METADATA):
        return "forbidden"
    if plain.is_loopback:
        return "private"
    if plain.is_link_local or plain.is_multicast or plain.is_unspecified or plain.is_reserved:
        return "forbidden"
    if plain.is_global:
        return "public"
    if plain.is_private and str(plain) != "255.255.255.255" and not str(plain).startswith("0."):
        return "private"
    return "forbidden"


def checked_addresses(
    address: Address, *, allow_private: bool = False, resolver: Resolver | None = None
) -> tuple[str, ...]:
    """Look the host up once and give the addresses that may be called.

    Every address that the name has must be allowed: a name that points both outside and inside is refused.

    Raises
    ------
    AddressRefusedError
        The host cannot be found, or one of its addresses may not be called, or http would leave the private network.
    """
    try:
        found = (resolver or resolve)(address.host, address.port)
        parsed = [ipaddress.ip_address(text) for text in found]
    except (OSError, ValueError, UnicodeError):
        found, parsed = [], []
    if not parsed:
        raise AddressRefusedError(f"The host {address.host} was not found.")
    kinds = {kind_of(item) for item in parsed}
    if "forbidden" in kinds:
        raise AddressRefusedError(
            f"The host {address.host} is at a link-local, reserved or metadata address, which is never called."
        )
    if "private" in kinds and not allow_private:
        raise AddressRefusedError(
            f"The host {address.host} is at a private address. If that is meant, the operator of this server allows it "
            "with ATTUNE_ALLOW_PRIVATE_ENDPOINTS=1."
        )
    if address.scheme == "http" and kinds != {"private"}:
        raise AddressRefusedError(f"The host {address.host} is public, so it is called with https only.")
    return tuple(found)
