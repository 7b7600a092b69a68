"""The part of dataclasses that protocol.py needs, at a twentieth of its import time and for Python 3.6, which has none.

dataclasses imports inspect and compiles methods for each class, which takes 0.1 s on an emulated CPU: a third of the
provisioner's start. shared/delivery/bundle.py puts this module in its place, in provisioner.pyz alone. Instances have
neither equality nor a text of their own, and are not frozen: the provisioner only builds, reads and encodes them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_REQUIRED = object()


class _Made:
    """A default that is made for each instance."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self.factory = factory


class Field:
    """A field of a dataclass: its name, its annotation as text, and its default."""

    def __init__(self, name: str, kind: str, default: Any) -> None:
        self.name = name
        self.type = kind
        self.default = default


def field(*, default_factory: Callable[[], Any]) -> Any:
    """Declare a field whose default is made anew for each instance."""
    return _Made(default_factory)


def fields(shape: Any) -> tuple[Field, ...]:
    """Return the fields of a class or an instance."""
    found: tuple[Field, ...] = shape.__dataclass_fields__
    return found


def asdict(document: Any) -> dict[str, Any]:
    """Return an instance as a dict, with the instances that it holds as dicts as well."""
    return {entry.name: _plain(getattr(document, entry.name)) for entry in fields(document)}


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def dataclass(*, frozen: bool) -> Callable[[type], type]:
    """Return a decorator that gives a class its fields, from its annotations, and a constructor."""
    assert frozen

    def decorate(shape: Any) -> Any:
        kinds = getattr(shape, "__annotations__", {})
        shape.__dataclass_fields__ = tuple(
            Field(name, kind, vars(shape).get(name, _REQUIRED)) for name, kind in kinds.items()
        )
        shape.__init__ = _construct
        return shape

    return decorate


def _construct(self: Any, *arguments: Any, **named: Any) -> None:
    entries = fields(self)
    if len(arguments) > len(entries):
        raise TypeError(f"takes {len(entries)} arguments, not {len(arguments)}")
    values = {**dict(zip((entry.name for entry in entries), arguments)), **named}
    for entry in entries:
        value = values.pop(entry.name, entry.default)
        if value is _REQUIRED:
            raise TypeError(f"missing a required argument: {entry.name!r}")
        setattr(self, entry.name, value.factory() if isinstance(value, _Made) else value)
    if values:
        raise TypeError(f"unexpected arguments: {', '.join(values)}")
