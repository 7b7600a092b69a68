"""The user's own part of a bill of materials: `output.sbom.input`, in the format of COS Customizer's -sbom-input-path.

    {"outputImageName": "...", "outputImageVersion": "...",      what the image is called; left out, its own name
     "creators": ["Person: Ann"], "supplier": "Organization: X",  as SPDX writes them
     "SPDXPackages": [...],                                       packages, as SPDX writes them in JSON
     "SBOMPackages": [{"name", "spdxDocument", "algorithm", "checksumValue"}],    other bills of materials, by URL
     "hasExtractedLicensingInfos": [...]}                         licences that are in no list, as SPDX writes them

A whole SPDX 2 document in JSON is taken as well: its packages and licences. Of one that Goldsmith has made, the image
and its source are left out. What packages need and do not have becomes NOASSERTION, as in COS Customizer. What its
documentation shows and SPDX would not take is written as SPDX does: a CPE of the older form, a host without a domain, a
licence's URLs as texts, a document that has no URI.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any
from urllib.parse import quote

from ..budget import BILL_OF_MATERIALS_BOUNDS, Budget
from ..errors import InputError
from .packages import DEEPEST_LICENSE, DOCUMENT, GOLDSMITH, IMAGE, SOURCE, BillActor, ListedPackage, is_deep

LIST_LIMIT = BILL_OF_MATERIALS_BOUNDS.read  # bytes
MOST_PACKAGES = 2000  # spdx-tools validates them in four seconds, and twice as many in sixteen
MOST_PROBLEMS, PROBLEM_LETTERS = 50, 500  # that are reported
KEYS = (
    *("outputImageName", "outputImageVersion", "creators", "supplier", "SPDXPackages", "SBOMPackages"),
    "hasExtractedLicensingInfos",
)
DOCUMENT_KEYS = ("name", "spdxDocument", "algorithm", "checksumValue")
_FAULTS = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What spdx-tools raises for values of the wrong type, and for licences such as `()`."""
NAMESPACE = "https://spdx.org/spdxdocs"  # SPDX 2.3, 6.5: of documents that no site of their own serves
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s#]+")
_CPE = re.compile(r"cpe:/[AHOaho]?(:[A-Za-z0-9._\-~%]*){0,6}", re.IGNORECASE)  # 2.2's, whatever it is called
_IDENTIFIER = re.compile(r"SPDXRef-[A-Za-z0-9.-]+")
_REFERENCE = re.compile(r"[A-Za-z0-9.+-]+")
_DEFAULTS = dict.fromkeys(
    ("downloadLocation", "supplier", "licenseConcluded", "licenseDeclared", "copyrightText"), "NOASSERTION"
)


@dataclass(frozen=True)
class OtherDocument:
    """A bill of materials somewhere else."""

    name: str  # DocumentRef-NAME
    uri: str
    algorithm: str
    checksum: str


@dataclass(frozen=True)
class Given:
    """The user's own list; packages, licences and actors are spdx-tools' own."""

    name: str = ""
    version: str = ""
    creators: tuple[Any, ...] = ()
    supplier: Any = None
    packages: tuple[Any, ...] = ()
    documents: tuple[OtherDocument, ...] = ()
    licenses: tuple[Any, ...] = ()


def problems(data: bytes) -> list[str]:
    """Return what is wrong with an input file, each `KEY: what is wrong; what to write instead`."""
    return _read(data)[1]


def read_input(data: bytes) -> Given:
    """Read an input file. InputError with all its problems."""
    given, found = _read(data)
    if found:
        raise InputError("output.sbom.input: " + "; ".join(found))
    return given


def packages_by_library(packages: Sequence[Any]) -> list[ListedPackage]:
    """Return spdx-tools' packages as its own writer writes them."""
    if not packages:
        return []
    from spdx_tools.spdx.jsonschema.package_converter import PackageConverter
    from spdx_tools.spdx.model import Actor

    convert, document = PackageConverter().convert, _document_of((), ())  # which has no annotation of any package
    return [
        ListedPackage(
            convert(package, document),
            actor_by_library(package.supplier) if isinstance(package.supplier, Actor) else None,
        )
        for package in packages
    ]


