"""An element, explained to a person: what it is for, what it needs, and the variables that it knows.

Variables are found by how shell scripts are usually written, not by running them: those that files of environment.d
export or read, and the ones of diskimage-builder (DIB_...) that hooks and conditions of packages name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from provisioner.elements.documents import install_entries
from provisioner.elements.hooks import HookTree, merge_hooks
from provisioner.elements.model import Element, ElementFolders, ElementsError, find_elements, read_element
from provisioner.system.files import read_text

from ..errors import InputError
from ..names import quoted
from .documents import read_documents

READMES = ("README.rst", "README.md", "README")
SUMMARY_LENGTH = 600  # characters
SCRIPT_LIMIT = 1 << 18  # bytes; a larger file is no script that people read

_EXPORT = re.compile(r"\b(?:export|declare -x|typeset -x)[ \t]")
_BEFORE_COMMANDS = re.compile(r"(?:[;&|{(]|\b(?:then|else|do))\Z")
_NAME = re.compile(r"\s*([A-Za-z_]\w*)")
_READ = re.compile(r"\$\{?[!#]?([A-Za-z_]\w*)")
_BY_DEFAULT = re.compile(r"\$\{(\w+):?[-=]")
_OPENED = {"{": "}", "(": ")"}
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"[.!?](?=\s)")


@dataclass
class KnownVariable:
    """A variable, and the files of the element that export it or read it."""

    name: str
    default: str | None = None  # as the script has it; None: it has none
    exports: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)


def explain_element(name: str, path: Sequence[str]) -> dict[str, Any]:
    """Return what is known of an element as JSON has it. InputError."""
    try:
        folders = find_elements(path)
        element = _named(name, folders)
        hooks = merge_hooks([element])
        documents = read_documents([element])
    except ElementsError as error:
        raise InputError(str(error)) from error
    entries = install_entries(documents, [element.name])
    conditions = [(entry.file, each.variable) for entry in entries for each in entry.when]
    return {
        "name": element.name,
        "folder": element.folder,
        "instead_of": [each.loser for each in folders.overrides if each.name == element.name],
        "summary": readme_summary(element.folder),
        "dependencies": list(element.dependencies),
        "provides": list(element.provides),
        "needed_by": list(_needing(element, folders)),
        "environment": [hook.name for hook in hooks.environment],
        "phases": {phase: [hook.name for hook in each] for phase, each in hooks.phases.items() if each},
        "skipped": [{"phase": each.phase, "name": each.name, "reason": each.reason} for each in hooks.skipped],
        "packages": list(dict.fromkeys(entry.package for entry in entries)),
        "services": sorted(documents.get(element.name, {}).get("svc-map", {})),
        "variables": [vars(each) for each in _variables(hooks, conditions)],
    }


def _named(name: str, folders: ElementFolders) -> Element:
    """Return the element of a name. ElementsError."""
    found = folders.links.get(name, name)
    if found in folders.by_name:
        return read_element(found, folders.by_name[found])
    import difflib

    near = difflib.get_close_matches(name, list(folders.by_name), 1)
    remedy = f"did you mean {near[0]}?" if near else "name its folder with --path"
    raise ElementsError([f"there is no element {quoted(name)} in {', '.join(folders.path)}; {remedy}"])


def _needing(element: Element, folders: ElementFolders) -> Iterator[str]:
    """Yield the elements on the path that need this one by its name."""
    for name, folder in sorted(folders.by_name.items()):
        try:
            needed = read_element(name, folder).dependencies
        except ElementsError:  # which its own explanation tells
            continue
        if element.name in (folders.links.get(each, each) for each in needed):
            yield name


def readme_summary(folder: str) -> str:
    """Return the first paragraph of an element's README as one line; "" where there is none."""
    for file in READMES:
        text = _text(f"{folder}/{file}")
        if text is not None:
            return _summary(text)
    return ""


def _summary(text: str) -> str:
    for is_text, block in groupby(text.splitlines(), key=lambda line: bool(line.strip())):
        lines = [line.strip() for line in block] if is_text else []
        headings = {index for index, line in enumerate(lines) if _underlines(line)}
        first = 1 if headings and 0 in headings else 0  # a heading between two lines, or above one
        headings |= {first} if headings else set()
        kept = [line for index, line in enumerate(lines) if index not in headings and not line.startswith(("#", ".. "))]
        if kept:
            return _cut(" ".join(" ".join(kept).split()))
    return ""


