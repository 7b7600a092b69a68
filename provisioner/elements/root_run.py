"""Run root.d of some elements: they make the root file system of an image, at TARGET_ROOT.

It runs in a sandbox on the machine that builds (shared/origins/room.py), with that machine's own programs. The job's
folder has the elements and request.json; what comes of it is told on a descriptor. `look` runs no script: it tells
what the files of environment.d make of the variables, and digests the signed indexes of the package archives that
they name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time

from .documents import decode_documents
from .extract_image import PACKED_IMAGES, wanted_image
from .hooks import ROOT
from .model import ElementsError, expand_elements, find_elements
from .prepare import Chosen, prepare
from .run import TASK, ElementsRun, Failure, bind_tree, tell
from .variables import WORK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

    from .hooks import Hook

REQUEST = "request.json"
LOOK_AT, MAKE = "look", "make"
TOLD = ("ARCH", "DIB_APT_SOURCES_CONF", "DIB_DISTRIBUTION_MIRROR", "DIB_RELEASE", "DISTRO_NAME")
"""The variables that are told."""

_BOOTSTRAP = "debootstrap"  # the element that makes a root of packages, and the program that it looks for first
_PREFERRED = "mmdebstrap"
_DATE = re.compile("^Date: (.+)$", re.MULTILINE)
_LARGEST_INDEX = 16 << 20
_PATIENCE = 20.0  # seconds for an answer
_MOST_INDEXES = 20
_NOT_THERE = re.compile(
    r"(?:^|[\s:])([A-Za-z][\w.+-]*): (?:command )?not found$|^env: .([A-Za-z][\w.+-]*).: No such file or directory$"
)
_PROXIED = """#!/bin/sh
# Stands for the program where another one is used in its place: scripts ask for its version first.
if [ "${1-}" = --version ]; then
    echo "debootstrap 1.0.128"
    exit 0
fi
echo "debootstrap: command not found" >&2
exit 127
"""


class RootRun(ElementsRun):
    """One run of root.d."""

    @property
    def work(self) -> str:
        """The folder of the work."""
        return self._work

    def begin(self) -> None:
        """Add what scripts of this phase alone look for. OSError."""
        if os.path.exists(f"/usr/bin/{_PREFERRED}"):
            place = os.path.join(self._work, "fallback", _BOOTSTRAP)
            with open(place, "w", encoding="utf-8") as file:
                file.write(_PROXIED)
            os.chmod(place, 0o755)  # noqa: S103 - every user may run it

    def make(self, tree: str) -> Optional[Failure]:
        """Run the scripts; return what ended them early."""
        try:
            bind_tree(tree, self._target)
        except (ElementsError, OSError) as error:
            return Failure(str(error), 1)
        return self._phase(ROOT)

    def _script(
        self, hook: Hook, environment: Mapping[str, str], inside: bool, command: Sequence[str] = ()
    ) -> Optional[Failure]:
        """Run one script; the root that the ones before have made has devices then, which no sandbox can make."""
        devices = os.path.join(self._target, "dev")
        if os.path.isdir(devices) and not os.path.islink(devices) and not os.path.ismount(devices):
            try:
                bind_tree("/dev", devices)
            except (ElementsError, OSError) as error:
                return Failure(str(error), 1)
        return super()._script(hook, environment, inside, command)

    def hint(self, status: int, tail: bytes) -> str:
        """Return nothing: what is missing on this machine is told by the host, which knows its packages."""
        return ""

    def look(self) -> Dict[str, str]:
        """Return the variables that scripts of this phase see. ElementsError."""
        return self._environment(False)


def missing_program(tail: bytes) -> str:
    """Return the program that a script has not found, as the shell has said; "" for none."""
    for line in reversed(tail.decode("utf-8", "replace").splitlines()):
        found = _NOT_THERE.search(line.strip())
        if found:
            return found.group(1) or found.group(2)
    return ""


def archive_places(variables: Mapping[str, str]) -> List[Tuple[str, str]]:
    """Return the package archives that variables name: address and suite, each once."""
    places = []
    mirror, release = variables.get("DIB_DISTRIBUTION_MIRROR", ""), variables.get("DIB_RELEASE", "")
    if mirror and release:
        places.append((mirror.rstrip("/"), release))
    for line in variables.get("DIB_APT_SOURCES_CONF", "").splitlines():
        before, _, options = line.partition(":")[2].partition("[")
        entry = f"{before} {options.partition(']')[2]}".split()
        if len(entry) > 2 and entry[0] == "deb":
            places.append((entry[1].rstrip("/"), entry[2]))
    return sorted(set(places))[:_MOST_INDEXES]


def read_index(place: Tuple[str, str]) -> bytes:
    """Return the signed index of an archive. OSError."""
    from urllib.error import HTTPError
    from urllib.request import urlopen

    url = f"{place[0]}/{place[1].rstrip('/')}" if place[1].endswith("/") else f"{place[0]}/dists/{place[1]}"
    for name in ("InRelease", "Release"):
        try:
            with urlopen(f"{url}/{name}", timeout=_PATIENCE) as answer:  # noqa: S310 - in a sandbox
                return bytes(answer.read(_LARGEST_INDEX))
        except HTTPError as error:
            if error.code != 404:
                raise
        except ValueError as error:
            raise OSError(str(error)) from error
    raise OSError(f"{url} has neither InRelease nor Release")


def date_of_index(index: bytes) -> int:
    """Return the date of an archive's index in Unix seconds; 0 where it has none."""
    from email.utils import parsedate_to_datetime

    found = _DATE.search(index.decode("utf-8", "replace"))
    try:
        return int(parsedate_to_datetime(found.group(1).strip()).timestamp()) if found else 0
    except (TypeError, ValueError, OverflowError):
        return 0


