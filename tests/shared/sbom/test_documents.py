"""The two documents: valid for others' programs, equal for equal images, merged in the right order."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from shared.build.build import AllowedFinding, ArchiveRecord
from shared.ports import Package
from shared.sbom.base import Base
from shared.sbom.documents import UNKNOWN_PACKAGES, Contents, document_name, documents
from shared.sbom.input import Given, OtherDocument, read_input
from shared.sbom.packages import listed
from tests.project.source_tree import ROOT
from tests.shared.sbom.checks import as_libraries_write, checked, names, relations
from tests.shared.sbom.test_input import SAMPLE
from tests.world import values
from tests.world.given_orders import whole_plan

ZLIB = Package("zlib1g", "1:1.2.13", "amd64", "dpkg", "zlib@1.2.13", "Mark <m@debian.org>", "", "debian-12")
BASH = Package("bash", "5.1-2", "x86_64", "rpm", "bash-5.1-2.src.rpm", "Rocky (R) Foundation", "GPLv3+", "rocky-9.3")
COS = Package("zlib", "1.2.11", "", "cos", "sys-libs/zlib@1.2.11-r4", distribution="cos-117")
TOOL = Package("pkgconfig", "2", "", "cos", "virtual/pkgconfig@2", distribution="cos-117", build_time=True)
ALL = (ZLIB, BASH, COS, TOOL)


def given(**keys: object) -> Given:
    return read_input(json.dumps(keys).encode())


def spdx(name: str, version: str, identifier: str = "own") -> dict[str, str]:
    return {"SPDXID": f"SPDXRef-{identifier}", "name": name, "versionInfo": version}


def test_both_documents_are_valid_and_list_all_packages() -> None:
    made = checked(Contents(ALL))
    assert names(made.spdx) == [(one.name, one.version) for one in ALL]
    document = json.loads(made.cyclonedx)
    assert {one["name"] for one in document["components"]} == {one.name for one in ALL}
    purls = {one["purl"] for one in document["components"]}
    references = [one["externalRefs"][0]["referenceLocator"] for one in json.loads(made.spdx)["packages"][2:]]
    assert purls == set(references)
    assert "pkg:deb/debian/zlib1g@1:1.2.13?arch=amd64&distro=debian-12&upstream=zlib%401.2.13" in purls


def test_the_image_is_what_is_described() -> None:
    made = checked(Contents(ALL))
    assert relations(made.spdx, "DESCRIBES") == [("SPDXRef-DOCUMENT", "SPDXRef-Image")]
    assert relations(made.spdx, "DESCENDANT_OF") == [("SPDXRef-Image", "SPDXRef-Source")]
    image, source = json.loads(made.spdx)["packages"][:2]
    assert (image["name"], source["name"]) == ("hello-20261120", "local/debian-12-20261101")
    assert image["versionInfo"] == values.image_record().id
    root = json.loads(made.cyclonedx)["metadata"]["component"]
    assert (root["type"], root["name"]) == ("operating-system", "hello-20261120")
    assert root["pedigree"]["ancestors"][0]["name"] == "local/debian-12-20261101"


def test_findings_that_the_spec_allows_are_told() -> None:
    """hygiene.allow: the path, what it holds and why, in both documents."""
    allowed = AllowedFinding("/opt/app/demo.key", "holds a private key", "of the demo, which is public")
    build = values.build(image=values.image_record(allowed=(allowed,)))
    made = documents(build, whole_plan(), Contents(ALL))
    said = "allowed: /opt/app/demo.key holds a private key; of the demo, which is public"
    [annotation] = json.loads(made.spdx)["packages"][0]["annotations"]
    assert (annotation["annotator"], annotation["comment"]) == ("Tool: goldsmith", said)
    root = json.loads(made.cyclonedx)["metadata"]["component"]
    told, source = root["properties"]
    assert source["value"].endswith(f", image {values.image_record().id}")
    assert told == {"name": "goldsmith:allowed", "value": said}


def test_what_only_helped_to_make_the_image_is_not_in_it() -> None:
    made = checked(Contents(ALL))
    [(tool, image)] = relations(made.spdx, "BUILD_TOOL_OF")
    assert ("pkgconfig" in tool, image) == (True, "SPDXRef-Image")
    held = [one for _image, one in relations(made.spdx, "CONTAINS")]
    assert len(held) == 3
    assert tool not in held
    document = json.loads(made.cyclonedx)
    scopes = {one["name"]: one["scope"] for one in document["components"]}
    assert scopes == {"zlib1g": "required", "bash": "required", "zlib": "required", "pkgconfig": "excluded"}
    assert [entry.get("dependsOn") for entry in document["dependencies"] if entry["ref"] == "SPDXRef-Image"] == [
        sorted(held)
    ]


def test_equal_images_have_equal_bytes_and_others_another_namespace() -> None:
    first, again = checked(Contents(ALL)), checked(Contents(list(ALL)))
    assert first == again
    other = checked(Contents(ALL[1:]))
    namespaces = {json.loads(made.spdx)["documentNamespace"] for made in (first, again, other)}
    serials = {json.loads(made.cyclonedx)["serialNumber"] for made in (first, again, other)}
    assert (len(namespaces), len(serials)) == (2, 2)
    assert json.loads(first.spdx)["creationInfo"] == {
        "created": "2026-11-20T12:00:00Z",
        "creators": ["Tool: goldsmith"],
    }


def test_the_archive_s_digest_is_the_image_s() -> None:
    plan = whole_plan()
    archive = ArchiveRecord(9, "a" * 64, "b" * 64, "0" * 8, 10, 9)
    made = checked(Contents(ALL), plan=plan)
    assert "checksums" not in json.loads(made.spdx)["packages"][0]
    build = values.build(plan=plan, image=replace(values.image_record(), archive=archive))
    image = json.loads(documents(build, plan, Contents(ALL)).spdx)["packages"][0]
    assert image["checksums"] == [{"algorithm": "SHA256", "checksumValue": archive.sha256}]
    assert image["packageFileName"] == "hello.tar.gz"


@pytest.mark.parametrize(
    ("contents", "comment"),
    [
        (Contents(None), UNKNOWN_PACKAGES),
        (Contents(ALL, "17 packages did not fit"), "17 packages did not fit"),
        (
            Contents((), base=Base(OtherDocument("b", "https://example.org/b", "SHA256", "0" * 64), left_out=2)),
            "2 entries",
        ),
    ],
)
def test_what_is_missing_is_said(contents: Contents, comment: str) -> None:
    assert comment in json.loads(checked(contents).spdx)["packages"][0]["comment"]


def test_licences_are_spdx_s_or_the_database_s_words() -> None:
    listed = replace(BASH, name="a", license="GPL-3.0-or-later AND MIT")
    simple = replace(BASH, name="b", license="MIT")
    made = checked(Contents((listed, simple, BASH, replace(BASH, name="same"))))
    document = json.loads(made.spdx)
    declared = [one["licenseDeclared"] for one in document["packages"][2:]]
    [words] = document["hasExtractedLicensingInfos"]
    assert declared == ["GPL-3.0-or-later AND MIT", "MIT", words["licenseId"], words["licenseId"]]
    assert words["extractedText"] == "GPLv3+"
    licenses = {one["name"]: one["licenses"] for one in json.loads(made.cyclonedx)["components"]}
    assert licenses["a"] == [{"expression": "GPL-3.0-or-later AND MIT"}]
    assert licenses["bash"] == [{"license": {"name": "GPLv3+"}}]


def test_the_user_s_word_counts_more_than_the_database_s_and_that_more_than_the_source_image_s() -> None:
    """finish-image-build -sbom-input-path, -sbom-output-path: merged with the base image's public SBOM."""
    users = given(SPDXPackages=[spdx("zlib1g", "1:1.2.13"), spdx("agent", "7", "agent")])
    theirs = given(
        SPDXPackages=[
            spdx("agent", "7", "base-agent"),  # the user's
            spdx("bash", "5.1-2", "base-bash"),  # the database's
            spdx("sys-libs/zlib", "1.2.11-r4", "base-zlib"),  # the database's, by its ebuild
            spdx("firmware", "3", "firmware"),
            spdx("other", "1", "own"),  # an identifier that the user has, too
        ]
    )
    base = Base(OtherDocument("cos-117", "https://example.org/cos", "SHA256", "0" * 64), theirs.packages)
    made = checked(Contents(ALL, given=users, base=base))
    assert names(made.spdx) == [
        ("bash", "5.1-2"),
        ("zlib", "1.2.11"),
        ("firmware", "3"),
        ("zlib1g", "1:1.2.13"),
        ("agent", "7"),
        ("pkgconfig", "2"),
    ]
    identifiers = [one["SPDXID"] for one in json.loads(made.spdx)["packages"]]
    assert "SPDXRef-own" in identifiers
    assert "SPDXRef-base-agent" not in identifiers


