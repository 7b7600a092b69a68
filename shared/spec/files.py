"""Check that the files a spec names are there, and that they can be used.

The checks see a spec's values as they are written, right or wrong: all problems of a spec are reported at once.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from ..build.proxy import CA_LIMIT, CREDENTIALS_LIMIT, read_certificates, read_credentials
from ..context.members import beside, missing_file, scan
from ..context.outside import leads_out
from ..names import quoted
from ..sbom.input import LIST_LIMIT, problems
from .actions import CONTEXT_FILES, INSTALLER, ContextFile
from .document import KeyPath, Problem

SCRIPT = "script"
DEPS = "deps_dir"  # of install-gpu: may lie outside of the context, as may
PATH = "path"  # of elements
_SOURCE_FILES: Mapping[str, str] = {"file": "file", "rootfs": "file", "oci": "folder or file"}
SBOM_INPUT: KeyPath = ("output", "sbom", "input")
PROXY: KeyPath = ("local", "proxy")
_PROXY_FILES: Mapping[str, tuple[int, Callable[[bytes], object]]] = {
    "ca": (CA_LIMIT, read_certificates),
    "credentials": (CREDENTIALS_LIMIT, read_credentials),
}


def check_files(data: Mapping[str, Any], folder: Path) -> list[Problem]:
    """Return the problems of all files that a spec's values name in `folder`."""
    return check_context(data, folder) + _check_sbom_input(data, folder) + _check_proxy_files(data, folder)


def check_context(data: Mapping[str, Any], folder: Path) -> list[Problem]:
    """Return the problems of the source, the context and its files that a spec's values name in `folder`."""
    found: list[Problem] = []
    source = data.get("source")
    for key, what in _SOURCE_FILES.items():
        file = source.get(key) if isinstance(source, dict) else None
        if _is_local(file) and not (_is_file(folder / file) or (key == "oci" and _is_folder(folder / file))):
            found.append(Problem(("source", key), f"there is no {what} {folder / file}; write a path beside the spec"))
    found += _check_keyring(source, folder)
    wanted = list(_each_once(_named_files(data)))
    context = data.get("context")
    if context is None:
        text = "is a file of the context, and the spec has no context; write context: . for the spec's own folder"
        return found + [Problem(path, text) for path, _, _ in wanted]
    if not _is_local(context):
        return found
    scripts = {posixpath.normpath(name): path for path, name, _ in reversed(wanted) if path[-1] == SCRIPT}
    seen = scan(folder / context, scripts)
    found += [Problem(("context",), fault) for fault in seen.problems]
    found += [Problem(scripts[name], f"{quoted(name)}: {fault}") for name, fault in seen.script_faults.items()]
    if seen.members is None:
        return found
    missing_folders: list[str] = []  # their files need no messages of their own
    for path, name, kinds in wanted:
        if leads_out(name) and path[0] != "verify" and (path[-1] in (DEPS, "version") or path[-2] == PATH):
            fault = _missing_outside(beside(folder / context, name), kinds)
        else:
            fault = missing_file(seen.members, name, kinds, folder / context)
        if fault and not any(name.startswith(f"{missing}/") for missing in missing_folders):
            found.append(Problem(path, fault))
        if fault and kinds == ("dir",):
            missing_folders.append(name)
    return found


def _named_files(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, tuple[str, ...]]]:
    """Yield the path and text of every input that names something in the context, and the kinds that it may have."""
    yield from _paths_of_source(data.get("source"))
    verify = data.get("verify")
    lists: list[tuple[KeyPath, Any]] = [(("steps",), data.get("steps"))]
    lists += [(("verify", "steps"), verify.get("steps"))] if isinstance(verify, dict) else []
    for where, steps in lists:
        for index, step in enumerate(steps if isinstance(steps, tuple) else ()):
            action, inputs = (step.get("action"), step.get("inputs")) if isinstance(step, dict) else (None, None)
            named = CONTEXT_FILES.get(action, ()) if isinstance(action, str) else ()
            if isinstance(inputs, dict):
                for each in named:
                    yield from _files_of_input((*where, index, "inputs"), action, each, inputs)


