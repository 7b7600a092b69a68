"""What each action's inputs may say: the dataclasses of the wire contract, as closed models with our own checks.

The models are made from provisioner.protocol.ACTIONS, so that a new action is known here at once and no schema is
written twice. What a type alone cannot say, such as "a path inside the context", stands in the table below.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, Field, create_model

from provisioner.protocol import ACTIONS

from .closed import Closed, Rule, describe
from .names import quoted


@dataclass(frozen=True)
class ContextFile:
    """An input that names something of the context, and what may be there."""

    key: str
    kinds: tuple[Literal["file", "dir"], ...]
    or_url: bool = False  # then it may be something else altogether


CONTEXT_FILES: Mapping[str, ContextFile] = {
    "run-script": ContextFile("script", ("file",)),
    "copy-files": ContextFile("source", ("file", "dir")),
    "install-gpu": ContextFile("deps_dir", ("dir",)),
    "install-anthos": ContextFile("package_spec", ("file",), or_url=True),
}
"""For each action that reads the context, the input that names the file or folder."""

URL = re.compile(r"(https?|gs)://[^\s/]+/\S+")
INSTALLER = re.compile(r"NVIDIA-Linux-(x86_64|aarch64)-[0-9]+(\.[0-9]+){1,2}\.run")
"""The file of an NVIDIA driver, which an install-gpu step finds in its deps_dir."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWNER = re.compile(r"[a-z_0-9][-a-z0-9_.]*(:[a-z_0-9][-a-z0-9_.]*)?")
_SPACE = re.compile(r"\s")
_MODE = re.compile(r"[0-7]{3,4}")
_DRIVER = re.compile(r"[0-9]+(\.[0-9]+){1,2}")
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_CONTAINER = re.compile(r"[a-z0-9][-a-z0-9._:/]*(:[A-Za-z0-9_][-A-Za-z0-9_.]*)?(@sha256:[0-9a-f]{64})?")
_PARAMETER = re.compile(r"[A-Za-z0-9_][^\s\"'\\$;&|<>{}#`]*")  # the others mean something to the boot loader
_PACKAGE = re.compile(r"[A-Za-z0-9@][-A-Za-z0-9+.:=~_/]*")


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character, which no program can be given; remove it")
    return text


def _context_path(text: str) -> str:
    if not text or text.startswith("/") or posixpath.normpath(text).split("/")[0] == "..":
        raise ValueError(f"{quoted(text)} is not a path inside the context; write it relative to the context's folder")
    return _text(text)


def _destination(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{quoted(text)} is not an absolute path without ..; write one such as /etc/motd")
    return _text(text)


def _env_name(text: str) -> str:
    if not _ENV_NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} cannot name a variable; write letters, digits and _, no digit first")
    return text


def _owner(text: str) -> str:
    if not _OWNER.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not an owner; write USER:GROUP, such as root:root")
    return text


def _mode(text: str) -> str:
    if not _MODE.fullmatch(text):
        raise ValueError(f'{quoted(text)} is not a file mode; write three or four octal digits, such as "0644"')
    return text


def _package(text: str) -> str:
    if not _PACKAGE.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a package name; write one package in each entry")
    return text


def _some_packages(packages: tuple[str, ...]) -> tuple[str, ...]:
    if not packages:  # pydantic's min_length would also count wrong entries as missing
        raise ValueError("is empty; write at least one package")
    return packages


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


def _container(text: str) -> str:
    if not _CONTAINER.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is no container image; write REGISTRY/PATH:TAG, or REGISTRY/PATH@sha256:DIGEST"
        )
    return text


def _package_spec(text: str) -> str:
    if "://" not in text:
        return _context_path(text)
    if not URL.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} cannot be fetched; write an http://, https:// or gs:// URL, or a context path"
        )
    return _text(text)


def _kernel_parameter(text: str) -> str:
    if not _PARAMETER.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is no kernel parameter; write one NAME or NAME=VALUE in each entry, without spaces, "
            "quotes and what else the boot loader would take for its own"
        )
    return text


ContextPath = Annotated[str, AfterValidator(_context_path)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
KernelParameters = tuple[Annotated[str, AfterValidator(_kernel_parameter)], ...]

_CHECKED: Mapping[tuple[str, str], Any] = {
    ("run-script", "script"): ContextPath,
    ("run-script", "interpreter"): AbsolutePath | None,
    ("run-script", "env"): dict[Annotated[str, AfterValidator(_env_name)], Annotated[str, AfterValidator(_text)]],
    ("copy-files", "source"): ContextPath,
    ("copy-files", "destination"): Annotated[str, AfterValidator(_destination)],
    ("copy-files", "owner"): Annotated[str, AfterValidator(_owner)],
    ("copy-files", "mode"): Annotated[str, AfterValidator(_mode)] | None,
    ("install-packages", "packages"): Annotated[
        tuple[Annotated[str, AfterValidator(_package)], ...], AfterValidator(_some_packages)
    ],
    ("install-gpu", "version"): Annotated[str, AfterValidator(_driver)],
    ("install-gpu", "md5sum"): Annotated[str, AfterValidator(_md5)] | None,
    ("install-gpu", "install_dir"): AbsolutePath,
    ("install-gpu", "deps_dir"): ContextPath | None,
    ("install-gpu", "installer_container"): Annotated[str, AfterValidator(_container)],
    ("install-anthos", "package_spec"): Annotated[str, AfterValidator(_package_spec)],
    ("install-anthos", "workdir"): AbsolutePath | None,
    ("kernel-command-line", "add"): KernelParameters,
    ("kernel-command-line", "remove"): KernelParameters,
}
"""Closer types of single inputs; others have the dataclass's own."""


class _InstallGpu(Closed):
    @classmethod
    def rules(cls, keys: Mapping[str, Any]) -> Iterator[Rule]:
        """An installer comes from a folder of the context."""
        version = keys.get("version")
        if isinstance(version, str) and INSTALLER.fullmatch(version) and "deps_dir" not in keys:
            yield ("deps_dir",), f"is missing; write the folder of the context that holds {version}"


class _KernelCommandLine(Closed):
    @classmethod
    def rules(cls, keys: Mapping[str, Any]) -> Iterator[Rule]:
        """There is something to do, and no parameter is added and removed."""
        add, remove = (keys.get(key) or () for key in ("add", "remove"))
        if not add and not remove:
            yield (), "changes nothing; write parameters below add or remove"
        for index, parameter in enumerate(remove if isinstance(remove, tuple) else ()):
            if isinstance(add, tuple) and parameter in add:
                yield ("remove", index), f"{describe(parameter)} is added as well; leave it out in one of the two"


_BASES: Mapping[str, type[Closed]] = {"install-gpu": _InstallGpu, "kernel-command-line": _KernelCommandLine}
"""Rules between the inputs of single actions."""


def _model(action: str) -> type[Closed]:
    shape = ACTIONS[action]
    hints = get_type_hints(shape)
    keys: dict[str, Any] = {}
    for entry in fields(shape):
        kind = _CHECKED.get((action, entry.name), hints[entry.name])
        if entry.default_factory is not MISSING:
            keys[entry.name] = (kind, Field(default_factory=entry.default_factory))
        else:
            keys[entry.name] = (kind, ... if entry.default is MISSING else entry.default)
    return create_model(f"{shape.__name__}Inputs", __base__=_BASES.get(action, Closed), **keys)


INPUTS: Mapping[str, type[Closed]] = {action: _model(action) for action in ACTIONS}
"""The closed model of each action's inputs."""
