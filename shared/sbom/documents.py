"""The bill of materials of an image: SPDX 2.3 and CycloneDX 1.6, both in JSON, of one list of packages.

    the image's package databases ─┐
    the source image's own list   ─┼─► one SPDX document ─► its JSON
    the user's output.sbom.input  ─┘                      └─► CycloneDX JSON

The documents are written by code of ours: the libraries of both formats take half a second. Tests hold every byte to
what those libraries write, and to their validators (docs/decisions/0067). The user's word on a package counts more than
the database's, and that more than the source image's list. Equal inputs give equal bytes: identifiers come from
content, and the time is that of the request.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

from ..build.build import Build
from ..build.plan import Plan
from ..ports import Package
from .base import Base
from .cyclonedx import cyclonedx_json
from .input import NAMESPACE, Given, OtherDocument, actor_by_library, licenses_by_library, packages_by_library
from .packages import (
    BUILD_TOOL_OF,
    CONTAINS,
    DOCUMENT,
    GOLDSMITH,
    IMAGE,
    NOASSERTION,
    OPERATING_SYSTEM,
    SOURCE,
    ListedPackage,
    extracted_licenses,
    listed,
    names_of,
    written,
)

T = TypeVar("T")
UNKNOWN_PACKAGES = "the packages of this image are unknown: no package database of it can be read"


@dataclass(frozen=True)
class Contents:
    """The known contents of an image."""

    packages: Sequence[Package] | None  # None: unknown
    note: str = ""  # what is missing from the list
    given: Given = field(default_factory=Given)
    base: Base | None = None


@dataclass(frozen=True)
class Documents:
    """A bill of materials in both formats."""

    spdx: bytes
    cyclonedx: bytes


def documents(build: Build, plan: Plan, contents: Contents) -> Documents:
    """Make both documents of the image that a build has made."""
    document, packages = spdx_document(build, plan, contents)
    digest = document["documentNamespace"].rpartition("-")[2]
    makers = [actor_by_library(actor) for actor in contents.given.creators]
    spdx = json.dumps(document, indent=1).encode() + b"\n"
    return Documents(spdx, cyclonedx_json(document, packages, makers, digest))


def document_name(plan: Plan, given: Given) -> str:
    """Return the name of the SPDX document below `output.sbom.to`, as COS Customizer names it."""
    name = given.name or plan.image.name
    version = f"-{given.version}" if given.name and given.version else ""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name + version)}_sbom.spdx.json"


def spdx_document(build: Build, plan: Plan, contents: Contents) -> tuple[dict[str, Any], list[ListedPackage]]:
    """Return the document, and its packages: the image, its source, then the others."""
    given, base = contents.given, contents.base
    found, of_base = _merged(contents)
    tools = [package for package in found if package.build_time]
    held = [listed(package) for package in found if not package.build_time]
    held = _unique([*held, *packages_by_library([*of_base, *given.packages])], attrgetter("id"))
    built_with = _unique([listed(package) for package in tools], attrgetter("id"))
    others = [*([base.document] if base else []), *given.documents]
    packages = [_image(build, plan, contents), _source(plan), *held, *built_with]
    theirs = licenses_by_library([*given.licenses, *(base.licenses if base else ())])
    name = given.name or plan.image.name
    fields = {
        "SPDXID": DOCUMENT,
        "creationInfo": {
            "created": _time(plan),
            "creators": [GOLDSMITH, *(str(actor_by_library(one)) for one in given.creators)],
        },
        "dataLicense": "CC0-1.0",
        "externalDocumentRefs": _unique([_reference(other) for other in others], itemgetter("externalDocumentId")),
        "hasExtractedLicensingInfos": _unique([*theirs, *extracted_licenses(found)], itemgetter("licenseId")),
        "name": f"{name}-{given.version}" if given.name and given.version else name,
        "spdxVersion": "SPDX-2.3",
        "documentNamespace": f"{NAMESPACE}/{build.id}-{_digest(build, packages)}",
        "packages": [package.fields for package in packages],
        "relationships": _relationships(held, built_with, others),
    }
    return written(fields), packages


def _merged(contents: Contents) -> tuple[list[Package], list[Any]]:
    """Return the packages of the database and of the source image, each without those that a better source names.

    Of one identifier there is one package as well.
    """
    users = {(package.name, package.version or "") for package in contents.given.packages}
    identifiers = {package.spdx_id for package in contents.given.packages}
    found = [package for package in contents.packages or () if not names_of(package) & users]
    if identifiers:
        found = [package for package in found if listed(package).id not in identifiers]
    theirs = contents.base.packages if contents.base else ()
    if not theirs:
        return found, []
    known = users.union(*map(names_of, found))
    identifiers.update((IMAGE, SOURCE, DOCUMENT), (listed(package).id for package in found))
    rest = [one for one in theirs if (one.name, one.version or "") not in known and one.spdx_id not in identifiers]
    return found, _unique(rest, attrgetter("spdx_id"))


def _image(build: Build, plan: Plan, contents: Contents) -> ListedPackage:
    image, given = build.image, contents.given
    archive = image.archive if image else None
    notes = [UNKNOWN_PACKAGES if contents.packages is None else "", contents.note]
    if contents.base and contents.base.left_out:
        notes.append(f"{contents.base.left_out} entries of the source image's own list cannot be read")
    supplier = actor_by_library(given.supplier) if given.supplier else None
    fields = {
        "SPDXID": IMAGE,
        "annotations": _annotations(build, plan),
        "checksums": [{"algorithm": "SHA256", "checksumValue": archive.sha256}] if archive else [],
        "comment": "; ".join(filter(None, notes)) or None,
        "copyrightText": NOASSERTION,
        "description": plan.image.description or None,
        "downloadLocation": NOASSERTION,
        "filesAnalyzed": False,
        "licenseConcluded": NOASSERTION,
        "licenseDeclared": NOASSERTION,
        "name": given.name or plan.image.name,
        "packageFileName": (plan.image.export_to or "").rpartition("/")[2] or None,
        "primaryPackagePurpose": OPERATING_SYSTEM,
        "sourceInfo": (
            f"Goldsmith's build {build.id}, content digest {plan.content_digest}, image {image.id if image else 0}"
        ),
        "supplier": str(supplier or NOASSERTION),
        "versionInfo": given.version if given.name and given.version else image.id if image else "0",
    }
    return ListedPackage(written(fields), supplier)


def _annotations(build: Build, plan: Plan) -> list[dict[str, str]]:
    """Return one line for each finding of the hygiene check that the spec allows, with its reason."""
    return [
        {
            "annotationDate": _time(plan),
            "annotationType": "OTHER",
            "annotator": GOLDSMITH,
            "comment": f"allowed: {found.path} {found.finding}; {found.why}",
        }
        for found in (build.image.allowed if build.image else ())
    ]


def _source(plan: Plan) -> ListedPackage:
    return ListedPackage(
        {
            "SPDXID": SOURCE,
            "downloadLocation": NOASSERTION,
            "filesAnalyzed": False,
            "name": f"{plan.source.project}/{plan.source.name}",
            "primaryPackagePurpose": OPERATING_SYSTEM,
            "versionInfo": plan.source.id,
        }
    )


def _relationships(
    held: Iterable[ListedPackage], built_with: Iterable[ListedPackage], others: Iterable[OtherDocument]
) -> list[dict[str, str]]:
    return [
        _relation(DOCUMENT, "DESCRIBES", IMAGE),
        _relation(IMAGE, "DESCENDANT_OF", SOURCE),
        *(_relation(IMAGE, CONTAINS, package.id) for package in held),
        *(_relation(package.id, BUILD_TOOL_OF, IMAGE) for package in built_with),
        *(_relation(IMAGE, CONTAINS, f"DocumentRef-{name}:{DOCUMENT}") for name in {one.name: 0 for one in others}),
    ]


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relatedSpdxElement": other, "relationshipType": kind}


def _reference(other: OtherDocument) -> dict[str, Any]:
    algorithm = other.algorithm.replace("_", "-").replace("BLAKE2B", "BLAKE2b")
    return {
        "externalDocumentId": f"DocumentRef-{other.name}",
        "spdxDocument": other.uri,
        "checksum": {"algorithm": algorithm, "checksumValue": other.checksum},
    }


def _time(plan: Plan) -> str:
    return f"{datetime.fromtimestamp(int(plan.requested), UTC):%Y-%m-%dT%H:%M:%SZ}"


def _unique(entries: Iterable[T], key: Callable[[T], object]) -> list[T]:
    """Return the first entry of each name."""
    first: dict[object, T] = {}
    for entry in entries:
        first.setdefault(key(entry), entry)
    return list(first.values())


def _digest(build: Build, packages: Iterable[ListedPackage]) -> str:
    """Return 32 hex digits that differ for another list of packages or another image."""
    image = build.image.id if build.image else ""
    lines = [build.id, image, *sorted(package.id for package in packages)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
