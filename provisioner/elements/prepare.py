"""Lay out the folder of a step of elements: the merged hooks, the helper programs, and what the run is told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

from .documents import PACKAGE_INSTALLS, SERVICE_MAP
from .environment import array_of
from .hooks import CLEANUP, ENVIRONMENT_FOLDER, HOOK_PHASES, ROOT, merge_hooks
from .model import ElementsError
from .plain_yaml import TEXTS
from .programs import FACTS
from .run import TASK
from .shell_library import write_library
from .tools import write_tools
from .variables import script_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Callable, Dict

    from .documents import Documents
    from .hooks import HookTree, MergedFile
    from .model import Element

_INSTALL_TYPE_FILE = "11-dib-install-type.bash"
_INSTALL_TYPE = 'export DIB_DEFAULT_INSTALLTYPE=${DIB_DEFAULT_INSTALLTYPE:-"source"}\n'
_WITH_SCRIPTS = (*HOOK_PHASES, ENVIRONMENT_FOLDER)
_FOLDERS = ("cache", "home", "hooks", "image", "locks", "mnt", "tmp")


class Chosen:
    """The elements of a step, and what it was told."""

    def __init__(
        self,
        elements: Sequence[Element],
        asked: Sequence[str],
        path: Sequence[str],
        own: Mapping[str, str],
        documents: Documents,
        packages: Sequence[str] = (),
        secrets: Sequence[str] = (),
    ) -> None:
        self.elements = elements
        self.asked = asked
        self.path = path
        self.own = own  # variables
        self.documents = documents
        self.packages = packages  # that the step installs beside those of the elements
        self.secrets = secrets  # the names of the variables that scripts alone get


def prepare(
    chosen: Chosen, root: str, work: str, seconds: float, say: Callable[[str], None], *, held: bool = False
) -> None:
    """Make the folder of a step's work. ElementsError tells all problems; OSError.

    `held` is for a step whose failure leaves all as it is, for a person.
    """
    tree = merge_hooks(chosen.elements)
    for skipped in tree.skipped:
        if skipped.phase in HOOK_PHASES and skipped.reason != "is a folder":
            say(f"elements: {skipped.phase}/{skipped.name} of {skipped.element} does not run: {skipped.reason}")
    os.mkdir(work, 0o755)
    for folder in _FOLDERS:
        os.mkdir(os.path.join(work, folder))
    os.chmod(os.path.join(work, "tmp"), 0o1777)  # noqa: S103 - every user of the build machine writes there
    write_library(os.path.join(work, "lib"))
    _lay_out(chosen, tree, work)
    _write(os.path.join(work, TASK), {**_task(chosen, tree, root, work, seconds), "held": held})


def prepare_again(chosen: Chosen, root: str, work: str, seconds: float, stopped: Mapping[str, Any]) -> None:
    """Bring the elements as they are now into a folder in which a run has stopped. ElementsError; OSError.

    Their files are written over those that are there; what earlier scripts have added stays.
    """
    tree = merge_hooks(chosen.elements)
    _lay_out(chosen, tree, work)
    task = _task(chosen, tree, root, work, seconds)
    _write(os.path.join(work, TASK), {**task, "held": True, "stopped": stopped})


def _lay_out(chosen: Chosen, tree: HookTree, work: str) -> None:
    """Merge the hooks, and write the programs and what they know."""
    hooks = os.path.join(work, "hooks")
    for file in tree.files:
        _merge(file, chosen.elements, hooks)
    os.makedirs(os.path.join(hooks, ENVIRONMENT_FOLDER), exist_ok=True)
    with open(os.path.join(hooks, ENVIRONMENT_FOLDER, _INSTALL_TYPE_FILE), "w", encoding="utf-8") as written:
        written.write(_INSTALL_TYPE)
    write_tools(work, hooks)
    facts = {"documents": json.dumps(chosen.documents), "elements": [element.name for element in chosen.elements]}
    _write(os.path.join(work, FACTS), facts)
    _write(os.path.join(work, TEXTS), _texts(chosen))


def _task(chosen: Chosen, tree: HookTree, root: str, work: str, seconds: float) -> Dict[str, Any]:
    rooted = sorted({hook.element for hook in tree.phases[ROOT]})
    return {
        "variables": script_variables(chosen.elements, chosen.path, chosen.asked, root, work, chosen.own),
        "array": array_of(chosen.elements),
        "origins": {f"{file.folder}/{file.name}": file.element for file in tree.files if file.folder in _WITH_SCRIPTS},
        "unrooted": rooted,
        "phases": [phase for phase in HOOK_PHASES if phase not in (ROOT, CLEANUP)],
        "packages": list(chosen.packages),
        "secrets": list(chosen.secrets),
        "seconds": seconds,
        "device": _device_of(root),
    }


def _device_of(root: str) -> Mapping[str, str]:
    """Return the variables that name the disk of the image; none where it cannot be seen, as in a sandbox."""
    try:
        number = os.stat(root).st_dev
        place = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        disk = os.path.dirname(place) if os.path.exists(os.path.join(place, "partition")) else place
        part, whole = os.path.basename(place), os.path.basename(disk)
    except OSError:
        return {}
    if not os.path.exists(f"/dev/{whole}"):
        return {}
    return {"IMAGE_BLOCK_DEVICE": f"/dev/{whole}", "IMAGE_BLOCK_DEVICES": f"[image0]=/dev/{whole} [root]=/dev/{part}"}


def _texts(chosen: Chosen) -> Mapping[str, Any]:
    """Return the documents of the elements' YAML files, each by the digest of its text."""
    found: Dict[str, Any] = {}
    for element in chosen.elements:
        for name in (*PACKAGE_INSTALLS, SERVICE_MAP):
            document = chosen.documents.get(element.name, {}).get(name)
            path = os.path.join(element.folder, name)
            if document is not None and os.path.isfile(path):
                with open(path, "rb") as file:
                    found[hashlib.sha256(file.read()).hexdigest()] = document
    return found


