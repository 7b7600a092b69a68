"""The NVIDIA drivers that can be installed: the versions in Google's public bucket.

Both adapters ask before anything is made: the installer container would find out only on the build VM.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

from .build.plan import Plan
from .errors import InputError, Permanent, Transient
from .topology import STORAGE_EMULATOR

GOOGLE = "https://storage.googleapis.com"
BUCKET, FOLDER = "nvidia-drivers-us-public", "tesla/"
ELSEWHERE = ("390.46",)  # good as well; the installer container gets it from another place
OF_THE_CONTEXT = ".run"  # the file of an installer, which the step's deps_dir brings
_SECONDS = 30.0  # for one answer
_PAGE = 1000  # names, the most that Cloud Storage gives at once
_MOST_PAGES = 100
_MOST_BYTES = 8 << 20  # of one page
_LIST = f"the list of NVIDIA's drivers, bucket {BUCKET}"
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){1,9}")


def check_drivers(plan: Plan, storage: str = GOOGLE) -> None:
    """Refuse a plan that names a driver which is not there. InputError; Transient, Permanent as valid_drivers()."""
    wanted = {step.name: str(step.inputs["version"]) for step in plan.steps if step.action == "install-gpu"}
    wanted = {name: version for name, version in wanted.items() if not version.endswith(OF_THE_CONTEXT)}
    if not wanted:
        return
    valid = valid_drivers(storage)
    for name, version in wanted.items():
        if version not in valid:
            raise InputError(
                f"step {name!r}: inputs.version: there is no driver {version}; write one of {', '.join(valid)}, or the "
                "name of an installer in deps_dir"
            )


def valid_drivers(storage: str = GOOGLE, *, page: int = _PAGE) -> list[str]:
    """List the versions, oldest first, as Cloud Storage at `storage` (a URL) has them.

    Transient when it does not answer; Permanent when it refuses.
    """
    folders = _folders(storage, page)
    found = {name.removeprefix(FOLDER).rstrip("/") for name in folders}
    return sorted({*filter(_VERSION.fullmatch, found), *ELSEWHERE}, key=lambda version: [*map(int, version.split("."))])


def storage_of(environment: Mapping[str, str]) -> str:
    """Return the URL of Cloud Storage, or of the emulator."""
    host = environment.get(STORAGE_EMULATOR, "").strip().rstrip("/")
    if not host:
        return GOOGLE
    return host if "://" in host else f"http://{host}"


def _folders(storage: str, page: int) -> Iterator[str]:
    token = ""
    for _page in range(_MOST_PAGES):
        query = {"prefix": FOLDER, "delimiter": "/", "maxResults": str(page)} | ({"pageToken": token} if token else {})
        answer = _read(f"{storage}/storage/v1/b/{BUCKET}/o?{urlencode(query)}")
        yield from map(str, answer.get("prefixes", ()))
        token = str(answer.get("nextPageToken", ""))
        if not token:
            return
    raise Transient(f"{_LIST}: Cloud Storage's list does not end")


def _read(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - storage_of()'s
            data = answer.read(_MOST_BYTES + 1)
            document = json.loads(data) if len(data) <= _MOST_BYTES else None
    except HTTPError as error:
        with error:
            passing = error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code == HTTPStatus.TOO_MANY_REQUESTS
        text = f"{_LIST}: Cloud Storage answers {error.code} {error.reason}"
        raise (Transient if passing else Permanent)(text) from error
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        raise Transient(f"{_LIST}: Cloud Storage cannot be asked: {error}") from error
    if not isinstance(document, dict):
        raise Transient(f"{_LIST}: Cloud Storage gives no list")
    return document
