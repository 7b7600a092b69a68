"""The rules of package-installs, pkg-map and svc-map: what their documents may hold, and what they mean.

The host reads these files, since the provisioner has no YAML, and sends them as JSON: by element and file name. The
same functions check them there, with the places in the files, and here. Conditions are decided here, where the
variables are known. Nothing in this module reads a file or a variable of its own process.

It mends what diskimage-builder gets wrong: `uninstall: False` and `build-only: False` are as if they were not there,
the names in `arch` and `not-arch` may have spaces between them, entries that conditions rule out change nothing, names
are compared as the package manager knows them, and the order is that of the elements and their files.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from .hooks import INSTALL, POST_INSTALL, PRE_INSTALL
from .model import ElementsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any, Optional, Union

    KeyPath = tuple[Union[str, int], ...]
    Documents = Mapping[str, Mapping[str, Any]]

PACKAGE_INSTALLS = ("package-installs.json", "package-installs.yaml")  # in the order in which they count
PACKAGE_MAP = "pkg-map"
SERVICE_MAP = "svc-map"
DOCUMENTS = (*PACKAGE_INSTALLS, PACKAGE_MAP, SERVICE_MAP)

INSTALL_PHASES = (PRE_INSTALL, INSTALL, POST_INSTALL)  # at the start of which packages are installed

_FIELDS = ("phase", "uninstall", "build-only", "installtype", "arch", "not-arch", "dib_python_version", "when")
_SECTIONS = ("default", "family", "distro", "release")
_SECTION_DEPTH = {"default": 0, "family": 1, "distro": 1, "release": 2}
_CONDITION = re.compile(r"(?P<variable>\w+)\s*(?P<operator>!?=)\s*(?P<value>.*)", re.DOTALL)
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")  # as YAML 1.1 has them, lower or upper case
_FAMILIES = {
    "redhat": ("almalinux", "centos", "fedora", "openeuler", "rhel", "rocky"),
    "debian": ("debian", "ubuntu"),
    "suse": ("opensuse",),
    "gentoo": ("gentoo",),
}
_RELEASES = {"8-stream": "8"}  # what pkg-map calls a release


class DocumentFault(NamedTuple):
    """Something wrong in a document: its keys and indexes from the root, and what to write instead."""

    path: KeyPath
    text: str


class Condition(NamedTuple):
    """`VARIABLE = value`, or `VARIABLE != value`."""

    variable: str
    equal: bool
    value: str


class InstallEntry(NamedTuple):
    """One entry of package-installs: a package, as the element calls it, and under which conditions it counts."""

    package: str
    element: str
    file: str
    phase: str = INSTALL
    uninstall: bool = False
    build_only: bool = False  # removed at the end of its phase
    install_type: str = ""  # source or package, say; "": any
    arch: tuple[str, ...] = ()  # none: any
    not_arch: tuple[str, ...] = ()
    python_version: str = ""  # "": any
    when: tuple[Condition, ...] = ()


class PhasePackages(NamedTuple):
    """The packages of one phase, as the package manager knows them, each once."""

    install: tuple[str, ...]  # at its start
    uninstall: tuple[str, ...]  # at its end


def decode_documents(text: str) -> Documents:
    """Return the documents of elements from the JSON of a step's inputs. ElementsError."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ElementsError([f"documents of the elements: not JSON: {error}"]) from error
    problems: list[str] = []
    if not isinstance(found, dict) or not all(isinstance(files, dict) for files in found.values()):
        raise ElementsError(["documents of the elements: not an object of objects"])
    for element, files in found.items():
        for file, document in files.items():
            problems += [f"{element}/{file}: {fault_text(fault)}" for fault in document_faults(file, document)]
    if problems:
        raise ElementsError(problems)
    return found