def _files_of_input(
    where: KeyPath, action: Any, named: ContextFile, inputs: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, str, tuple[str, ...]]]:
    """Yield what one input names in the context."""
    name, version = inputs.get(named.key), inputs.get("version")
    if isinstance(name, tuple):
        yield from (((*where, named.key, at), one, named.kinds) for at, one in enumerate(name) if _is_local(one))
    elif isinstance(name, str) and not (named.or_url and "://" in name):
        yield (*where, named.key), name, named.kinds
        if action == "install-gpu" and isinstance(version, str) and INSTALLER.fullmatch(version):
            yield (*where, "version"), f"{name}/{version}", ("file",)


def _each_once(
    wanted: Iterator[tuple[KeyPath, str, tuple[str, ...]]],
) -> Iterator[tuple[KeyPath, str, tuple[str, ...]]]:
    """Leave out the folders of elements that a step has of the source."""
    seen = set()
    for path, name, kinds in wanted:
        if path[-2] != PATH or name not in seen:
            yield path, name, kinds
        if path[-2] == PATH:
            seen.add(name)


def _paths_of_source(source: Any) -> Iterator[tuple[KeyPath, str, tuple[str, ...]]]:
    elements = source.get("elements") if isinstance(source, dict) else None
    if isinstance(elements, dict):
        paths = elements.get(PATH, ("elements",))
        for at, path in enumerate(paths if isinstance(paths, tuple) else ()):
            if _is_local(path):
                yield ("source", "elements", PATH, at), path, ("dir",)


def _missing_outside(path: Path, kinds: tuple[str, ...]) -> str | None:
    """Return why a folder outside of the context, or a file in it, cannot be used; None when it can."""
    there = path.is_dir() and not path.is_symlink() if kinds == ("dir",) else _is_file(path) and not path.is_symlink()
    what = "folder" if kinds == ("dir",) else "file"
    return None if there else f"there is no {what} {path}; put it there, or name another one"


def _check_sbom_input(data: Mapping[str, Any], folder: Path) -> list[Problem]:
    value = _value_at(data, SBOM_INPUT)
    if not _is_local(value):
        return []
    if (folder / value).exists() and not _is_file(folder / value):
        return [Problem(SBOM_INPUT, f"{folder / value} is no file; write the path of a file beside the spec")]
    try:
        with (folder / value).open("rb") as file:
            return [Problem(SBOM_INPUT, text) for text in problems(file.read(LIST_LIMIT + 1))]
    except OSError as error:
        text = f"{folder / value} cannot be read: {error.strerror}; write the path of a file beside the spec"
        return [Problem(SBOM_INPUT, text)]


def _check_proxy_files(data: Mapping[str, Any], folder: Path) -> list[Problem]:
    found = []
    for key, (limit, parse) in _PROXY_FILES.items():
        path = (*PROXY, key)
        value = _value_at(data, path)
        if not _is_local(value):
            continue
        try:
            with (folder / value).open("rb") as file:
                parse(file.read(limit + 1))
        except OSError as error:
            found.append(Problem(path, f"{folder / value} cannot be read: {error.strerror}; check the path"))
        except ValueError as error:
            found.append(Problem(path, f"{folder / value} {error}"))
    return found


def _value_at(data: Mapping[str, Any], path: KeyPath) -> Any:
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _check_keyring(source: Any, folder: Path) -> list[Problem]:
    bootstrap = source.get("bootstrap") if isinstance(source, dict) else None
    keyring = bootstrap.get("keyring") if isinstance(bootstrap, dict) else None
    if not _is_local(keyring) or _is_file(folder / keyring):
        return []
    text = f"there is no file {folder / keyring}; write a path beside the spec"
    return [Problem(("source", "bootstrap", "keyring"), text)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file system takes
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_local(place: Any) -> TypeGuard[str]:
    return isinstance(place, str) and bool(place) and "\0" not in place and not place.startswith("gs:")
