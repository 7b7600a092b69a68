"""Elements: folders of scripts, found on a path, and chosen by name with all that they need.

An element's name is its folder's. Of two folders of one name, the one that is further left on the path wins.
`element-deps` names the elements that it needs, `element-provides` the names that it stands in for, both one a line.

What belongs to an image is found as diskimage-builder does it, in a fixed order where that has none: names are looked
at in the order in which they are asked for, what each needs comes after all that wait, and a name that an element
provides which has been looked at by then stands for that element. Where `vm` is asked for and none of them provides
`block-device`, which it needs, block-device-mbr is taken too. The result is sorted: each element comes after those
that it needs, as far as they do not need each other.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ..system.files import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

DEPENDENCIES = "element-deps"
PROVIDES = "element-provides"
OPERATING_SYSTEM = "operating-system"  # a name that an element, or the image to start from, has to provide
VM, BLOCK_DEVICE, USUAL_BLOCK_DEVICE = "vm", "block-device", "block-device-mbr"
NAME_LIST_LIMIT = 1 << 16  # bytes of element-deps and element-provides
NAME_LIMIT = 1000  # names in one of them
MISSING_LIMIT = 50  # elements that are not there and of which a message is given
ELEMENT_LIMIT = 1000  # elements of one image
FOLDER_LIMIT = 2000  # folders of one entry of the path

_NAME = re.compile("[0-9A-Za-z_][0-9A-Za-z_.+-]*")  # scripts see it in bash arrays, YAML and lists with spaces


class ElementsError(Exception):
    """Elements that cannot be used. Each problem names the element, its file and line, and a remedy."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Element(NamedTuple):
    """One element: `dependencies` and `provides` in the order of their files, each name once."""

    name: str
    folder: str
    dependencies: tuple[str, ...]
    provides: tuple[str, ...]


class Override(NamedTuple):
    """An element on the path that another one of the same name, further left, takes the place of."""

    name: str
    winner: str  # folders
    loser: str


class ElementFolders(NamedTuple):
    """The folders of a path that may be elements."""

    path: tuple[str, ...]
    by_name: Mapping[str, str]  # folder
    links: Mapping[str, str]  # symbolic links to folders of another name, which is the element's
    overrides: tuple[Override, ...]


def find_elements(path: Sequence[str]) -> ElementFolders:
    """Return the folders of all elements on a path, without reading them. ElementsError."""
    by_name: dict[str, str] = {}
    links: dict[str, str] = {}
    overrides = []
    problems = []
    for entry in path:
        try:
            folders = list(_folders(entry))
        except OSError as error:
            problems.append(f"elements: {entry}: {_why(error)}; name folders that hold elements")
            continue
        if len(folders) > FOLDER_LIMIT:
            problems.append(
                f"elements: {entry}: has more than {FOLDER_LIMIT} folders; name the one that holds elements"
            )
            continue
        for found in folders:
            folder = os.path.realpath(found)
            name = os.path.basename(folder)
            known = by_name.setdefault(name, folder)
            if known != folder:
                overrides.append(Override(name, known, folder))
            if os.path.basename(found) != name:
                links.setdefault(os.path.basename(found), name)
    if problems:
        raise ElementsError(problems)
    return ElementFolders(tuple(path), by_name, links, tuple(overrides))


def _folders(entry: str) -> Iterator[str]:
    """Yield the folders in an entry of the path, those that are no links first, sorted."""
    with os.scandir(entry) as entries:
        found = [(each.is_symlink(), each.name) for each in entries if os.path.isdir(each.path)]
    return iter([os.path.join(entry, name) for _, name in sorted(found)])


def read_element(name: str, folder: str) -> Element:
    """Read what an element needs and provides. ElementsError."""
    return Element(name, folder, _names(name, folder, DEPENDENCIES), _names(name, folder, PROVIDES))


def _names(element: str, folder: str, file: str) -> tuple[str, ...]:
    path = os.path.join(folder, file)
    try:
        lines = read_text(path, NAME_LIST_LIMIT).splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ElementsError(
            [f"{path}: element {element}: {_why(error)}; write names of elements, one a line"]
        ) from error
    names = tuple(dict.fromkeys(filter(None, (line.strip() for line in lines))))
    if len(names) > NAME_LIMIT:
        raise ElementsError([f"{path}: element {element}: has more than {NAME_LIMIT} names; write fewer"])
    return names


def expand_elements(names: Iterable[str], folders: ElementFolders, provided: Sequence[str] = ()) -> tuple[Element, ...]:
    """Return the elements of an image, sorted as above. ElementsError tells all problems.

    `provided` are the names that need no element, such as OPERATING_SYSTEM where an image to start from is it.
    """
    asked = list(dict.fromkeys(folders.links.get(name, name) for name in names))
    return _Selection(folders, frozenset(provided)).of(asked)


