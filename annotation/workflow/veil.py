"""Numbers that tell nothing: what a browser gets in place of a row's number.

Row numbers betray the order in which rows were made: which response came from which system, which item is a gold
question. A veiled number is a keyed permutation of the row number (a Feistel network of four rounds over 52 bits, so it
stays exact in JavaScript). It is different for each person, so one that resolves was dealt to the person who sends it.
"""

from __future__ import annotations

import hashlib
from typing import Final

_HALF: Final = 26
_MASK: Final = (1 << _HALF) - 1
_ROUNDS: Final = 4


class Veil:
    """A permutation of the numbers below 2**52 for one secret and purpose."""

    def __init__(self, secret: str, purpose: str) -> None:
        self._keys = [
            hashlib.blake2b(f"{secret}|{purpose}|{n}".encode(), digest_size=16).digest() for n in range(_ROUNDS)
        ]

    def veil(self, number: int) -> int:
        left, right = number >> _HALF, number & _MASK
        for key in self._keys:
            left, right = right, left ^ _mixed(key, right)
        return left << _HALF | right

    def unveil(self, veiled: int) -> int:
        """Give the row number; any number below 2**52 gives one, but hardly ever that of a row that exists."""
        left, right = veiled >> _HALF, veiled & _MASK
        for key in reversed(self._keys):
            left, right = right ^ _mixed(key, left), left
        return left << _HALF | right


def _mixed(key: bytes, half: int) -> int:
    digest = hashlib.blake2b(half.to_bytes(4, "big"), key=key, digest_size=4).digest()
    return int.from_bytes(digest, "big") & _MASK


def is_veiled(value: object) -> bool:
    """Whether this can be a veiled number at all."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 2 * _HALF
