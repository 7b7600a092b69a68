"""List the packages of this machine, for hosts that cannot read its disk: the text of an INVENTORY report.

    os<TAB>ID<TAB>debian                    os-release's fields of FIELDS, first
    dpkg<TAB>NAME<TAB>VERSION<TAB>ARCHITECTURE<TAB>SOURCE<TAB>VENDOR<TAB>LICENCE
    rpm | apk | cos | cos-build<TAB>...     the same; cos-build: what Container-Optimized OS was built with
    folder<TAB>PATH<TAB>BYTES<TAB>FILES     the largest folders, before the packages; see folders.py
    cut<TAB>17                              17 lines are left out: a report must stay below LIMIT

SOURCE is the source package: NAME, NAME@VERSION or a source RPM's file name. A field is empty where the database has no
value. The package managers themselves are asked. A package manager that fails is named in the report's message, and
fails no build.
"""

from __future__ import annotations

import json
import os

from ..system.files import read_text
from ..system.os_release import os_release
from ..system.process import find_program
from .folders import largest_folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

LIMIT = 512 * 1024  # bytes, as JSON: a report port of Compute Engine keeps 1 MiB, and so does a document of Firestore
MOST_BYTES = 16 << 20  # of a list; Container-Optimized OS's has some 100 kB
SECONDS = 120.0  # for one package manager
FIELDS = ("ID", "VERSION_ID", "BUILD_ID", "NAME", "PRETTY_NAME")
CONTROL = dict.fromkeys((*range(32), 127), " ")

DPKG = ("db:Status-Status", "Package", "Version", "Architecture", "source:Package", "source:Version", "Maintainer")
RPM = ("%{NAME}", "%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}", "%{ARCH}", "%{SOURCERPM}", "%{VENDOR}", "%{LICENSE}")
RPM_FOLDERS = ("usr/lib/sysimage/rpm", "var/lib/rpm")
APK_INSTALLED = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
COS_LIST = "etc/cos-package-info.json"


def take(root: str) -> tuple[str, str]:
    """Return the report's output and its message. A damaged database is part of the message and raises nothing."""
    lines = [_line("os", name, value) for name, value in os_release(root).items() if name in FIELDS]
    lines += [_line("folder", path, str(size), str(files)) for path, size, files in largest_folders(root)]
    problems = []
    found = 0
    for read in (_dpkg, _rpm, _apk, _cos):
        try:
            rows = list(read(root))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:  # a damaged list may hold anything
            problems.append(f"{read.__name__.strip('_')}: {error}")
            continue
        found += len(rows)
        lines += [_line(*row) for row in rows]
    return _cut(lines), "; ".join([f"{found} packages", *problems])[:1000]


def _line(*fields: str) -> str:
    return "\t".join(str(field).translate(CONTROL).strip() for field in fields)


def _cut(lines: list[str]) -> str:
    """Return the lines that fit into LIMIT; where some do not, the last line has their number."""
    size = 100  # for the last line
    for kept, line in enumerate(lines):
        size += len(json.dumps(line))
        if size > LIMIT:
            return "\n".join([*lines[:kept], _line("cut", str(len(lines) - kept))])
    return "\n".join(lines)


def _read(root: str, *paths: str) -> str:
    """Read the first of some files that exists; "" where none does. OSError."""
    for path in paths:
        try:
            return read_text(os.path.join(root, path), MOST_BYTES, "replace")
        except FileNotFoundError:
            continue
    return ""


def _ask(program: str, *arguments: str) -> list[list[str]]:
    """Run a program; return the fields of each line that it prints. ValueError when it fails."""
    import subprocess  # slow to import; only builds in the cloud need it

    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"no answer within {SECONDS:g} s") from error
    if done.returncode:
        raise ValueError(f"exit status {done.returncode}: {done.stderr.decode('utf-8', 'replace').strip()[-200:]}")
    return [line.split("\t") for line in done.stdout.decode("utf-8", "replace").split("\n") if line]


def _dpkg(root: str) -> Iterator[tuple[str, ...]]:
    folder = os.path.join(root, "var/lib/dpkg")
    program = find_program("dpkg-query", root)
    if not program or not os.path.exists(os.path.join(folder, "status")):
        return
    shape = "\t".join(f"${{{name}}}" for name in DPKG) + "\n"
    for status, name, version, architecture, source, source_version, maintainer in _ask(
        program, f"--admindir={folder}", "--show", f"--showformat={shape}"
    ):
        if status == "installed":
            other = "" if source == name else source
            if source_version != version:
                other = f"{source}@{source_version}"
            yield "dpkg", name, version, architecture, other, maintainer, ""


def _rpm(root: str) -> Iterator[tuple[str, ...]]:
    program = find_program("rpm", root)
    folder = next((path for path in RPM_FOLDERS if os.path.isdir(os.path.join(root, path))), "")
    if not program or not folder:
        return
    shape = "\t".join(RPM) + "\n"
    for fields in _ask(program, "--dbpath", os.path.join(root, folder), "-qa", "--qf", shape):
        if fields[0] != "gpg-pubkey":  # a key that rpm trusts
            yield ("rpm", *("" if field == "(none)" else field for field in fields))


def _apk(root: str) -> Iterator[tuple[str, ...]]:
    for paragraph in _read(root, *APK_INSTALLED).split("\n\n"):
        fields = {line[0]: line[2:] for line in paragraph.split("\n") if line[1:2] == ":"}
        if fields:
            yield ("apk", fields["P"], fields["V"], *(fields.get(key, "") for key in ("A", "o", "m", "L")))


def _cos(root: str) -> Iterator[tuple[str, ...]]:
    text = _read(root, COS_LIST)
    document: dict[str, Any] = json.loads(text) if text else {}
    for kind, key in (("cos", "installedPackages"), ("cos-build", "buildTimePackages")):
        for entry in document.get(key) or []:
            category, ebuild = entry.get("category", ""), entry.get("ebuild_version", "")
            source = f"{category}/{entry['name']}" if category else ""
            if source and ebuild:
                source = f"{source}@{ebuild}"
            yield kind, entry["name"], entry["version"], "", source, "", ""
