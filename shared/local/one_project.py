"""What the images of one machine are not: shared, copied to other projects and locations, or read by other machines."""

from __future__ import annotations

from ..errors import Permanent
from ..export_ports import DiskRequest
from ..ports import Duplicate, Image


class OneProject:
    """The part of Compute that one machine has no use for. Plans for project `local` never come to it."""

    def attach_disk(self, request: DiskRequest) -> None:
        """Refuse: this machine reads disks by itself."""
        raise Permanent(f"disk {request.name} is of this machine, which attaches none while a machine runs")

    def share_image(self, image: Image, member: str) -> None:
        """Refuse: a home has one user."""
        raise Permanent(f"image {image.name} is of this machine, which shares none; push it to a project")

    def duplicate_image(self, wanted: Duplicate) -> Image:
        """Refuse: a home is one project in one location."""
        raise Permanent(f"image {wanted.of.name} is of this machine, which copies none elsewhere; push it to a project")
