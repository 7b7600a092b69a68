"""The helper programs that elements call by name. tools.py makes the files that start them.

pkg-map, map-packages       print what the distribution calls packages
svc-map, map-services       print what it calls services
package-installs-squash     write what each phase installs and uninstalls, as the conditions decide now
package-installs-v2         install or uninstall that
package-installs, -uninstalls   the same of files package-installs-ELEMENT, which came before package-installs.yaml
install-packages            the package manager, where no element of the distribution brings this program
cache-url                   fetch a file unless the server's is no newer
extract-image               unpack the image that a distribution offers
dib-run-parts               run the scripts of a folder
element-info                print the elements that some need
rsync, sudo                 as far as elements use them, where the image has none
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys

from .documents import decode_documents, install_entries, mapped_packages, merged_services, phase_packages
from .extract_image import unpacking
from .model import OPERATING_SYSTEM, ElementsError, expand_elements, find_elements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

FACTS = "programs.json"  # in the step's folder: the documents, and the elements in their order
MAPS = "/usr/share/pkg-map"
BAD_USAGE, NO_MAP = 1, 2  # exit statuses of pkg-map
_SCRIPT, _SOURCED = re.compile("[0-9A-Za-z_-]+"), re.compile("[0-9A-Za-z_.-]+")
_NUMBER = re.compile("-?[0-9]+")
_COPYING = re.compile("-[alrtpogDCvqX]+|--remove-source-files|--archive|--recursive")
_LEGACY = "package-installs-"
_INSTALL, _UNINSTALL = "install", "uninstall"


class Facts:
    """What the programs know of the step."""

    def __init__(self, work: str) -> None:
        with open(os.path.join(work, FACTS), "rb") as file:
            facts = json.loads(file.read().decode())
        self.work = work
        self.documents = decode_documents(facts["documents"])
        self.elements: Sequence[str] = facts["elements"]


class UsageFault(Exception):
    """The program cannot do what it was told; the text says why."""

    def __init__(self, text: str, status: int = BAD_USAGE) -> None:
        super().__init__(text)
        self.status = status


def main(name: str, work: str, arguments: List[str]) -> int:
    """Be the program of a name; return its exit status."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and programs that it starts would, too
    try:
        return _PROGRAMS[name](Facts(work), arguments)
    except UsageFault as error:
        _complain(name, str(error))
        return error.status
    except (ElementsError, OSError) as error:
        _complain(name, str(error))
        return 1


def _complain(name: str, text: str) -> None:
    sys.stderr.write(f"{name}: {text}\n")


