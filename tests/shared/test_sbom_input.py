"""`output.sbom.input`, in COS Customizer's format or as an SPDX document: what is taken, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError
from shared.sbom_input import LIMIT, MOST_PACKAGES, Given, OtherDocument, problems, read_input

PACKAGE = {"SPDXID": "SPDXRef-agent", "name": "agent", "versionInfo": "7"}
DOCUMENT = {
    "name": "base",
    "spdxDocument": "https://example.org/base.spdx.json",
    "algorithm": "SHA256",
    "checksumValue": "0" * 64,
}
WHOLE = {
    "outputImageName": "our-image",
    "outputImageVersion": "4.2",
    "creators": ["Person: Ann", "Tool: ours"],
    "supplier": "Organization: Works",
    "SPDXPackages": [
        PACKAGE,
        {
            **PACKAGE,
            "SPDXID": "SPDXRef-other",
            "downloadLocation": "https://example.org/other.tar.gz",
            "filesAnalyzed": False,
            "licenseConcluded": "MIT",
            "licenseDeclared": "LicenseRef-ours",
            "supplier": "Organization: Works",
            "externalRefs": [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": "pkg:generic/o@7"}
            ],
        },
    ],
    "SBOMPackages": [DOCUMENT],
    "hasExtractedLicensingInfos": [{"licenseId": "LicenseRef-ours", "extractedText": "Do as you like."}],
}


def data(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_the_original_s_format() -> None:
    """finish-image-build -sbom-input-path: read as the original reads it."""
    assert problems(data(WHOLE)) == []
    read = read_input(data(WHOLE))
    assert (read.name, read.version) == ("our-image", "4.2")
    assert [str(one) for one in (*read.creators, read.supplier)] == ["Person: Ann", "Tool: ours", "Organization: Works"]
    assert [one.spdx_id for one in read.packages] == ["SPDXRef-agent", "SPDXRef-other"]
    assert read.documents == (OtherDocument("base", DOCUMENT["spdxDocument"], "SHA256", "0" * 64),)
    assert [one.license_id for one in read.licenses] == ["LicenseRef-ours"]


def test_what_a_package_lacks_is_no_assertion() -> None:
    [package] = read_input(
        data({"SPDXPackages": [{**PACKAGE, "downloadLocation": "", "licenseConcluded": ""}]})
    ).packages
    assert str(package.download_location) == str(package.license_concluded) == str(package.supplier) == "NOASSERTION"
    assert package.files_analyzed is False


def test_keys_in_any_case_as_the_original_takes_them() -> None:
    assert read_input(data({"spdxpackages": [PACKAGE], "OUTPUTIMAGENAME": "x"})).name == "x"


def test_a_whole_spdx_document() -> None:
    document = {
        "spdxVersion": "SPDX-2.2",
        "name": "theirs",
        "documentNamespace": "https://example.org/x",
        "packages": [PACKAGE],
        "hasExtractedLicensingInfos": WHOLE["hasExtractedLicensingInfos"],
        "relationships": [],
    }
    read = read_input(data(document))
    assert (read.name, [one.name for one in read.packages], len(read.licenses)) == ("", ["agent"], 1)


def test_an_empty_object_says_nothing() -> None:
    assert read_input(b"{}") == Given()


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "it holds no JSON object; write one with the keys outputImageName, "),
        ({"packages": []}, "packages: there is no such key; the keys are outputImageName, "),
        ({"outputImageName": 7}, "outputImageName: is no text"),
        ({"SPDXPackages": {"a": 1}}, "SPDXPackages: is no list"),
        ({"SPDXPackages": [7]}, "SPDXPackages[0]: "),
        ({"SPDXPackages": [{}]}, "SPDXPackages[0]: "),
        ({"SPDXPackages": [{"name": "x"}]}, "SPDXPackages[0]: "),
        ({"SPDXPackages": [{**PACKAGE, "SPDXID": "agent"}]}, "SPDXPackages[0]: SPDXID 'agent' is not"),
        ({"SPDXPackages": [{**PACKAGE, "versionInfo": 7}]}, "SPDXPackages[0]: "),
        ({"SPDXPackages": [{**PACKAGE, "checksums": [7]}]}, "SPDXPackages[0]: "),
        ({"SPDXPackages": [{**PACKAGE, "licenseDeclared": "(MIT"}]}, "SPDXPackages[0]: "),
        (
            {"SPDXPackages": [{**PACKAGE, "downloadLocation": "nowhere"}]},
            "SPDXRef-agent: package download_location must",
        ),
        ({"SPDXPackages": [{**PACKAGE, "licenseDeclared": "LicenseRef-x"}]}, "SPDXRef-agent: Unrecognized"),
        ({"SPDXPackages": [{**PACKAGE, "licenseDeclared": "Ours"}]}, "SPDXRef-agent: Unrecognized"),
        ({"SPDXPackages": [PACKAGE, PACKAGE]}, "SPDXPackages: several have the SPDXID SPDXRef-agent"),
        ({"creators": ["Ann"]}, "creators[0]: Actor Ann doesn't match"),
        ({"creators": [7]}, "creators[0]: "),
        ({"supplier": "Works"}, "supplier[0]: Actor Works doesn't match"),
        ({"SBOMPackages": [{}]}, "SBOMPackages[0]: needs exactly name, spdxDocument, algorithm, checksumValue"),
        ({"SBOMPackages": [{**DOCUMENT, "name": "a b"}]}, "SBOMPackages[0]: name 'a b': only letters"),
        ({"SBOMPackages": [{**DOCUMENT, "algorithm": "SHA7"}]}, "SBOMPackages[0]: algorithm 'SHA7' is none"),
        ({"hasExtractedLicensingInfos": [{}]}, "hasExtractedLicensingInfos[0]: "),
    ],
)
def test_what_is_wrong_is_said(document: Any, problem: str) -> None:
    [found] = problems(data(document))
    assert found.startswith(problem)
    with pytest.raises(InputError, match=r"output\.sbom\.input: "):
        read_input(data(document))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 99999])
def test_what_is_no_json(text: bytes) -> None:
    assert problems(text)[0].startswith("it is not JSON")


def test_a_file_that_is_too_large() -> None:
    many = [{**PACKAGE, "SPDXID": f"SPDXRef-{number}"} for number in range(MOST_PACKAGES + 1)]
    assert problems(data({"SPDXPackages": many})) == ["SPDXPackages: has 2001 packages; 2000 are the most"]
    assert problems(b" " * (LIMIT + 1)) == [f"it has {LIMIT + 1} bytes; 16 MiB is the most"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*PACKAGE, *DOCUMENT, "checksums", "licenseDeclared", "externalRefs"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*WHOLE, "spdxVersion", "packages"]), JSON))
def test_anything_else_is_a_problem_and_no_crash(document: dict[str, Any]) -> None:
    if not problems(data(document)):
        read_input(data(document))
