"""`output.sbom.input`, in COS Customizer's format or as an SPDX document: what is taken, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError
from shared.sbom.documents import Contents
from shared.sbom.input import LIST_LIMIT, MOST_PACKAGES, Given, OtherDocument, problems, read_input
from tests.shared.sbom.checks import checked, names

DEEP = "(MIT AND " * 51 + "MIT" + ")" * 51
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


# As the original's documentation has it, with what it says of each key (<Optional>, <Required>) left out.
SAMPLE = """{
  "outputImageName": "customized-image", "outputImageVersion": "1.2.3",
  "creators": ["Organization: Google LLC"], "supplier": "Organization: Google LLC",
  "SPDXPackages": [{
    "name": "package-A", "SPDXID": "SPDXRef-package-A", "versionInfo": "1.2.3",
    "supplier": "Organization: Google LLC", "filesAnalyzed": false,
    "licenseDeclared": "BSD-3-Clause AND Apache-2.0 AND LicenseRef-A",
    "licenseConcluded": "BSD-3-Clause AND Apache-2.0 AND LicenseRef-A",
    "downloadLocation": "https://package/download/url",
    "externalRefs": [{"referenceCategory": "SECURITY", "referenceLocator": "cpe:/a:vendor:package-A:1.2.3",
                      "referenceType": "cpe23Type"}],
    "checksums": [{"algorithm": "SHA1", "checksumValue": "11d7774ac38f40e009dcee453a760750aea75bbd"}]}],
  "SBOMPackages": [{"name": "package-B", "spdxDocument": "URL to package-B SBOM", "algorithm": "SHA1",
                    "checksumValue": "11d7774ac38f40e009dcee453a760750aea75bbd"}],
  "hasExtractedLicensingInfos": [{"licenseId": "LicenseRef-A", "extractedText": "extracted-license-text",
                                  "crossRefs": ["https://package/download/url/LICENSE.txt"]}]
}"""


def test_the_sample_of_the_original_s_documentation() -> None:
    """finish-image-build -sbom-input-path: the documented sample is taken as it is, and makes valid documents."""
    assert problems(SAMPLE.encode()) == []
    read = read_input(SAMPLE.encode())
    [package], [other], [license_] = read.packages, read.documents, read.licenses
    assert package.comment == "downloaded from https://package/download/url"
    assert [one.reference_type for one in package.external_references] == ["cpe22Type"]
    assert other.uri == "https://spdx.org/spdxdocs/URL%20to%20package-B%20SBOM"
    assert license_.comment == "see https://package/download/url/LICENSE.txt"
    made = checked(Contents((), given=read))
    assert names(made.spdx) == [("package-A", "1.2.3")]


def test_what_spdx_takes_stays_as_it_is() -> None:
    """A known host, a CPE of 2.3's form, a licence's URL."""
    cpe = {"referenceCategory": "SECURITY", "referenceLocator": "cpe:2.3:a:v:p:1:*:*:*:*:*:*:*"}
    entry = {
        **PACKAGE,
        "downloadLocation": "https://example.org/x",
        "externalRefs": [cpe | {"referenceType": "cpe23Type"}],
    }
    licence = {"licenseId": "LicenseRef-x", "extractedText": "x", "crossRefs": ["https://example.org/x"]}
    read = read_input(data({"SPDXPackages": [entry], "hasExtractedLicensingInfos": [licence]}))
    [package], [license_] = read.packages, read.licenses
    assert (package.download_location, package.comment) == ("https://example.org/x", None)
    assert [one.reference_type for one in package.external_references] == ["cpe23Type"]
    assert (license_.cross_references, license_.comment) == (["https://example.org/x"], None)


def test_what_a_package_lacks_is_no_assertion() -> None:
    [package] = read_input(
        data({"SPDXPackages": [{**PACKAGE, "downloadLocation": "", "licenseConcluded": ""}]})
    ).packages
    assert str(package.download_location) == str(package.license_concluded) == str(package.supplier) == "NOASSERTION"
    assert package.files_analyzed is False


def test_a_licence_of_many_brackets() -> None:
    """As that of Fedora's kernel: many, and few in one another."""
    text = " AND ".join(["(MIT OR (ISC AND Zlib))"] * 60)
    made = checked(Contents((), given=read_input(data({"SPDXPackages": [{**PACKAGE, "licenseDeclared": text}]}))))
    assert json.loads(made.spdx)["packages"][2]["licenseDeclared"] == text


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


