"""The bill of materials of the image that a build starts from, where its maker publishes one.

Google publishes one for each Container-Optimized OS image, in a public bucket, below the image's build number.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from ..budget import BILL_OF_MATERIALS_BOUNDS, Budget
from ..build.plan import SourceImage
from ..errors import InputError
from ..names import COS_PROJECT
from .input import OtherDocument, read_bill, read_licenses, read_packages

BUCKET = "cos-tools"
PUBLIC_URL = f"https://storage.googleapis.com/{BUCKET}"
_BUILD = re.compile(r".+-(\d+)-(\d+)-(\d+)")  # cos-stable-117-18613-75-37, cos-arm64-stable-117-18613-75-37


@dataclass(frozen=True)
class Base:
    """The source image's own bill of materials; packages and licences are spdx-tools' own."""

    document: OtherDocument
    packages: tuple[Any, ...] = ()
    licenses: tuple[Any, ...] = ()
    left_out: int = 0  # packages and licences that cannot be read


def path_of(source: SourceImage) -> str | None:
    """Return where in BUCKET a source image's bill of materials is; None for images whose makers publish none."""
    match = _BUILD.fullmatch(source.name)
    if source.project != COS_PROJECT or match is None:
        return None
    board = "lakitu-arm64" if source.architecture == "arm64" or "arm64" in source.name else "lakitu"
    return f"{'.'.join(match.groups())}/{board}/sbom.spdx.json"


def read_base(source: SourceImage, path: str, data: bytes) -> Base:
    """Read the document that is at path_of(). It is named in any case; of one that cannot be read no package is."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        document = read_bill(data, Budget(BILL_OF_MATERIALS_BOUNDS, path, len(data)))
    except (InputError, ValueError, RecursionError):
        document = None
    fields = document if isinstance(document, dict) else {}
    namespace = fields.get("documentNamespace")
    uri = namespace if isinstance(namespace, str) and namespace.startswith("http") else f"{PUBLIC_URL}/{path}"
    problems: list[str] = []
    packages, licenses = (
        value if isinstance(value := fields.get(key), list) else []
        for key in ("packages", "hasExtractedLicensingInfos")
    )
    return Base(
        OtherDocument(source.name, uri, "SHA256", digest),
        read_packages(packages, problems, "packages"),
        read_licenses(licenses, problems, "hasExtractedLicensingInfos"),
        left_out=len(problems) if document is not None else 1,
    )
