"""As much of dataclasses as protocol.py uses, at a twentieth of its import time.

dataclasses brings inspect, and compiles three methods for each class: 0.1 s on an emulated CPU, a third of the
provisioner's start. In provisioner.pyz, and nowhere else, protocol.py takes its decorators from here: shared/bundle.py
sees to it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_REQUIRED = object()


class Field:
    """A field of a dataclass: its name, and its annotation as text."""

    def __init__(self, name: str, kind: str, default: Any) -> None:
        self.name = name
        self.type = kind
        self.default = default

    def initial(self) -> Any:
        """Give the value of a field that is not given."""
        return self.default.factory() if isinstance(self.default, _Factory) else self.default


class _Factory:
    def __init__(self, factory: Callable[[], Any]) -> None:
        self.factory = factory


def field(*, default_factory: Callable[[], Any]) -> Any:
    """Say what makes a field's value where none is given."""
    return _Factory(default_factory)


def fields(shape: Any) -> tuple[Field, ...]:
    """Give the fields of a class or an instance."""
    found: tuple[Field, ...] = shape.__dataclass_fields__
    return found


def asdict(document: Any) -> dict[str, Any]:
    """Give an instance as a dict, and those that it holds, in tuples too."""
    return {entry.name: _plain(getattr(document, entry.name)) for entry in fields(document)}


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, dict) else value


def dataclass(*, frozen: bool) -> Callable[[type], type]:
    """Give a class the constructor, the equality and the text of its annotated fields; always frozen."""
    assert frozen

    def decorate(shape: Any) -> Any:
        names = getattr(shape, "__annotations__", {})
        shape.__dataclass_fields__ = tuple(
            Field(name, kind, vars(shape).get(name, _REQUIRED)) for name, kind in names.items()
        )
        shape.__init__ = _construct
        shape.__eq__ = _equal
        shape.__repr__ = _text
        shape.__setattr__ = _refuse
        return shape

    return decorate


def _construct(self: Any, *arguments: Any, **named: Any) -> None:
    entries = fields(self)
    if len(arguments) > len(entries):
        raise TypeError(f"takes {len(entries)} arguments, not {len(arguments)}")
    values = {**dict(zip((entry.name for entry in entries), arguments)), **named}
    for entry in entries:
        value = values.pop(entry.name) if entry.name in values else entry.initial()
        if value is _REQUIRED:
            raise TypeError(f"missing a required argument: {entry.name!r}")
        object.__setattr__(self, entry.name, value)
    if values:
        raise TypeError(f"unexpected arguments: {', '.join(values)}")


def _equal(self: Any, other: object) -> bool:
    return type(self) is type(other) and vars(self) == vars(other)


def _text(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


def _refuse(self: Any, name: str, value: Any) -> None:
    raise AttributeError(f"cannot assign to field {name!r}")
