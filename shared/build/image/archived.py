"""An image that is brought to Compute Engine as an archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .secure_boot import SecureBootKeys


@dataclass(frozen=True)
class ArchivedImage:
    """An image to be made on Compute Engine of an archive in Cloud Storage. It joins no family."""

    project: str
    name: str
    archive: str  # gs://bucket/object
    copy_of: str  # the id of the image that the archive was written of; it becomes the label COPY_LABEL
    description: str
    labels: Mapping[str, str]
    licenses: tuple[str, ...]
    architecture: str
    guest_os_features: tuple[str, ...]
    storage_locations: tuple[str, ...] = ()  # () for the nearest multi-region
    kms_key: str | None = None  # None: Google's own
    secure_boot_keys: SecureBootKeys | None = None  # None: Google's
