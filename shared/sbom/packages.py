"""A package of an image's database as an SPDX package: its package URL, its licence, its maker.

spdx-tools and what it brings are imported where they are used: a tenth of a second that only publication pays.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from typing import Any

from ..ports import Package

PURL_TYPES = {"dpkg": "deb", "rpm": "rpm", "apk": "apk", "cos": "cos"}
_NO_ID = re.compile(r"[^A-Za-z0-9.-]+")  # what an SPDX identifier cannot hold
_MAKER = re.compile(r"([^<]*)(?:<([^<>\s@]+@[^<>\s]+)>)?.*", re.DOTALL)  # NAME <ADDRESS>
_BRACKETS = str.maketrans("()", "[]")  # in which SPDX writes addresses


def purl(package: Package) -> str:
    """Return the package URL, with the qualifiers that vulnerability scanners use: arch, distro, epoch, upstream."""
    from packageurl import PackageURL

    system = package.distribution.rpartition("-")[0] or package.distribution
    version, qualifiers = package.version, {"arch": package.architecture, "distro": package.distribution}
    if package.kind == "rpm":
        epoch, _, rest = version.rpartition(":")
        version, qualifiers["epoch"] = rest, epoch
    if package.kind == "cos":  # as Google's own scanner writes it: no namespace, and no source
        system = ""
    elif package.source not in ("", package.name):
        qualifiers["upstream"] = package.source
    given = {key: value for key, value in qualifiers.items() if value}
    return str(PackageURL(PURL_TYPES[package.kind], system or None, package.name, version, given))


def spdx_package(package: Package) -> Any:
    """Return the spdx_tools Package; equal packages have equal identifiers."""
    from spdx_tools.spdx.model import ExternalPackageRef, ExternalPackageRefCategory, SpdxNoAssertion
    from spdx_tools.spdx.model import Package as SpdxPackage

    url = purl(package)
    reference = ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", url)
    return SpdxPackage(
        spdx_id=_identifier(package, url),
        name=package.name,
        version=package.version,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        supplier=_maker(package.vendor) or SpdxNoAssertion(),
        license_concluded=SpdxNoAssertion(),
        license_declared=_license(package.license) if package.license else SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        source_info=f"source package {package.source}" if package.source else None,
        external_references=[reference],
    )


def extracted_licenses(packages: Iterable[Package]) -> list[Any]:
    """Return the texts of the licences that databases name in words of their own, not in SPDX's."""
    from spdx_tools.spdx.model import ExtractedLicensingInfo

    words = sorted(
        {package.license for package in packages if package.license and _expression(package.license) is None}
    )
    return [ExtractedLicensingInfo(_license_ref(text), text, "as the package database names it") for text in words]


def names_of(package: Package) -> set[tuple[str, str]]:
    """Return the names and versions by which other lists may know the package."""
    source, _, version = package.source.partition("@")
    names = {(package.name, package.version)}
    if package.kind == "cos" and source:
        names |= {(name, version or package.version) for name in (package.name, source)}
    return names


def _identifier(package: Package, url: str) -> str:
    what = "\n".join((url, package.source, str(package.build_time)))
    digest = hashlib.sha256(what.encode()).hexdigest()[:12]
    return f"SPDXRef-Package-{package.kind}-{_NO_ID.sub('-', package.name)}-{digest}"


def _maker(vendor: str) -> Any:
    from spdx_tools.spdx.model import Actor, ActorType

    match = _MAKER.fullmatch(vendor)
    name, address = (match[1].translate(_BRACKETS).strip(), match[2]) if match else ("", None)
    return Actor(ActorType.ORGANIZATION, name, address) if name else None


def _license(text: str) -> Any:
    from license_expression import LicenseSymbol

    expression = _expression(text)  # which has no truth value
    return LicenseSymbol(_license_ref(text)) if expression is None else expression


@functools.cache
def _expression(text: str) -> Any:
    """Return a licence as an expression of those in SPDX's list; None where it is none."""
    from license_expression import ExpressionError
    from spdx_tools.common.spdx_licensing import spdx_licensing

    try:
        return spdx_licensing.parse(text, validate=True)
    except ExpressionError:
        return None


def _license_ref(text: str) -> str:
    readable = _NO_ID.sub("-", text).strip("-")[:60].rstrip("-")
    return f"LicenseRef-{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
