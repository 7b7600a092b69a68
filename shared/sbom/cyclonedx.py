"""The SPDX document once more, as CycloneDX 1.6: one list of packages, so that the two never disagree.

Entries and keys are in the order in which CycloneDX's own library writes them; tests compare every byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .packages import BUILD_TOOL_OF, CONTAINS, NOASSERTION, OPERATING_SYSTEM, BillActor, ListedPackage, written

SCHEMA = {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6"}
_HASHES = {"SHA1": "SHA-1", "SHA256": "SHA-256", "SHA384": "SHA-384", "SHA512": "SHA-512", "MD5": "MD5"}
_ADDRESS = re.compile(r"[^\s@]+@[^\s@]+")  # all that the schema asks of one
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_IN_URIS = str.maketrans({letter: f"%{ord(letter):02X}" for letter in " \"'[]<>{}"})


def cyclonedx_json(
    document: Mapping[str, Any], packages: Sequence[ListedPackage], authors: Iterable[BillActor], digest: str
) -> bytes:
    """Return the JSON of the SPDX document and its packages. `digest` is 32 hex digits of its content."""
    relations = document["relationships"]
    texts = {one["licenseId"]: one.get("extractedText", "") for one in document.get("hasExtractedLicensingInfos", ())}
    tools = {one["spdxElementId"] for one in relations if one["relationshipType"] == BUILD_TOOL_OF}
    image, source, *rest = packages
    components = [_component(one, texts, "excluded" if one.id in tools else "required") for one in rest]
    contained = {
        one["relatedSpdxElement"]
        for one in relations
        if one["relationshipType"] == CONTAINS and ":" not in one["relatedSpdxElement"]
    }
    depends: dict[str, dict[str, Any]] = {one.id: {"ref": one.id} for one in rest}
    depends[image.id] = written({"dependsOn": sorted(contained), "ref": image.id})
    metadata = {
        "authors": _in_order((_contact(one) for one in authors), "name", "email"),
        "component": _root(document, image, _component(source, texts), texts),
        "supplier": _organization(image.supplier),
        "timestamp": document["creationInfo"]["created"].replace("Z", "+00:00"),
        "tools": {"components": [{"name": "goldsmith", "type": "application"}]},
    }
    bill = {
        "components": _in_order(components, "type", "name", "version", "bom-ref"),
        "dependencies": [depends[identifier] for identifier in sorted(depends)],
        "metadata": written(metadata),
        "serialNumber": "urn:uuid:" + "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:])),
        "version": 1,
        **SCHEMA,
    }
    return json.dumps(written(bill), indent=1).encode() + b"\n"


def _root(
    document: Mapping[str, Any], image: ListedPackage, source: dict[str, Any], texts: Mapping[str, str]
) -> dict[str, Any]:
    """Return the image's component, with what it was made of."""
    allowed = [{"name": "goldsmith:allowed", "value": one["comment"]} for one in image.fields.get("annotations", ())]
    told = {"name": "goldsmith:source", "value": image.fields["sourceInfo"]}
    references = [_reference(other) for other in document.get("externalDocumentRefs", ())]
    more = {
        "externalReferences": _in_order(references, "type", "url", "hashes"),
        "pedigree": {"ancestors": [source]},
        "properties": _in_order([told, *allowed], "name", "value"),
    }
    component = {**_component(image, texts), **written(more)}
    return {key: component[key] for key in sorted(component)}


def _component(package: ListedPackage, texts: Mapping[str, str], scope: str | None = None) -> dict[str, Any]:
    fields = package.fields
    hashes = [
        {"alg": _HASHES[one["algorithm"]], "content": one["checksumValue"]}
        for one in fields.get("checksums", ())
        if one["algorithm"] in _HASHES
    ]
    system = fields.get("primaryPackagePurpose") == OPERATING_SYSTEM
    return written(
        {
            "bom-ref": package.id,
            "description": fields.get("description") or fields.get("comment"),
            "hashes": _in_order(hashes, "alg", "content"),
            "licenses": _licenses(fields.get("licenseDeclared", NOASSERTION), texts),
            "name": fields["name"],
            "purl": package.purl or _purl(fields),
            "scope": scope,
            "supplier": _organization(package.supplier),
            "type": "operating-system" if system else "library",
            "version": fields.get("versionInfo"),
        }
    )


def _purl(fields: Mapping[str, Any]) -> str | None:
    from packageurl import PackageURL

    for reference in fields.get("externalRefs", ()):
        if reference["referenceType"] == "purl":
            try:
                return str(PackageURL.from_string(reference["referenceLocator"]))
            except ValueError:  # the user's, or of the source image's list
                return None
    return None


def _organization(maker: BillActor | None) -> dict[str, Any] | None:
    if maker is None:
        return None
    return written({"contact": [_contact(maker)] if maker.email else [], "name": maker.name})


def _contact(maker: BillActor) -> dict[str, Any]:
    address = maker.email if _ADDRESS.fullmatch(maker.email or "") else None
    return written({"email": address, "name": maker.name})


def _licenses(declared: str, texts: Mapping[str, str]) -> list[dict[str, Any]]:
    if declared in (NOASSERTION, "NONE"):
        return []
    if declared in texts or declared.startswith("LicenseRef-"):
        return [{"license": {"name": texts.get(declared) or declared}}]
    return [{"expression": declared}]


def _reference(other: Mapping[str, Any]) -> dict[str, Any]:
    """Return another document's URI as one that every reader takes, and its digest."""
    algorithm = _HASHES.get(other["checksum"]["algorithm"])
    hashes = [{"alg": algorithm, "content": other["checksum"]["checksumValue"]}] if algorithm else []
    uri = _STRAY_PERCENT.sub("%25", other["spdxDocument"]).translate(_NOT_IN_URIS)
    return written({"hashes": hashes, "type": "bom", "url": uri})


def _in_order(entries: Iterable[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Return entries sorted by the values of keys, those without a value last, and equal ones once."""

    def rank(entry: Mapping[str, Any]) -> tuple[tuple[bool, str], ...]:
        return tuple((key not in entry, str(entry.get(key, ""))) for key in keys)

    return [*{rank(entry): entry for entry in sorted(entries, key=rank)}.values()]