def document_faults(file: str, document: Any) -> list[DocumentFault]:
    """Return what is wrong in a document, by the rules for files of that name."""
    if file in PACKAGE_INSTALLS:
        return list(_install_faults(document))
    if file == PACKAGE_MAP:
        return list(_package_map_faults(document))
    if file == SERVICE_MAP:
        return list(_service_map_faults(document))
    return [DocumentFault((), f"is none of {', '.join(DOCUMENTS)}")]


def fault_text(fault: DocumentFault) -> str:
    """Return a fault as people read it: `package[0].when: what is wrong`."""
    where = ""
    for part in fault.path:
        where += f"[{part}]" if isinstance(part, int) else ("." if where else "") + part
    return f"{where}: {fault.text}" if where else fault.text


def install_entries(documents: Documents, elements: Iterable[str]) -> tuple[InstallEntry, ...]:
    """Return the requests of the elements, in the elements' order. The documents have no faults."""
    return tuple(
        _request(package, element, file, entry or {})
        for element in elements
        for file in PACKAGE_INSTALLS
        for package, entries in documents.get(element, {}).get(file, {}).items()
        for entry in (entries if isinstance(entries, (list, tuple)) else [entries])
    )


def is_wanted(request: InstallEntry, environment: Mapping[str, str]) -> bool:
    """Return whether all conditions of a request hold. ElementsError for a variable that is not set."""
    if request.install_type and request.install_type != install_type(request.element, environment):
        return False
    if request.arch or request.not_arch:
        arch = _variable("ARCH", request, environment)
        if (request.arch and arch not in request.arch) or arch in request.not_arch:
            return False
    if request.python_version and request.python_version != environment.get("DIB_PYTHON_VERSION", ""):
        return False
    # All are looked at: a variable that is not set is an error whatever the others say.
    found = [(_variable(each.variable, request, environment) == each.value) is each.equal for each in request.when]
    return all(found)


def install_type(element: str, environment: Mapping[str, str]) -> str:
    """Return how an element installs what it is for: source, unless a variable says otherwise."""
    default = environment.get("DIB_DEFAULT_INSTALLTYPE", "source")
    return environment.get("DIB_INSTALLTYPE_" + element.replace("-", "_"), default)


def phase_packages(
    requests: Sequence[InstallEntry], documents: Documents, environment: Mapping[str, str]
) -> Mapping[str, PhasePackages]:
    """Return what each of INSTALL_PHASES installs and uninstalls. ElementsError, all problems at once.

    A package that is asked for without uninstalling it stays: in its phase, and in all of them if it was build-only.
    """
    problems: list[str] = []
    wanted = []
    for request in requests:
        try:
            if is_wanted(request, environment):
                wanted.append((request, _names_of(request, documents, environment)))
        except ElementsError as error:
            problems += error.problems
    if problems:
        raise ElementsError(problems)
    plain = {(each.phase, name) for each, names in wanted if not (each.uninstall or each.build_only) for name in names}
    kept = {name for _, name in plain}
    result = {}
    for phase in INSTALL_PHASES:
        here = [(request, name) for request, names in wanted if request.phase == phase for name in names]
        install = [name for each, name in here if each.build_only or not each.uninstall]
        uninstall = [name for each, name in here if each.build_only and name not in kept]
        uninstall += [
            name for each, name in here if each.uninstall and not each.build_only and (phase, name) not in plain
        ]
        result[phase] = PhasePackages(_once(install), _once(uninstall))
    return result


def _names_of(request: InstallEntry, documents: Documents, environment: Mapping[str, str]) -> tuple[str, ...]:
    document = documents.get(request.element, {}).get(PACKAGE_MAP)
    if document is None:
        return (request.package,)
    distro = _variable("DISTRO_NAME", request, environment)
    names = mapped_packages(document, distro, environment.get("DIB_RELEASE", ""), request.package)
    return (request.package,) if names is None else names


