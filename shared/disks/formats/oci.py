"""An OCI image of one layer, as an archive of its layout: what `skopeo copy oci-archive:FILE` and `podman load` take.

The layer comes first in the archive, since it is written while it is compressed; its own header, which has its digest
and length, is filled in afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any

from ...archives.gzip_stream import Level
from ...archives.pax import old_header, padding
from ...archives.sparse_tar import TAR_BLOCK, trailer
from ...errors import ImageFileError
from ..archive import HashedFile
from ..extents import written_file
from .halt import Halt, pieces_of, pour
from .tree_files import Proof, TreeSource, compress_into
from .work import ExportOrigin

_PLATFORMS = {"x86_64": "amd64", "arm64": "arm64"}
_KIND = "application/vnd.oci.image."
_INDEX, _BLOBS = "index.json", "blobs/sha256/"
_PIECE = 1 << 20


def write_oci(pieces: Iterable[bytes], target: Path, level: Level, source: TreeSource, halt: Halt) -> None:
    """Write the image's archive; the pieces are its layer, a tar stream without sparse files."""
    with written_file(target) as descriptor:
        os.write(descriptor, bytes(TAR_BLOCK))
        layer = HashedFile(descriptor)
        diff_id = compress_into(layer.write, pieces, level)
        sha256 = layer.digest.hexdigest()
        os.pwrite(descriptor, old_header(_BLOBS.encode() + sha256.encode(), layer.length), 0)
        rest = HashedFile(descriptor)
        rest.write(padding(layer.length))
        told = _descriptor(f"{_KIND}layer.v1.tar+gzip", sha256, layer.length)
        config = _document(_config(diff_id, source.origin))
        manifest = _document(
            {
                "schemaVersion": 2,
                "mediaType": f"{_KIND}manifest.v1+json",
                "config": _descriptor(f"{_KIND}config.v1+json", _sha256(config), len(config)),
                "layers": [told],
            }
        )
        for blob in (config, manifest):
            _add(rest, _BLOBS + _sha256(blob), blob)
        _add(rest, "oci-layout", _document({"imageLayoutVersion": "1.0.0"}))
        _add(rest, _INDEX, _document(_index(manifest, source.origin)))
        rest.write(trailer(TAR_BLOCK + layer.length + rest.length))


def check_oci(target: Path, proof: Proof, source: TreeSource, halt: Halt) -> None:
    """Read the archive back with GNU tar, from its index down.

    Each blob has the digest that it is named for, and its length; what gzip makes of the layer is the tree's archive.
    """
    index = _parsed(_member(target, _INDEX, halt))
    manifest = _parsed(_blob(target, index["manifests"][0], halt))
    config = _parsed(_blob(target, manifest["config"], halt))
    [layer] = manifest["layers"]
    packed, length, plain = _layer(target, layer, halt)
    if (f"sha256:{packed}", length) != (layer["digest"], layer["size"]):
        raise ImageFileError(f"{target}: its layer is not the one that its manifest names; export it again")
    if plain != proof.sha256 or config["rootfs"]["diff_ids"] != [f"sha256:{plain}"]:
        raise ImageFileError(f"{target}: another archive comes out of its layer than was written; export it again")


def _config(diff_id: str, origin: ExportOrigin) -> dict[str, Any]:
    created = datetime.fromtimestamp(int(origin.created), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "created": created,
        "architecture": _PLATFORMS.get(origin.architecture.lower(), origin.architecture.lower()),
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created": created, "created_by": f"goldsmith: root file system of image {origin.name}"}],
    }


def _index(manifest: bytes, origin: ExportOrigin) -> dict[str, Any]:
    told = _descriptor(f"{_KIND}manifest.v1+json", _sha256(manifest), len(manifest))
    annotations = {"org.opencontainers.image.ref.name": origin.name}
    return {
        "schemaVersion": 2,
        "mediaType": f"{_KIND}index.v1+json",
        "manifests": [told | {"annotations": annotations}],
    }


def _descriptor(kind: str, sha256: str, length: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{sha256}", "size": length}


def _document(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _add(output: HashedFile, name: str, data: bytes) -> None:
    output.write(old_header(name.encode(), len(data)) + data + padding(len(data)))


def _member(target: Path, name: str, halt: Halt) -> bytes:
    with halt.program(["tar", "--extract", "--to-stdout", f"--file={target}", name], stdout=PIPE) as tar:
        return b"".join(pieces_of(tar.output, _PIECE))


def _blob(target: Path, told: dict[str, Any], halt: Halt) -> bytes:
    blob = _member(target, _BLOBS + str(told["digest"]).removeprefix("sha256:"), halt)
    if (f"sha256:{_sha256(blob)}", len(blob)) != (told["digest"], told["size"]):
        raise ImageFileError(f"{target}: blob {told['digest']} has another content; export it again")
    return blob


def _layer(target: Path, told: dict[str, Any], halt: Halt) -> tuple[str, int, str]:
    """Return the layer's SHA-256 and length, and the SHA-256 of what it unpacks to."""
    name = _BLOBS + str(told["digest"]).removeprefix("sha256:")
    packed = _Packed()
    with (
        halt.program(["tar", "--extract", "--to-stdout", f"--file={target}", name], stdout=PIPE) as tar,
        halt.program(["gzip", "-dc"], stdin=PIPE, stdout=PIPE) as gzip,
    ):
        unpacked = gzip.use_output(_sha256_of)
        pour(_counted(pieces_of(tar.output, _PIECE), packed), gzip)
        return packed.digest.hexdigest(), packed.length, unpacked.result()


@dataclass
class _Packed:
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    length: int = 0


def _counted(pieces: Iterable[bytes], packed: _Packed) -> Iterator[bytes]:
    for piece in pieces:
        packed.digest.update(piece)
        packed.length += len(piece)
        yield piece


def _sha256_of(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces_of(stream, _PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _parsed(text: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    return document
