"""Templates in JSON, as Packer had them before HCL: the same builds from other words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...names import nearest, quoted
from ..cloudbuild.native_draft import Origin
from ..document import Document, KeyPath, Position, Problem, key_path, read_values
from .expressions import Confidential
from .go_templates import Names, filled_value
from .syntax import TEMPLATE_LIMIT, TemplateError, TemplateFiles
from .template import (
    BUILDS_LIMIT,
    PackerBuild,
    PackerPart,
    PackerTemplate,
    PartSetting,
    Surroundings,
    counts_for,
    overridden,
)

_KEYS = (
    *("variables", "sensitive-variables", "builders", "provisioners", "post-processors", "description"),
    *("min_packer_version", "error-cleanup-provisioner"),
)
_RAW = ("execute_command",)


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
        self.source = ("", "")
        self.values: dict[str, Any] = {}

    def read(self) -> None:
        for key in self.data:
            if key not in _KEYS and not key.startswith("_"):
                self.problem((key,), f"is no key of a template; {nearest(key, _KEYS)}")
        self.take_variables()
        for index, builder in enumerate(self.listed("builders")[:BUILDS_LIMIT]):
            if isinstance(builder, dict) and isinstance(builder.get("type"), str):
                self.build(("builders", index), builder)
            else:
                self.problem(("builders", index), "needs keys and values with a type; write those")

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
        declared = declared if isinstance(declared, dict) else {}
        given = dict(self.around.given)
        for name in given:
            if name not in declared:
                near = nearest(name, declared) if declared else "the template declares none"
                self.problem(("variables",), f"a value is given for {quoted(name)}, which is no variable; {near}")
        for file, text in self.around.variable_files.items():
            values = read_values(text).data
            if not isinstance(values, dict):
                self.problem(("variables",), f"{file} is no file of variables in JSON, as this template has them")
                continue
            given = {**{name: str(value) for name, value in values.items() if name in declared}, **given}
        private = self.data.get("sensitive-variables", ())
        for name, default in declared.items():
            value = given.get(name, default)
            if name not in given:
                value = self.filled_value(value, ("variables", name), self.names(without_user=True))
            self.values[name] = Confidential(name, value) if name in private else value

    def names(self, *, without_user: bool = False) -> Names:
        kind, own = self.source
        found: dict[str, Any] = {
            "template_dir": lambda: self.around.root,
            "pwd": lambda: self.around.folder,
            "env": lambda name: self.around.environment.get(name, ""),
            "build_name": lambda: own,
            "build_type": lambda: kind,
        }
        return found if without_user else {**found, "user": self.variable}

    def variable(self, name: str) -> Any:
        if name not in self.values:
            raise TemplateError(f"no variable {quoted(name)} is declared; declare it in variables", Position(1, 1))
        value = self.values[name]
        if value is None:
            raise TemplateError(f"the variable {name} has no value; give it one by --var {name}=VALUE", Position(1, 1))
        return value

    def filled_value(self, value: Any, path: KeyPath, names: Names) -> Any:
        place = self.document.position(path)
        try:
            return filled_value(value, place, names)
        except TemplateError as error:
            self.problem(path, str(error))
            return None

    def build(self, path: KeyPath, builder: Mapping[str, Any]) -> None:
        """Enter the image of one builder."""
        kind, own = builder["type"], str(builder.get("name", builder["type"]))
        self.source = (kind, own)
        found = PackerBuild("", self.component(path, builder, kind, own, "builder"))
        for key, parts in (("provisioners", found.provisioners), ("post-processors", found.post_processors)):
            for place, values in self.parts(key):
                part = self.component(place, values, str(values["type"]), "", key.removesuffix("s"))
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

    def component(self, path: KeyPath, values: Mapping[str, Any], kind: str, name: str, what: str) -> PackerPart:
        place = Origin(self.document.position(path), f'{what} "{kind}"')
        settings = {}
        for key, value in values.items():
            if key in ("type", "name"):
                continue
            here = (*path, key)
            plain = _plain(value)
            plain = plain if key in _RAW else self.filled_value(plain, here, self.names())
            is_known = plain is not None or value is None
            settings[key] = PartSetting(plain, Origin(self.document.position(here), key), is_known)
        return PackerPart(kind, name, place, settings)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
