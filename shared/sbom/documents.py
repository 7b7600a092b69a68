"""The bill of materials of an image: SPDX 2.3 and CycloneDX 1.6, both in JSON, of one list of packages.

    the image's package databases ─┐
    the source image's own list   ─┼─► one SPDX document ─► its JSON
    the user's output.sbom.input  ─┘                      └─► CycloneDX JSON

The user's word on a package counts more than the database's, and that more than the source image's list. Equal inputs
give equal bytes: identifiers come from content, and the time is that of the request.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from ..build.build import Build
from ..build.plan import Plan
from ..ports import Package
from .base import Base
from .input import NAMESPACE, Given, OtherDocument
from .packages import extracted_licenses, names_of, spdx_package

IMAGE, SOURCE, DOCUMENT = "SPDXRef-Image", "SPDXRef-Source", "SPDXRef-DOCUMENT"
LIBRARIES = ("spdx_tools.spdx.jsonschema.document_converter", f"{__package__}.cyclonedx")
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


def import_libraries() -> None:
    """Preload the libraries that documents() imports, which takes a sixth of a second; for callers that wait anyway."""
    for name in LIBRARIES:
        import_module(name)


def documents(build: Build, plan: Plan, contents: Contents) -> Documents:
    """Make both documents of the image that a build has made."""
    from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter

    from .cyclonedx import cyclonedx_json

    document = spdx_document(build, plan, contents)
    spdx = DocumentConverter().convert(document)
    digest = document.creation_info.document_namespace.rpartition("-")[2]
    return Documents(json.dumps(spdx, indent=1).encode() + b"\n", cyclonedx_json(document, digest))


def document_name(plan: Plan, given: Given) -> str:
    """Return the name of the SPDX document below `output.sbom.to`, as COS Customizer names it."""
    name = given.name or plan.image.name
    version = f"-{given.version}" if given.name and given.version else ""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name + version)}_sbom.spdx.json"


def spdx_document(build: Build, plan: Plan, contents: Contents) -> Any:
    """Return spdx_tools' Document."""
    from spdx_tools.spdx.model import Actor, ActorType, CreationInfo, Document

    given, base = contents.given, contents.base
    found, of_base = _merged(contents)
    tools = [package for package in found if package.build_time]
    installed = [spdx_package(package) for package in found if not package.build_time]
    held = [*installed, *of_base, *given.packages]
    built_with = [spdx_package(package) for package in tools]
    others = [*([base.document] if base else []), *given.documents]
    image, source = _image(build, plan, contents), _source(plan)
    packages = [image, source, *held, *built_with]
    name = given.name or plan.image.name
    return Document(
        CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id=DOCUMENT,
            name=f"{name}-{given.version}" if given.name and given.version else name,
            document_namespace=f"{NAMESPACE}/{build.id}-{_digest(build, packages)}",
            creators=[Actor(ActorType.TOOL, "goldsmith"), *given.creators],
            created=datetime.fromtimestamp(int(plan.requested), UTC),
            external_document_refs=_unique([_reference(other) for other in others], "document_ref_id"),
        ),
        packages=packages,
        annotations=_annotations(build, plan),
        relationships=_relationships(held, built_with, others),
        extracted_licensing_info=_unique(
            [*given.licenses, *(base.licenses if base else ()), *extracted_licenses(found)], "license_id"
        ),
    )


def _merged(contents: Contents) -> tuple[list[Package], list[Any]]:
    """Return the packages of the database and of the source image, each without those that a better source names."""
    users = {(package.name, package.version or "") for package in contents.given.packages}
    identifiers = {package.spdx_id for package in contents.given.packages}
    found = [package for package in contents.packages or () if not names_of(package) & users]
    known = users.union(*map(names_of, found))
    theirs = contents.base.packages if contents.base else ()
    rest = [one for one in theirs if (one.name, one.version or "") not in known and one.spdx_id not in identifiers]
    return found, _unique(rest, "spdx_id")


