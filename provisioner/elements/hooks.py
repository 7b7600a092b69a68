"""The scripts of an image's elements, merged into one list for each phase.

A hook is a regular file, or a link to one, in an element's folder of that phase. It is executable, and its name has
letters, digits, `_` and `-` alone. Hooks run in the order of the number that their name begins with (a name without one
counts as 0), then of the name's bytes, whichever element they come from. Files of environment.d are read by the shell
before each phase: they need not be executable, may have dots, and come in the order of their names' bytes.

Scripts find the files beside them, so all folders of the elements are merged into one, TMP_HOOKS_PATH. A file that two
elements bring would hide one of them, which is an error in any folder; only files outside of folders may do that.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import NamedTuple

from .model import ElementsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .model import Element

ENVIRONMENT_FOLDER = "environment.d"
ROOT, EXTRA_DATA = "root.d", "extra-data.d"
PRE_INSTALL, INSTALL, POST_INSTALL = "pre-install.d", "install.d", "post-install.d"
POST_ROOT, BLOCK_DEVICE, PRE_FINALISE = "post-root.d", "block-device.d", "pre-finalise.d"
FINALISE, CLEANUP = "finalise.d", "cleanup.d"
HOOK_PHASES = (
    *(ROOT, EXTRA_DATA, PRE_INSTALL, INSTALL, POST_INSTALL),
    *(POST_ROOT, BLOCK_DEVICE, PRE_FINALISE, FINALISE, CLEANUP),
)
"""The phases in the order in which they run; environment.d belongs to each."""

TARGET_PHASES = (PRE_INSTALL, INSTALL, POST_INSTALL, FINALISE)
"""The phases that run in the target's root; the others run on the build machine."""

NOT_MERGED = ("tests", "__pycache__")  # folders that are not for builds
OF_EVERY_ELEMENT = (
    *("element-deps", "element-provides", "package-installs.json", "package-installs.yaml", "pkg-map", "svc-map"),
    *("README", "README.md", "README.rst", "LICENSE", "__init__.py"),
)
"""Files outside of folders that are read where each element lies, so that one hides no other."""

HOOK_FILE_LIMIT = 10_000  # files and folders of the elements of one image, two levels deep

_HOOK_NAME = re.compile("[0-9A-Za-z_-]+")
_ENVIRONMENT_NAME = re.compile("[0-9A-Za-z_.-]+")
_NUMBER = re.compile("-?[0-9]+")


class Hook(NamedTuple):
    """One script of a phase, or file of environment.d."""

    phase: str
    name: str
    element: str
    path: str


class SkippedHook(NamedTuple):
    """A file in the folder of a phase that does not run, and why."""

    phase: str
    name: str
    element: str
    path: str
    reason: str


class MergedFile(NamedTuple):
    """A file or folder of TMP_HOOKS_PATH, and the element that it comes from."""

    folder: str  # "": none
    name: str
    element: str
    path: str


class HookTree(NamedTuple):
    """The merged hooks of some elements."""

    phases: Mapping[str, tuple[Hook, ...]]  # of each phase, in the order in which they run
    environment: tuple[Hook, ...]  # in the order in which they are read
    skipped: tuple[SkippedHook, ...]
    files: tuple[MergedFile, ...]  # what TMP_HOOKS_PATH holds, hooks too; copying them in this order makes it
    hidden: tuple[tuple[MergedFile, MergedFile], ...]  # files outside of folders: the one that is used, and the other


def merge_hooks(elements: Iterable[Element]) -> HookTree:
    """Return the merged hooks of elements that are in their order. ElementsError tells all problems."""
    merged = _Merged()
    for element in elements:
        try:
            merged.add(element)
        except OSError as error:
            merged.problems.append(f"{error.filename or element.folder}: {(error.strerror or str(error)).lower()}")
    if merged.problems:
        raise ElementsError(merged.problems)
    return HookTree(
        {phase: tuple(sorted(merged.hooks[phase], key=hook_order)) for phase in HOOK_PHASES},
        tuple(sorted(merged.hooks[ENVIRONMENT_FOLDER], key=lambda hook: os.fsencode(hook.name))),
        tuple(merged.skipped),
        tuple(merged.files),
        tuple(merged.hidden),
    )


