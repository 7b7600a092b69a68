"""Command lines of disk-image-create are taken apart as GNU getopt does it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from shared.spec.diskimage_builder.command_line import placed_words, read_image_command
from shared.spec.diskimage_builder.options import OPTIONS, ImageOrder
from tests.shared.spec.diskimage_builder.orders import order_of

SHORT = "a:ho:t:xucnp:"
LONG = ",".join(
    option.flag[2:] + (":" if option.takes_value else "") for option in OPTIONS.values() if option.flag.startswith("--")
)


def seen(order: ImageOrder) -> tuple[dict[str, list[str]], list[str]]:
    return {key: [each.text for each in texts] for key, texts in order.given.items()}, [
        each.text for each in order.elements
    ]


def by_getopt(words: list[str]) -> list[str]:
    """What getopt(1), which the original asks, makes of words, one a line."""
    getopt = shutil.which("getopt")
    assert getopt
    script = f'eval set -- "$({getopt} -o {SHORT} -l {LONG} -- "$@")"; printf "%s\\n" "$@"'
    done = subprocess.run(["bash", "-c", script, "x", *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "-a amd64 -o out vm debian",
        "vm -aamd64 -oout debian",
        "-ux vm",
        "-xxu -x vm",
        "-uo out vm",
        "--image-size=4 vm",
        "--image-size 4 vm",
        "--image-si 4 --off vm",
        "--mkfs-o=-i=1 vm",
        "vm -- -o debian",
        "-t qcow2,raw -p a,b -p c vm",
        "--root-label= vm",
        "-o - vm",
        "- vm",
    ],
)
def test_words_are_taken_apart_as_getopt_does(line: str) -> None:
    words = line.split()
    order = read_image_command(placed_words(["disk-image-create", *words]))
    assert not order.problems
    told = by_getopt(words)
    end = told.index("--")
    assert [each.text for each in order.elements] == told[end + 1 :]
    values = {option.flag: option for option in OPTIONS.values()}
    expected: dict[str, list[str]] = {}
    rest = told[:end]
    while rest:
        option = values[rest.pop(0)]
        text = rest.pop(0) if option.takes_value else ""
        expected.setdefault(option.key, []).extend(text.split(",") if option.kind == "list" else [text])
    assert seen(order)[0] == expected


def test_the_last_types_count_and_all_packages() -> None:
    given, elements = seen(order_of("-t", "raw", "-t", "tar,qcow2", "-p", "a,b", "-p", "c", "vm"))
    assert given == {"types": ["tar", "qcow2"], "packages": ["a", "b", "c"]}
    assert elements == ["vm"]


def test_all_mistakes_are_told_with_their_places() -> None:
    order = order_of("-z", "--image", "4", "--imag-size", "--offline=1", "vm", "--help", "-o")
    assert [(each.position.column if each.position else 0, each.shown, each.text) for each in order.problems] == [
        (19, "'-z'", "is no option; write one of: -o, -a, -t, -x, -u, -c, -n, -p, -h"),
        (22, "'--image'", "may be --image-size or --image-extra-size or --image-cache; write it out"),
        (32, "'--imag-size'", "is no option; did you mean --image-size?"),
        (44, "--offline", "takes no value; write it alone"),
        (59, "--help", "only prints; leave it out, or run: goldsmith dib --help"),
        (66, "-o", "needs a value; write it behind the option"),
    ]


def test_folders_of_elements_can_be_named_beside() -> None:
    order = order_of("--path", "a", "--path=b", "vm")
    assert [each.text for each in order.path] == ["a", "b"]
    assert not order.given
