"""Templates in JSON, as Packer had them before HCL: the same builds from other words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from ...names import nearest, quoted
from ..cloudbuild.native_draft import Origin
from ..document import Document, KeyPath, Position, Problem, key_path, read_values
from .language.go_templates import Names, filled_value
from .language.scope import Confidential, plain_value
from .language.syntax import TEMPLATE_LIMIT, TemplateError, TemplateFiles
from .parts import (
    BUILDS_LIMIT,
    SECRET_NAME,
    PackerBuild,
    PackerPart,
    PackerTemplate,
    PartSetting,
    Surroundings,
    counts_for,
    filled_option,
    overridden,
    values_in_json,
)

_KEYS = (
    *("variables", "sensitive-variables", "builders", "provisioners", "post-processors", "description"),
    *("min_packer_version", "error-cleanup-provisioner"),
)


def is_json_template(text: str) -> bool:
    """Return whether a text is a template in JSON: keys and values, with builders."""
    try:
        data = json.loads(text) if len(text) <= TEMPLATE_LIMIT else None
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and isinstance(data.get("builders"), list)


def read_json_template(text: str, name: str, around: Surroundings) -> PackerTemplate:
    """Read a template in JSON. What is wrong is in its problems."""
    result = PackerTemplate(TemplateFiles({name: text}))
    document = read_values(text)
    result.problems += document.problems
    if isinstance(document.data, dict):
        _Reader(document, around, result).read()
    return result


class _Reader:
    def __init__(self, document: Document, around: Surroundings, result: PackerTemplate) -> None:
        self.document = document
        self.data = document.data
        self.around = around
        self.result = result
        self.texts: dict[str, Any] = {}  # of variables, as they are written
        self.given: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.open: list[str] = []

    def read(self) -> None:
        for key in self.data:
            if key not in _KEYS and not key.startswith("_"):
                self.problem((key,), f"is no key of a template; {nearest(key, _KEYS)}")
        self.take_variables()
        for index, builder in enumerate(self.listed("builders")[:BUILDS_LIMIT]):
            if not isinstance(builder, dict) or not isinstance(builder.get("type"), str):
                self.problem(("builders", index), "needs keys and values with a type; write those")
                continue
            try:
                self.build(("builders", index), builder)
            except TemplateError as error:
                self.result.problems.append(error.problem(f"builders[{index}]"))

    def problem(self, path: KeyPath, text: str) -> None:
        self.result.problems.append(Problem((), text, self.document.position(path), key_path(path)))

    def listed(self, key: str) -> tuple[Any, ...]:
        value = self.data.get(key, ())
        if not isinstance(value, tuple):
            self.problem((key,), "needs a list; write one")
            return ()
        return value

    def take_variables(self) -> None:
        declared = self.data.get("variables", {})
        self.texts = dict(declared) if isinstance(declared, dict) else {}
        for file, text in self.around.variable_files.items():
            try:
                self.given |= {name: str(value) for name, value in values_in_json(text).items()}
            except TemplateError as error:
                self.problem(("variables",), f"{file}:{error.position.line}: {error}")
        self.given |= self.around.given
        for name in self.around.given:
            if name not in self.texts:
                near = nearest(name, self.texts) if self.texts else "the template declares none"
                self.problem(("variables",), f"a value is given for {quoted(name)}, which is no variable; {near}")

    def names(self, source: tuple[str, str] = ("", "")) -> Names:
        kind, own = source
        return {
            "template_dir": lambda: self.around.root,
            "pwd": lambda: self.around.folder,
            "env": lambda name: self.around.environment.get(name, ""),
            "build_name": lambda: own,
            "build_type": lambda: kind,
            "user": self.variable,
        }

    def variable(self, name: str) -> Any:
        """Return the value of a variable, whose text may name others. TemplateError."""
        if name in self.open:
            raise TemplateError(f"the variable {name} needs itself; write its value", self.place(("variables", name)))
        if name not in self.values:
            self.open.append(name)
            try:
                self.values[name] = self.worked_out(name)
            finally:
                self.open.pop()
        return self.values[name]

    def worked_out(self, name: str) -> Any:
        place = self.place(("variables", name))
        if name not in self.texts and name not in self.given:
            raise TemplateError(f"no variable {quoted(name)} is declared; declare it in variables", place)
        value = self.given.get(name, self.texts.get(name))
        if value is None:
            raise TemplateError(f"the variable {name} has no value; give it one by --var {name}=VALUE", place)
        value = value if name in self.given else filled_value(value, place, self.names())
        is_secret = name in self.data.get("sensitive-variables", ())
        if isinstance(value, str) and (is_secret or SECRET_NAME.search(name)):
            self.result.secrets.append((Origin(place, name), value))
        return Confidential(name, value) if is_secret and isinstance(value, str) else value

    def place(self, path: KeyPath) -> Position:
        return self.document.position(path)

    def build(self, path: KeyPath, builder: Mapping[str, Any]) -> None:
        """Enter the image of one builder. TemplateError."""
        kind, own = builder["type"], builder.get("name", builder["type"])
        own = str(filled_value(own, self.place(path), self.names()))
        found = PackerBuild("", self.component(path, builder, (kind, own), "builder"))
        for key, parts in (("provisioners", found.provisioners), ("post-processors", found.post_processors)):
            for place, values in self.parts(key):
                part = self.component(place, values, (kind, own), key.removesuffix("s"))
                if counts_for(part, found):
                    parts.append(overridden(part, found))
        self.result.builds.append(found)

    def parts(self, key: str) -> list[tuple[KeyPath, Mapping[str, Any]]]:
        """Return the parts of a list, those of lists within it as well, each with its path."""
        found: list[tuple[KeyPath, Mapping[str, Any]]] = []
        for index, each in enumerate(self.listed(key)):
            inside = each if isinstance(each, tuple) else (each,)
            for number, part in enumerate(inside):
                path: KeyPath = (key, index, number) if isinstance(each, tuple) else (key, index)
                values = {"type": part} if isinstance(part, str) else part
                if isinstance(values, dict) and isinstance(values.get("type"), str):
                    found.append((path, values))
                else:
                    self.problem(path, "needs keys and values with a type; write those")
        return found

    def component(self, path: KeyPath, values: Mapping[str, Any], source: tuple[str, str], what: str) -> PackerPart:
        """Return a builder, provisioner or post-processor as it is for a source, by its type and name."""
        kind = str(values["type"])
        settings = {}
        for key, value in values.items():
            if key in ("type", "name"):
                continue
            place = self.place((*path, key))
            work_out = partial(filled_option, key, plain_value(value), place, self.names(source))
            settings[key] = PartSetting(Origin(place, key), work_out)
        name = source[1] if what == "builder" else ""
        return PackerPart(kind, name, Origin(self.place(path), f'{what} "{kind}"'), settings)
