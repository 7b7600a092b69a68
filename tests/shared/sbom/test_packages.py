"""Package URLs, identifiers and makers of the packages that databases list."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.ports import Package
from shared.sbom.packages import extracted_licenses, listed, names_of, purl

DPKG = Package("zlib1g", "1:1.2.13.dfsg-1", "amd64", source="zlib", distribution="debian-12")
RPM = Package("bash", "5.1-2.el9", "x86_64", "rpm", "bash-5.1-2.el9.src.rpm", distribution="opensuse-leap-15.6")
APK = Package("musl", "1.2.5-r1", "x86_64", "apk", "musl", distribution="alpine-3.20.3")
COS = Package("zlib", "1.2.11", "", "cos", "sys-libs/zlib@1.2.11-r4", distribution="cos-117")


@pytest.mark.parametrize(
    ("package", "url"),
    [
        (DPKG, "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12&upstream=zlib"),
        (
            RPM,
            "pkg:rpm/opensuse-leap/bash@5.1-2.el9?arch=x86_64&distro=opensuse-leap-15.6&upstream=bash-5.1-2.el9.src.rpm",
        ),
        (
            replace(RPM, version="2:5.1-2", source=""),
            "pkg:rpm/opensuse-leap/bash@5.1-2?arch=x86_64&distro=opensuse-leap-15.6&epoch=2",
        ),
        (APK, "pkg:apk/alpine/musl@1.2.5-r1?arch=x86_64&distro=alpine-3.20.3"),
        (COS, "pkg:cos/zlib@1.2.11?distro=cos-117"),
        (replace(APK, distribution="arch"), "pkg:apk/arch/musl@1.2.5-r1?arch=x86_64&distro=arch"),
        (replace(APK, distribution="", architecture="", source="", name="a b"), "pkg:apk/a%20b@1.2.5-r1"),
        (replace(DPKG, name="/ /", version="1"), "pkg:deb/debian/unnamed@1?arch=amd64&distro=debian-12&upstream=zlib"),
    ],
)
def test_package_urls(package: Package, url: str) -> None:
    assert purl(package) == url


def test_identifiers_are_of_the_content() -> None:
    odd = replace(DPKG, name="g++-12")
    same, other = listed(DPKG).id, listed(replace(DPKG, architecture="i386")).id
    assert same == listed(replace(DPKG)).id != other
    assert listed(replace(COS, build_time=True)).id != listed(COS).id
    assert listed(odd).id.startswith("SPDXRef-Package-dpkg-g--12-")


@pytest.mark.parametrize(
    ("vendor", "supplier"),
    [
        ("Mark Brown <broonie@debian.org>", "Organization: Mark Brown (broonie@debian.org)"),
        ("Red Hat, Inc.", "Organization: Red Hat, Inc."),
        ("Rocky (R) Foundation", "Organization: Rocky [R] Foundation"),
        ("odd <no address>", "Organization: odd"),
        ("", "NOASSERTION"),
        ("<>", "NOASSERTION"),
    ],
)
def test_makers(vendor: str, supplier: str) -> None:
    assert listed(replace(DPKG, vendor=vendor)).fields["supplier"] == supplier


@pytest.mark.parametrize(
    "text", ["()", "(OR MIT", "(MIT AND " * 51 + "MIT" + ")" * 51, "(" * 99999], ids=lambda text: text[:9]
)
def test_a_licence_that_the_library_cannot_read_is_words_of_the_database(text: str) -> None:
    """Mended: what it raised for them ended the publication of the image."""
    package = replace(RPM, license=text)
    [words] = extracted_licenses([package])
    assert (words["extractedText"], listed(package).fields["licenseDeclared"]) == (text, words["licenseId"])


def test_names_by_which_other_lists_know_a_package() -> None:
    assert names_of(DPKG) == {("zlib1g", "1:1.2.13.dfsg-1")}
    assert names_of(COS) == {("zlib", "1.2.11"), ("zlib", "1.2.11-r4"), ("sys-libs/zlib", "1.2.11-r4")}
