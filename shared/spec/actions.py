"""The inputs of each action: the dataclasses of the wire contract, as closed models with our own checks.

The models are made from provisioner.protocol.ACTIONS, so that a new action is known here at once and no schema is
written twice. What a type alone cannot say, such as "a path inside the context", stands in the table below.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, Field, ValidationInfo, create_model

from provisioner.protocol import ACTIONS, ANSIBLE_VERSIONS, ELEMENTS_OWN

from ..names import nearest, quoted, shown_value
from .closed import BrokenRule, Closed, Rules
from .fields import matching


@dataclass(frozen=True)
class ContextFile:
    """An input that names something of the context, and what may be there."""

    key: str
    kinds: tuple[Literal["file", "dir"], ...]
    or_url: bool = False  # then it may be something else altogether


CONTEXT_FILES: Mapping[str, tuple[ContextFile, ...]] = {
    "run-script": (ContextFile("script", ("file",)),),
    "copy-files": (ContextFile("source", ("file", "dir")),),
    "install-gpu": (ContextFile("deps_dir", ("dir",)),),
    "install-anthos": (ContextFile("package_spec", ("file", "dir"), or_url=True),),
    "elements": (ContextFile("path", ("dir",)),),
    "ansible": (
        ContextFile("playbook", ("file",)),
        ContextFile("roles", ("dir",)),
        ContextFile("requirements", ("file",)),
    ),
}
"""For each action that reads the context, the inputs that name a file or folder, or some of them."""

URL = re.compile(r"(https?|gs)://[^\s/]+/\S+")
INSTALLER = re.compile(r"NVIDIA-Linux-(x86_64|aarch64)-[0-9]+(\.[0-9]+){1,2}\.run")
"""The file of an NVIDIA driver, which an install-gpu step finds in its deps_dir."""

_VARIABLE_BYTES = 131_072  # execve(2), MAX_ARG_STRLEN
_ENVIRONMENT_BYTES = 1 << 20  # a quarter of the stack's 8 MiB is for arguments and environment together
_SPACE = re.compile(r"\s")
_DRIVER = re.compile(r"[0-9]+(\.[0-9]+){1,2}")
_MD5 = re.compile(r"[0-9a-fA-F]{32}")


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character, which no program can be given; remove it")
    return text


def _context_path(text: str) -> str:
    if not text or text.startswith("/") or posixpath.normpath(text).split("/")[0] == "..":
        raise ValueError(f"{quoted(text)} is not a path inside the context; write it relative to the context's folder")
    return _text(text)


def _folder(text: str) -> str:
    if not text or text.startswith("/"):
        raise ValueError(f"{quoted(text)} is not a path of a folder; write it relative to the context's folder")
    return _text(text)


def _destination(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{quoted(text)} is not an absolute path without ..; write one such as /etc/motd")
    return _text(text)


def _environment(env: dict[str, str]) -> dict[str, str]:
    total = 0
    for name, value in env.items():
        size = len(name.encode()) + len(value.encode()) + 2  # with = and the NUL at its end
        total += size
        if size > _VARIABLE_BYTES:
            raise ValueError(
                f"{name} has {size} bytes, and Linux gives no program a variable of more than {_VARIABLE_BYTES}; write "
                "it into a file of the context"
            )
    if total > _ENVIRONMENT_BYTES:
        raise ValueError(
            f"has {total} bytes in all, and a program takes {_ENVIRONMENT_BYTES}; write large values into files of the "
            "context"
        )
    return env


def _elements_environment(env: dict[str, str]) -> dict[str, str]:
    for name in ELEMENTS_OWN:
        if name in env:
            raise ValueError(f"{name} is set by the step itself; leave it out")
    return _environment(env)


def _some_elements(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("is empty; write at least one element")
    return names


def _some_folders(folders: tuple[str, ...]) -> tuple[str, ...]:
    if not folders:
        raise ValueError("is empty; write the folders that hold elements")
    return folders


def _some_packages(packages: tuple[str, ...]) -> tuple[str, ...]:
    if not packages:  # pydantic's min_length would also count wrong entries as missing
        raise ValueError("is empty; write at least one package")
    return packages


def _ansible_release(text: str) -> str:
    if text not in ANSIBLE_VERSIONS:
        raise ValueError(f"{quoted(text)} is no version for this step; write one of: {', '.join(ANSIBLE_VERSIONS)}")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/") or _SPACE.search(text):
        raise ValueError(f"{quoted(text)} is not an absolute path without .. and spaces; write one such as /var/lib/x")
    return _text(text)


def _driver(text: str) -> str:
    if not _DRIVER.fullmatch(text) and not INSTALLER.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is no version of a driver; write one such as 450.51.06, or the name of an installer in "
            "deps_dir such as NVIDIA-Linux-x86_64-450.51.06.run"
        )
    return text


def _md5(text: str) -> str:
    if not _MD5.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no MD5 sum; write the 32 hexadecimal digits that md5sum prints")
    return text.lower()


def _package_spec(text: str) -> str:
    if "://" not in text:
        return _context_path(text)
    if not URL.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} cannot be fetched; write an http://, https:// or gs:// URL, or a context path"
        )
    return _text(text)


def _archive(text: str) -> str:
    if not URL.fullmatch(text) or not text.endswith(".tar.gz"):
        raise ValueError(
            f"{quoted(text)} is no archive that can be fetched; write the URL of a .tar.gz: https:// or gs://"
        )
    return _text(text)


ContextPath = Annotated[str, AfterValidator(_context_path)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
VariableName = Annotated[
    str,
    matching(
        re.compile(r"[!-<>-~]+"),  # what a program can be given; shells can use fewer, and pass the others on
        "cannot name a variable; write letters, digits, _, - and the like, but no =",
    ),
]
Owner = Annotated[
    str,
    matching(
        re.compile(r"[a-z_0-9][-a-z0-9_.]*(:[a-z_0-9][-a-z0-9_.]*)?"),
        "is not an owner; write USER:GROUP, such as root:root",
    ),
]
Mode = Annotated[
    str,
    matching(re.compile(r"[0-7]{3,4}"), 'is not a file mode; write three or four octal digits, such as "0644"'),
]
PackageName = Annotated[
    str,
    matching(re.compile(r"[A-Za-z0-9@][-A-Za-z0-9+.:=~_/]*"), "is not a package name; write one package in each entry"),
]
ElementName = Annotated[
    str,
    matching(
        re.compile(r"[0-9A-Za-z_][-0-9A-Za-z_.+]*"), "is no element's name; write the name of its folder in each entry"
    ),
]
Container = Annotated[
    str,
    matching(
        re.compile(r"[a-z0-9][-a-z0-9._:/]*(:[A-Za-z0-9_][-A-Za-z0-9_.]*)?(@sha256:[0-9a-f]{64})?"),
        "is no container image; write REGISTRY/PATH:TAG, or REGISTRY/PATH@sha256:DIGEST",
    ),
]
KernelParameter = Annotated[
    str,
    matching(
        re.compile(r"[A-Za-z0-9_][^\s\"'\\$;&|<>{}#`]*"),  # the others mean something to the boot loader
        "is no kernel parameter; write one NAME or NAME=VALUE in each entry, without spaces, quotes and what else the "
        "boot loader would take for its own",
    ),
]

AnsibleName = Annotated[
    str,
    matching(
        re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}"), "is no name in Ansible; write letters, digits and _, a letter first"
    ),
]
AnsibleTag = Annotated[
    str,
    matching(re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.:]{0,99}"), "is no tag of Ansible; write one tag in each entry"),
]

ElementNames = Annotated[tuple[ElementName, ...], AfterValidator(_some_elements)]
ElementsPath = Annotated[tuple[Annotated[str, AfterValidator(_folder)], ...], AfterValidator(_some_folders)]
ElementsEnvironment = Annotated[
    dict[VariableName, Annotated[str, AfterValidator(_text)]], AfterValidator(_elements_environment)
]

_CHECKED: Mapping[tuple[str, str], Any] = {
    ("ansible", "playbook"): ContextPath,
    ("ansible", "extra_vars"): dict[AnsibleName, Annotated[str, AfterValidator(_text)]],
    ("ansible", "tags"): tuple[AnsibleTag, ...],
    ("ansible", "skip_tags"): tuple[AnsibleTag, ...],
    ("ansible", "groups"): tuple[AnsibleName, ...],
    ("ansible", "roles"): tuple[ContextPath, ...],
    ("ansible", "requirements"): ContextPath | None,
    ("ansible", "version"): Annotated[str, AfterValidator(_ansible_release)] | None,
    ("run-script", "script"): ContextPath,
    ("run-script", "interpreter"): AbsolutePath | None,
    ("run-script", "env"): Annotated[
        dict[VariableName, Annotated[str, AfterValidator(_text)]],
        AfterValidator(_environment),
    ],
    ("copy-files", "source"): ContextPath,
    ("copy-files", "destination"): Annotated[str, AfterValidator(_destination)],
    ("copy-files", "owner"): Owner,
    ("copy-files", "mode"): Mode | None,
    ("install-packages", "packages"): Annotated[tuple[PackageName, ...], AfterValidator(_some_packages)],
    ("install-gpu", "version"): Annotated[str, AfterValidator(_driver)],
    ("install-gpu", "md5sum"): Annotated[str, AfterValidator(_md5)] | None,
    ("install-gpu", "install_dir"): AbsolutePath,
    ("install-gpu", "deps_dir"): Annotated[str, AfterValidator(_folder)] | None,
    ("install-gpu", "installer_container"): Container,
    ("install-anthos", "package_spec"): Annotated[str, AfterValidator(_package_spec)],
    ("install-anthos", "workdir"): AbsolutePath | None,
    ("install-anthos", "installer"): Annotated[str, AfterValidator(_archive)],
    ("elements", "elements"): ElementNames,
    ("elements", "path"): ElementsPath,
    ("elements", "env"): ElementsEnvironment,
    ("elements", "packages"): tuple[PackageName, ...],
    ("kernel-command-line", "add"): tuple[KernelParameter, ...],
    ("kernel-command-line", "remove"): tuple[KernelParameter, ...],
}
"""Closer types of single inputs; others have the dataclass's own."""