def test_a_document_of_ours_as_the_user_s_list() -> None:
    """Mended: its image and its source were listed as packages, by the identifiers of this image and its source."""
    before = (replace(ZLIB, version="1:1.2.11"), BASH, COS, replace(COS, name="agent", source=""))
    users = read_input(checked(Contents(before)).spdx)
    made = checked(Contents((ZLIB, BASH, COS), given=users))
    identifiers = [one["SPDXID"] for one in json.loads(made.spdx)["packages"]]
    assert len(identifiers) == len(set(identifiers))
    assert sorted(names(made.spdx)) == sorted((one.name, one.version) for one in (ZLIB, *before))


def test_of_packages_of_one_identifier_the_better_source_s_is_listed() -> None:
    """By other names: a list that was made of a document of ours, and changed."""
    mine = listed(ZLIB).id.removeprefix("SPDXRef-")
    theirs = given(SPDXPackages=[spdx("firmware", "3", listed(BASH).id.removeprefix("SPDXRef-"))]).packages
    base = [replace(theirs[0], spdx_id=one) for one in ("SPDXRef-Image", "SPDXRef-Source", "SPDXRef-DOCUMENT")]
    other = OtherDocument("cos-117", "https://example.org/cos", "SHA256", "0" * 64)
    users = given(SPDXPackages=[spdx("zlib", "ours", mine)])
    made = checked(Contents((ZLIB, BASH), given=users, base=Base(other, (*theirs, *base))))
    assert names(made.spdx) == [(BASH.name, BASH.version), ("zlib", "ours")]