def options_of(
    arguments: Iterable[str], flags: Sequence[str], valued: Sequence[str]
) -> Tuple[Dict[str, str], List[str]]:
    """Return the options, a flag's value being "yes", and the other arguments. UsageFault for an unknown option."""
    given: Dict[str, str] = {}
    rest: List[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        if argument == "--":
            return given, rest + list(waiting)
        if argument in flags:
            given[argument] = "yes"
        elif name in valued and (equals or argument == name):
            given[name] = value if equals else next(waiting, "")
        elif argument.startswith("-") and len(argument) > 1:
            raise UsageFault(f"{argument} is no option; write {', '.join([*flags, *valued])}")
        else:
            rest.append(argument)
    return given, rest


def pkg_map(facts: Facts, arguments: List[str]) -> int:
    """Print what the distribution calls packages, one a line."""
    given, names = options_of(
        arguments,
        ("--missing-ok", "--debug"),
        ("--element", "--pkg-map", "--distro", "--release", "--prefix"),
    )
    element, file = given.get("--element", ""), given.get("--pkg-map", "")
    if bool(element) == bool(file):
        raise UsageFault("write either --element or --pkg-map")
    distro = given.get("--distro") or os.environ.get("DISTRO_NAME", "")
    if not distro:
        raise UsageFault("the distribution is unknown; write --distro, or set DISTRO_NAME")
    release = given.get("--release") or os.environ.get("DIB_RELEASE", "")
    document = _read_map(file) if file else _map_of(facts, element)
    if document is None and "--missing-ok" not in given:
        raise UsageFault(f"element {element} has no pkg-map; add one", NO_MAP)
    for name in names:
        mapped = None if document is None else mapped_packages(document, distro, release, name)
        if mapped is None and "--missing-ok" not in given:
            raise UsageFault(f"{element or file} has no mapping for package {name}; add one to its pkg-map")
        for found in (name,) if mapped is None else mapped:
            sys.stdout.write(f"{given.get('--prefix', '')}{found}\n")
    return 0


def _map_of(facts: Facts, element: str) -> Optional[Any]:
    """Return an element's pkg-map: the file in the image, which a script may have made, or the plan's."""
    path = os.path.join(MAPS, element)
    return _read_map(path) if os.path.isfile(path) else facts.documents.get(element, {}).get("pkg-map")


def _read_map(path: str) -> Any:
    from .documents import PACKAGE_MAP, document_faults, fault_text

    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except ValueError as error:
        raise UsageFault(f"{path}: not JSON: {error}") from error
    faults = document_faults(PACKAGE_MAP, document)
    if faults:
        raise UsageFault(f"{path}: {fault_text(faults[0])}")
    return document


def map_packages(facts: Facts, arguments: List[str]) -> int:
    """Print what the distribution calls packages of any of the elements."""
    if any(argument.startswith("--element") for argument in arguments):
        return pkg_map(facts, ["--missing-ok", *arguments])
    distro, release = os.environ.get("DISTRO_NAME", ""), os.environ.get("DIB_RELEASE", "")
    maps = [document for document in (_map_of(facts, element) for element in facts.elements) if document is not None]
    for name in arguments:
        found = (mapped_packages(document, distro, release, name) for document in maps)
        sys.stdout.write("".join(f"{each}\n" for each in next((one for one in found if one is not None), (name,))))
    return 0


def svc_map(facts: Facts, arguments: List[str]) -> int:
    """Print what the distribution calls services, one a line; a service that is there keeps its name."""
    services = merged_services(facts.documents, facts.elements, os.environ.get("DISTRO_NAME", ""))
    for name in arguments:
        there = [f"/lib/systemd/system/{name}.service", f"/etc/init/{name}.conf"]
        sys.stdout.write((name if any(map(os.path.exists, there)) else services.get(name, name)) + "\n")
    return 0


def package_installs_squash(facts: Facts, arguments: List[str]) -> int:
    """Write a file of what each phase installs and uninstalls."""
    given, rest = options_of(arguments, (), ("--elements", "--path"))
    if len(rest) != 1:
        raise UsageFault("write the name of one file")
    elements = given["--elements"].split() if "--elements" in given else facts.elements
    phases = phase_packages(install_entries(facts.documents, elements), facts.documents, os.environ)
    written = {
        phase: {_INSTALL: list(packages.install), _UNINSTALL: list(packages.uninstall)}
        for phase, packages in phases.items()
    }
    with open(rest[0], "w", encoding="utf-8") as file:
        json.dump(written, file, indent=1, sort_keys=True)
    return 0


def package_installs_v2(facts: Facts, arguments: List[str]) -> int:
    """Install or uninstall what a file says for a phase."""
    given, rest = options_of(arguments, ("--uninstall", "-n", "--noop"), ("--phase",))
    if len(rest) != 1 or "--phase" not in given:
        raise UsageFault("write --phase PHASE and the name of a file")
    with open(rest[0], encoding="utf-8") as file:
        phases = json.load(file)
    what = _UNINSTALL if "--uninstall" in given else _INSTALL
    found = phases.get(given["--phase"], {}).get(what, [])
    names = [each if isinstance(each, str) else each[0] for each in found]
    if not names:
        sys.stdout.write(f"{given['--phase']}: nothing to {what}\n")
        return 0
    command = ["install-packages", *(["-e"] if what == _UNINSTALL else []), *dict.fromkeys(names)]
    sys.stdout.write(" ".join(command) + "\n")
    sys.stdout.flush()
    return 0 if {"-n", "--noop"} & set(given) else _run(command)


def package_installs(facts: Facts, arguments: List[str]) -> int:
    """Install the packages of a folder's files package-installs-ELEMENT; a dash before one says: for the build."""
    names = [name for _, name in _legacy_packages(facts, arguments)]
    return _run(["install-packages", *names]) if names else 0


def package_uninstalls(facts: Facts, arguments: List[str]) -> int:
    """Remove those of them that are for the build alone."""
    names = [name for dash, name in _legacy_packages(facts, arguments) if dash]
    return _run(["install-packages", "-e", *names]) if names else 0


def _legacy_packages(facts: Facts, arguments: List[str]) -> List[Tuple[bool, str]]:
    given, _ = options_of(arguments, (), ("-d",))
    if "-d" not in given:
        raise UsageFault("write -d FOLDER")
    distro, release = os.environ.get("DISTRO_NAME", ""), os.environ.get("DIB_RELEASE", "")
    found: Dict[str, bool] = {}
    for file in sorted(os.listdir(given["-d"])):
        path = os.path.join(given["-d"], file)
        if not file.startswith(_LEGACY) or not os.path.isfile(path):
            continue
        document = _map_of(facts, file[len(_LEGACY) :])
        with open(path, encoding="utf-8", errors="surrogateescape") as lines:
            for name in filter(None, (line.split("#", 1)[0].strip() for line in lines)):
                plain = name.lstrip("-")
                mapped = None if document is None else mapped_packages(document, distro, release, plain)
                for each in (plain,) if mapped is None else mapped:
                    found[each] = found.get(each, True) and name.startswith("-")
    return [(dash, name) for name, dash in found.items()]


def install_packages(facts: Facts, arguments: List[str]) -> int:
    """Install, update (-u) or remove (-e) packages, as an element calls them with -m ELEMENT."""
    given, names = options_of(arguments, ("-u", "-e", "-d"), ("-m",))
    if "-m" in given:
        document = _map_of(facts, given["-m"])
        distro, release = os.environ.get("DISTRO_NAME", ""), os.environ.get("DIB_RELEASE", "")
        mapped = [None if document is None else mapped_packages(document, distro, release, name) for name in names]
        names = [each for name, found in zip(names, mapped) for each in ((name,) if found is None else found)]
    if not names and "-u" not in given:
        sys.stdout.write("no packages\n")
        return 0
    what = "update" if "-u" in given else "remove" if "-e" in given else "install"
    for manager, words in _MANAGERS.items():
        if _which(manager):
            os.environ.setdefault("DEBIAN_FRONTEND", "noninteractive")
            return _run([manager, *words[what], *([] if what == "update" else names)])
    raise UsageFault(f"this image has none of {', '.join(_MANAGERS)}; choose an element that brings install-packages")


_APT = ("-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Options::=--force-confdef", "--assume-yes")
_MANAGERS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "apt-get": {what: (*_APT, word) for what, word in (("update", "dist-upgrade"), ("remove",) * 2, ("install",) * 2)},
    "dnf": {"update": ("-y", "update"), "remove": ("-y", "remove"), "install": ("-y", "install")},
    "yum": {"update": ("-y", "update"), "remove": ("-y", "remove"), "install": ("-y", "install")},
    "zypper": {
        "update": ("--non-interactive", "dist-upgrade"),
        "remove": ("--non-interactive", "remove"),
        "install": ("--non-interactive", "install", "--no-recommends"),
    },
}