_PLANNED = frozenset([("elements", "documents")])
"""Inputs that the plan adds, and no spec has."""


def _install_gpu_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold an installer to a folder of the context that it comes from."""
    version = keys.get("version")
    if isinstance(version, str) and INSTALLER.fullmatch(version) and "deps_dir" not in keys:
        yield ("deps_dir",), f"is missing; write the folder of the context that holds {version}"


def _kernel_command_line_rules(keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Hold the step to do something, and to add no parameter that it removes."""
    add, remove = (keys.get(key) or () for key in ("add", "remove"))
    if not add and not remove:
        yield (), "changes nothing; write parameters below add or remove"
    for index, parameter in enumerate(remove if isinstance(remove, tuple) else ()):
        if isinstance(add, tuple) and parameter in add:
            yield ("remove", index), f"{shown_value(parameter)} is added as well; leave it out in one of the two"


_RULES: Mapping[str, Rules] = {"install-gpu": _install_gpu_rules, "kernel-command-line": _kernel_command_line_rules}
"""Rules between the inputs of single actions."""


def _model(action: str) -> type[Closed]:
    shape = ACTIONS[action]
    hints = get_type_hints(shape)
    keys: dict[str, Any] = {}
    for entry in fields(shape):
        if (action, entry.name) in _PLANNED:
            continue
        kind = _CHECKED.get((action, entry.name), hints[entry.name])
        if entry.default_factory is not MISSING:
            keys[entry.name] = (kind, Field(default_factory=entry.default_factory))
        else:
            keys[entry.name] = (kind, ... if entry.default is MISSING else entry.default)
    model = create_model(f"{shape.__name__}Inputs", __base__=Closed, **keys)
    model.rules = _RULES.get(action, Closed.rules)
    return model


INPUTS: Mapping[str, type[Closed]] = {action: _model(action) for action in ACTIONS}
"""The closed model of each action's inputs."""


def _known_action(text: str) -> str:
    if text not in ACTIONS:
        raise ValueError(f"{quoted(text)} is no action; {nearest(text, ACTIONS)}")
    return text


def _inputs_of_action(inputs: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """Hold a step's inputs to its action's model, fill in its defaults, and keep them as JSON has them."""
    action = info.data.get("action")  # absent when it is no action: that is its own problem
    return INPUTS[action].model_validate(inputs).model_dump(mode="json") if action else inputs


Action = Annotated[str, AfterValidator(_known_action)]
Inputs = Annotated[dict[str, Any], AfterValidator(_inputs_of_action)]
"""The inputs of the action that stands before them in the same model."""
