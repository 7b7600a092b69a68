"""Our dataclasses are what the standard library would have made, whichever of the two makes them."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from functools import partial
from typing import Any

import pytest

from shared.quick_dataclasses import quick_dataclass
from tests.project.source_tree import ROOT

Decorator = Callable[..., Any]
FROZEN: tuple[dict[str, bool], ...] = ({}, {"frozen": True}, {"frozen": True, "kw_only": True}, {"kw_only": True})


def ours(cls: type) -> type:
    """Have a class of this file count as one of the program's."""
    cls.__module__ = "shared.quick_dataclasses"  # dataclasses look into its globals
    return cls


def made(decorate: Decorator, options: dict[str, bool]) -> tuple[Any, Any, Any]:
    """Return classes that use all that classes of ours use: a base, one that inherits, and one with its own methods."""

    @decorate(**options)
    @ours
    class Base:
        """A base."""

        name: str
        size: int = 3
        labels: dict[str, str] = field(default_factory=dict)
        secret: str = field(default="s", repr=False, hash=False)

    @decorate(**options)
    @ours
    class Below(Base):
        """Inherits, gives one field another default, and counts its instances."""

        more: tuple[int, ...] = ()
        size: int = 4
        left_out: list[int] = field(default_factory=list, init=False, compare=False)

        def __post_init__(self) -> None:
            self.left_out.append(self.size)

    @decorate(**options)
    @ours
    class Own:
        """Has methods of its own, and fields by odd names."""

        _set: int = 1
        value: Any = None

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own)

        def __hash__(self) -> int:
            return 7

    return Base, Below, Own


def told(function: Callable[[], Any]) -> Any:
    """Return what a call gives, or the kind of what it raises."""
    try:
        return repr(function())
    except (TypeError, AttributeError) as error:
        return type(error)


def facts(classes: tuple[Any, Any, Any]) -> list[Any]:
    """Return all that a program can see of three classes and their instances."""
    base, below, own = classes
    one, same, other = base(name="a"), base(name="a"), base(name="a", size=9)
    lower, owned = below(name="a", more=(1,)), own()
    found: list[Any] = [repr(each) for each in (one, other, lower, owned)]
    found += [one == same, one == other, one == lower, lower == one, one == 3, owned == own(_set=2)]
    found += [told(partial(hash, each)) for each in (base(name="a", labels=()), one, lower, owned)]
    found += [told(partial(hash, base(name="a", labels=(), secret=[])))]
    found += [repr(dataclasses.replace(other, name="b")), dataclasses.asdict(lower), dataclasses.astuple(one)]
    found += [[(each.name, each.default, each.kw_only) for each in dataclasses.fields(cls)] for cls in classes]
    found += [cls.__match_args__ for cls in classes] + [cls.__doc__ for cls in classes]
    found += [repr(cls.__dataclass_params__) for cls in classes]
    found += [repr(copy.deepcopy(lower)), lower.left_out, base(name="b").labels is one.labels]
    found += [told(base), told(lambda: base("a")), told(lambda: base(name="a", none=1)), told(lambda: below("a", 1))]
    found += [told(lambda: setattr(other, "name", "c")), told(lambda: delattr(other, "size")), other.name]
    found += [told(lambda: base(1, 2, {}, "s", "too many")), dataclasses.is_dataclass(one)]
    recursive = own()
    nested = told(lambda: setattr(recursive, "value", recursive))
    return [*found, nested]


@pytest.mark.parametrize("options", FROZEN, ids=str)
def test_classes_and_instances_are_the_same(options: dict[str, bool]) -> None:
    assert facts(made(quick_dataclass, options)) == facts(made(dataclasses.dataclass, options))


def test_a_field_of_a_frozen_instance_cannot_be_changed() -> None:
    base, below, _ = made(quick_dataclass, {"frozen": True})
    for instance in (base(name="a"), below(name="a")):
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
            instance.name = "b"
        with pytest.raises(FrozenInstanceError, match="cannot delete field 'name'"):
            del instance.name
        assert instance.name == "a"


