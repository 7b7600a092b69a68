"""Make and store the bill of materials of an image, in the cloud beside the build's result.

    gs://BUCKET/results/NAME-GENERATION.spdx.json and .cdx.json; on one machine, in the folder of the build's logs
    beside the archive, where there is one
    output.sbom.to, where the spec has that

The names follow from the build, so that an order that comes again finds what it has written. The first are the
build's own, and are written before the publication is committed; the others get their names after it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import PurePosixPath

from provisioner.protocol import BUILD, COMPLETED, INVENTORY

from ..backend import Backend
from ..build import resources
from ..build.build import Build, PublishedFile
from ..build.events import OLD_REPORT, Reported
from ..build.plan import Plan
from ..engine.history import each_event, maker_of
from ..errors import GoldsmithError, NotFound, Permanent, Transient
from ..ports import Package
from ..sbom.base import BUCKET, Base, path_of, read_base
from ..sbom.documents import Contents, Documents, document_name, documents
from ..sbom.input import Given, read_input
from ..sbom.inventory import Inventory, of_build
from ..submission import is_result
from .files.stage import stage
from .logs import log_folder

LOG = logging.getLogger(__name__)

LATE = 120.0  # seconds after a VM's last word: for so long its list of packages is waited for

_ONE_AT_A_TIME = threading.Lock()  # 75 MB for 2,000 packages, in a function of 512 MB that takes eight orders at once


class BillOfMaterials:
    """The bill of materials of a build's image. Making it reads all that it is made of. Transient, Permanent."""

    def __init__(self, build: Build, plan: Plan, backend: Backend) -> None:
        self._build = build
        self._plan = plan
        self._backend = backend
        given = self._given()
        found, note = self._packages()
        base, base_note = self._base()
        note = "; ".join(filter(None, (note, base_note)))
        self.packages: Sequence[Package] | None = found
        self.digests: dict[str, str] = {}  # of what store() has written, by file name
        self._name = document_name(plan, given)
        with _ONE_AT_A_TIME:
            self._documents: Documents = documents(build, plan, Contents(found, note, given, base))

    @property
    def texts(self) -> tuple[bytes, bytes]:
        """Return the documents in the order of resources.sbom_names(): SPDX, CycloneDX."""
        return self._documents.spdx, self._documents.cyclonedx

    def store(self) -> tuple[PublishedFile, ...]:
        """Write both documents beside the build's results; return where the spec wants the SPDX one, too."""
        stem = resources.results_stem(self._build, log_folder(self._backend, self._build.id))
        names = resources.sbom_names(stem)
        for name, text in zip(names, self.texts, strict=True):
            self.digests[PurePosixPath(name).name] = stage(name, text, self._build, self._backend)
        target = self._plan.image.sbom_to
        if target is None:
            return ()
        uri = target + self._name if target.endswith("/") else target
        if resources.is_in_results(uri, self._build) and is_result(uri):
            raise Permanent(f"output.sbom.to: {uri} is named as results of builds are; write another folder or name")
        return (PublishedFile(uri, names[0], self.digests[PurePosixPath(names[0]).name], moved=False),)

    def _packages(self) -> tuple[Sequence[Package] | None, str]:
        """Return the packages, from the image's disk or else from its VM's report, and what the list lacks."""
        found = self._backend.compute.packages(self._plan.image.project, self._plan.image.name)
        if found is not None:
            return found, ""
        store = self._backend.store
        maker = maker_of(self._build, store)
        told = of_build(each_event(store, maker, kinds=(INVENTORY, OLD_REPORT)))
        if told is None:
            self._wait_for_word(maker)
            return None, ""
        return told.packages, _gaps(told)

    def _wait_for_word(self, maker: str) -> None:
        """Raise Transient while the VM's list may be on its way, overtaken by the last word that was said after it."""
        events = each_event(self._backend.store, maker, kinds=(COMPLETED, OLD_REPORT))
        ended = [
            e.time for e in events if isinstance(e, Reported) and (e.report.kind, e.report.phase) == (COMPLETED, BUILD)
        ]
        if self._backend.reports.of_contents and ended and self._backend.clock.now() < max(ended) + LATE:
            raise Transient(f"build {self._build.id}: what the VM of build {maker} says is installed has not come yet")

    def _given(self) -> Given:
        uri = self._plan.image.sbom_input
        if uri is None:
            return Given()
        try:
            return read_input(self._backend.bucket.read(uri))
        except NotFound as error:
            raise Permanent(f"output.sbom.input: {error}; it was there when the build began") from error

    def _base(self) -> tuple[Base | None, str]:
        """Return the source image's own list, if its makers publish one, or why it cannot be had."""
        path = path_of(self._plan.source)
        if path is None:
            return None, ""
        try:
            return read_base(self._plan.source, path, self._backend.bucket.read(f"gs://{BUCKET}/{path}")), ""
        except NotFound:
            return None, "its makers publish no bill of materials of the source image"
        except Transient:
            raise
        except GoldsmithError as error:  # a perimeter around the project, say: no reason to publish nothing
            LOG.warning("build %s: the source image's bill of materials cannot be read: %s", self._build.id, error)
            return None, "the source image's own bill of materials could not be read"


def _gaps(told: Inventory) -> str:
    """Return what a VM's list lacks; its message has a count first, then what could not be asked."""
    _count, _, faults = told.note.partition("; ")
    left_out = f"{told.left_out} packages did not fit into the build machine's report" if told.left_out else ""
    return "; ".join(filter(None, (left_out, faults)))