def mapped_packages(document: Any, distro: str, release: str, package: str) -> Optional[tuple[str, ...]]:
    """Return what a pkg-map calls a package on a distribution: perhaps nothing, or several. None: it says nothing.

    The section that says most about the system wins: release, then distro, family and default.
    """
    by_distro = document.get("release", {}).get(distro, {})
    for section in (
        by_distro.get(_RELEASES.get(release, release), {}),
        document.get("distro", {}).get(distro, {}),
        document.get("family", {}).get(family_of(distro), {}),
        document.get("default", {}),
    ):
        if package in section:
            return tuple(section[package].split())
    return None


def merged_services(documents: Documents, elements: Sequence[str], distro: str) -> Mapping[str, str]:
    """Return the names of services on a distribution, by the names that elements use. ElementsError for duplicates.

    Of a service, the distribution's name wins, then its family's, then the default; without one it keeps its own.
    """
    repeated = [f"{element}/{SERVICE_MAP}: {text}" for element, _, text in repeated_services(documents, elements)]
    if repeated:
        raise ElementsError(repeated)
    result: dict[str, str] = {}
    for element in elements:
        for service, names in documents.get(element, {}).get(SERVICE_MAP, {}).items():
            found = [names[key] for key in (distro, family_of(distro), "default") if key in names]
            result[service] = found[0] if found else service
    return result


