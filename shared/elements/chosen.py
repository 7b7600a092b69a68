"""The elements that a list of names means, with their hooks and documents, read and checked as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from provisioner.elements.hooks import ROOT, TARGET_PHASES, HookTree, merge_hooks
from provisioner.elements.model import (
    OPERATING_SYSTEM,
    Element,
    ElementFolders,
    ElementsError,
    expand_elements,
    find_elements,
)

from ..errors import InputError
from .documents import read_documents


@dataclass(frozen=True)
class ChosenElements:
    """Elements that can be used together."""

    asked: tuple[str, ...]
    on_image: bool  # which is the operating system: root.d does not run
    folders: ElementFolders
    elements: tuple[Element, ...]  # in their order
    hooks: HookTree
    documents: dict[str, dict[str, Any]]  # by element and file


def choose(names: Sequence[str], path: Sequence[str], *, on_image: bool) -> ChosenElements:
    """Return the elements of these names in the folders of a path. InputError tells all problems.

    `on_image` is whether they run in an image that is there already.
    """
    given = (OPERATING_SYSTEM,) if on_image else ()
    try:
        folders = find_elements(path)
        elements = expand_elements(names, folders, given)
    except ElementsError as error:
        raise InputError(str(error)) from error
    problems: list[str] = []
    hooks = documents = None
    try:
        hooks = merge_hooks(elements)
    except ElementsError as error:
        problems += error.problems
    try:
        documents = read_documents(elements)
    except ElementsError as error:
        problems += error.problems
    if hooks is None or documents is None:
        raise InputError("\n".join(problems))
    return ChosenElements(tuple(names), on_image, folders, elements, hooks, documents)


def tree_document(chosen: ChosenElements) -> dict[str, Any]:
    """Return the merged hooks of elements, and where each comes from, as JSON has it."""
    names = {element.name for element in chosen.elements}
    return {
        "elements": [
            {
                "name": element.name,
                "folder": element.folder,
                "asked": _is_asked(element, chosen),
                "dependencies": list(element.dependencies),
                "provides": list(element.provides),
                "needed_by": [each.name for each in chosen.elements if _needs(each, element, chosen)],
            }
            for element in chosen.elements
        ],
        "environment": [_hook(hook) for hook in chosen.hooks.environment],
        "phases": {phase: [_hook(hook) for hook in hooks] for phase, hooks in chosen.hooks.phases.items()},
        "skipped": [{"phase": each.phase, **_hook(each), "reason": each.reason} for each in chosen.hooks.skipped],
        "overrides": [
            {"element": each.name, "folder": each.winner, "instead_of": each.loser}
            for each in chosen.folders.overrides
            if each.name in names
        ],
        "hidden": [
            {"name": used.name, "element": used.element, "instead_of": other.element}
            for used, other in chosen.hooks.hidden
        ],
        "not_run": [ROOT] if chosen.on_image else [],
    }


def is_in_target(phase: str) -> bool:
    """Return whether a phase's hooks run in the image's root."""
    return phase in TARGET_PHASES


def _hook(hook: Any) -> dict[str, str]:
    return {"name": hook.name, "element": hook.element, "path": hook.path}


def _is_asked(element: Element, chosen: ChosenElements) -> bool:
    return element.name in {chosen.folders.links.get(name, name) for name in chosen.asked}


def _needs(one: Element, other: Element, chosen: ChosenElements) -> bool:
    """Return whether one element needs another one, or what that provides."""
    needed = {chosen.folders.links.get(name, name) for name in one.dependencies}
    return one is not other and not needed.isdisjoint({other.name, *other.provides})
