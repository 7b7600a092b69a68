"""`{{...}}` in the texts of templates: the functions of Go's templates that Packer has there.

`{{ .Vars }}` and the like of execute_command are for its own reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ....names import quoted
from ...document import Position
from .scope import Confidential, Varying, joined_parts
from .syntax import TemplateError

_CALL = re.compile(r"""([a-z_]+)((?: +(?:`[^`]*`|"[^"]*"))*)""")
_ARGUMENT = re.compile(r"""`([^`]*)`|"([^"]*)\"""")
_VARYING = ("timestamp", "isotime", "uuid", "strftime")

Names = Mapping[str, Callable[..., Any]]
"""What `user`, `env`, `template_dir` and the like give."""


def filled_value(value: Any, at: Position, names: Names) -> Any:
    """Return a value with the holes of its texts filled. TemplateError."""
    if isinstance(value, str) and "{{" in value:
        return _rendered(value, at, names)
    if isinstance(value, list):
        return [filled_value(item, at, names) for item in value]
    if isinstance(value, dict):
        return {key: filled_value(item, at, names) for key, item in value.items()}
    return value


def _rendered(text: str, at: Position, names: Names) -> Any:
    parts: list[Any] = []
    place = 0
    while (start := text.find("{{", place)) >= 0 and (end := text.find("}}", start)) >= 0:
        inside = text[start + 2 : end].strip().removeprefix("-").removesuffix("-").strip()
        parts += [text[place:start], _filled(inside, at, names)]
        place = end + 2
    return joined_parts([part for part in [*parts, text[place:]] if part != ""] or [""], at)


def _filled(inside: str, at: Position, names: Names) -> Any:
    first, *pipes = (part.strip() for part in inside.split("|"))
    call = _CALL.fullmatch(first)
    if call is None or (call[1] not in names and call[1] not in _VARYING):
        what = f"has {quoted('{{' + inside + '}}')}, which is not worked out here; write what it comes to"
        raise TemplateError(what, at)
    if call[1] in _VARYING:
        return Varying()
    arguments = [one or other for one, other in _ARGUMENT.findall(call[2])]
    try:
        value = names[call[1]](*arguments)
    except TypeError as error:
        raise TemplateError(f"has {quoted(first)} with too many or too few arguments; mend that", at) from error
    for pipe in pipes:
        value = _piped(pipe, value, at)
    return value


def _piped(pipe: str, value: Any, at: Position) -> Any:
    if isinstance(value, (Varying, Confidential)):
        return value
    if pipe in ("clean_resource_name", "clean_image_name"):
        return re.sub(r"[^-a-z0-9]", "-", str(value).lower())
    if pipe in ("lower", "upper"):
        return str(value).lower() if pipe == "lower" else str(value).upper()
    raise TemplateError(f"has the function {quoted(pipe)}, which is not worked out here; write what it comes to", at)
