"""What publication writes about an image's contents: its bill of materials, in the cloud beside the build's result.

    gs://BUCKET/results/NAME-GENERATION.spdx.json and .cdx.json; on one machine, in the folder of the build's logs
    beside the archive, where there is one
    output.sbom.to, where the spec has that

The names follow from the build, so that an order that comes again writes over what it has written. The first are the
build's own, and are written before the publication is committed; the others get their names after it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence

from .. import resources
from ..build import Build, PublishedFile
from ..damage import readable_events
from ..errors import GoldsmithError, NotFound, Permanent, Transient
from ..factory import Factory
from ..inventory import Inventory, of_build
from ..plan import Plan
from ..ports import Package
from ..sbom import Contents, Documents, documents, file_name
from ..sbom_base import BUCKET, Base, path_of, read_base
from ..sbom_input import Given, read_input
from ..submission import is_result
from .logs import log_folder

LOG = logging.getLogger(__name__)

_ONE_AT_A_TIME = threading.Lock()  # 75 MB for 2,000 packages, in a function of 512 MB that takes eight orders at once


class BillOfMaterials:
    """The bill of materials of a build's image. Making it reads all that it is made of. Transient, Permanent."""

    def __init__(self, build: Build, plan: Plan, factory: Factory) -> None:
        self._build = build
        self._plan = plan
        self._factory = factory
        given = self._given()
        found, note = self._packages()
        base, base_note = self._base()
        note = "; ".join(filter(None, (note, base_note)))
        self.packages: Sequence[Package] | None = found
        self._name = file_name(plan, given)
        with _ONE_AT_A_TIME:
            self._documents: Documents = documents(build, plan, Contents(found, note, given, base))

    @property
    def texts(self) -> tuple[bytes, bytes]:
        """The documents in the order of resources.sbom_names(): SPDX, CycloneDX."""
        return self._documents.spdx, self._documents.cyclonedx

    def store(self) -> tuple[PublishedFile, ...]:
        """Write both documents beside the build's results; return where the spec wants the SPDX one, too."""
        stem = resources.results_stem(self._build, log_folder(self._factory, self._build.id))
        names = resources.sbom_names(stem)
        for name, text in zip(names, self.texts, strict=True):
            self._factory.bucket.write(name, text)
        target = self._plan.image.sbom_to
        if target is None:
            return ()
        uri = target + self._name if target.endswith("/") else target
        if resources.is_in_results(uri, self._build) and is_result(uri):
            raise Permanent(f"output.sbom.to: {uri} is named as results of builds are; write another folder or name")
        return (PublishedFile(uri, names[0], hashlib.sha256(self._documents.spdx).hexdigest(), moved=False),)

    def _packages(self) -> tuple[Sequence[Package] | None, str]:
        """Give what is installed, and what is missing from that: as the image's disk has it, else as its VM said."""
        found = self._factory.compute.packages(self._plan.image.project, self._plan.image.name)
        if found is not None:
            return found, ""
        told = of_build(readable_events(self._factory.store.events(self._build.id)))
        if told is None:
            return None, ""
        return told.packages, _gaps(told)

    def _given(self) -> Given:
        uri = self._plan.image.sbom_input
        if uri is None:
            return Given()
        try:
            return read_input(self._factory.bucket.read(uri))
        except NotFound as error:
            raise Permanent(f"output.sbom.input: {error}; it was there when the build began") from error

    def _base(self) -> tuple[Base | None, str]:
        """Give the source image's own list, where its makers publish one, or why it cannot be had."""
        path = path_of(self._plan.source)
        if path is None:
            return None, ""
        try:
            return read_base(self._plan.source, path, self._factory.bucket.read(f"gs://{BUCKET}/{path}")), ""
        except NotFound:
            return None, "its makers publish no bill of materials of the source image"
        except Transient:
            raise
        except GoldsmithError as error:  # a perimeter around the project, say: no reason to publish nothing
            LOG.warning("build %s: the source image's bill of materials cannot be read: %s", self._build.id, error)
            return None, "the source image's own bill of materials could not be read"


def _gaps(told: Inventory) -> str:
    """Say what a VM's list lacks; its message begins with a count and goes on with what could not be asked."""
    _count, _, faults = told.note.partition("; ")
    left_out = f"{told.left_out} packages did not fit into the build machine's report" if told.left_out else ""
    return "; ".join(filter(None, (left_out, faults)))