def test_other_documents_are_named_with_their_digests() -> None:
    users = given(
        SBOMPackages=[
            {"name": "agent", "spdxDocument": "https://example.org/a", "algorithm": "SHA1", "checksumValue": "0" * 40},
            {
                "name": "cos-117",
                "spdxDocument": "https://example.org/b",
                "algorithm": "SHA1",
                "checksumValue": "1" * 40,
            },
        ]
    )
    base = Base(OtherDocument("cos-117", "https://example.org/cos", "SHA256", "0" * 64))
    made = checked(Contents(ALL, given=users, base=base))
    document = json.loads(made.spdx)
    assert [one["externalDocumentId"] for one in document["externalDocumentRefs"]] == [
        "DocumentRef-cos-117",
        "DocumentRef-agent",
    ]
    assert ("SPDXRef-Image", "DocumentRef-cos-117:SPDXRef-DOCUMENT") in relations(made.spdx, "CONTAINS")
    references = json.loads(made.cyclonedx)["metadata"]["component"]["externalReferences"]
    assert {(one["type"], one["url"]) for one in references} == {
        ("bom", "https://example.org/cos"),
        ("bom", "https://example.org/a"),
    }


def test_the_user_s_names_and_creators() -> None:
    users = given(
        outputImageName="our-image",
        outputImageVersion="4.2",
        creators=["Person: Ann (ann@example.org)", "Organization: Works (no address)"],
        supplier="Organization: Works",
    )
    made = checked(Contents(ALL, given=users))
    document = json.loads(made.spdx)
    image = document["packages"][0]
    assert (document["name"], image["name"], image["versionInfo"]) == ("our-image-4.2", "our-image", "4.2")
    assert image["supplier"] == "Organization: Works"
    assert document["creationInfo"]["creators"] == [
        "Tool: goldsmith",
        "Person: Ann (ann@example.org)",
        "Organization: Works (no address)",
    ]


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({}, "hello-20261120_sbom.spdx.json"),
        ({"outputImageVersion": "4"}, "hello-20261120_sbom.spdx.json"),
        ({"outputImageName": "ours"}, "ours_sbom.spdx.json"),
        ({"outputImageName": "our/s", "outputImageVersion": "4.2 b"}, "our-s-4.2-b_sbom.spdx.json"),
    ],
)
def test_the_document_is_named_as_cos_customizer_names_it(keys: dict[str, str], name: str) -> None:
    """finish-image-build -sbom-output-path: the folder that the document is written to."""
    assert document_name(values.plan(), given(**keys)) == name


