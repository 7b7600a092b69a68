"""Container images as tools save them: OCI layouts and docker archives, as folders and as archives of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.shared.origins.archives import compressed, entry, folder, packed

KIND = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Layout:
    """An OCI layout that is put together: its files by their paths, and the manifests of its index."""

    files: dict[str, bytes] = field(default_factory=dict)
    manifests: list[dict[str, Any]] = field(default_factory=list)

    def blob(self, data: bytes | object, kind: str, **more: object) -> dict[str, Any]:
        """Add a blob, an object as JSON; return its descriptor."""
        content = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.files[f"blobs/sha256/{sha256(content)}"] = content
        return {"mediaType": kind, "digest": f"sha256:{sha256(content)}", "size": len(content), **more}

    def image(
        self, layers: Sequence[bytes], *, platform: str = "linux/amd64", way: str = "gz", **more: object
    ) -> dict[str, Any]:
        """Add an image of plain layers; return its manifest's descriptor."""
        system, architecture = platform.split("/")
        config = {
            "os": system,
            "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}" for layer in layers]},
        }
        ending = {"gz": "+gzip", "zst": "+zstd", "tar": ""}[way]
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(config, f"{KIND}config.v1+json"),
            "layers": [self.blob(compressed(layer, way), f"{KIND}layer.v1.tar{ending}") for layer in layers],
        }
        return self.blob(manifest, f"{KIND}manifest.v1+json", **more)

    def done(self) -> dict[str, bytes]:
        """Return all files, with an index of `manifests`."""
        index = {"schemaVersion": 2, "manifests": self.manifests}
        return {
            **self.files,
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps(index).encode(),
        }


def layout(layers: Sequence[bytes], **more: Any) -> dict[str, bytes]:
    """Return the files of an OCI layout with one image."""
    made = Layout()
    made.manifests.append(made.image(layers, **more))
    return made.done()


def saved(layers: Sequence[bytes], *, platform: str = "linux/amd64") -> dict[str, bytes]:
    """Return the files that `docker save` writes."""
    system, architecture = platform.split("/")
    digests = [f"sha256:{sha256(layer)}" for layer in layers]
    config = json.dumps(
        {"os": system, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": digests}}
    ).encode()
    paths = [f"{sha256(layer)}/layer.tar" for layer in layers]
    manifest = [{"Config": f"{sha256(config)}.json", "RepoTags": ["tiny:1"], "Layers": paths}]
    return {
        **dict(zip(paths, layers, strict=True)),
        f"{sha256(config)}.json": config,
        "manifest.json": json.dumps(manifest).encode(),
    }


def archived(files: Mapping[str, bytes], way: str = "tar") -> bytes:
    """Pack the files of an image into an archive, as docker and skopeo do."""
    folders = sorted({path.rpartition("/")[0] for path in files} - {""})
    return compressed(packed([*map(folder, folders), *(entry(path, data=data) for path, data in files.items())]), way)