class _Selection:
    """The elements looked at so far, and what is wrong with them."""

    def __init__(self, folders: ElementFolders, given: frozenset[str]) -> None:
        self.folders = folders
        self.given = given
        self.elements: dict[str, Element] = {}
        self.providers: dict[str, str] = {}  # element by the name that it provides
        self.missing: dict[str, str] = {}  # by name, the element that needs it; "": the caller
        self.problems: list[str] = []
        self.all_providers: dict[str, list[str]] = {}  # of the whole path, for messages

    def of(self, asked: Sequence[str]) -> tuple[Element, ...]:
        self._look(asked)
        if VM in asked and BLOCK_DEVICE in self.missing and BLOCK_DEVICE not in self.providers:
            usual = [name for name in (USUAL_BLOCK_DEVICE,) if name in self.folders.by_name]
            self._look(usual)
            asked = [*asked, *usual]
        self._check(asked)
        if self.problems:
            raise ElementsError(self.problems)
        return tuple(self._sorted(asked))

    def _look(self, asked: Sequence[str]) -> None:
        queue = [(name, "") for name in asked]
        seen = set(asked)
        for name, needed_by in queue:  # which grows
            if name in self.providers or name in self.given or name in self.elements:
                continue
            if name not in self.folders.by_name or not _NAME.fullmatch(name):
                self.missing[name] = needed_by
                continue
            if len(self.elements) == ELEMENT_LIMIT:
                raise ElementsError([f"elements: more than {ELEMENT_LIMIT} for one image; choose fewer"])
            element = self._read(name)
            self._provide(element)
            for needed in (self.folders.links.get(each, each) for each in element.dependencies):
                if needed not in seen:
                    seen.add(needed)
                    queue.append((needed, name))

    def _read(self, name: str) -> Element:
        try:
            element = read_element(name, self.folders.by_name[name])
        except ElementsError as error:
            self.problems += error.problems
            element = Element(name, self.folders.by_name[name], (), ())
        self.elements[name] = element
        return element

    def _provide(self, element: Element) -> None:
        for provided in element.provides:
            if provided in self.providers:
                self.problems.append(
                    f"{_place(element, PROVIDES, provided)}: {provided} is provided by {self.providers[provided]} "
                    f"already, and by {element.name} too; choose one of them"
                )
            self.providers.setdefault(provided, element.name)

    def _check(self, asked: Sequence[str]) -> None:
        missing = [name for name in self.missing if name not in self.providers]
        self.problems += [self._missing(name, self.missing[name]) for name in missing[:MISSING_LIMIT]]
        if len(missing) > MISSING_LIMIT:
            self.problems.append(f"elements: {len(missing) - MISSING_LIMIT} more elements are not there")
        for name in asked:
            if name in self.given:
                self.problems.append(f"elements: {name} is there without an element; leave it out")
            elif name in self.providers and self.providers[name] != name:
                self.problems.append(f"elements: {name} is provided by {self.providers[name]}; leave one of them out")
        for name, provider in self.providers.items():
            if provider in self.providers:
                self.problems.append(self._circle(name, provider))
        if OPERATING_SYSTEM not in self.providers and OPERATING_SYSTEM not in self.given:
            self.problems.append(
                f"elements: none of {', '.join(self.elements) or 'them'} provides {OPERATING_SYSTEM}; add one that "
                f"does{self._listed(self._who_provide(OPERATING_SYSTEM))}"
            )

    def _missing(self, name: str, needed_by: str) -> str:
        place = "elements"
        if needed_by:
            place = _place(self.elements[needed_by], DEPENDENCIES, name)
        what = f"{place}: there is no element {_shown(name)}"
        if name in self.folders.by_name:
            return f"{what}; a name has letters, digits and _.+- alone: rename its folder"
        needed = f", which {needed_by} needs" if needed_by else ""
        providers = self._who_provide(name)
        if providers:
            return f"{what}{needed}; add one that provides it{self._listed(providers)}"
        import difflib  # slow to import on an emulated CPU

        near = difflib.get_close_matches(name, list(self.folders.by_name), 1)
        searched = ", ".join(self.folders.path) or "no folder"
        remedy = f"did you mean {near[0]}?" if near else "add its folder to the path"
        return f"{what} in {searched}{needed}; {remedy}"

    def _circle(self, name: str, provider: str) -> str:
        element = self.elements[provider]
        place = _place(element, PROVIDES, name)
        if name == provider:
            return f"{place}: {name} provides itself; take that line out"
        return (
            f"{place}: {provider} provides {name}, and is itself provided by {self.providers[provider]}; "
            "leave one of them out"
        )

    def _who_provide(self, name: str) -> Sequence[str]:
        """Return the elements on the path that provide a name; a broken one does not."""
        if not self.all_providers:
            for each, folder in sorted(self.folders.by_name.items()):
                try:
                    provided = read_element(each, folder).provides
                except ElementsError:
                    continue
                for one in provided:
                    self.all_providers.setdefault(one, []).append(each)
        return self.all_providers.get(name, ())

    @staticmethod
    def _listed(names: Sequence[str]) -> str:
        return f": {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}" if names else ""

    def _sorted(self, asked: Sequence[str]) -> list[Element]:
        """Return the elements that none provides, each after those that it needs. It does not recurse."""
        result = []
        seen: set[str] = set()
        for start in (*asked, *self.elements):
            open_names = [(start, False)]
            while open_names:
                name, complete = open_names.pop()
                name = self.folders.links.get(name, name)
                name = self.providers.get(name, name)
                if complete:
                    result.append(self.elements[name])
                elif name in self.elements and name not in seen:
                    seen.add(name)
                    open_names.append((name, True))
                    open_names += [(each, False) for each in reversed(self.elements[name].dependencies)]
        return result


def _place(element: Element, file: str, name: str) -> str:
    """Return `FILE:LINE` of a name in a list of an element."""
    path = os.path.join(element.folder, file)
    lines = [line.strip() for line in read_text(path, NAME_LIST_LIMIT).splitlines()]
    return f"{path}:{lines.index(name) + 1}"


def _shown(name: str) -> str:
    return name if _NAME.fullmatch(name) else repr(name[:60])


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
