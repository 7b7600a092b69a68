"""The SPDX document once more, as CycloneDX 1.6: one list of packages, so that the two never disagree.

spdx-tools makes its classes by a decorator that no type checker sees through: its values are Any here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component, ComponentScope, ComponentType, Pedigree
from cyclonedx.model.contact import OrganizationalContact, OrganizationalEntity
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.serialization import UrnUuidHelper
from packageurl import PackageURL
from spdx_tools.spdx.model import Actor, PackagePurpose, RelationshipType, SpdxNoAssertion, SpdxNone

_HASHES = {"SHA1": "SHA-1", "SHA256": "SHA-256", "SHA384": "SHA-384", "SHA512": "SHA-512", "MD5": "MD5"}
_ADDRESS = re.compile(r"[^\s@]+@[^\s@]+")  # all that the schema asks of one


def cyclonedx_json(document: Any, digest: str) -> bytes:
    """Return the JSON. `document` is spdx_tools' Document of documents.py; `digest` is 32 hex digits of its content."""
    info = document.creation_info
    texts = {one.license_id: one.extracted_text or one.license_id for one in document.extracted_licensing_info}
    image, source, *rest = document.packages
    tools = {one.spdx_element_id for one in document.relationships if one.relationship_type.name == "BUILD_TOOL_OF"}
    root = _component(image, texts)
    root.pedigree = Pedigree(ancestors=[_component(source, texts)])
    root.properties = [
        Property(name="goldsmith:source", value=image.source_info),
        *(Property(name="goldsmith:allowed", value=one.annotation_comment) for one in document.annotations),
    ]
    root.external_references = [_reference(other) for other in info.external_document_refs]
    components = [
        _component(one, texts, ComponentScope.EXCLUDED if one.spdx_id in tools else ComponentScope.REQUIRED)
        for one in rest
    ]
    contained = [
        one.related_spdx_element_id
        for one in document.relationships
        if one.relationship_type is RelationshipType.CONTAINS and ":" not in one.related_spdx_element_id
    ]
    bom = Bom(
        serial_number=UrnUuidHelper.deserialize(digest),
        components=components,
        metadata=BomMetaData(
            timestamp=info.created,
            component=root,
            supplier=_maker(image.supplier),
            tools=ToolRepository(components=[Component(name="goldsmith", type=ComponentType.APPLICATION)]),
            authors=[_contact(actor) for actor in info.creators[1:]],
        ),
        dependencies=[
            Dependency(BomRef(image.spdx_id), [Dependency(BomRef(identifier)) for identifier in contained]),
            *(Dependency(BomRef(one.spdx_id)) for one in rest),
        ],
    )
    text: str = JsonV1Dot6(bom).output_as_string(indent=1)
    return text.encode() + b"\n"


def _component(package: Any, texts: Mapping[str, str], scope: ComponentScope | None = None) -> Component:
    system = package.primary_package_purpose is PackagePurpose.OPERATING_SYSTEM
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.OPERATING_SYSTEM if system else ComponentType.LIBRARY,
        bom_ref=package.spdx_id,
        scope=scope,
        supplier=_maker(package.supplier),
        description=package.description or package.comment,
        hashes=[
            HashType(alg=HashAlgorithm(_HASHES[one.algorithm.name]), content=one.value)
            for one in package.checksums
            if one.algorithm.name in _HASHES
        ],
        licenses=_licenses(package.license_declared, texts),
        purl=_purl(package),
    )


def _purl(package: Any) -> PackageURL | None:
    for reference in package.external_references:
        if reference.reference_type == "purl":
            try:
                return PackageURL.from_string(reference.locator)
            except ValueError:  # the user's, or of the source image's list
                return None
    return None


def _maker(actor: Any) -> OrganizationalEntity | None:
    if not isinstance(actor, Actor):
        return None
    return OrganizationalEntity(name=actor.name, contacts=[_contact(actor)] if actor.email else None)


def _contact(actor: Any) -> OrganizationalContact:
    address = actor.email if _ADDRESS.fullmatch(actor.email or "") else None
    return OrganizationalContact(name=actor.name, email=address)


def _licenses(declared: Any, texts: Mapping[str, str]) -> list[DisjunctiveLicense | LicenseExpression]:
    if declared is None or isinstance(declared, SpdxNoAssertion | SpdxNone):
        return []
    text = str(declared)
    if text in texts:
        return [DisjunctiveLicense(name=texts[text])]
    if text.startswith("LicenseRef-"):
        return [DisjunctiveLicense(name=text)]
    return [LicenseExpression(text)]


def _reference(other: Any) -> ExternalReference:
    algorithm = _HASHES.get(other.checksum.algorithm.name)
    hashes = [HashType(alg=HashAlgorithm(algorithm), content=other.checksum.value)] if algorithm else []
    return ExternalReference(type=ExternalReferenceType.BOM, url=XsUri(other.document_uri), hashes=hashes)