def test_a_whole_document_may_name_packages_as_ours_names_the_image() -> None:
    named = ["SPDXRef-Image", "SPDXRef-Image-1", "SPDXRef-Source"]
    document = {"spdxVersion": "SPDX-2.3", "packages": [{**PACKAGE, "SPDXID": name} for name in named]}
    read = read_input(data(document)).packages
    assert [one.spdx_id for one in read] == ["SPDXRef-Image-2", "SPDXRef-Image-1", "SPDXRef-Source-1"]
    others: list[Any] = ["Tool: goldsmith", None, [], [{}]]
    for creators in others:
        assert len(read_input(data({**document, "creationInfo": {"creators": creators}})).packages) == 3
    ours = {**document, "creationInfo": {"creators": ["Tool: goldsmith"]}}
    assert [one.spdx_id for one in read_input(data(ours)).packages] == ["SPDXRef-Image-1"]


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
        *(
            ({"SPDXPackages": [{**PACKAGE, "licenseDeclared": text}]}, "SPDXPackages[0]: ")
            for text in ("(MIT", "()", "(OR MIT", DEEP, f"MIT AND {DEEP}")
        ),
        (
            {"SPDXPackages": [{**PACKAGE, "downloadLocation": "nowhere"}]},
            "SPDXRef-agent: package download_location must",
        ),
        ({"SPDXPackages": [{**PACKAGE, "licenseDeclared": "LicenseRef-x"}]}, "SPDXRef-agent: Unrecognized"),
        ({"SPDXPackages": [{**PACKAGE, "licenseDeclared": "Ours"}]}, "SPDXRef-agent: Unrecognized"),
        ({"SPDXPackages": [PACKAGE, PACKAGE]}, "SPDXPackages: several have the SPDXID SPDXRef-agent"),
        *(
            ({"SPDXPackages": [{**PACKAGE, "SPDXID": name}]}, f"SPDXPackages: {name} is an SPDXID of the bill")
            for name in ("SPDXRef-Image", "SPDXRef-Source", "SPDXRef-DOCUMENT")
        ),
        (
            {"spdxVersion": "SPDX-2.3", "packages": [{**PACKAGE, "SPDXID": "SPDXRef-DOCUMENT"}]},
            "SPDXPackages: SPDXRef-DOCUMENT is an SPDXID of the bill",
        ),
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
    assert problems(b" " * (LIST_LIMIT + 1)) == [f"it has {LIST_LIMIT + 1} bytes; 16 MiB is the most"]


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"7,", b'"":[],', b'{"":{}},'])
def test_what_would_take_too_much_memory_is_not_parsed(piece: bytes) -> None:
    many = piece * (LIST_LIMIT // len(piece) - 10)
    text = b"{" + many + b'"":0}' if piece[:1] == b'"' else b'{"creators":[' + many + b"0]}"
    [problem] = problems(text)
    assert "reading it takes more than" in problem
    assert "leave out what is not needed" in problem


def test_entries_of_all_kinds_are_counted() -> None:
    for key in ("creators", "SBOMPackages", "hasExtractedLicensingInfos"):
        [problem] = problems(data({key: [0] * 20_001}))
        assert "reading it takes more than 20000 entries" in problem


def test_no_more_problems_are_told_than_a_person_reads() -> None:
    told = problems(data({"creators": ["x" * 10_000] * 1000}))
    assert len(told) == 51
    assert told[-1] == "and 950 more"
    assert max(map(len, told)) == 500


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