def cache_url(facts: Facts, arguments: List[str]) -> int:
    """Fetch a URL into a file, unless that is there and no older than the server's. -f asks for a new copy anyway."""
    given, rest = options_of(arguments, ("-f",), ())
    if len(rest) != 2:
        raise UsageFault("write a URL and the name of a file")
    from email.utils import formatdate, parsedate_to_datetime
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    url, target = rest
    asked = Request(url)  # noqa: S310
    if "-f" in given:
        asked.add_header("Cache-Control", "no-cache, must-revalidate")
    elif os.path.isfile(target) and os.path.getsize(target):
        asked.add_header("If-Modified-Since", formatdate(os.path.getmtime(target), usegmt=True))
    temporary = target + ".part"
    if os.path.dirname(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        with urlopen(asked, timeout=60) as answer:  # noqa: S310 - elements fetch file: URLs, too
            with open(temporary, "wb") as file:
                for data in iter(lambda: answer.read(1 << 20), b""):
                    file.write(data)
            changed = answer.headers.get("Last-Modified")
    except HTTPError as error:
        if error.code == 304:
            sys.stdout.write(f"{url} has not changed\n")
            return 0
        raise UsageFault(f"{url}: HTTP status {error.code}", 44 if error.code == 404 else 1) from error
    except (URLError, ValueError) as error:
        raise UsageFault(f"{url}: {getattr(error, 'reason', error)}") from error
    if changed:
        stamp = parsedate_to_datetime(changed).timestamp()
        os.utime(temporary, (stamp, stamp))
    os.replace(temporary, target)
    sys.stdout.write(f"{url} is in {target}\n")
    return 0


def extract_image(facts: Facts, arguments: List[str]) -> int:
    """Unpack a distribution's image below TARGET_ROOT, and fetch it before: a disk, a tar archive, or squashfs."""
    if len(arguments) != 4:
        raise UsageFault("write the names of a file and of its archive, a URL, and the path to keep it at")
    _, _, url, image = arguments
    target = os.environ.get("TARGET_ROOT", "")
    if not target:
        raise UsageFault("TARGET_ROOT is not set")
    kept = os.environ.get("DIB_OFFLINE") and os.path.isfile(image)
    if not os.environ.get("DIB_LOCAL_IMAGE") and not kept:
        cache_url(facts, [url, image])
    command = unpacking(image, target, facts.work)
    if not command:
        raise UsageFault(f"{image} is a disk, whose files have to be packed first: root.d will begin anew")
    return _run(command)


def dib_run_parts(facts: Facts, arguments: List[str]) -> int:
    """Run the scripts of a folder in their order, after the files of ../environment.d; --list prints them."""
    given, rest = options_of(arguments, ("--list",), ())
    if len(rest) != 1 or not os.path.isdir(rest[0]):
        raise UsageFault("write the name of a folder")
    folder = rest[0].rstrip("/")
    names = _scripts(folder, _SCRIPT, executable=True)
    if "--list" in given:
        sys.stdout.write("".join(f"{folder}/{name}\n" for name in names))
        return 0
    beside = os.path.join(os.path.dirname(os.path.abspath(folder)), "environment.d")
    files = [f"{beside}/{name}" for name in _scripts(beside, _SOURCED, executable=False)]
    scripts = [f"{os.path.abspath(folder)}/{name}" for name in names]
    text = 'set -eu -o pipefail; count=$1; shift; while [ "$count" -gt 0 ]; do source "$1"; shift; count=$((count - 1))'
    text += '; done; for script; do echo "dib-run-parts: $script" >&2; "$script"; done'
    return _run(["bash", "-c", text, "dib-run-parts", str(len(files)), *files, *scripts])


def _scripts(folder: str, names: re.Pattern[str], *, executable: bool) -> List[str]:
    """Return the files of a folder whose names match, as `LC_ALL=C sort -n` sorts them."""
    found = os.listdir(folder) if os.path.isdir(folder) else []
    kept = [
        name
        for name in found
        if names.fullmatch(name)
        and os.path.isfile(os.path.join(folder, name))
        and (not executable or os.access(os.path.join(folder, name), os.X_OK))
    ]

    def order(name: str) -> Tuple[int, bytes]:
        number = _NUMBER.match(name)
        return int(number.group()) if number and executable else 0, os.fsencode(name)

    return sorted(kept, key=order)


def element_info(facts: Facts, arguments: List[str]) -> int:
    """Print the elements that some need, with themselves; --env prints shell assignments."""
    from .environment import array_of

    given, names = options_of(arguments, ("--env", "-e"), ())
    path = os.environ.get("ELEMENTS_PATH", "").split(":")
    elements = expand_elements(names, find_elements(path), provided=(OPERATING_SYSTEM,))
    listed = " ".join(element.name for element in elements)
    if not given:
        sys.stdout.write(listed + "\n")
        return 0
    folders = json.dumps({element.name: element.folder for element in elements})
    quoted = array_of(elements).replace("'", "'\\''")
    sys.stdout.write(f"export IMAGE_ELEMENT='{listed}'\nexport IMAGE_ELEMENT_YAML='{folders}'\n")
    sys.stdout.write(
        f"function get_image_element_array {{\n  echo '{quoted}'\n}};\nexport -f get_image_element_array;\n"
    )
    return 0


def sudo(facts: Facts, arguments: List[str]) -> int:
    """Become another user, and run a command in the environment as it is."""
    import pwd

    given, command = _leading(arguments, ("-E", "-H", "-n", "-S", "-k", "-i", "--login"), ("-u", "--user", "-g"))
    user = given.get("-u", given.get("--user", "root"))
    try:
        entry = pwd.getpwuid(int(user[1:])) if user.startswith("#") else pwd.getpwnam(user)
    except (KeyError, ValueError) as error:
        raise UsageFault(f"there is no user {user}; make one before") from error
    if entry.pw_uid != os.getuid():
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.environ.update(USER=entry.pw_name, LOGNAME=entry.pw_name)
    if {"-H", "-i", "--login"} & set(given):
        os.environ["HOME"] = entry.pw_dir
    while command and "=" in command[0]:
        name, _, value = command.pop(0).partition("=")
        os.environ[name] = value
    if not command:
        raise UsageFault("write a command")
    os.execvp(command[0], command)  # noqa: S606 - what the element asks for


def _leading(arguments: Sequence[str], flags: Sequence[str], valued: Sequence[str]) -> Tuple[Dict[str, str], List[str]]:
    """Return the options before a command, and the command with its own."""
    given: Dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if word in flags:
            given[word] = "yes"
        elif name in valued:
            given[name] = value if equals else rest.pop(0) if rest else ""
        else:
            raise UsageFault(f"{word} is no option that works here; install sudo in a step before")
    return given, rest


def rsync(facts: Facts, arguments: List[str]) -> int:
    """Copy folders and files of this machine: what -a, -l, -r and --remove-source-files ask for."""
    words = [word for word in arguments if word.startswith("-")]
    wrong = [word for word in words if not _COPYING.fullmatch(word)]
    places = [word for word in arguments if not word.startswith("-")]
    if wrong or len(places) < 2 or any(":" in place.split("/")[0] for place in places):
        raise UsageFault(f"{' '.join(arguments)}: this image has no rsync; install it in a step before")
    target = places.pop()
    for source in places:
        inside = source.endswith(("/", "/."))
        into = target if inside else os.path.join(target, os.path.basename(source))
        if not os.path.isdir(source) and not (os.path.isdir(target) or target.endswith("/")):
            into = target
        os.makedirs(os.path.dirname(into.rstrip("/")) or "/", exist_ok=True)
        _copy(source.rstrip("/") or "/", into.rstrip("/") or "/", move="--remove-source-files" in words)
    return 0


def _copy(source: str, target: str, *, move: bool) -> None:
    """Copy a file, a link or a folder's contents with owners, modes and times."""
    import shutil

    for here, there, found in _entries(source, target):
        if os.path.isdir(here) and not os.path.islink(here):
            if not os.path.isdir(there):
                os.mkdir(there)
                os.chown(there, found.st_uid, found.st_gid)
                shutil.copystat(here, there)
            continue
        if os.path.lexists(there):
            os.unlink(there)
        shutil.copy2(here, there, follow_symlinks=False)
        os.chown(there, found.st_uid, found.st_gid, follow_symlinks=False)
        if not os.path.islink(there):
            shutil.copymode(here, there)
        if move:
            os.unlink(here)


def _entries(source: str, target: str) -> Iterator[Tuple[str, str, os.stat_result]]:
    """Yield all that is at a place, each folder before what is in it, and where it goes."""
    waiting = [(source, target)]
    while waiting:
        here, there = waiting.pop()
        found = os.lstat(here)
        yield here, there, found
        if os.path.isdir(here) and not os.path.islink(here):
            waiting += [(os.path.join(here, name), os.path.join(there, name)) for name in sorted(os.listdir(here))]


def _which(name: str) -> str:
    paths = (os.path.join(folder, name) for folder in os.environ.get("PATH", "").split(":"))
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def _run(command: List[str]) -> int:
    """Run a program with this one's output; return its exit status."""
    found = _which(command[0])
    if not found:
        raise UsageFault(f"there is no program {command[0]}; choose an element that brings it", 127)
    sys.stdout.flush()
    sys.stderr.flush()
    status = os.spawnv(os.P_WAIT, found, command)  # noqa: S606
    return status if status >= 0 else 128 - status


_PROGRAMS: Mapping[str, Callable[[Facts, List[str]], int]] = {
    "cache-url": cache_url,
    "dib-run-parts": dib_run_parts,
    "element-info": element_info,
    "extract-image": extract_image,
    "install-packages": install_packages,
    "map-packages": map_packages,
    "map-services": svc_map,
    "package-installs": package_installs,
    "package-installs-squash": package_installs_squash,
    "package-installs-v2": package_installs_v2,
    "package-uninstalls": package_uninstalls,
    "pkg-map": pkg_map,
    "rsync": rsync,
    "sudo": sudo,
    "svc-map": svc_map,
}
