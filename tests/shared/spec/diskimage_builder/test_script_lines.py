"""Scripts that run disk-image-create are read as far as they are lists of its lines."""

from __future__ import annotations

import pytest

from shared.spec.diskimage_builder.options import ImageOrder
from shared.spec.diskimage_builder.script_lines import read_script, runs_program


def only(text: str, **environment: str) -> ImageOrder:
    found = read_script(text, environment)
    assert not found.problems
    (order,) = found.orders
    return order


def elements(order: ImageOrder) -> list[str]:
    return [each.text for each in order.elements]


def variables(order: ImageOrder) -> dict[str, str]:
    return {name: each.text for name, each in order.environment.items()}


def test_a_line_is_read_with_the_variables_before_it() -> None:
    text = (
        "#!/bin/bash\nset -eu  # stop\n\nexport DIB_RELEASE=bookworm A='x y'\nNAME=app\n"
        'DIB_X="$DIB_RELEASE-${B:-b}" sudo -E disk-image-create -o "out/$NAME" \\\n  vm \\\n my-app # all\n'
    )
    order = only(text)
    assert variables(order) == {"DIB_RELEASE": "bookworm", "A": "x y", "DIB_X": "bookworm-b"}
    assert elements(order) == ["vm", "my-app"]
    given = order.last("imagename")
    assert given
    assert given.text == "out/app"
    assert (given.place.position.line, order.elements[1].place.position.line) == (6, 8)


def test_what_is_not_exported_is_not_seen() -> None:
    order = only("A=1\nB=2\nC=3\nexport B\ndisk-image-create $A-$B vm\n", C="0")
    assert variables(order) == {"B": "2", "C": "3"}
    assert elements(order) == ["1-2", "vm"]


def test_a_script_may_make_several_images() -> None:
    found = read_script("A=1 disk-image-create a; /opt/bin/disk-image-create b\nramdisk-image-create c", {})
    assert not found.problems
    assert [elements(order) for order in found.orders] == [["a"], ["b"], ["c"]]
    assert [order.is_ramdisk for order in found.orders] == [False, False, True]
    assert [variables(order) for order in found.orders] == [{"A": "1"}, {}, {}]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("disk-image-create $(echo vm)", (1, 19, "has '$', which takes a shell; write what it comes to")),
        ("disk-image-create `echo vm`", (1, 19, "has '`', which takes a shell; write what it comes to")),
        ('disk-image-create "a `b`"', (1, 22, "has '`', which takes a shell; write what it comes to")),
        ("\ndisk-image-create $NAME", (2, 19, "uses NAME, which is not set; write its value")),
        ("disk-image-create vm | tee log", (1, 22, "has '|', which takes a shell; write what it comes to")),
        ("disk-image-create 'vm", (1, 20, "has a quote ' without its end; write that")),
        ("cd x\n", (1, 1, "is not read here, only variables and disk-image-create; leave 'cd' out")),
    ],
)
def test_what_takes_a_shell_is_told_with_its_place(text: str, problem: tuple[int, int, str]) -> None:
    found = read_script(text, {})
    assert [(each.position.line, each.position.column, each.text) for each in found.problems if each.position] == [
        problem
    ]


def test_other_texts_are_no_scripts() -> None:
    assert runs_program("x\n  A=1 /usr/bin/disk-image-create vm")
    assert not runs_program("# disk-image-create vm\n")
    assert not runs_program("my-disk-image-create-log: 1\n")
