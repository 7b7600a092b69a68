"""The packages in an RPM database, without rpm: SQLite, as of rpm 4.16, and ndb, as SUSE has it.

Both keep each package's header as one blob; rpm's other tables are indices that follow from those. Berkeley DB, as of
CentOS 7, is known and not read.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from mmap import ACCESS_READ, mmap
from pathlib import Path

from ..budget import Budget
from ..errors import ImageFileError
from ..ports import Package

SQLITE, NDB, BERKELEY = "rpmdb.sqlite", "Packages.db", "Packages"
WAL = SQLITE + "-wal"  # what a machine that lost its power has not written into the database yet
LARGEST_HEADER = 64 << 20  # bytes; the file lists of the largest packages take some 5 MB
MOST_STEPS = 50_000_000  # of SQLite's machine, some seconds: a forged schema could keep it busy for ever
STEPS_BETWEEN_LOOKS = 100_000
MOST_ENTRIES = 4096  # of one header; real ones have some 80
LONGEST_TEXT = 64 << 10  # bytes of one tag
PACKAGE_BYTES = 1200  # that a package takes, beside its texts

_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _LICENSE, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1011, 1014, 1022, 1044
_TAGS = frozenset((_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _LICENSE, _ARCH, _SOURCE))
_INT32, _STRING, _I18N_STRING = 4, 6, 9  # rpmTagType
_KEYS = "gpg-pubkey"  # what rpm keeps imported keys as: no packages

_NDB_PAGE, _NDB_HEADER, _NDB_SLOT, _NDB_BLOCK = 4096, 32, 16, 16


class DamagedDatabase(ValueError):
    """A database cannot be read; the text says why."""


def sqlite_packages(database: Path, where: str, budget: Budget) -> list[Package]:
    """Read a copy of rpmdb.sqlite, with its -wal beside it where there is one. ImageFileError names `where`."""
    try:
        return _packages(_sqlite_headers(database), budget)
    except (sqlite3.Error, DamagedDatabase) as error:
        raise _damaged(where, error) from error


def ndb_packages(database: Path, where: str, budget: Budget) -> list[Package]:
    """Read a copy of Packages.db. ImageFileError names `where`."""
    try:
        with database.open("rb") as file, closing(mmap(file.fileno(), 0, access=ACCESS_READ)) as data:
            return _packages(_ndb_headers(data, budget), budget)
    except (struct.error, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> ImageFileError:
    return ImageFileError(
        f"{where}: the RPM database is damaged: {error}; rebuild it in the image with rpm --rebuilddb"
    )


def _packages(headers: Iterator[bytes], budget: Budget) -> list[Package]:
    found = []
    for header in headers:
        tags = _tags(header, budget)
        if tags.get(_NAME) != _KEYS:
            found.append(_package(tags))
            budget.keep(PACKAGE_BYTES + sum(map(len, tags.values())))
    return found


def _sqlite_headers(path: Path) -> Iterator[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_HEADER)
        looks = iter(range(MOST_STEPS // STEPS_BETWEEN_LOOKS))
        connection.set_progress_handler(lambda: next(looks, None) is None, STEPS_BETWEEN_LOOKS)
        connection.execute("PRAGMA trusted_schema = OFF")
        kinds = connection.execute("SELECT type FROM sqlite_schema WHERE name = 'Packages'").fetchall()
        if kinds != [("table",)]:
            raise DamagedDatabase("it has no table Packages")
        # Of a column that is worked out, one value may take minutes, and no authorizer is asked about its functions.
        if any(column[6] for column in connection.execute("PRAGMA table_xinfo(Packages)")):
            raise DamagedDatabase("its table Packages has a column that is worked out")
        connection.set_authorizer(_may)
        for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
            if not isinstance(blob, bytes):
                raise DamagedDatabase("a package is no blob")
            yield blob


def _may(action: int, *_names: str | None) -> int:
    """Allow to read tables, and no functions: a forged schema may call some for a column, each for minutes."""
    return sqlite3.SQLITE_OK if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ) else sqlite3.SQLITE_DENY


def _ndb_headers(data: mmap, budget: Budget) -> Iterator[bytes]:
    """Walk the slots behind the file's own header: each says in which blocks of 16 bytes a package's header lies."""
    magic, version, _generation, pages, _next = struct.unpack_from("<4s4I", data)
    if magic != b"RpmP" or version != 0:
        raise DamagedDatabase("it does not begin as ndb does")
    if pages * _NDB_PAGE > len(data):
        raise DamagedDatabase("it is shorter than its own header says")
    for at in range(_NDB_HEADER, pages * _NDB_PAGE, _NDB_SLOT):
        budget.step()
        slot, number, block, _blocks = struct.unpack_from("<4s3I", data, at)
        if slot != b"Slot":
            raise DamagedDatabase(f"there is no slot at {at}")
        if number == 0:  # free
            continue
        begin, owner, _generation, size = struct.unpack_from("<4s3I", data, block * _NDB_BLOCK)
        start = block * _NDB_BLOCK + 16
        if begin != b"BlbS" or owner != number or start + size > len(data):
            raise DamagedDatabase(f"package {number} is not where its slot says")
        yield data[start : start + size]


def _tags(header: bytes, budget: Budget) -> Mapping[int, str]:
    """Return the known tags of a header, as text: of each the first, and no more than LONGEST_TEXT."""
    budget.read(len(header))
    if len(header) < 8:
        raise DamagedDatabase("a header is cut off")
    entries, size = struct.unpack_from(">2I", header)
    store = 8 + entries * 16
    if entries > MOST_ENTRIES or store + size > len(header):
        raise DamagedDatabase("a header is larger than its blob")
    budget.step(entries)
    found: dict[int, str] = {}
    for tag, kind, offset, _count in struct.iter_unpack(">4I", header[8:store]):
        if tag not in _TAGS or tag in found or offset >= size:
            continue
        if kind in (_STRING, _I18N_STRING):  # of several languages the first is English
            text = header[store + offset : store + offset + LONGEST_TEXT]
            found[tag] = text.partition(b"\0")[0].decode("utf-8", "replace")
        elif kind == _INT32 and offset + 4 <= size:
            found[tag] = str(struct.unpack_from(">I", header, store + offset)[0])
    return found


def _package(tags: Mapping[int, str]) -> Package:
    if not all(tags.get(tag) for tag in (_NAME, _VERSION, _RELEASE)):
        raise DamagedDatabase("a package has no name, version or release")
    epoch = tags.get(_EPOCH, "0")
    version = f"{tags[_VERSION]}-{tags[_RELEASE]}"
    return Package(
        name=tags[_NAME],
        version=version if epoch == "0" else f"{epoch}:{version}",
        architecture=tags.get(_ARCH, ""),
        kind="rpm",
        source=tags.get(_SOURCE, ""),
        vendor=tags.get(_VENDOR, ""),
        license=tags.get(_LICENSE, ""),
    )


def databases_of(names: Sequence[str]) -> str:
    """Return which of rpm's databases a folder with these names has; "" for none."""
    return next((name for name in (SQLITE, NDB, BERKELEY) if name in names), "")
