"""Requests for images, which operators publish: {"revoke": {"image": "PROJECT/NAME", "reason": "..."}}."""

from __future__ import annotations

import json
import re
from typing import Any

from ..backend import Backend
from ..errors import DamagedDocument, InputError, Permanent, PoisonMessage
from .revocation import RevokedImage, revoke_image

_KEYS = {"image": str, "reason": str, "alone": bool}
_REQUIRED = ("image", "reason")
_PROJECT = re.compile(r"[a-z0-9:.-]{0,63}")
_EXAMPLE = '{"revoke": {"image": "PROJECT/NAME", "reason": "what is wrong with it"}}'


def take_image_request(data: bytes, project: str, backend: Backend) -> RevokedImage:
    """Carry a request out, or go on with it. PoisonMessage for one that is wrong, refused or cannot be ended; Passing.

    An image without a project is one of `project`.
    """
    asked = _read(data)
    owner, _, name = asked["image"].rpartition("/")
    if not _PROJECT.fullmatch(owner):
        raise PoisonMessage(f"a request to revoke an image of {owner[:100]!r}, which is no project")
    try:
        return revoke_image(owner or project, name, asked["reason"], backend, alone=asked.get("alone", False))
    except InputError as error:
        raise PoisonMessage(f"a request to revoke an image is refused: {error}") from error
    except (Permanent, DamagedDocument) as error:
        raise PoisonMessage(f"a request to revoke image {name} cannot be carried out to its end: {error}") from error


def _read(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PoisonMessage(f"a request for images that is not JSON: {error}") from error
    asked = document.get("revoke") if isinstance(document, dict) and set(document) == {"revoke"} else None
    if not isinstance(asked, dict) or not set(_REQUIRED) <= set(asked) <= set(_KEYS):
        raise PoisonMessage(f"a request for images of another form; write {_EXAMPLE}, and alone: true if need be")
    for key, value in asked.items():
        if not isinstance(value, _KEYS[key]):
            raise PoisonMessage(f"a request to revoke an image whose {key} is no {_KEYS[key].__name__}")
    return asked
