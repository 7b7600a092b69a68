"""A template's variables and locals, and its builds: for each source that it builds, the options and what is run.

variable, locals, env   ->  values, worked out when something names them
source "TYPE" "NAME"    ->  the options of a PackerBuild; those of a block in `build` are added
build { provisioner }   ->  its provisioners that count for the source, in order
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ...names import nearest, quoted
from ..cloudbuild.native_draft import Origin
from ..document import Position, Problem
from .language.expressions import value_of
from .language.functions import functions
from .language.go_templates import Names
from .language.scope import Confidential, Scope, TemplateFunction, Varying
from .language.strings import loop_rounds
from .language.syntax import TEMPLATE_LIMIT, Attribute, Block, TemplateError, TemplateFiles, read_body, read_expression
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

BLOCKS_LIMIT = 500  # within one block
SECRETS = "googlecompute-secretsmanager"
"""The data source that has secrets of Secret Manager, which steps can have as well."""

_TOP = ("packer", "variable", "variables", "local", "locals", "source", "build", "data")
_IN_BUILD = (
    *("source", "provisioner", "post-processor", "post-processors", "hcp_packer_registry"),
    "error-cleanup-provisioner",
)
_SOURCES = ("source.", "sources.")


def read_hcl_template(files: TemplateFiles, around: Surroundings) -> PackerTemplate:
    """Read a template in HCL. What is wrong is in its problems."""
    return _Reader(files, around).read()


class _Reader:
    def __init__(self, files: TemplateFiles, around: Surroundings) -> None:
        self.result = PackerTemplate(files)
        self.around = around
        self.variables: dict[str, Block] = {}
        self.locals: dict[str, Attribute] = {}
        self.private_locals: set[str] = set()
        self.sources: dict[tuple[str, str], Block] = {}
        self.data: dict[tuple[str, str], Block] = {}
        self.given: dict[str, Any] = {}
        self.known: dict[tuple[str, str], Any] = {}
        self.open: list[tuple[str, str]] = []
        calls: Mapping[str, TemplateFunction] = functions(self.env, around.read, around.files, around.folder)
        self.scope = Scope(partial(self.look_up, None), calls)

    def read(self) -> PackerTemplate:
        result = self.result
        blocks, result.problems = result.files.blocks()
        builds = []
        for block in blocks:
            try:
                self.take(block)
            except TemplateError as error:
                result.problems.append(error.problem(block.shown))
            if block.kind == "build":
                builds.append(block)
        self.take_values()
        for block in builds:
            self.build(block)
        if not builds and not result.problems:
            what = "has no build block, so nothing is built; write build { sources = [...] }"
            result.problems.append(Problem((), what, Position(1, 1), "the template"))
        return result

    def problem(self, error: TemplateError, place: Origin) -> None:
        self.result.problems.append(error.problem(place.shown))

    # Names

    def take(self, block: Block) -> None:
        """Enter the names that a block declares. TemplateError."""
        if block.kind not in _TOP:
            raise TemplateError(f"is no block of a template; {nearest(block.kind, _TOP)}", block.position)
        labels = {"variable": 1, "local": 1, "source": 2, "data": 2}.get(block.kind, 0)
        if len(block.labels) != labels:
            raise TemplateError(f"needs {labels} names behind it, not {len(block.labels)}; mend that", block.position)
        if block.kind == "variable":
            self.variables[block.labels[0]] = block
        elif block.kind == "variables":
            for name, attribute in block.attributes.items():
                self.variables[name] = Block("variable", (name,), attribute.position, {"default": attribute})
        elif block.kind in ("local", "locals"):
            self.take_locals(block)
        elif block.kind == "data":
            self.data[block.labels[0], block.labels[1]] = block
        elif block.kind == "source":
            if block.labels in self.sources:
                raise TemplateError("is there twice; give one of them another name", block.position)
            self.sources[block.labels[0], block.labels[1]] = block

    def take_locals(self, block: Block) -> None:
        if block.kind == "locals":
            self.locals |= block.attributes
        elif "expression" in block.attributes:
            self.locals[block.labels[0]] = block.attributes["expression"]
            if "sensitive" in block.attributes and value_of(block.attributes["sensitive"], self.scope) is True:
                self.private_locals.add(block.labels[0])

    def take_values(self) -> None:
        """Enter the values of variables that come from files and from outside."""
        for name, value in self.around.environment.items():
            if name.startswith("PKR_VAR_") and name.removeprefix("PKR_VAR_") in self.variables:
                self.give(name.removeprefix("PKR_VAR_"), value, name)
        for file, text in self.around.variable_files.items():
            name = "the file"
            if len(text) > TEMPLATE_LIMIT:
                self.outside(f"{file}: is longer than {TEMPLATE_LIMIT >> 10} KiB; write less")
                continue
            try:
                if file.endswith(".json"):
                    self.given |= values_in_json(text)
                    continue
                for name, attribute in read_body(text).attributes.items():
                    self.given[name] = value_of(attribute, self.scope)
            except TemplateError as error:
                self.outside(f"{file}:{error.position.line}: {name}: {error}")
        for name, value in self.around.given.items():
            if name not in self.variables:
                self.outside(f"a value is given for {quoted(name)}, which is no variable; {self.near(name)}")
            else:
                self.give(name, value, f"--var {name}")

    def env(self, name: str) -> str:
        """Return a variable of the environment; what looks secret by its name is looked for in the specs."""
        value = self.around.environment.get(name, "")
        if SECRET_NAME.search(name):
            self.result.secrets.append((Origin(Position(1, 1), f"env({name})"), value))
        return value

    def near(self, name: str) -> str:
        return nearest(name, self.variables) if self.variables else "the template declares none"

    def outside(self, text: str) -> None:
        self.result.problems.append(Problem((), text, Position(1, 1), "the variables"))

    def give(self, name: str, value: str, shown: str) -> None:
        """Set a variable from a text: a plain one is itself, any other an expression."""
        kind = _word(self.variables[name].attributes.get("type"))
        default = self.variables[name].attributes.get("default")
        if kind == "string" or (not kind and (default is None or _is_text(default))):
            self.given[name] = value
            return
        try:
            self.given[name] = value_of(read_expression(value, Position(1, 1)), self.scope)
        except TemplateError as error:
            self.outside(f"{shown} is no value of its type: {error}")

    def look_up(self, current: PackerPart | None, root: str, name: str, position: Position) -> Any:
        """Return what a name has; `current` is the source that provisioners are read for. TemplateError."""
        if root == "path":
            return {"root": self.around.root, "cwd": self.around.folder}.get(name, self.around.root)
        if root == "source" and current is not None and name in ("name", "type"):
            return current.name if name == "name" else current.kind
        if root in ("source", "sources"):
            return {each: f"source.{name}.{each}" for kind, each in self.sources if kind == name}
        if root == "build":
            return current.name if name == "name" and current else Varying()
        if root == "packer":
            return Varying()
        if root == "data" and name == SECRETS:
            return {label: self.secret(block) for (kind, label), block in self.data.items() if kind == SECRETS}
        if root not in ("var", "local"):
            what = "data sources are not asked here; write the value, or a variable"
            raise TemplateError(what if root == "data" else f"{quoted(root)} is no name here; {_NAMES}", position)
        key = (root, name)
        if key in self.open:
            raise TemplateError(f"{root}.{name} needs itself; write its value", position)
        if key not in self.known:
            self.open.append(key)
            try:
                self.known[key] = self.variable(name, position) if root == "var" else self.local(name, position)
            finally:
                self.open.pop()
        return self.known[key]

    def secret(self, block: Block) -> dict[str, Confidential]:
        """Return what a data source of Secret Manager gives: its place, and not its value. TemplateError."""
        found = {key: value_of(attribute, self.scope) for key, attribute in block.attributes.items()}
        words = [found.get("project_id"), found.get("name"), found.get("version", "latest")]
        if not all(isinstance(word, (str, int)) for word in words):
            raise TemplateError("needs a plain project_id, name and version; write those", block.position, block.shown)
        place = "projects/{}/secrets/{}/versions/{}".format(*words)
        whole = Confidential(block.shown, None, place=place)
        return {"payload": whole, "value": replace(whole, is_whole=False)}

    def variable(self, name: str, position: Position) -> Any:
        block = self.variables.get(name)
        if block is None:
            raise TemplateError(f"no variable {quoted(name)} is declared; {self.near(name)}", position)
        secret = block.attributes.get("sensitive")
        is_secret = secret is not None and value_of(secret, self.scope) is True
        default = block.attributes.get("default")
        if name in self.given:
            value = self.given[name]
        elif default is not None:
            value = value_of(default, self.scope)
        elif is_secret:
            value = None
        else:
            others = [each for each, block in self.variables.items() if each != name and self.lacks_value(each, block)]
            more = f" (so have {', '.join(others[:9])})" if others else ""
            raise TemplateError(f"var.{name} has no value{more}; give it one by --var {name}=VALUE", position)
        if isinstance(value, str) and (is_secret or SECRET_NAME.search(name)):
            self.result.secrets.append((block.place, value))
        return Confidential(name, value) if is_secret and not isinstance(value, Varying) else value

    def lacks_value(self, name: str, block: Block) -> bool:
        return name not in self.given and not {"default", "sensitive"} & set(block.attributes)

    def local(self, name: str, position: Position) -> Any:
        attribute = self.locals.get(name)
        if attribute is None:
            near = nearest(name, self.locals) if self.locals else "the template has none"
            raise TemplateError(f"no local {quoted(name)} is there; {near}", position)
        value = value_of(attribute, self.scope)
        is_plain = not isinstance(value, (Varying, Confidential))
        return (
            Confidential(f"local.{name}", value, is_whole=False) if name in self.private_locals and is_plain else value
        )

    # Builds

    def build(self, block: Block) -> None:
        name = ""
        try:
            block = replace(block, blocks=self.inner_blocks(block))
            if "name" in block.attributes:
                found = value_of(block.attributes["name"], self.scope)
                name = found if isinstance(found, str) else ""
            named = self.named_sources(block)
        except TemplateError as error:
            self.problem(error, block.place)
            return
        for inner in block.blocks:
            if inner.kind not in _IN_BUILD:
                what = f"is no block of a build; {nearest(inner.kind, _IN_BUILD)}"
                self.result.problems.append(Problem((), what, inner.position, inner.shown))
        for inner in (*block.of_kind("hcp_packer_registry"), *block.of_kind("error-cleanup-provisioner")):
            self.result.note(inner.place, "not taken over: " + _LEFT_BLOCKS[inner.kind])
        for source, extra in named:
            try:
                self.one(name, block, source, extra)
            except TemplateError as error:
                self.problem(error, source.place)

    def inner_blocks(self, block: Block) -> list[Block]:
        """Return the blocks within a block, with those that its dynamic blocks make. TemplateError."""
        found: list[Block] = []
        for inner in block.blocks:
            if inner.kind == "dynamic":
                found += self.repeated(replace(inner, names={**block.names, **inner.names}))
            else:
                found.append(replace(inner, names={**block.names, **inner.names}))
            if len(found) > BLOCKS_LIMIT:
                raise TemplateError(f"makes more than {BLOCKS_LIMIT} blocks; split the template", inner.position)
        return found

    def repeated(self, block: Block) -> list[Block]:
        """Return the blocks that a dynamic block makes. TemplateError."""
        contents = list(block.of_kind("content"))
        if len(block.labels) != 1 or "for_each" not in block.attributes or len(contents) != 1:
            raise TemplateError("needs one name, for_each and content; write those", block.position)
        scope, (kind,), (content,) = self.scope.within(block.names), block.labels, contents
        name = _word(block.attributes.get("iterator")) or kind
        found = []
        items = value_of(block.attributes["for_each"], scope)
        for each in loop_rounds(("key", "value"), items, block.attributes["for_each"].position):
            names = {**block.names, name: each}
            words = [value_of(block.attributes["labels"], scope.within(names))] if "labels" in block.attributes else []
            labels = tuple(str(label) for word in words for label in (word if isinstance(word, list) else [word]))
            found.append(replace(content, kind=kind, labels=labels, names=names))
            scope.count(block.position)
        return found

    def named_sources(self, block: Block) -> list[tuple[Block, Block | None]]:
        """Return the sources of a build, each with the block that adds options to it. TemplateError."""
        found: list[tuple[Block, Block | None]] = []
        attribute = block.attributes.get("sources")
        listed = value_of(attribute, self.scope) if attribute else []
        for reference in listed if isinstance(listed, list) else [listed]:
            found.append((self.source(reference, attribute.position if attribute else block.position), None))
        for inner in block.of_kind("source"):
            if len(inner.labels) != 1:
                raise TemplateError("needs one name, such as source.googlecompute.web; write that", inner.position)
            found.append((self.source(inner.labels[0], inner.position), inner))
        if not found:
            raise TemplateError("names no source; write sources = [...]", block.position)
        if len(found) + len(self.result.builds) > BUILDS_LIMIT:
            raise TemplateError(f"makes more than {BUILDS_LIMIT} images; split the template", block.position)
        return found

    def source(self, reference: Any, position: Position) -> Block:
        text = str(reference)
        for prefix in _SOURCES:
            text = text.removeprefix(prefix)
        kind, _, name = text.partition(".")
        if (kind, name) not in self.sources:
            near = nearest(text, [".".join(each) for each in self.sources]) if self.sources else "declare it"
            raise TemplateError(f"no source {quoted(text)} is there; {near}", position)
        return self.sources[kind, name]

    def one(self, name: str, block: Block, source: Block, extra: Block | None) -> None:
        """Enter the image of one source of a build. TemplateError."""
        kind, own = source.labels
        if extra and "name" in extra.attributes:
            own = str(value_of(extra.attributes["name"], self.scope.within(extra.names)))
        part = PackerPart(kind, own, source.place, {})
        settings = dict(self.settings(source, part))
        if extra:
            settings |= {name: each for name, each in self.settings(extra, part).items() if name != "name"}
        found = PackerBuild(name, replace(part, settings=settings))
        found.provisioners += self.parts(block.of_kind("provisioner"), found)
        posts = [*block.of_kind("post-processor")]
        posts += [each for several in block.of_kind("post-processors") for each in self.inner_blocks(several)]
        found.post_processors += self.parts(sorted(posts, key=lambda each: each.position), found)
        self.result.builds.append(found)

    def parts(self, blocks: Iterable[Block], build: PackerBuild) -> list[PackerPart]:
        """Return the provisioners or post-processors of a build that count for it, as they are for its source."""
        found: list[PackerPart] = []
        for block in blocks:
            try:
                if len(block.labels) != 1:
                    what = 'needs the name of what runs, such as "shell"; write that'
                    raise TemplateError(what, block.position, block.kind)  # noqa: TRY301 - one place tells it
                part = PackerPart(block.labels[0], "", block.place, self.settings(block, build.source))
                if counts_for(part, build):
                    found.append(overridden(part, build))
            except TemplateError as error:
                self.problem(error, block.place)
        return found

    def settings(self, block: Block, source: PackerPart) -> dict[str, PartSetting]:
        """Return the options of a block, as they are for a source. TemplateError."""
        scope = self.scope.within(block.names, partial(self.look_up, source))
        found: dict[str, PartSetting] = {}
        for name, attribute in block.attributes.items():
            place = Origin(attribute.position, name)
            found[name] = PartSetting(place, partial(self.option, name, attribute, scope, source))
        several: dict[str, list[Mapping[str, PartSetting]]] = {}
        for inner in self.inner_blocks(block):
            blocks = several.setdefault(inner.kind, [])
            blocks.append(self.settings(inner, source))
            found[inner.kind] = PartSetting(inner.place, partial(_values_of_blocks, blocks))
        return found

    def option(self, name: str, attribute: Attribute, scope: Scope, source: PackerPart) -> Any:
        names: Names = {
            "template_dir": lambda: self.around.root,
            "pwd": lambda: self.around.folder,
            "env": self.env,
            "build_name": lambda: source.name,
            "build_type": lambda: source.kind,
        }
        return filled_option(name, value_of(attribute, scope), attribute.position, names)


def _values_of_blocks(blocks: list[Mapping[str, PartSetting]]) -> list[dict[str, Any]]:
    return [{name: setting.value for name, setting in each.items()} for each in blocks]


_NAMES = "write var.NAME, local.NAME, path.root, source.name or source.type"
_LEFT_BLOCKS = {
    "hcp_packer_registry": "goldsmith images keeps track of images; see docs/published-images.md",
    "error-cleanup-provisioner": "a failed build leaves nothing to clean up",
}


def _word(attribute: Attribute | None) -> str:
    """Return the plain word that an attribute is, such as a type; nothing for another value."""
    inside = getattr(attribute.expression, "children", [None])[0] if attribute else None
    return str(inside.children[0]) if inside is not None and getattr(inside, "data", "") == "identifier" else ""


def _is_text(attribute: Attribute) -> bool:
    inside = getattr(attribute.expression, "children", [None])[0]
    return getattr(inside, "data", "") in ("string", "heredoc_template", "heredoc_template_trim")
