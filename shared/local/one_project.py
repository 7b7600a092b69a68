"""What the images of one machine are not: shared with others, or copied to other projects and locations."""

from __future__ import annotations

from ..errors import Permanent
from ..ports import Duplicate, Image


class OneProject:
    """The part of Compute that one machine has no use for. Plans for project `local` never come to it."""

    def share_image(self, image: Image, member: str) -> None:
        """Refuse: a home has one user."""
        raise Permanent(f"image {image.name} is of this machine, which shares none; push it to a project")

    def duplicate_image(self, wanted: Duplicate) -> Image:
        """Refuse: a home is one project in one location."""
        raise Permanent(f"image {wanted.of.name} is of this machine, which copies none elsewhere; push it to a project")
