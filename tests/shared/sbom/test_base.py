"""The source image's own bill of materials: where Google publishes it, and what is taken of it."""

from __future__ import annotations

import hashlib
import json

import pytest

from shared.build.plan import SourceImage
from shared.sbom.base import path_of, read_base

SOURCE = SourceImage("cos-cloud", "cos-stable-117-18613-75-37", "1")
PATH = "18613.75.37/lakitu/sbom.spdx.json"


@pytest.mark.parametrize(
    ("project", "name", "architecture", "path"),
    [
        ("cos-cloud", "cos-stable-117-18613-75-37", "x86_64", PATH),
        ("cos-cloud", "cos-arm64-stable-117-18613-75-37", "arm64", "18613.75.37/lakitu-arm64/sbom.spdx.json"),
        ("cos-cloud", "cos-arm64-dev-117-18613-0-0", "x86_64", "18613.0.0/lakitu-arm64/sbom.spdx.json"),
        ("cos-cloud", "cos-stable", "x86_64", None),
        ("my-project", "cos-stable-117-18613-75-37", "x86_64", None),
        ("debian-cloud", "debian-12-bookworm-v20261101", "x86_64", None),
    ],
)
def test_where_it_is(project: str, name: str, architecture: str, path: str | None) -> None:
    assert path_of(SourceImage(project, name, "1", architecture=architecture)) == path


def test_its_packages_and_licences_are_taken() -> None:
    text = json.dumps(
        {
            "spdxVersion": "SPDX-2.2",
            "documentNamespace": "https://example.org/cos",
            "packages": [
                {"SPDXID": "SPDXRef-a", "name": "a", "versionInfo": "1", "licenseDeclared": "LicenseRef-x"},
                {"name": "without an identifier"},
                7,
            ],
            "hasExtractedLicensingInfos": [{"licenseId": "LicenseRef-x", "extractedText": "text"}],
        }
    ).encode()
    base = read_base(SOURCE, PATH, text)
    assert [one.name for one in base.packages] == ["a"]
    assert [one.license_id for one in base.licenses] == ["LicenseRef-x"]
    assert (base.document.uri, base.document.checksum) == ("https://example.org/cos", hashlib.sha256(text).hexdigest())
    assert (base.document.name, base.left_out) == (SOURCE.name, 2)


TOO_LARGE = b'{"documentNamespace":"https://x","packages":[' + b"{}," * 5_000_000 + b"{}]}"


@pytest.mark.parametrize("text", [b"", b"[]", b'{"packages": 7}', b'{"documentNamespace": 7}', b"\xff\xfe", TOO_LARGE])
def test_one_that_cannot_be_read_is_named_all_the_same(text: bytes) -> None:
    base = read_base(SOURCE, PATH, text)
    assert base.document.uri == f"https://storage.googleapis.com/cos-tools/{PATH}"
    assert (base.packages, base.licenses) == ((), ())