def _image(build: Build, plan: Plan, contents: Contents) -> Any:
    from spdx_tools.spdx.model import Checksum, ChecksumAlgorithm, PackagePurpose, SpdxNoAssertion
    from spdx_tools.spdx.model import Package as SpdxPackage

    image, given = build.image, contents.given
    archive = image.archive if image else None
    notes = [UNKNOWN_PACKAGES if contents.packages is None else "", contents.note]
    if contents.base and contents.base.left_out:
        notes.append(f"{contents.base.left_out} entries of the source image's own list cannot be read")
    return SpdxPackage(
        spdx_id=IMAGE,
        name=given.name or plan.image.name,
        version=given.version if given.name and given.version else image.id if image else "0",
        download_location=SpdxNoAssertion(),
        file_name=(plan.image.export_to or "").rpartition("/")[2] or None,
        supplier=given.supplier or SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, archive.sha256)] if archive else [],
        source_info=(
            f"Goldsmith's build {build.id}, content digest {plan.content_digest}, image {image.id if image else 0}"
        ),
        license_concluded=SpdxNoAssertion(),
        license_declared=SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        description=plan.image.description or None,
        comment="; ".join(filter(None, notes)) or None,
        primary_package_purpose=PackagePurpose.OPERATING_SYSTEM,
    )


def _annotations(build: Build, plan: Plan) -> list[Any]:
    """Return one line for each finding of the hygiene check that the spec allows, with its reason."""
    from spdx_tools.spdx.model import Actor, ActorType, Annotation, AnnotationType

    return [
        Annotation(
            IMAGE,
            AnnotationType.OTHER,
            Actor(ActorType.TOOL, "goldsmith"),
            datetime.fromtimestamp(int(plan.requested), UTC),
            f"allowed: {found.path} {found.finding}; {found.why}",
        )
        for found in (build.image.allowed if build.image else ())
    ]


def _source(plan: Plan) -> Any:
    from spdx_tools.spdx.model import Package as SpdxPackage
    from spdx_tools.spdx.model import PackagePurpose, SpdxNoAssertion

    return SpdxPackage(
        spdx_id=SOURCE,
        name=f"{plan.source.project}/{plan.source.name}",
        version=plan.source.id,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        primary_package_purpose=PackagePurpose.OPERATING_SYSTEM,
    )


def _relationships(held: Iterable[Any], built_with: Iterable[Any], others: Iterable[OtherDocument]) -> list[Any]:
    from spdx_tools.spdx.model import Relationship, RelationshipType

    contains = RelationshipType.CONTAINS
    return [
        Relationship(DOCUMENT, RelationshipType.DESCRIBES, IMAGE),
        Relationship(IMAGE, RelationshipType.DESCENDANT_OF, SOURCE),
        *(Relationship(IMAGE, contains, package.spdx_id) for package in held),
        *(Relationship(package.spdx_id, RelationshipType.BUILD_TOOL_OF, IMAGE) for package in built_with),
        *(Relationship(IMAGE, contains, f"DocumentRef-{name}:{DOCUMENT}") for name in {one.name: 0 for one in others}),
    ]


def _reference(other: OtherDocument) -> Any:
    from spdx_tools.spdx.model import Checksum, ChecksumAlgorithm, ExternalDocumentRef

    checksum = Checksum(ChecksumAlgorithm[other.algorithm], other.checksum)
    return ExternalDocumentRef(f"DocumentRef-{other.name}", other.uri, checksum)


def _unique(entries: Iterable[Any], key: str) -> list[Any]:
    """Return the first entry of each name."""
    first: dict[str, Any] = {}
    for entry in entries:
        first.setdefault(getattr(entry, key), entry)
    return list(first.values())


def _digest(build: Build, packages: Iterable[Any]) -> str:
    """Return 32 hex digits that differ for another list of packages or another image."""
    image = build.image.id if build.image else ""
    lines = [build.id, image, *sorted(package.spdx_id for package in packages)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
