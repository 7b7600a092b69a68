"""dataclasses.dataclass for our own classes, whose methods are compiled when the first instance is made.

    setup/goldsmith, a sandbox's supervisor ──► install_quick_dataclasses() ──► import of everything else

A command imports some 220 dataclasses and makes instances of a third of them. The standard library compiles six methods
of each when it is imported, which takes 0.17 s, more than a third of a command's start. Here the standard library gives
a class its fields at once, its methods are functions that all classes have, and only the constructor is compiled, when
it is called. Everything that dataclasses promises stays true (tests/shared/test_quick_dataclasses.py compares both).
Other packages' classes, and ours that use what is rare here, get what they always got: other options, InitVar, a frozen
class with its own __setattr__, or a base that is a dataclass of the standard library's making.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, FrozenInstanceError
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any
from weakref import WeakSet

OURS = frozenset(("shared", "goldsmith", "provisioner"))
_KNOWN = frozenset(("frozen", "kw_only"))  # options
_SETTERS = ("__setattr__", "__delattr__")
_standard = dataclasses.dataclass
_made: WeakSet[type] = WeakSet()  # by quick_dataclass()


def install_quick_dataclasses() -> None:
    """Put quick_dataclass() in the place of dataclasses.dataclass, for modules that are imported from now on."""
    dataclasses.dataclass = quick_dataclass


def quick_dataclass(cls: Any = None, /, **options: Any) -> Any:
    """Return what dataclasses.dataclass does; of a class of ours, with methods that are made later."""

    def decorate(shape: Any) -> Any:
        if not _can_be_quick(shape, options):
            return _standard(shape, **options)
        return _quick(shape, frozen=options.get("frozen", False), kw_only=options.get("kw_only", False))

    return decorate if cls is None else decorate(cls)


def _can_be_quick(shape: Any, options: Mapping[str, Any]) -> bool:
    if shape.__module__.partition(".")[0] not in OURS or not _KNOWN.issuperset(options):
        return False
    if options.get("frozen") and any(name in vars(shape) for name in _SETTERS):  # which is refused
        return False
    if any("InitVar" in str(kind) for kind in vars(shape).get("__annotations__", {}).values()):
        return False
    return all(base in _made for base in _bases(shape))


def _bases(shape: Any) -> list[type]:
    return [base for base in shape.__mro__[1:] if "__dataclass_fields__" in vars(base)]


def _quick(cls: Any, *, frozen: bool, kw_only: bool) -> Any:
    """Return a class with its fields, methods that all classes have, and a constructor that makes itself."""
    own = {name: vars(cls)[name] for name in ("__init__", "__repr__", "__eq__", "__hash__") if name in vars(cls)}
    is_held_to_bases = frozen and bool(_bases(cls))  # both are frozen or neither; this compiles methods
    cls = _standard(cls, init=False, repr=False, eq=False, kw_only=kw_only, frozen=is_held_to_bases)
    _made.add(cls)
    told = cls.__dataclass_params__  # what others ask: the standard library of bases, and programs that show classes
    told.init = told.repr = told.eq = True
    told.frozen = frozen
    fields = dataclasses.fields(cls)
    compared = _values(tuple(field.name for field in fields if field.compare))
    methods = {
        "__init__": _first_init(cls, frozen=frozen),
        "__repr__": _repr(tuple(field.name for field in fields if field.repr)),
        "__eq__": _eq(compared),
    }
    if own.get("__hash__") is None:  # a class with __eq__ and without __hash__ has None
        hashed = (field.name for field in fields if (field.compare if field.hash is None else field.hash))
        methods["__hash__"] = _hash(_values(tuple(hashed))) if frozen else None
        own.pop("__hash__", None)
    if frozen:
        cls.__setattr__, cls.__delattr__ = _refuse_setting, _refuse_deleting
    for name, method in methods.items():
        if name not in own:
            if method is not None:
                method.__qualname__ = f"{cls.__qualname__}.{name}"
            setattr(cls, name, method)
    return cls


def _first_init(cls: Any, *, frozen: bool) -> Any:
    """Return a constructor that puts the real one in its own place."""

    def __init__(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807 - it becomes the class's own
        cls.__init__ = made = _compiled_init(cls, frozen=frozen)
        made(self, *arguments, **named)

    return __init__


def _compiled_init(cls: Any, *, frozen: bool) -> Any:
    """Compile the constructor that dataclasses would have made."""
    names: dict[str, Any] = {"__set__": object.__setattr__, "__none__": MISSING}  # no field is called so
    positional: list[str] = []
    keyword: list[str] = []
    lines: list[str] = []
    for field in dataclasses.fields(cls):
        default, factory, value = f"__default_{field.name}__", f"__factory_{field.name}__", field.name
        names |= {default: field.default, factory: field.default_factory}
        is_made = field.default_factory is not MISSING
        if not field.init:
            if not is_made and field.default is MISSING:
                continue
            value = f"{factory}()" if is_made else default
        else:
            given = "=__none__" if is_made else "" if field.default is MISSING else f"={default}"
            (keyword if field.kw_only else positional).append(field.name + given)
            if is_made:
                value = f"{factory}() if {field.name} is __none__ else {field.name}"
        lines.append(f"__set__(self, {field.name!r}, {value})" if frozen else f"self.{field.name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    parameters = ", ".join(["self", *positional, *(["*", *keyword] if keyword else [])])
    exec(f"def __init__({parameters}):\n " + "\n ".join(lines or ["pass"]), names)  # noqa: S102 - names of our fields
    made = names["__init__"]
    made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    return made


def _values(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what returns some fields of an instance."""
    if not names:
        return lambda _: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda instance: (get(instance),)


def _repr(names: tuple[str, ...]) -> Any:
    @recursive_repr()
    def __repr__(self: Any) -> str:  # noqa: N807
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({told})"

    return __repr__


def _eq(values: Callable[[Any], tuple[Any, ...]]) -> Any:
    def __eq__(self: Any, other: object) -> Any:  # noqa: N807
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash(values: Callable[[Any], tuple[Any, ...]]) -> Any:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


def _refuse_setting(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deleting(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
