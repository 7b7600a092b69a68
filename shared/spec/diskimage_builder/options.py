"""The options of disk-image-create, and what an image is ordered with: texts by option, each with its place.

A command line and a YAML list of images say the same in two ways. Both come to an ImageOrder, whose texts are checked
in one place, by draft.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..cloudbuild.native_draft import Origin
from ..document import Problem

OptionKind = Literal["text", "number", "switch", "count", "list", "pairs"]


@dataclass(frozen=True)
class LineOption:
    """One option: its name in a list of images, and how a command line writes it."""

    key: str
    flag: str
    kind: OptionKind = "text"

    @property
    def takes_value(self) -> bool:
        """Whether a value follows the flag."""
        return self.kind not in ("switch", "count")


PATH_KEY = "path"
OPTIONS: Mapping[str, LineOption] = {
    each.key: each
    for each in (
        LineOption("imagename", "-o"),
        LineOption("arch", "-a"),
        LineOption("types", "-t", "list"),
        LineOption("debug-trace", "-x", "count"),
        LineOption("uncompressed", "-u", "switch"),
        LineOption("clear", "-c", "switch"),
        LineOption("skip-base", "-n", "switch"),
        LineOption("packages", "-p", "list"),
        LineOption("logfile", "--logfile"),
        LineOption("checksum", "--checksum", "switch"),
        LineOption("image-size", "--image-size", "number"),
        LineOption("image-extra-size", "--image-extra-size", "number"),
        LineOption("image-cache", "--image-cache"),
        LineOption("max-online-resize", "--max-online-resize", "number"),
        LineOption("min-tmpfs", "--min-tmpfs", "number"),
        LineOption("mkfs-journal-size", "--mkfs-journal-size", "number"),
        LineOption("mkfs-options", "--mkfs-options"),
        LineOption("no-tmpfs", "--no-tmpfs", "switch"),
        LineOption("offline", "--offline", "switch"),
        LineOption("qemu-img-options", "--qemu-img-options", "pairs"),
        LineOption("root-label", "--root-label"),
        LineOption("ramdisk-element", "--ramdisk-element"),
        LineOption("install-type", "--install-type"),
        LineOption("docker-target", "--docker-target"),
    )
}
"""Every option that makes an image, by its name in a list of images."""

ONLY_SHOW = ("-h", "--help", "--version")


@dataclass(frozen=True)
class OrderText:
    """A text of an order, and its place."""

    text: str
    place: Origin


@dataclass
class ImageOrder:
    """What one image is asked to be. `given` has the texts of each option in the order of their uses."""

    place: Origin
    given: dict[str, list[OrderText]] = field(default_factory=dict)
    elements: list[OrderText] = field(default_factory=list)
    environment: dict[str, OrderText] = field(default_factory=dict)
    is_ramdisk: bool = False
    path: list[OrderText] = field(
        default_factory=list
    )  # folders of elements that the caller names beside ELEMENTS_PATH
    problems: list[Problem] = field(default_factory=list)

    def last(self, key: str) -> OrderText | None:
        """Return the last use of an option, which is the one that counts."""
        return self.given[key][-1] if self.given.get(key) else None

    def fault(self, text: str, place: Origin) -> None:
        """Note a problem."""
        self.problems.append(Problem((), text, place.position, place.shown))
