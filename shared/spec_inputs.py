"""What each action's inputs may say: the dataclasses of the wire contract, as closed models with our own checks.

The models are made from provisioner.protocol.ACTIONS, so that a new action is known here at once and no schema is
written twice. What a type alone cannot say, such as "a path inside the context", stands in the table below.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, Field, create_model

from provisioner.protocol import ACTIONS

from .closed import Closed
from .names import quoted

CONTEXT_FILES: Mapping[str, str] = {"run-script": "script", "copy-files": "source"}
"""For each action that reads the context, the input that names the file or folder."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWNER = re.compile(r"[a-z_0-9][-a-z0-9_.]*(:[a-z_0-9][-a-z0-9_.]*)?")
_MODE = re.compile(r"[0-7]{3,4}")
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


ContextPath = Annotated[str, AfterValidator(_context_path)]

_CHECKED: Mapping[tuple[str, str], Any] = {
    ("run-script", "script"): ContextPath,
    ("run-script", "env"): dict[Annotated[str, AfterValidator(_env_name)], Annotated[str, AfterValidator(_text)]],
    ("copy-files", "source"): ContextPath,
    ("copy-files", "destination"): Annotated[str, AfterValidator(_destination)],
    ("copy-files", "owner"): Annotated[str, AfterValidator(_owner)],
    ("copy-files", "mode"): Annotated[str, AfterValidator(_mode)] | None,
    ("install-packages", "packages"): Annotated[
        tuple[Annotated[str, AfterValidator(_package)], ...], AfterValidator(_some_packages)
    ],
}
"""Closer types of single inputs; others have the dataclass's own."""


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
    return create_model(f"{shape.__name__}Inputs", __base__=Closed, **keys)


INPUTS: Mapping[str, type[Closed]] = {action: _model(action) for action in ACTIONS}
"""The closed model of each action's inputs."""
