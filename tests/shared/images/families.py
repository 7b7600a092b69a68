"""Families as Compute Engine resolves them."""

from shared.images.catalogue import Catalogue
from shared.ports import Image


def newest(catalogue: Catalogue, family: str) -> Image | None:
    """Return the newest image of a family that is not deprecated."""
    return next((image for image in catalogue.list(family=family) if image.deprecated is None), None)