TEXTS = st.text("abcAB019+.-~:_ /%()[]<>@\t\"'\u00e9", max_size=9)
PACKAGES = st.builds(
    Package,
    name=TEXTS.filter(bool),
    version=TEXTS.filter(str.strip),
    architecture=st.sampled_from(["", "amd64"]),
    kind=st.sampled_from(["dpkg", "rpm", "apk", "cos"]),
    source=TEXTS,
    vendor=st.sampled_from(["", "Mark <m@debian.org>", "R\u00e9d (H), Inc.", "odd <no address>", "<>"]),
    license=st.sampled_from(["", " ", "MIT", "mit or BSD-3-Clause", "(MIT OR Apache-2.0) AND BSD-3-Clause", "GPLv3+"]),
    distribution=st.sampled_from(["", "debian-12", "opensuse-leap-15.6", "Rocky 9-1"]),
    build_time=st.booleans(),
)


@settings(max_examples=60)
@example([replace(ZLIB, name=name, version="1") for name in ("z", "a", " ")], False)
@example([replace(ZLIB, name="</0", kind="apk")], False)  # whose URL is another one when it is read and written
@given_any(st.lists(PACKAGES, max_size=6, unique=True), st.booleans())
def test_libraries_would_write_the_same_bytes(packages: list[Package], with_lists: bool) -> None:
    """Any packages, alone and beside a user's list and a source image's."""
    lists = read_input(SAMPLE.encode()) if with_lists else Given()
    other = OtherDocument("cos-117", "https://example.org/c%o[1]", "SHA3_256", "0" * 64)
    base = Base(other, lists.packages, lists.licenses, left_out=1) if with_lists else None
    allowed = [AllowedFinding(f"/opt/{name}", "holds a key", "a demo") for name in ("b", "a", "b")]
    build = values.build(image=values.image_record(allowed=tuple(allowed if with_lists else ())))
    made = documents(build, whole_plan(), Contents(packages, given=lists, base=base))
    as_libraries_write(made.spdx, made.cyclonedx)
    refs = [one["bom-ref"] for one in json.loads(made.cyclonedx).get("components", [])]
    listed = {one["SPDXID"] for one in json.loads(made.spdx)["packages"][2:]}
    assert (len(refs), set(refs)) == (len(listed), listed)


def test_libraries_are_imported_when_they_are_needed_and_no_sooner() -> None:
    """They take a quarter of a second, which only lists that they read should cost."""
    program = (
        "import sys, shared.workers.carry_out, shared.spec.read\n"
        "from tests.shared.sbom.test_packages import DPKG\n"
        "from shared.sbom.documents import Contents, documents\n"
        "from tests.world import values\n"
        "names = {'spdx_tools', 'cyclonedx', 'license_expression', 'beartype'}\n"
        "documents(values.build(), values.plan(), Contents([DPKG]))\n"
        "assert not names & set(sys.modules), names & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