def test_the_constructor_is_compiled_when_the_first_instance_is_made() -> None:
    base, below, _ = made(quick_dataclass, {"frozen": True})
    before = base.__init__, below.__init__
    below(name="a")
    assert (base.__init__, below.__init__ is not before[1]) == (before[0], True)
    with pytest.raises(TypeError, match=r"Base\.__init__\(\) missing 1 required positional argument: 'name'"):
        base()


def test_a_value_that_holds_itself_can_be_shown() -> None:
    @quick_dataclass
    @ours
    class Ring:
        """Holds itself."""

        held: Any = None

    ring = Ring()
    ring.held = ring
    assert repr(ring).endswith("Ring(held=...)")


def test_classes_of_others_and_rare_options_are_left_to_the_standard_library() -> None:
    @quick_dataclass(frozen=True)
    class Theirs:
        """Of another package."""

        size: int

    @quick_dataclass(frozen=True, order=True)
    @ours
    class Ordered:
        """Needs more than is made here."""

        size: int

    assert Theirs.__init__.__annotations__ == {"size": "int", "return": None}
    make: Any = Ordered
    assert make(1) < make(2)


@pytest.mark.parametrize(("outer", "inner"), [(True, False), (False, True)])
@pytest.mark.parametrize("of_base", [quick_dataclass, dataclasses.dataclass])
def test_frozen_and_other_classes_do_not_inherit_from_each_other(of_base: Decorator, outer: bool, inner: bool) -> None:
    """Mended: all classes were registered as not frozen, so that nothing was refused."""
    for decorate in (quick_dataclass, dataclasses.dataclass):

        @of_base(frozen=outer)
        @ours
        class Base:
            """A base."""

            name: str

        class Below(Base):
            """Inherits."""

            size: int = 3

        with pytest.raises(TypeError, match="cannot inherit"):
            decorate(frozen=inner)(ours(Below))
        made_below: Any = decorate(frozen=outer)(Below)
        assert repr(made_below(name="a")).endswith("Below(name='a', size=3)")


@pytest.mark.parametrize("decorate", [quick_dataclass, dataclasses.dataclass])
def test_a_value_for_the_constructor_alone(decorate: Decorator) -> None:
    """Mended: of the constructor that was made here it was no parameter."""

    @decorate(frozen=True)
    @ours
    class Opened:
        """Has one, and so has what inherits from it."""

        name: str
        mode: dataclasses.InitVar[str] = "r"  # type: ignore[assignment]  # the decorator is any

        def __post_init__(self, mode: str) -> None:
            object.__setattr__(self, "name", self.name + mode)

    @decorate(frozen=True)
    @ours
    class Below(Opened):
        """Has no other fields."""

        size: int = 1

    opened: Any = Opened
    below: Any = Below
    assert (opened("a", "w"), opened("a").name, below("a", "w", 2).name) == (opened("aw", ""), "ar", "aw")
    assert dataclasses.replace(below("a", "w"), mode="b").name == "awb"


@pytest.mark.parametrize("decorate", [quick_dataclass, dataclasses.dataclass])
def test_a_frozen_class_has_no_setters_of_its_own(decorate: Decorator) -> None:
    class Set:
        """Could be changed."""

        def __setattr__(self, name: str, value: object) -> None: ...

    with pytest.raises(TypeError, match="Cannot overwrite attribute __setattr__"):
        decorate(frozen=True)(ours(Set))


def test_a_command_s_own_classes_are_equal_after_a_trip_through_json_and_pickle() -> None:
    """In a process that has them installed, as `goldsmith` does."""
    program = (
        "from shared.quick_dataclasses import install_quick_dataclasses\n"
        "install_quick_dataclasses()\n"
        "import json, pickle\n"
        "from shared.build.build import Build\n"
        "from shared.build.events import read_build\n"
        "from shared.build.events import to_json\n"
        "from tests.world import values\n"
        "build = values.build()\n"
        "assert 'first_init' not in Build.__init__.__qualname__ and Build.__init__.__code__.co_filename == '<string>'\n"
        "assert read_build(json.dumps(to_json(build))) == build == pickle.loads(pickle.dumps(build))\n"
        "assert hash(values.ledger_entry()) == hash(values.ledger_entry())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
