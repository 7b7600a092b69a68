"""The port of what uses images. It is no part of Compute, since builds do not ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ImageUse:
    """Something that was made of an image, or says that it will be."""

    image: str  # the image's name
    image_id: str  # "" where what uses it says only the name
    user: str  # what it is and where, for people


class ImageUsers(Protocol):
    """What uses images of ours, besides builds: disks, instance templates and groups, or processes of this machine."""

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        """List what in a project uses images of the project `images_of`; no more than a page is in memory.

        GoldsmithError where not all of it can be read: then nothing is known.
        """
        ...