def licenses_by_library(licenses: Sequence[Any]) -> list[dict[str, Any]]:
    """Return spdx-tools' extracted licences as its own writer writes them."""
    if not licenses:
        return []
    from spdx_tools.spdx.jsonschema.extracted_licensing_info_converter import ExtractedLicensingInfoConverter

    return [ExtractedLicensingInfoConverter().convert(one) for one in licenses]


def actor_by_library(actor: Any) -> BillActor:
    """Return one of spdx-tools' actors."""
    return BillActor(actor.actor_type.name.title(), actor.name, actor.email)


def read_bill(data: bytes, budget: Budget) -> Any:
    """Parse a bill of materials in JSON, and count its entries. InputError; Budget.json()'s errors."""
    document = budget.json(data)
    if isinstance(document, dict):
        budget.step(sum(len(value) for value in document.values() if isinstance(value, list)))
    return document


def read_packages(entries: Sequence[Any], problems: list[str], key: str) -> tuple[Any, ...]:
    """Read SPDX packages; what is wrong with the form of one is added to `problems` and the package left out."""
    from spdx_tools.spdx.parser.jsonlikedict.package_parser import PackageParser

    def parse(entry: Any) -> Any:
        kept = {name: value for name, value in entry.items() if value not in ("", None)}
        if "packageVerificationCode" not in kept:  # which is what analyzed files would have
            kept["filesAnalyzed"] = False
        if not _IDENTIFIER.fullmatch(kept["SPDXID"]):
            raise ValueError(f"SPDXID {kept['SPDXID']!r} is not SPDXRef- and letters, digits, '.' and '-'")
        for name, value in kept.items():
            if name.startswith("license") and any(map(is_deep, value if isinstance(value, list) else [value])):
                raise ValueError(f"{name} is in more than {DEEPEST_LICENSE} brackets")
        return PackageParser().parse_package({**_DEFAULTS, **kept, **_location(kept), **_references(kept)})

    return _each(entries, parse, problems, key)


def read_licenses(entries: Sequence[Any], problems: list[str], key: str) -> tuple[Any, ...]:
    """Read SPDX's extracted licences, as read_packages() reads packages."""
    from spdx_tools.spdx.parser.jsonlikedict.extracted_licensing_info_parser import ExtractedLicensingInfoParser

    def parse(entry: Any) -> Any:
        if not entry["licenseId"] or not entry["extractedText"]:
            raise ValueError("needs licenseId and extractedText")
        return ExtractedLicensingInfoParser().parse_extracted_licensing_info({**entry, **_urls(entry)})

    return _each(entries, parse, problems, key)