def _merge(file: MergedFile, elements: Sequence[Element], hooks: str) -> None:
    """Copy a file or a folder of an element into the merged hooks. ElementsError; OSError."""
    owner = next(element for element in elements if element.name == file.element)
    folder = os.path.join(hooks, file.folder)
    os.makedirs(folder, exist_ok=True)
    _copy(file.path, os.path.join(folder, file.name), os.path.realpath(owner.folder))


def _copy(source: str, target: str, folder: str) -> None:
    """Copy what is at a place; a relative link that leads out of the element becomes what it leads to.

    An absolute one means a place of the image: a context that is unpacked anywhere cannot mean one of its own.
    """
    waiting = [(source, target)]
    while waiting:
        here, there = waiting.pop()
        if os.path.islink(here):
            leads, target = os.path.realpath(here), os.readlink(here)
            is_for_image = os.path.isabs(target)
            if is_for_image or os.path.commonpath([leads, folder]) == folder or not os.path.exists(here):
                if os.path.lexists(there):
                    os.unlink(there)
                os.symlink(target, there)
                continue
        if os.path.isdir(here):
            if os.path.islink(here) and here != source:
                raise ElementsError([f"{here}: is a link to a folder outside of its element; copy the folder"])
            if not os.path.isdir(there):
                os.mkdir(there)
                shutil.copymode(here, there)
            waiting += [(os.path.join(here, name), os.path.join(there, name)) for name in sorted(os.listdir(here))]
        elif os.path.isfile(here):
            if os.path.lexists(there):
                os.unlink(there)
            shutil.copy2(here, there)
        else:
            raise ElementsError([f"{here}: is neither a file, a folder nor a link; remove it"])


def _write(path: str, document: Any) -> None:
    """Write JSON for the scripts' programs. Only root may read it, since it has the variables of the step."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(document, file)
