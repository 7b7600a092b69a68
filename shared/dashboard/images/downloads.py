"""What an image has to download: its bills of materials, the statement of its origin, and its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from flask import Response

from ...backend import Backend
from ...build.build import Build
from ...build.resources import results_stem, sbom_names, statement_name
from ...engine.manifest import manifest
from ...engine.script_table import scripts_of
from ...errors import GoldsmithError, NotFound
from ..web.saved_files import saved_data, saved_object
from ..web.served import Served
from .found import ShownImage, find_shown
from .inside import packages_of
from .kin import image_address

TITLES: Mapping[str, str] = {
    "spdx": "Bill of materials, SPDX 2.3",
    "cyclonedx": "Bill of materials, CycloneDX 1.6",
    "provenance": "Signed statement of origin, in-toto",
    "statement": "Statement of origin, not signed",
    "manifest": "Manifest",
}
LARGEST = 32 << 20  # bytes that are answered at once: Cloud Run answers with no more
_JSON = "application/json"


@dataclass(frozen=True)
class DownloadRow:
    """A document about an image."""

    kind: str
    title: str
    file: str  # the name that it is saved under
    href: str


def downloads_of(shown: ShownImage, backend: Backend) -> tuple[DownloadRow, ...]:
    """Return the documents that there are."""
    build = shown.build
    if build is None or build.plan is None:
        return ()
    address = image_address(shown.project, shown.name)
    found = {kind: uri for kind, uri in _places(build, backend).items() if _is_there(uri, backend)}
    rows = [(kind, PurePosixPath(uri).name) for kind, uri in found.items()]
    rows.append(("manifest", f"{build.plan.image.name}.json"))
    return tuple(DownloadRow(kind, TITLES[kind], file, f"{address}/download/{kind}") for kind, file in rows)


def image_document_file(served: Served, project: str, name: str, kind: str) -> Response:
    """Answer with a document about an image. NotFound."""
    shown = find_shown(served, project, name)
    build = shown.build
    if kind not in TITLES or build is None or build.plan is None:
        raise NotFound(f"image {name} has no such document; its page lists those that it has")
    if kind == "manifest":
        return saved_data(_manifest(served, shown, build), f"{build.plan.image.name}.json", _JSON)
    uri = _places(build, served.backend)[kind]
    try:
        _, size = served.backend.bucket.read_part(uri, 0, 0)
        if size <= LARGEST:
            return saved_object(served.backend.bucket, uri, PurePosixPath(uri).name, _JSON, last=LARGEST)
    except NotFound as error:
        raise NotFound(f"{uri} is gone: it is deleted with the results or logs of build {build.id}") from error
    raise NotFound(f"{uri} has {size} bytes, more than a page can answer with; read it there")


def _places(build: Build, backend: Backend) -> Mapping[str, str]:
    """Return where each document about a build's image lies, if it is there."""
    stem = results_stem(build, backend.logs.replace("{build_id}", build.id))
    spdx, cyclonedx = sbom_names(stem)
    return {
        "spdx": spdx,
        "cyclonedx": cyclonedx,
        "provenance": statement_name(stem, signed=True),
        "statement": statement_name(stem, signed=False),
    }


def _is_there(uri: str, backend: Backend) -> bool:
    try:
        return backend.bucket.generation(uri) != ""
    except GoldsmithError:  # a bucket that may not be read: the page says what there is
        return False


def _manifest(served: Served, shown: ShownImage, build: Build) -> bytes:
    """Return the manifest that an export of the image would have beside it."""
    assert build.plan is not None
    packages, why = packages_of(served, shown.image, build)
    return manifest(build, build.plan, None if why else packages, scripts=scripts_of(build, served.backend.store))
