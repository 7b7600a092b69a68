"""What templates in HCL and in JSON have in common: the parts of builds, with options that are worked out late."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from ...names import shown_value
from ..cloudbuild.native_draft import Origin
from ..document import Position, Problem, read_values
from .language.go_templates import Names, filled_value
from .language.scope import Confidential, Varying, plain_value
from .language.syntax import TemplateError, TemplateFiles

BUILDS_LIMIT = 50
SECRET_NAME = re.compile(r"pass(word|wd|phrase)?(_|$)|secret|token|private_?key|api_?key|credential", re.IGNORECASE)
_NOTHING: tuple[Any, ...] = (None, False, "", 0, [], {})
_RAW = ("execute_command",)  # options whose {{...}} are for the provisioner itself


@dataclass(frozen=True)
class PartSetting:
    """An option and its place. Its value is worked out when something asks for it, and what fails then counts."""

    place: Origin
    work_out: Callable[[], Any]

    @cached_property
    def value(self) -> Any:
        """The value. TemplateError."""
        return self.work_out()

    @property
    def known(self) -> Any:
        """The value, or None where it cannot be worked out, which is told where the option is taken over."""
        try:
            return self.value
        except TemplateError:
            return None

    @property
    def is_something(self) -> bool:
        """Whether it has a value that asks for something, for all that is known."""
        try:
            return self.value not in _NOTHING
        except TemplateError:
            return True


@dataclass(frozen=True)
class PackerPart:
    """A builder, provisioner or post-processor with its options. A name is the source's."""

    kind: str
    name: str
    place: Origin
    settings: Mapping[str, PartSetting]


@dataclass
class PackerBuild:
    """One image that a template makes."""

    name: str  # of the build block, or nothing
    source: PackerPart
    provisioners: list[PackerPart] = field(default_factory=list)
    post_processors: list[PackerPart] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        """The name by which -only knows it: BUILD.TYPE.NAME."""
        return ".".join(part for part in (self.name, self.source.kind, self.source.name) if part)


@dataclass(frozen=True)
class Surroundings:
    """What a template can see of the outside: values of variables, the environment, files, folders."""

    given: Mapping[str, str] = field(default_factory=dict)  # by --var and --set
    variable_files: Mapping[str, str] = field(default_factory=dict)  # texts by their names, the last one wins
    environment: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[str], str] = lambda path: ""  # ValueError for a file that cannot be read
    files: Callable[[str, str], list[str]] = lambda folder, pattern: []  # of a folder, by a pattern; ValueError
    folder: str = "/"  # where Packer runs
    root: str = "."  # the template's folder, relative to that


@dataclass
class PackerTemplate:
    """The builds of a template, and what is wrong with it."""

    files: TemplateFiles
    builds: list[PackerBuild] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[tuple[Position, str]] = field(default_factory=list)

    secrets: list[tuple[Origin, str]] = field(default_factory=list)
    """Values that have been asked for and are secret, or look so by their names, with their places."""

    def note(self, place: Origin, text: str) -> None:
        """Note something that is not taken over."""
        self.notes.append((place.position, f"{place.shown}: {text}"))


def filled_option(name: str, value: Any, at: Position, names: Names) -> Any:
    """Return an option's value with the holes of its texts filled, but for those of commands. TemplateError."""
    if name in _RAW:
        return value
    if name != "override" or not isinstance(value, dict):
        return filled_value(value, at, names)
    return {
        source: {key: filled_option(key, item, at, names) for key, item in own.items()}
        if isinstance(own, dict)
        else own
        for source, own in value.items()
    }


def values_in_json(text: str) -> dict[str, Any]:
    """Return the variables of a file of values in JSON. TemplateError."""
    document = read_values(text)
    for problem in document.problems:
        raise TemplateError(problem.text, problem.position or Position(1, 1))
    if not isinstance(document.data, dict):
        raise TemplateError("needs keys and values; write those", Position(1, 1))
    return {name: plain_value(value) for name, value in document.data.items()}


def counts_for(part: PackerPart, build: PackerBuild) -> bool:
    """Return whether a provisioner or a post-processor is for a build, by its `only` and `except`. TemplateError."""
    names = {build.source.name, f"{build.source.kind}.{build.source.name}", build.full_name}
    only, other = (part.settings[key].value if key in part.settings else None for key in ("only", "except"))
    for key, value in (("only", only), ("except", other)):
        if value is not None and not isinstance(value, list):
            raise TemplateError("needs a list of names; write one", part.settings[key].place.position, key)
    return (only is None or not names.isdisjoint(map(str, only))) and names.isdisjoint(map(str, other or ()))


def overridden(part: PackerPart, build: PackerBuild) -> PackerPart:
    """Return a provisioner with the options that it has for this source. TemplateError."""
    override = part.settings.get("override")
    if override is None:
        return part
    value = override.value[0] if isinstance(override.value, list) and len(override.value) == 1 else override.value
    own = _own_options(value, build)
    if own is None:
        raise TemplateError("needs keys and values by the names of sources; write those", override.place.position)
    changed = {name: PartSetting(override.place, partial(own.get, name)) for name in own}
    return replace(part, settings={**part.settings, **changed})


def _own_options(override: Any, build: PackerBuild) -> dict[str, Any] | None:
    """Return what an override has for a build; None where it is no such thing."""
    if not isinstance(override, dict):
        return None
    own = override.get(build.source.name) or override.get(f"{build.source.kind}.{build.source.name}") or {}
    own = own[0] if isinstance(own, list) and len(own) == 1 else own
    return own if isinstance(own, dict) else None


def shown_kind(value: Any) -> str:
    """Return a value's kind, as a message says it."""
    if isinstance(value, Varying):
        return "a text that is another one each time"
    return "a sensitive value" if isinstance(value, Confidential) else shown_value(value)