def _urls(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a licence's URLs that are written as texts, those of a host without a domain in words."""
    from spdx_tools.spdx.validation.uri_validators import validate_url

    urls = entry.get("crossRefs") or []
    if "seeAlsos" in entry or not all(isinstance(url, str) for url in urls):
        return {}
    others = [f"see {url}" for url in urls if validate_url(url)]
    told = {"comment": "; ".join([*filter(None, [entry.get("comment")]), *others])} if others else {}
    return {"seeAlsos": [url for url in urls if not validate_url(url)], **told}


def _location(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields that replace a valid URI whose host has a domain that spdx-tools does not know."""
    from spdx_tools.spdx.validation.uri_validators import validate_download_location

    place = entry.get("downloadLocation", "NOASSERTION")
    if not validate_download_location(place) or not _URI.fullmatch(place):  # right, or wrong for all
        return {}
    said = f"downloaded from {place}"
    return {"downloadLocation": "NOASSERTION", "comment": "; ".join(filter(None, (entry.get("comment"), said)))}


def _references(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return external references, a CPE of the older form as one of that form."""
    written = entry.get("externalRefs")
    if not isinstance(written, list):
        return {}
    return {
        "externalRefs": [{**one, "referenceType": "cpe22Type"} if _is_older_cpe(one) else one for one in written],
    }


def _is_older_cpe(reference: Any) -> bool:
    if not isinstance(reference, dict) or reference.get("referenceType") != "cpe23Type":
        return False
    locator = reference.get("referenceLocator")
    return isinstance(locator, str) and _CPE.fullmatch(locator) is not None


def _read(data: bytes) -> tuple[Given, list[str]]:
    if len(data) > LIST_LIMIT:
        return Given(), [f"it has {len(data)} bytes; {LIST_LIMIT >> 20} MiB is the most"]
    try:
        document = read_bill(data, Budget(BILL_OF_MATERIALS_BOUNDS, "it", len(data)))
    except InputError as error:
        return Given(), [str(error)]
    except (ValueError, RecursionError) as error:
        return Given(), [f"it is not JSON: {error}"]
    if not isinstance(document, dict):
        return Given(), [f"it holds no JSON object; write one with the keys {', '.join(KEYS)}"]
    found: list[str] = []
    fields = _spdx_fields(document) if "spdxVersion" in document else _own_fields(document, found)
    entries = _list(fields, "SPDXPackages", found)
    if len(entries) > MOST_PACKAGES:
        return Given(), [*found, f"SPDXPackages: has {len(entries)} packages; {MOST_PACKAGES} are the most"]
    packages = read_packages(entries, found, "SPDXPackages")
    if "spdxVersion" in document:
        packages = _without_ours(packages, document)
    identifiers = [package.spdx_id for package in packages]
    _refuse_ours(identifiers, found)
    _refuse_twice(identifiers, found)
    given = Given(
        name=_text(fields, "outputImageName", found),
        version=_text(fields, "outputImageVersion", found),
        creators=_each(_list(fields, "creators", found), _actor, found, "creators"),
        supplier=next(iter(_each([fields["supplier"]], _actor, found, "supplier")), None)
        if fields.get("supplier")
        else None,
        packages=packages,
        documents=_each(_list(fields, "SBOMPackages", found), _document, found, "SBOMPackages"),
        licenses=read_licenses(_list(fields, "hasExtractedLicensingInfos", found), found, "hasExtractedLicensingInfos"),
    )
    return given, _first(found or _against_rules(given))


def _first(problems: list[str]) -> list[str]:
    """Return as many problems as a person reads, of that many letters: each repeats what it is about."""
    left = len(problems) - MOST_PROBLEMS
    shown = [f"{problem:.{PROBLEM_LETTERS}}" for problem in problems[:MOST_PROBLEMS]]
    return [*shown, f"and {left} more"] if left > 0 else shown


def _against_rules(given: Given) -> list[str]:
    """Return what breaks SPDX's rules in a list whose form is right: unexplained licences, wrong digests."""
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    messages = validate_full_spdx_document(_document_of(given.packages, given.licenses))
    described = "there must be at least one relationship"  # to describe the document, which is ours to write
    return [
        f"{message.context.spdx_id or message.context.parent_id}: {message.validation_message}"
        for message in messages
        if described not in message.validation_message
    ]


def _document_of(packages: Sequence[Any], licenses: Sequence[Any]) -> Any:
    """Return spdx-tools' Document of these alone."""
    from spdx_tools.spdx.model import CreationInfo, Document

    info = CreationInfo("SPDX-2.3", "SPDXRef-DOCUMENT", "input", f"{NAMESPACE}/input", [], datetime.min)
    return Document(info, packages=list(packages), extracted_licensing_info=list(licenses))


def _own_fields(document: Mapping[str, Any], found: list[str]) -> Mapping[str, Any]:
    """Return the fields by their names, in any case of letters, as COS Customizer takes them."""
    known = {key.lower(): key for key in KEYS}
    for key in document:
        if str(key).lower() not in known:
            found.append(f"{key}: there is no such key; the keys are {', '.join(KEYS)}")
    return {known[key.lower()]: value for key, value in document.items() if key.lower() in known}


def _spdx_fields(document: Mapping[str, Any]) -> Mapping[str, Any]:
    keys = {"SPDXPackages": "packages", "hasExtractedLicensingInfos": "hasExtractedLicensingInfos"}
    return {ours: document[theirs] for ours, theirs in keys.items() if theirs in document}


def _text(fields: Mapping[str, Any], key: str, found: list[str]) -> str:
    value = fields.get(key) or ""
    if isinstance(value, str):
        return value
    found.append(f"{key}: is no text; write one between quotation marks")
    return ""


def _list(fields: Mapping[str, Any], key: str, found: list[str]) -> Sequence[Any]:
    value = fields.get(key) or []
    if isinstance(value, list):
        return value
    found.append(f"{key}: is no list; write [...]")
    return []


def _each(entries: Sequence[Any], parse: Callable[[Any], Any], problems: list[str], key: str) -> tuple[Any, ...]:
    from spdx_tools.spdx.parser.error import SPDXParsingError

    read = []
    for index, entry in enumerate(entries):
        try:
            read.append(parse(entry))
        except SPDXParsingError as error:
            problems.append(f"{key}[{index}]: {'; '.join(error.get_messages())}")
        except _FAULTS as error:
            told = str(error) or "cannot be read"
            problems.append(f"{key}[{index}]: {told}; write it as SPDX 2.3 does in JSON")
    return tuple(read)


def _actor(text: Any) -> Any:
    from spdx_tools.spdx.parser.actor_parser import ActorParser

    return ActorParser().parse_actor(text)


def _document(entry: Any) -> OtherDocument:
    from spdx_tools.spdx.model import ChecksumAlgorithm

    if not isinstance(entry, dict) or set(entry) != set(DOCUMENT_KEYS):
        raise ValueError(f"needs exactly {', '.join(DOCUMENT_KEYS)}")
    name, uri, algorithm, checksum = (entry[key] for key in DOCUMENT_KEYS)
    if not _REFERENCE.fullmatch(name):
        raise ValueError(f"name {name!r}: only letters, digits, '.', '-' and '+' may be in it")
    if algorithm.replace("-", "_") not in ChecksumAlgorithm.__members__:
        raise ValueError(f"algorithm {algorithm!r} is none that SPDX knows, such as SHA256")
    if not _URI.fullmatch(uri):
        uri = f"{NAMESPACE}/{quote(uri)}"
    return OtherDocument(name, uri, algorithm.replace("-", "_"), checksum)


def _without_ours(packages: Sequence[Any], document: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a whole document's packages with none of the identifiers that the image and its source have in ours.

    In one that Goldsmith has made they are another build's image and source, which are no packages of this one.
    Others' packages get another identifier: nothing that is read of the document refers to them.
    """
    maker = document.get("creationInfo")
    is_ours = isinstance(maker, dict) and isinstance(maker.get("creators"), list) and GOLDSMITH in maker["creators"]
    if is_ours:
        return tuple(package for package in packages if package.spdx_id not in (IMAGE, SOURCE))
    taken = {package.spdx_id for package in packages}
    others = {
        one: next(name for number in count(1) if (name := f"{one}-{number}") not in taken) for one in (IMAGE, SOURCE)
    }
    for package in packages:
        package.spdx_id = others.get(package.spdx_id, package.spdx_id)
    return tuple(packages)


def _refuse_ours(identifiers: Sequence[str], found: list[str]) -> None:
    for one in (IMAGE, SOURCE, DOCUMENT):
        if one in identifiers:
            found.append(f"SPDXPackages: {one} is an SPDXID of the bill of materials itself; give the package another")


def _refuse_twice(identifiers: Sequence[str], found: list[str]) -> None:
    twice = sorted(one for one, count in Counter(identifiers).items() if count > 1)
    if twice:
        found.append(f"SPDXPackages: several have the SPDXID {', '.join(twice)}; give each its own")
