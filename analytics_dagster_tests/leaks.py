"""Finds a secret in files and texts, however it is spelled.

A secret is told by its longest runs of letters and digits: most spellings leave those as they
are, and what shows a part of a secret is a leak as well. The other spellings (fully
percent-encoded or escaped, base64, hex, spread over lines) are undone or written out.
"""

from __future__ import annotations

import gzip
import re
import sqlite3
import zipfile
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote_to_bytes

import duckdb
import pyarrow.parquet as pq

Read = Callable[[Path], Iterator[bytes]]


class Leaks:
    """Where a secret shows; it needs a run of at least ten letters and digits."""

    def __init__(self, secret: str) -> None:
        runs = [run.encode() for run in re.findall("[A-Za-z0-9]{10,}", secret)]
        assert runs, "too short to be told from chance"
        self._needles = [needle for run in runs for needle in _encoded(run)]

    def among(self, *places: Path | str) -> list[str]:
        """The files, in folders at any depth, and the texts that hold the secret; sorted."""
        found = set()
        for place in places:
            if isinstance(place, str):
                found |= {place[:200]} if self._stands_in(place.encode(errors="replace")) else set()
                continue
            for path in [place] if place.is_file() else place.rglob("*"):
                if path.is_file() and any(self._stands_in(part) for part in contents(path)):
                    found.add(str(path))
        return sorted(found)

    def _stands_in(self, content: bytes) -> bool:
        return any(needle in view for view in _views(content) for needle in self._needles)


def _encoded(run: bytes) -> Iterator[bytes]:
    yield run
    yield run.hex().encode()
    yield run.hex().upper().encode()
    for shift in range(3):
        # Without the signs at both ends that neighbours have a part in.
        signs = b64encode(bytes(shift) + run)[-(-shift * 4 // 3) : (shift + len(run)) * 4 // 3]
        yield signs
        yield signs.translate(bytes.maketrans(b"+/", b"-_"))


def _views(content: bytes) -> Iterator[bytes]:
    """The content as it is, and with each way of hiding letters undone."""
    joined = re.sub(rb"""\\+[nrt]|[\\\s"'\0]+""", b"", content)
    for view in (content, joined):
        yield view
        decoded = view
        while b"%" in decoded and (once := unquote_to_bytes(decoded)) != decoded:
            decoded = once
            yield decoded
    yield re.sub(
        rb"\\+(?:u00|x)([0-9A-Fa-f]{2})", lambda hit: bytes.fromhex(hit[1].decode()), content
    )
    for packed in re.findall(rb"eJ[\w+/-]{20,}=*", content):  # as dlt keeps its state
        with suppress(zlib.error, ValueError):
            yield zlib.decompress(b64decode(packed))


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what it has packed or spread over pages."""
    raw = path.read_bytes()
    yield raw
    for mark, at, unpack in _FORMATS:
        if raw[at : at + len(mark)] == mark:
            yield from unpack(path)


def _gzipped(path: Path) -> Iterator[bytes]:
    yield gzip.decompress(path.read_bytes())


def _zipped(path: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as archive:
        yield from map(archive.read, archive.namelist())


def _parquet(path: Path) -> Iterator[bytes]:
    yield repr(pq.read_table(path).to_pylist()).encode()


def _sqlite(path: Path) -> Iterator[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        yield "\n".join(connection.iterdump()).encode()


def _duckdb(path: Path) -> Iterator[bytes]:
    with duckdb.connect(str(path), read_only=True) as connection:
        for catalog, schema, table in connection.execute(
            "SELECT database, schema, name FROM (SHOW ALL TABLES)"
        ).fetchall():
            query = f'FROM "{catalog}"."{schema}"."{table}"'
            rows = connection.execute(query)
            names = [name for name, *_ in rows.description or []]
            yield "\n".join(map(str, [table, *names, *sum(rows.fetchall(), ())])).encode()


_FORMATS: list[tuple[bytes, int, Read]] = [
    (b"\x1f\x8b", 0, _gzipped),
    (b"PK\x03\x04", 0, _zipped),
    (b"PAR1", 0, _parquet),
    (b"SQLite format 3\0", 0, _sqlite),
    (b"DUCK", 8, _duckdb),
]