def hook_order(hook: Hook) -> tuple[int, bytes]:
    """Return what hooks of a phase are sorted by: as `LC_ALL=C sort -n` sorts their names."""
    number = _NUMBER.match(hook.name)
    return (int(number.group()) if number else 0, os.fsencode(hook.name))


class _Merged:
    """The folders of the elements so far."""

    def __init__(self) -> None:
        self.hooks: dict[str, list[Hook]] = {phase: [] for phase in (*HOOK_PHASES, ENVIRONMENT_FOLDER)}
        self.skipped: list[SkippedHook] = []
        self.files: list[MergedFile] = []
        self.hidden: list[tuple[MergedFile, MergedFile]] = []
        self.taken: dict[tuple[str, str], MergedFile] = {}  # by folder and name, no folders
        self.problems: list[str] = []

    def add(self, element: Element) -> None:
        for name, mode in self._entries(element.folder):
            path = os.path.join(element.folder, name)
            if stat.S_ISREG(mode) and not name.endswith(".pyc"):
                self._add_outside(MergedFile("", name, element.name, path))
            elif stat.S_ISDIR(mode) and name not in NOT_MERGED:
                for inner, inner_mode in self._entries(path):
                    self._add_inside(MergedFile(name, inner, element.name, os.path.join(path, inner)), inner_mode)

    def _entries(self, folder: str) -> list[tuple[str, int]]:
        """Return the names in a folder, sorted, with what each is, links followed; 0 where one leads nowhere."""
        names = sorted(os.listdir(folder), key=os.fsencode)
        if len(self.files) + len(self.skipped) + len(names) > HOOK_FILE_LIMIT:
            raise ElementsError([f"{folder}: the elements have more than {HOOK_FILE_LIMIT} files; choose fewer"])
        return [(name, _mode(os.path.join(folder, name))) for name in names]

    def _add_outside(self, file: MergedFile) -> None:
        other = self.taken.get(("", file.name))
        if other is not None:
            if file.name not in OF_EVERY_ELEMENT:
                self.hidden.append((file, other))
            self.files.remove(other)
        self.taken["", file.name] = file
        self.files.append(file)

    def _add_inside(self, file: MergedFile, mode: int) -> None:
        if not file.name.startswith("."):  # which are not copied
            other = self.taken.get((file.folder, file.name))
            if other is not None:
                self.problems.append(
                    f"{file.path}: element {file.element} and element {other.element} both have {file.folder}/"
                    f"{file.name} ({other.path}); rename one of them"
                )
                return
            if not stat.S_ISDIR(mode):
                self.taken[file.folder, file.name] = file
            self.files.append(file)
        if file.folder in self.hooks:
            reason = _reason(file, mode)
            if reason:
                self.skipped.append(SkippedHook(file.folder, file.name, file.element, file.path, reason))
            else:
                self.hooks[file.folder].append(Hook(file.folder, file.name, file.element, file.path))


def _reason(file: MergedFile, mode: int) -> str:
    """Return why a file of a phase's folder does not run; "" if it does."""
    if stat.S_ISDIR(mode):
        return "is a folder"
    if not mode:
        return "is a link to nothing"
    if not stat.S_ISREG(mode):
        return "is no regular file"
    if file.name.startswith("."):
        return "its name begins with a dot"
    if file.folder == ENVIRONMENT_FOLDER:
        return "" if _ENVIRONMENT_NAME.fullmatch(file.name) else "its name has more than letters, digits and _.-"
    if not _HOOK_NAME.fullmatch(file.name):
        return "its name has a dot" if "." in file.name else "its name has more than letters, digits and _-"
    return "" if mode & 0o111 else "is not executable"


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        if error.errno == errno.ELOOP:  # links that lead to each other
            return 0
        raise