def _indexes(variables: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the digests of the archives' indexes, and the date of the newest; or why there are none."""
    digests, newest = [], 0
    for place in archive_places(variables):
        try:
            index = read_index(place)
        except OSError as error:
            return {"unreachable": f"{place[0]} {place[1]}: {getattr(error, 'reason', error)}"}
        newest = max(newest, date_of_index(index))
        digests.append([*place, hashlib.sha256(index).hexdigest()])
    return {"indexes": digests, "date": newest}


def _prepared(request: Mapping[str, Any], job: str, tree: str, cache: str) -> RootRun:
    """Lay out the work's folder; return what runs in it. ElementsError; OSError."""
    path = [os.path.join(job, "elements")]
    elements = expand_elements(request["elements"], find_elements(path))
    own = {**request["env"], "DIB_IMAGE_CACHE": cache}
    if request["date"]:
        own.setdefault("SOURCE_DATE_EPOCH", str(request["date"]))
    chosen = Chosen(elements, request["elements"], path, own, decode_documents(request["documents"]))
    work = os.path.join(os.path.dirname(job), WORK)
    prepare(chosen, tree, work, request["seconds"], tell)
    with open(os.path.join(work, TASK), "rb") as file:
        run = RootRun(work, json.loads(file.read().decode()))
    with open(os.path.join(work, PACKED_IMAGES), "w", encoding="utf-8") as written:
        json.dump(request.get("images", {}), written)
    run.begin()
    return run


def _answer(request: Mapping[str, Any], job: str, tree: str, cache: str) -> Mapping[str, Any]:
    try:
        run = _prepared(request, job, tree, cache)
        if request["mode"] == LOOK_AT:
            variables = run.look()
            told = {name: variables[name] for name in TOLD if name in variables}
            archives = _indexes(variables) if request["archives"] else {}
            return {"variables": told, **archives}
    except (ElementsError, OSError) as error:
        return {"problem": str(error)}
    began = time.monotonic()
    failure = run.make(tree)
    result: Dict[str, Any] = {"scripts": run.scripts, "seconds": time.monotonic() - began}
    if failure is not None:
        result.update(problem=failure.text, missing=missing_program(failure.tail))
        result["tail"] = failure.tail.decode("utf-8", "replace")
        result["wanted"] = wanted_image(run.work)
    return result


def main(job: str, tree: str, cache: str, handle: int) -> int:
    """Do what request.json in the job's folder says, and tell the result on a descriptor."""
    os.set_inheritable(handle, False)
    with open(os.path.join(job, REQUEST), "rb") as file:
        request = json.loads(file.read().decode())
    os.chdir("/")
    answer = _answer(request, job, tree, cache)
    sys.stdout.flush()
    with os.fdopen(handle, "w", encoding="utf-8") as told:
        json.dump(answer, told)
    return 0