def repeated_services(documents: Documents, elements: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the services that an element before has already: the element, the service, and what to do about it."""
    first: dict[str, str] = {}
    for element in elements:
        for service in documents.get(element, {}).get(SERVICE_MAP, {}):
            if first.setdefault(service, element) != element:
                yield element, service, f"service {service} is in {first[service]}/{SERVICE_MAP}, too; keep one"


def family_of(distro: str) -> str:
    """Return the family of a distribution in pkg-map and svc-map; "" for none."""
    return next((family for family, distros in _FAMILIES.items() if distro in distros), "")


def _request(package: str, element: str, file: str, entry: Mapping[str, Any]) -> InstallEntry:
    when = entry.get("when", ())
    return InstallEntry(
        package,
        element,
        file,
        phase=entry.get("phase", INSTALL),
        uninstall=bool(_boolean(entry.get("uninstall", False))),
        build_only=bool(_boolean(entry.get("build-only", False))),
        install_type=entry.get("installtype", ""),
        arch=_texts(entry.get("arch", ())),
        not_arch=_texts(entry.get("not-arch", ())),
        python_version=str(entry.get("dib_python_version", "")),
        when=tuple(_condition(each) for each in ([when] if isinstance(when, str) else when)),
    )


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    assert match is not None, text  # which document_faults() has seen
    return Condition(match.group("variable"), match.group("operator") == "=", match.group("value"))


def _variable(name: str, request: InstallEntry, environment: Mapping[str, str]) -> str:
    if name not in environment:
        raise ElementsError(
            [
                f"{request.element}/{request.file}: {request.package}: the variable {name} is not set; export it in a "
                "file of environment.d, or set it in the step's env"
            ]
        )
    return environment[name]


def _boolean(value: Any) -> Optional[bool]:
    """Return a truth value; None for what is none."""
    if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    return value if isinstance(value, bool) else None


def _texts(value: Any) -> tuple[str, ...]:
    """Return names from a list, or from text that has commas between them."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(filter(None, (part.strip() for part in parts)))


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _install_faults(document: Any) -> Iterator[DocumentFault]:
    if not isinstance(document, dict):
        yield DocumentFault((), "holds no packages; write lines such as rsync: or rsync: {phase: install.d}")
        return
    for package, entries in document.items():
        if not package or package.startswith("-") or package.split() != [package]:
            yield DocumentFault(
                (package,), "is no name of a package; write one, without spaces and without a dash before it"
            )
        if not isinstance(entries, (list, tuple)):
            yield from _entry_faults(package, (), entries)
            continue
        for index, entry in enumerate(entries):
            yield from _entry_faults(package, (index,), entry)


def _entry_faults(package: str, index: KeyPath, entry: Any) -> Iterator[DocumentFault]:
    path = (package, *index)
    if entry is None:
        return
    if not isinstance(entry, dict):
        yield DocumentFault(path, f"has {_kind(entry)}; write fields such as phase: install.d, or leave it empty")
        return
    for field, value in entry.items():
        if field not in _FIELDS:
            yield DocumentFault((*path, field), f"is no field of a package; write one of {', '.join(_FIELDS)}")
            continue
        text = _field_fault(field, value)
        if text:
            yield DocumentFault((*path, field), text)
    if "arch" in entry and "not-arch" in entry:
        yield DocumentFault((*path, "not-arch"), "stands beside arch; write one of the two")


def _field_fault(field: str, value: Any) -> str:
    """Return what is wrong with the value of a package's field; "" for nothing."""
    if field == "phase":
        return "" if value in INSTALL_PHASES else f"is {value!r:.60}; write {', '.join(INSTALL_PHASES)}"
    if field in ("uninstall", "build-only"):
        return "" if _boolean(value) is not None else f"is {_kind(value)}; write true or false"
    if field in ("arch", "not-arch"):
        good = isinstance(value, str) or _is_texts(value)
        return "" if good and _texts(value) else "names no architecture; write names with commas: amd64, arm64"
    if field == "installtype":
        return "" if isinstance(value, str) and value else f"is {_kind(value)}; write source or package"
    if field == "dib_python_version":
        good = isinstance(value, (int, str)) and not isinstance(value, bool) and value != ""
        return "" if good else f"is {_kind(value)}; write 2 or 3"
    conditions = [value] if isinstance(value, str) else value if _is_texts(value) else None
    if not conditions:
        return f"is {_kind(value)}; write VARIABLE = value, VARIABLE != value, or a list of these"
    for condition in conditions:
        match = _CONDITION.fullmatch(condition)
        if match is None or match.group("value").startswith("="):
            return f"has {condition!r:.60}; write VARIABLE = value or VARIABLE != value"
    return ""


def _package_map_faults(document: Any) -> Iterator[DocumentFault]:
    if not isinstance(document, dict):
        yield DocumentFault((), 'holds no names; write sections such as {"default": {"name": "package"}}')
        return
    for section, content in document.items():
        if section in _SECTIONS:
            yield from _section_faults((section,), content, _SECTION_DEPTH[section])
        else:
            yield DocumentFault((section,), f"is no section of a pkg-map; write one of {', '.join(_SECTIONS)}")


def _section_faults(path: KeyPath, content: Any, depth: int) -> Iterator[DocumentFault]:
    """Yield the faults of a section whose names are that many levels below it; at most 2."""
    if not isinstance(content, dict):
        yield DocumentFault(
            path, f"is {_kind(content)}; write " + ("names and packages" if not depth else "sections by name")
        )
        return
    for key, value in content.items():
        if depth:
            yield from _section_faults((*path, key), value, depth - 1)
        elif not isinstance(value, str):
            yield DocumentFault((*path, key), f'is {_kind(value)}; write the package\'s name, or "" for none')


def _service_map_faults(document: Any) -> Iterator[DocumentFault]:
    if not isinstance(document, dict):
        yield DocumentFault((), "holds no services; write lines such as ssh: {default: sshd}")
        return
    for service, names in document.items():
        if not isinstance(names, dict):
            yield DocumentFault((service,), f"is {_kind(names)}; write names such as {{default: sshd, debian: ssh}}")
            continue
        for key, name in names.items():
            if not isinstance(name, str) or not name:
                yield DocumentFault((service, key), f"is {_kind(name)}; write the service's name")


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def _kind(value: Any) -> str:
    """Return what a value is, for people."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return f"{value!r:.60}"
    return "a list" if isinstance(value, (list, tuple)) else "keys and values"
