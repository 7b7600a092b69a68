"""A package of an image's database as SPDX 2.3 lists it in JSON: its package URL, its licence, its maker.

SPDX's words for licences are known by a library, which is imported only for databases that name licences: RPM's and
apk's. What a user or a source image's maker has listed is read by spdx-tools, and written by it as well.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ..ports import Package

PURL_TYPES = {"dpkg": "deb", "rpm": "rpm", "apk": "apk", "cos": "cos"}
NOASSERTION, OPERATING_SYSTEM = "NOASSERTION", "OPERATING_SYSTEM"  # words of SPDX
CONTAINS, BUILD_TOOL_OF = "CONTAINS", "BUILD_TOOL_OF"
IMAGE, SOURCE, DOCUMENT = "SPDXRef-Image", "SPDXRef-Source", "SPDXRef-DOCUMENT"
GOLDSMITH = "Tool: goldsmith"
_NO_ID = re.compile(r"[^A-Za-z0-9.-]+")  # what an SPDX identifier cannot hold
_MAKER = re.compile(r"([^<]*)(?:<([^<>\s@]+@[^<>\s]+)>)?.*", re.DOTALL)  # NAME <ADDRESS>
DEEPEST_LICENSE = 50  # brackets in one another
_LICENSE_FAULTS = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What license-expression raises, beside its own errors, for texts such as `()`."""
_BRACKETS = str.maketrans("()", "[]")  # in which SPDX writes addresses


@dataclass(frozen=True)
class BillActor:
    """A person, an organization or a tool that a bill of materials names."""

    kind: str  # Person, Organization, Tool
    name: str
    email: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}" + (f" ({self.email})" if self.email else "")


@dataclass(frozen=True)
class ListedPackage:
    """A package of a bill of materials."""

    fields: Mapping[str, Any]  # in SPDX's order
    supplier: BillActor | None = None  # whom `fields` names in one text
    purl: str | None = None  # the package URL in `fields`, if it is known to be in its normal form

    @property
    def id(self) -> str:
        """Return its SPDX identifier."""
        return str(self.fields["SPDXID"])


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
    name = (
        package.name if package.name.replace("/", "").strip() else "unnamed"
    )  # a database that a build has written may hold anything
    return str(PackageURL(PURL_TYPES[package.kind], system or None, name, version, given))


def listed(package: Package) -> ListedPackage:
    """Return the package as SPDX lists it; equal packages have equal identifiers."""
    url, maker = purl(package), _maker(package.vendor)
    reference = {"referenceCategory": "PACKAGE_MANAGER", "referenceLocator": url, "referenceType": "purl"}
    fields = {
        "SPDXID": _identifier(package, url),
        "copyrightText": NOASSERTION,
        "downloadLocation": NOASSERTION,
        "externalRefs": [reference],
        "filesAnalyzed": False,
        "licenseConcluded": NOASSERTION,
        "licenseDeclared": _license(package.license) if package.license else NOASSERTION,
        "name": package.name,
        "sourceInfo": f"source package {package.source}" if package.source else None,
        "supplier": str(maker or NOASSERTION),
        "versionInfo": package.version,
    }
    parts = (package.name, package.version, package.architecture, package.source, package.distribution)
    is_normal = "/" not in "".join(parts)  # which packageurl-python leaves unquoted, and splits names at when it reads
    return ListedPackage(written(fields), maker, url if is_normal else None)


def written(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that SPDX's writer writes: all that have a value, lists only with an entry."""
    return {key: value for key, value in fields.items() if value is not None and value != []}


def extracted_licenses(packages: Iterable[Package]) -> list[dict[str, Any]]:
    """Return the texts of the licences that databases name in words of their own, not in SPDX's."""
    words = sorted(
        {package.license for package in packages if package.license and _expression(package.license) is None}
    )
    name = "as the package database names it"
    return [{"extractedText": text, "licenseId": _license_ref(text), "name": name} for text in words]


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


def _maker(vendor: str) -> BillActor | None:
    match = _MAKER.fullmatch(vendor)
    name, address = (match[1].translate(_BRACKETS).strip(), match[2]) if match else ("", None)
    return BillActor("Organization", name, address) if name else None


def is_deep(text: Any) -> bool:
    """Return whether a licence is in more brackets than any sane one: libraries would read them by recursion."""
    if not isinstance(text, str) or text.count("(") <= DEEPEST_LICENSE:
        return False
    depths = accumulate((letter == "(") - (letter == ")") for letter in text)
    return max(depths) > DEEPEST_LICENSE


def _license(text: str) -> str:
    expression = _expression(text)
    return _license_ref(text) if expression is None else expression


@functools.cache
def _expression(text: str) -> str | None:
    """Return a licence as an expression of those in SPDX's list; None where it is none."""
    if is_deep(text):
        return None
    from license_expression import ExpressionError
    from spdx_tools.common.spdx_licensing import spdx_licensing

    try:
        expression = spdx_licensing.parse(text, validate=True)
        return None if expression is None else str(expression)  # which has no truth value
    except (ExpressionError, *_LICENSE_FAULTS):
        return None


def _license_ref(text: str) -> str:
    readable = _NO_ID.sub("-", text).strip("-")[:60].rstrip("-")
    return f"LicenseRef-{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
