"""Bytes to numbered lines, with a bound on everything: the ground under every reader.

A file is read twice on purpose. `check_file` runs through it once, cheaply, so that a truncated or hostile archive is
refused before its first row has been used; the readers then stream it again line by line.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from annotation.corpora.dialogue import BadRow, CorpusError

_CHUNK: Final = 1 << 20
_BOMS: Final = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_TABLE_MAGIC: Final = {b"PAR1": "parquet"}
# Members beside the data in a zip (Mac resource forks, readme files) are no corpus.
_MEMBER_ENDINGS: Final = (".jsonl", ".json", ".tsv", ".csv")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a file may ask of the machine. Sizes in bytes; `ratio` is decompressed size over compressed size."""

    line: int = 5_000_000
    ratio: int = 200
    ratio_floor: int = 64_000_000
    depth: int = 64


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Part:
    """One stream of lines: a plain file, a gzip file, or one member of a zip."""

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        return f"{self.path.name}:{self.member}" if self.member else self.path.name

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open for reading, decompressed."""
        if self.member:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                yield stream
        elif container(self.path) == "gzip":
            with gzip.open(self.path, "rb") as stream:
                yield stream  # type: ignore[misc]  # GzipFile reads bytes but is no IO[bytes] to the type checker
        else:
            with self.path.open("rb") as stream:
                yield stream


def container(path: Path) -> str:
    """Say what holds the data, by its first bytes and not by its name: gzip, zip, xlsx, parquet or plain.

    Raises
    ------
    CorpusError
        The file is missing, empty, or in an encoding or format that no reader knows.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except IsADirectoryError as error:
        raise CorpusError(f"{path.name} is a folder; name a file in it.") from error
    except OSError as error:
        raise CorpusError(f"{path.name} cannot be opened: {error.strerror}.") from error
    if not head:
        raise CorpusError(f"{path.name} is empty (0 bytes); download or export it again.")
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:4] == b"PK\x03\x04":
        return "xlsx" if _is_workbook(path) else "zip"
    if head[:4] in _TABLE_MAGIC:
        return "parquet"
    if head[:2] in _BOMS:
        raise CorpusError(f"{path.name} is {_BOMS[head[:2]]} text; save it as UTF-8 and import it again.")
    if b"\x00" in head:
        raise CorpusError(
            f"{path.name} is a binary file of no known kind; give JSONL, TSV, CSV, .gz, .zip, Parquet or XLSX."
        )
    return "plain"


def _is_workbook(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.startswith("xl/") for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise CorpusError(f"{path.name} is a damaged or truncated zip file ({error}); download it again.") from error


def parts(path: Path, *, wanted: tuple[str, ...] = _MEMBER_ENDINGS) -> list[Part]:
    """List the streams of a file: itself, or the data members of a zip in the archive's order."""
    if container(path) != "zip":
        return [Part(path)]
    with zipfile.ZipFile(path) as archive:
        names = [
            info.filename
            for info in archive.infolist()
            if info.filename.endswith(wanted) and not info.filename.startswith("__MACOSX/")
        ]
    if not names:
        raise CorpusError(f"{path.name} is a zip without any {' / '.join(wanted)} file in it.")
    return [Part(path, name) for name in names]


def check_file(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> str:
    """Read a file through once and return the SHA-256 of its bytes (hex).

    Raises
    ------
    CorpusError
        Empty, truncated, damaged, or unpacking to more than `limits.ratio` times its size (a zip bomb).
    """
    kind = container(path)
    size = path.stat().st_size
    if kind in ("zip", "xlsx"):
        _check_zip(path, limits)
    if kind in ("gzip", "plain"):
        _drain(Part(path), compressed=size if kind == "gzip" else None, limits=limits)
    elif kind == "zip":
        for part in parts(path):
            _drain(part, compressed=size, limits=limits)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check_zip(path: Path, limits: Limits) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 0x1:
                raise CorpusError(f"{path.name}: {info.filename} is encrypted; unpack it and import the file itself.")
            if info.file_size > limits.ratio_floor and info.file_size > limits.ratio * max(info.compress_size, 1):
                raise _bomb(f"{path.name}:{info.filename}", limits)


def _drain(part: Part, *, compressed: int | None, limits: Limits) -> None:
    total = lines = 0
    try:
        with part.open() as stream:
            while chunk := stream.read(_CHUNK):
                total += len(chunk)
                lines += chunk.count(b"\n")
                if compressed is not None and total > limits.ratio_floor and total > limits.ratio * compressed:
                    raise _bomb(part.name, limits)
    except EOFError as error:
        raise CorpusError(
            f"{part.name} is truncated: the compressed data ends after line {lines}; nothing was imported, "
            "download the file again."
        ) from error
    except (gzip.BadGzipFile, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise CorpusError(
            f"{part.name} is damaged after line {lines} ({error}); nothing was imported, download the file again."
        ) from error
    if not total:
        raise CorpusError(f"{part.name} is empty once unpacked; download or export it again.")


def _bomb(name: str, limits: Limits) -> CorpusError:
    return CorpusError(
        f"{name} unpacks to more than {limits.ratio} times its size, which no text does; it was not read. "
        "If you trust the file, unpack it yourself and import the result."
    )


def raw_lines(part: Part, *, limits: Limits = DEFAULT_LIMITS) -> Iterator[tuple[int, str] | BadRow]:
    """Yield `(line number from 1, text without line end)`; a line too long or not UTF-8 comes as a `BadRow`.

    Never holds more than one line of at most `limits.line` bytes.
    """
    with part.open() as stream:
        number = 0
        while line := stream.readline(limits.line + 1):
            number += 1
            if len(line) > limits.line and not line.endswith(b"\n"):
                while (rest := stream.readline(_CHUNK)) and not rest.endswith(b"\n"):
                    pass
                yield BadRow(part.name, number, f"the line is longer than {limits.line:,} bytes and was left out")
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                yield number, line.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                yield BadRow(
                    part.name,
                    number,
                    f"not UTF-8: byte {error.start + 1} of the line is 0x{line[error.start]:02x}; "
                    "save the file as UTF-8 and import it again",
                )


def json_lines(part: Part, *, limits: Limits = DEFAULT_LIMITS) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """Yield `(line number, object)` of a JSONL stream; blank lines are skipped, what is unreadable is a `BadRow`."""
    for line in raw_lines(part, limits=limits):
        if isinstance(line, BadRow):
            yield line
            continue
        number, text = line
        if not text.strip():
            continue
        parsed = parse_object(text, limits=limits)
        yield BadRow(part.name, number, parsed) if isinstance(parsed, str) else (number, parsed)


def parse_object(text: str, *, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any] | str:
    """Parse one JSON object; on failure return the reason as a sentence."""
    try:
        value = json.loads(text)
    except RecursionError:
        return f"the JSON is nested deeper than {limits.depth} levels"
    except ValueError as error:  # JSONDecodeError, and integers too long to read
        return f"not valid JSON ({error})"
    if not isinstance(value, dict):
        return f"a JSON object is expected, this line holds a {type(value).__name__}"
    # Counting brackets is an upper bound on the depth, and enough to pass nearly every row without walking it.
    if text.count("[") + text.count("{") > limits.depth and _deeper_than(value, limits.depth):
        return f"the JSON is nested deeper than {limits.depth} levels"
    return value


def _deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True
