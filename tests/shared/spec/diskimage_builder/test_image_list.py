"""Lists of images come to the same orders as command lines, with inheritance between their entries."""

from __future__ import annotations

import shlex

from shared.spec.diskimage_builder.draft import FoundElements, draft_order
from shared.spec.diskimage_builder.image_list import is_image_list, read_image_list
from shared.spec.diskimage_builder.options import OPTIONS, ImageOrder
from shared.spec.document import read_values
from tests.shared.spec.diskimage_builder.orders import draft_of


def orders(text: str) -> list[ImageOrder]:
    document = read_values(text)
    assert is_image_list(document.data)
    return read_image_list(document)


def problems(text: str) -> list[tuple[int, str, str]]:
    return [
        (each.position.line if each.position else 0, each.shown or "", each.text)
        for order in orders(text)
        for each in order.problems
    ]


EVERY_KEY = """
- imagename: out/all
  arch: amd64
  types: [qcow2, raw]
  debug-trace: 2
  uncompressed: true
  clear: false
  logfile: all.log
  checksum: true
  image-size: 4
  image-cache: /var/cache
  max-online-resize: 1000
  min-tmpfs: 4
  mkfs-journal-size: 32
  mkfs-options: -m 1
  no-tmpfs: true
  offline: true
  qemu-img-options: {compat: "1.1"}
  root-label: root
  ramdisk: false
  ramdisk-element: dracut-ramdisk
  install-type: package
  packages: [curl]
  skip-base: true
  elements: [vm, debian-minimal]
"""
AS_LINE = shlex.split(
    "-o out/all -a amd64 -t qcow2,raw -x -x -u --logfile all.log --checksum --image-size 4 --image-cache /var/cache "
    "--max-online-resize 1000 --min-tmpfs 4 --mkfs-journal-size 32 --no-tmpfs --offline --qemu-img-options compat=1.1 "
    "--root-label root --ramdisk-element dracut-ramdisk --install-type package -p curl -n vm debian-minimal "
    "--mkfs-options '-m 1'"
)


def test_every_key_means_what_its_option_means() -> None:
    (order,) = orders(EVERY_KEY)
    listed = draft_order(order, FoundElements("elements", ("../other",), None, "that of a test"))
    line = draft_of(*AS_LINE)
    assert not listed.document.problems
    assert listed.document.data == line.document.data
    assert listed.files == line.files
    assert set(EVERY_KEY.split()) >= {f"{key}:" for key in OPTIONS if key not in ("image-extra-size", "docker-target")}


def test_entries_of_one_image_inherit() -> None:
    first, second = orders(
        "- imagename: a\n  elements: [vm]\n  image-size: 3\n  environment: {A: x, B: x}\n"
        "- imagename: b\n  elements: [debian]\n"
        "- types: [raw]\n"
        "- imagename: a\n  elements: [app]\n  image-size: 5\n  environment: {B: y}\n"
    )
    assert [each.text for each in first.elements] == ["vm", "app"]
    assert {name: each.text for name, each in first.environment.items()} == {"A": "x", "B": "y"}
    size = first.last("image-size")
    assert size
    assert (size.text, size.place.position.line) == ("5", 10)
    assert [each.text for each in second.given["types"]] == ["raw"]
    assert not first.problems + second.problems


def test_an_image_without_a_name_is_called_image() -> None:
    (order,) = orders("- elements: [vm]\n")
    assert order.given["imagename"][0].text == "image"


def test_merge_keys_of_yaml_are_read() -> None:
    first, second = orders(
        "- &base\n  imagename: a\n  image-size: 3\n  elements: [vm]\n- <<: *base\n  imagename: b\n  image-size: 4\n"
    )
    assert [each.text for each in second.elements] == ["vm"]
    assert [order.given["image-size"][0].text for order in (first, second)] == ["3", "4"]


def test_all_mistakes_are_told_with_their_places() -> None:
    text = (
        "- imagename: 1\n  environment: {A: 1}\n  elementz: [x]\n  types: qcow2\n  image-size: big\n"
        "  uncompressed: 1\n  debug-trace: 3\n  packages: [1]\n  qemu-img-options: {a: 1}\n  logfile:\n"
    )
    assert problems(text) == [
        (1, "[0].imagename", "needs text, not the number 1; write that instead"),
        (2, "[0].environment.A", 'needs text, not the number 1; put it in quotes: "..."'),
        (3, "[0].elementz", "unknown key; did you mean elements?"),
        (4, "[0].types", "needs a list, not the text 'qcow2'; write entries that begin with -"),
        (5, "[0].image-size", "needs a number, not the text 'big'; write that instead"),
        (6, "[0].uncompressed", "needs true or false, not the number 1; write that instead"),
        (7, "[0].debug-trace", "cannot be the number 3; write 0, 1 or 2"),
        (8, "[0].packages[0]", 'needs text, not the number 1; put it in quotes: "..."'),
        (9, "[0].qemu-img-options", "'a' needs text; put it in quotes: \"...\""),
        (10, "[0].logfile", "has no value; give it one, or leave the key out"),
    ]


def test_other_values_are_no_list_of_images() -> None:
    assert not is_image_list(read_values("name: x\n").data)
    assert not is_image_list(read_values("- a\n- b: 1\n").data)
    assert not is_image_list(read_values("[]\n").data)
