"""Bills of materials as others' programs see them: spdx-tools' reader and validator, and CycloneDX's own schema."""

from __future__ import annotations

import json
import warnings
from typing import Any

from cyclonedx.model.bom import Bom
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from shared.sbom.documents import Contents, Documents, documents
from tests.world import values


def checked(contents: Contents, **changes: Any) -> Documents:
    """Documents that both validators accept. `changes` are fields of the build."""
    build = values.build(image=values.image_record(), **changes)
    assert build.plan is not None
    made = documents(build, build.plan, contents)
    valid(made.spdx, made.cyclonedx)
    return made


def valid(spdx: bytes, cyclonedx: bytes) -> None:
    read = JsonLikeDictParser().parse(json.loads(spdx))
    assert validate_full_spdx_document(read) == []
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(cyclonedx.decode()) is None
    as_libraries_write(spdx, cyclonedx)


def as_libraries_write(spdx: bytes, cyclonedx: bytes) -> None:
    """Check that the formats' own libraries read the documents and write the same bytes: order, keys and values."""
    read = JsonLikeDictParser().parse(json.loads(spdx))
    assert json.dumps(DocumentConverter().convert(read), indent=1).encode() + b"\n" == spdx
    bill = Bom.from_json(json.loads(cyclonedx))  # type: ignore[attr-defined]  # its decorator adds it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that an image without packages depends on none
        assert JsonV1Dot6(bill).output_as_string(indent=1).encode() + b"\n" == cyclonedx


def names(spdx: bytes) -> list[tuple[str, str]]:
    """Names and versions of all but the image and its source."""
    return [(one["name"], one.get("versionInfo", "")) for one in json.loads(spdx)["packages"][2:]]


def relations(spdx: bytes, kind: str) -> list[tuple[str, str]]:
    found = json.loads(spdx)["relationships"]
    return [(one["spdxElementId"], one["relatedSpdxElement"]) for one in found if one["relationshipType"] == kind]
