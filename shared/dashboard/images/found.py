"""One image as pages look it up: in its project, in the store, and the build that has made it."""

from __future__ import annotations

from dataclasses import dataclass

from ...build.build import Build, ImageDocument
from ...errors import InputError, NotFound
from ...names import BUILD_LABEL, check_name
from ...ownership import find_build, find_image
from ...ports import Image
from ..web.served import Served


@dataclass(frozen=True)
class ShownImage:
    """What is known of an image; `image` and `known` are not both None."""

    project: str
    name: str
    image: Image | None  # None: it has been deleted
    known: ImageDocument | None  # None: no build of ours has made it, or what is there cannot be read
    build: Build | None

    @property
    def place(self) -> tuple[str, str]:
        """Return its project and name."""
        return self.project, self.name

    @property
    def id(self) -> str:
        """Return the image's own id."""
        return self.image.id if self.image is not None else self.known.id if self.known is not None else ""


def find_shown(served: Served, project: str, name: str) -> ShownImage:
    """Return an image of the project that is shown, or of another one where a build of ours has made it. NotFound.

    A page is asked for any project: what its rights could read in others is looked at only where the store names it.
    """
    try:
        check_name(name)
    except ValueError:
        raise _missing(project, name) from None
    known = find_image(project, name, served.backend)
    if project != served.project and known is None:
        raise _missing(project, name)
    try:
        image = served.backend.compute.image(project, name)
    except InputError:
        raise _missing(project, name) from None
    if image is not None and known is not None and known.id and known.id != image.id:
        known = None  # of another image of that name
    if image is None and (known is None or not known.id):
        raise _missing(project, name)
    labelled = "" if image is None else image.labels.get(BUILD_LABEL, "")
    build = find_build(labelled if known is None else known.build_id, served.backend)
    return ShownImage(project, name, image, known, build)


def _missing(project: str, name: str) -> NotFound:
    return NotFound(f"there is no image {project[:100]}/{name[:100]}; see /images")