def _underlines(line: str) -> bool:
    """Return whether a line is drawn below a heading."""
    return len(line) > 1 and len(set(line)) == 1 and not line[0].isalnum()


def _cut(text: str) -> str:
    """Return a text of at most SUMMARY_LENGTH characters, up to the end of a sentence if there is one."""
    if len(text) <= SUMMARY_LENGTH:
        return text
    ends = [end.end() for end in _SENTENCE_END.finditer(text, 0, SUMMARY_LENGTH)]
    return text[: ends[-1]] if ends else text[: SUMMARY_LENGTH - 4] + " ..."


def _variables(hooks: HookTree, conditions: Iterable[tuple[str, str]]) -> list[KnownVariable]:
    found: dict[str, KnownVariable] = {}

    def read_by(file: str, names: Iterable[str]) -> None:
        for name in dict.fromkeys(names):
            found.setdefault(name, KnownVariable(name)).reads.append(file)

    for hook in hooks.environment:
        text, file = _script(hook.path), f"{hook.phase}/{hook.name}"
        for name, default in exported(text):
            variable = found.setdefault(name, KnownVariable(name))
            variable.default = variable.default if default is None else default
            variable.exports += [file] if file not in variable.exports else []
        read_by(file, _READ.findall(text))
    for phase, in_order in hooks.phases.items():
        for hook in in_order:
            read_by(f"{phase}/{hook.name}", filter(_is_known_by_name, _WORD.findall(_script(hook.path))))
    for file, name in dict.fromkeys(conditions):
        read_by(file, [name])
    return [found[name] for name in sorted(found)]


def _is_known_by_name(word: str) -> bool:
    return word.startswith("DIB_") and word.isupper() and not word.endswith("_")


def _script(path: str) -> str:
    """Return a script's text without comments."""
    return "\n".join(map(_without_comment, (_text(path) or "").splitlines()))


def _without_comment(line: str) -> str:
    at = line.find("#")
    while at > 0 and not line[at - 1].isspace():
        at = line.find("#", at + 1)
    return line if at < 0 else line[:at]


def exported(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the variables that a shell script exports with the value that it writes, or the default of `${A:-b}`."""
    for line in text.splitlines():
        for export in _EXPORT.finditer(line):
            before = line[: export.start()].strip()
            if not before or _BEFORE_COMMANDS.search(before, max(0, len(before) - 8)):
                yield from _assignments(line[export.end() :])


def _assignments(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the names, and values, up to the end of a command."""
    at = 0
    while match := _NAME.match(text, at):
        name, at = match[1], match.end()
        if text[at : at + 1] != "=":
            yield name, None
            continue
        end = _end_of_word(text, at + 1)
        value = text[at + 1 : end]
        at = end
        yield name, _default(name, value)


def _end_of_word(text: str, at: int) -> int:
    """Return where a word of the shell ends, quotes and expansions in it being one."""
    ends: list[str] = []  # of what is open
    while at < len(text):
        letter = text[at]
        if ends and letter == ends[-1]:
            ends.pop()
        elif ends[-1:] == ["'"]:
            pass
        elif letter == "\\":
            at += 1
        elif letter == "$" and text[at + 1 : at + 2] in _OPENED:
            at += 1
            ends.append(_OPENED[text[at]])
        elif letter in "\"'`" and ends[-1:] != ['"']:
            ends.append(letter)
        elif not ends and (letter.isspace() or letter in ";&|"):
            break
        at += 1
    return min(at, len(text))


def _default(name: str, value: str) -> str:
    """Return a value without the quotes around it; of `${NAME:-default}` the default."""
    bare = _unquoted(value)
    by_default = _BY_DEFAULT.match(bare)
    if by_default and by_default[1] == name and _end_of_word(bare, 0) == len(bare) and bare.endswith("}"):
        return _unquoted(bare[by_default.end() : -1])
    return bare


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" and value.count(value[0]) == 2
    return value[1:-1] if quoted else value


def _text(path: str) -> str | None:
    """Return a text file's contents; None where there is none that people read."""
    try:
        text = read_text(path, SCRIPT_LIMIT, errors="replace")
    except OSError:
        return None
    return None if "\0" in text else text
