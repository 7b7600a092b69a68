"""The elements of an image that a command line of diskimage-builder orders: where they are, and the disk they bring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from provisioner.elements.model import Element, ElementsError, expand_elements, find_elements
from provisioner.system.files import read_text

from ..errors import InputError
from ..spec.disk.reading import read_disk
from ..spec.document import Document, Problem, read_values
from .chosen import ChosenElements, choose
from .documents import ELEMENT_DOCUMENT_LIMIT, told
from .explanation import exported
from .original import PACKAGE

ARCHITECTURE = "amd64"
_FILE = "file://"


def ordered_elements(
    names: Sequence[str], own: Sequence[str], original: Callable[[], Path]
) -> tuple[tuple[str, ...], ChosenElements]:
    """Return the path and the elements of these names: of one's own folders, and of `original` where those need it.

    InputError tells all problems; `original` may raise EnvironmentFault.
    """
    path = tuple(own)
    try:
        expand_elements(names, find_elements(path))
    except ElementsError:
        for folder in own:
            if not Path(folder).is_dir():
                raise InputError(f"elements: {folder}: is no folder; name folders that hold elements") from None
        if not any(Path(folder).resolve().parent.name == PACKAGE for folder in own):
            path = (*own, str(original()))
    return path, choose(names, path, on_image=False)


def known_variables(chosen: ChosenElements) -> frozenset[str]:
    """Return the variables that the environment.d of elements exports."""
    found: set[str] = set()
    for hook in chosen.hooks.environment:
        text = read_text(hook.path, ELEMENT_DOCUMENT_LIMIT, errors="replace")
        found.update(name for name, _ in exported(text))
    return frozenset(found)


def element_disk(elements: Sequence[Element]) -> tuple[Any, str]:
    """Return the disk that the first element with one describes, and the file's name; None and "" for none.

    InputError tells what is wrong in the file.
    """
    for element in elements:
        for file in (f"block-device-{ARCHITECTURE}.yaml", "block-device-default.yaml"):
            path = Path(element.folder) / file
            if path.is_file():
                return _disk(path), f"{element.name}/{file}"
    return None, ""


def configured_disk(value: str) -> Any:
    """Return the disk of DIB_BLOCK_DEVICE_CONFIG: YAML, or file:// and a path. InputError."""
    if value.startswith(_FILE):
        return _disk(Path(value.removeprefix(_FILE)))
    return _checked(read_values(value), "DIB_BLOCK_DEVICE_CONFIG")


def _disk(path: Path) -> Any:
    try:
        text = read_text(str(path), ELEMENT_DOCUMENT_LIMIT, errors="strict")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}; make it a small file") from error
    return _checked(read_values(text), str(path))


def _checked(document: Document, name: str) -> Any:
    """Return the values of a document that describes a disk. InputError."""
    problems = list(document.problems)
    if not problems:
        problems = [Problem(loc, text) for loc, text in read_disk(document.data).problems]
    if problems:
        raise InputError("\n".join(f"{name}:{told(problem, document)}" for problem in problems))
    return document.data
