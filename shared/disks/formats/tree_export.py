"""The jobs of an export that are about the files of the root file system: one reading, and a thread for each format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...build.export_formats import ExportFormat
from ...errors import InputError
from ..disk import Disk
from .listing import MOST_HOLES, Expected, compare, look_into_archive
from .oci import check_oci, write_oci
from .tree_files import TREE_FILES, Proof, TreeSource, file_digest
from .tree_stream import Pieces, Survey, TreeStream, expected_in_squashfs, read_tree, survey_of
from .work import ExportOrigin, ExportWork, Jobs

OCI = "oci"
WAYS = {**TREE_FILES, OCI: (write_oci, check_oci)}


@dataclass(frozen=True)
class TreeExport:
    """The formats of a tree that are wanted, and what is in it."""

    disk: Path
    formats: tuple[ExportFormat, ...]
    survey: Survey
    source: TreeSource

    @classmethod
    def of(cls, disk: Path, formats: tuple[ExportFormat, ...], origin: ExportOrigin) -> TreeExport:
        """Look at all that is to be exported. RootUnreadable; InputError for what a format cannot hold."""
        with Disk(disk) as opened:
            survey = survey_of(opened.root.file_system)
        if any(known.name == OCI for known in formats):
            _refuse_for_oci(survey)
        return cls(disk, formats, survey, TreeSource(origin, survey.root))

    def start(self, work: ExportWork, jobs: Jobs) -> None:
        """Start a thread for each format, one for the proof of each stream, and last the one that reads."""
        exact, in_squashfs = Expected(), expected_in_squashfs()
        streams: dict[bool, TreeStream] = {}
        proofs: dict[bool, Future[Proof]] = {}
        contents = self.survey.holes <= MOST_HOLES
        for known in self.formats:
            sparse = self._sparse(known)
            if sparse not in streams:
                streams[sparse] = TreeStream(work.halt, sparse=sparse)
                prove = partial(_prove, streams[sparse].reader(), exact, in_squashfs, work, contents=contents)
                proofs[sparse] = jobs.start(prove)
            jobs.start(partial(self._write, known, streams[sparse].reader(), proofs[sparse], work))
        fraction = work.fraction(*(known.name for known in self.formats))
        expected, total = (exact, in_squashfs), max(1, self.survey.contents)
        jobs.start(partial(read_tree, self.disk, list(streams.values()), expected, fraction, total))

    def _sparse(self, known: ExportFormat) -> bool:
        """Return whether a format has sparse files. Without any in the tree, all formats share one stream."""
        return self.survey.holes > 0 and known.name != OCI

    def _write(self, known: ExportFormat, pieces: Pieces, proof: Future[Proof], work: ExportWork) -> None:
        write, check = WAYS[known.name]
        target = work.targets[known]
        write(pieces, target, work.level, self.source, work.halt)
        check(target, proof.result(), self.source, work.halt)
        work.end(known, file_digest(target, work.halt))


def _prove(
    pieces: Iterable[bytes], exact: Expected, in_squashfs: Expected, work: ExportWork, *, contents: bool
) -> Proof:
    """Let GNU tar look into a stream while it is made."""
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for piece in pieces:
            digest.update(piece)
            yield piece

    seen = look_into_archive(hashed(), work.halt, contents=contents)
    compare("the archive of the root file system", seen, exact.seen, contents=contents)
    return Proof(digest.hexdigest(), in_squashfs.seen, contents)


def _refuse_for_oci(survey: Survey) -> None:
    if survey.whiteout is not None:
        raise InputError(
            f"an OCI image cannot hold the file {survey.whiteout!r}: there its name says that another file is gone; "
            f"leave the format {OCI} out"
        )
    if survey.holes > MOST_HOLES:
        raise InputError(
            f"an OCI image holds no sparse files, and those of this image have {survey.holes} bytes of holes; "
            f"make them smaller, or leave the format {OCI} out"
        )
