import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ImageFileError, InputError
from shared.origins.container import container_image
from tests.shared.origins.archives import entry, packed, write
from tests.shared.origins.containers import DOCKER, KIND, Layout, archived, layout, saved, sha256

LAYERS = [packed([entry("a", data=b"1")]), packed([entry("b", data=b"2")]), packed([])]


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def read(place: Path, scratch: Path) -> tuple[str, list[str]]:
    """Return an image's content, and its layers' digests as they are in its file."""
    with container_image(place, scratch) as image:
        return image.content, [layer.part().finish() for layer in image.layers]


def refuse(folder: Path, files: Mapping[str, bytes]) -> str:
    (folder / "image").mkdir()
    with pytest.raises(InputError) as error:
        read(put(folder / "image", files), folder)
    assert str(folder / "image") in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("way", ["tar", "gz", "zst"])
def test_an_image_is_the_same_wherever_it_lies(tmp_path: Path, way: str) -> None:
    for name, files in (("oci", layout(LAYERS, way=way)), ("docker", saved(LAYERS))):
        expected = read(put(tmp_path / name, files), tmp_path)
        assert len(expected[1]) == 3
        for packing in ("tar", "gz", "zst"):
            assert read(write(tmp_path / f"{name}.{packing}", archived(files, packing)), tmp_path) == expected


def test_the_image_of_this_machine_is_chosen(tmp_path: Path) -> None:
    made = Layout()
    wanted = made.image(LAYERS[:1], platform="linux/amd64")
    other = made.image(LAYERS[1:2], platform="linux/arm64")
    nested = {"manifests": [
        {**other, "platform": {"os": "linux", "architecture": "arm64"}},
        {**wanted, "platform": {"os": "linux", "architecture": "amd64"}},
        {**other, "platform": {"os": "unknown", "architecture": "unknown"}},
        {**wanted, "digest": f"sha256:{'0' * 64}", "platform": {"os": "windows", "architecture": "amd64"}},
    ]}  # fmt: skip
    made.manifests = [made.blob(nested, f"{KIND}index.v1+json"), other, {"mediaType": "text/plain", "digest": "none"}]
    content, layers = read(put(tmp_path, made.done()), tmp_path)
    assert (content, len(layers)) == (wanted["digest"].removeprefix("sha256:"), 1)


def test_none_or_several_for_this_machine_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    told = refuse(tmp_path / "1", layout(LAYERS, platform="linux/arm64"))
    assert "has images for linux/arm64 alone; give one for linux/amd64" in told
    made = Layout()
    for name, layers in (("one", LAYERS[:1]), ("two", LAYERS[1:2])):
        notes = {"org.opencontainers.image.ref.name": name}
        made.manifests.append(made.image(layers, annotations=notes))
    (tmp_path / "2").mkdir()
    assert "holds 2 images (one, two); save one of them alone" in refuse(tmp_path / "2", made.done())
    (tmp_path / "3").mkdir()
    assert "is an image for windows/amd64" in refuse(tmp_path / "3", saved(LAYERS, platform="windows/amd64"))
    both = [*json.loads(saved(LAYERS)["manifest.json"]), {"Config": "other", "RepoTags": ["big:2"], "Layers": []}]
    (tmp_path / "4").mkdir()
    told = refuse(tmp_path / "4", {**saved(LAYERS), "manifest.json": json.dumps(both).encode()})
    assert "holds 2 images (tiny:1, big:2)" in told
    (tmp_path / "5").mkdir()
    assert "neither index.json nor manifest.json" in refuse(tmp_path / "5", {"other": b"x"})


def changed(files: dict[str, bytes], old: str, new: str) -> dict[str, bytes]:
    """Change the text of a manifest, with all that leads to it."""
    index = json.loads(files["index.json"])
    path = "blobs/sha256/" + index["manifests"][0]["digest"].removeprefix("sha256:")
    data = files[path].decode().replace(old, new, 1).encode()
    assert data != files[path]
    index["manifests"][0]["digest"] = f"sha256:{sha256(data)}"
    return {**files, f"blobs/sha256/{sha256(data)}": data, "index.json": json.dumps(index).encode()}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (f"{KIND}layer.v1.tar+gzip", f"{KIND}layer.nondistributable.v1.tar+gzip", "has a foreign layer"),
        (f"{KIND}layer.v1.tar+gzip", f"{DOCKER}image.rootfs.foreign.diff.tar.gzip", "has a foreign layer"),
        (f"{KIND}layer.v1.tar+gzip", "application/vnd.cncf.helm", "a layer of the kind application/vnd.cncf.helm"),
        (f"{KIND}layer.v1.tar+gzip", f"{KIND}layer.v1.tar+gzip+encrypted", "a layer of the kind"),
        ("sha256:", "sha512:", "only sha256 is read"),
        ("sha256:", "sha256:../../../../etc/", "only sha256 is read"),
        ('"layers": [{', '"layers": [3, {', "layers is no list of objects"),
        ('"layers": [{', '"layers": [{}, {', "a layer of the kind None"),
        ('"config": {', '"config": 3, "other": {', "config is no object"),
    ],
)
def test_manifests_that_are_refused(tmp_path: Path, old: str, new: str, why: str) -> None:
    assert why in refuse(tmp_path, changed(layout(LAYERS), old, new))


def test_a_layer_with_urls_is_a_foreign_one(tmp_path: Path) -> None:
    files = changed(layout(LAYERS), '"layers": [{', '"layers": [{"urls": ["https://example.com"], ')
    assert "has a foreign layer, whose files are elsewhere" in refuse(tmp_path, files)


def damaged_files() -> dict[str, tuple[dict[str, bytes], str]]:
    files, docker = layout(LAYERS), saved(LAYERS)
    index: Any = json.loads(files["index.json"])
    manifest = "blobs/sha256/" + index["manifests"][0]["digest"].removeprefix("sha256:")
    config = "blobs/sha256/" + json.loads(files[manifest])["config"]["digest"].removeprefix("sha256:")
    layer = "blobs/sha256/" + json.loads(files[manifest])["layers"][0]["digest"].removeprefix("sha256:")
    name = next(path for path in docker if path.endswith(".json") and path != "manifest.json")
    without = {path: data for path, data in files.items() if path != layer}
    return {
        "manifest": ({**files, manifest: files[manifest] + b" "}, "the manifest"),
        "configuration": ({**files, config: files[config] + b" "}, "the configuration"),
        "cut": ({**files, layer: files[layer][:-1]}, "bytes, not"),
        "missing": (without, "it has no 'blobs/sha256/"),
        "index": ({**files, "index.json": b"{"}, "can be read"),
        "nesting": ({**files, "index.json": b"[" * 100_000}, "can be read"),
        "large": ({**files, "index.json": b" " * (5 << 20)}, "more than any document"),
        "named": ({**docker, name: docker[name] + b" "}, "is not what its name says"),
        "list": ({**docker, "manifest.json": b"[]"}, "lists no image"),
        "paths": ({**docker, "manifest.json": docker["manifest.json"].replace(b"layer.tar", b"../../x")}, "it has no"),
    }


@pytest.mark.parametrize("what", list(damaged_files()))
def test_damaged_images_are_refused(tmp_path: Path, what: str) -> None:
    files, why = damaged_files()[what]
    told = refuse(tmp_path, files)
    assert why in told


def test_a_path_does_not_lead_out(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", LAYERS[0])
    docker = saved(LAYERS[:1])
    (path,) = (path for path in docker if path.endswith("layer.tar"))
    (tmp_path / "image").mkdir()
    place = put(tmp_path / "image", docker)
    (place / path).unlink()
    (place / path).symlink_to(outside)
    with pytest.raises(ImageFileError, match="it has no"):
        read(place, tmp_path)
    (place / path).unlink()
    (place / "moved.tar").write_bytes(LAYERS[0])
    (place / path).symlink_to("../moved.tar")  # as older releases of docker save what two images share
    assert read(place, tmp_path)[1] == [sha256(LAYERS[0])]


def test_an_archive_that_ends_early_is_refused(tmp_path: Path) -> None:
    data = archived(layout(LAYERS))
    for part in (data[:700], data[: len(data) // 2], b"", b"x" * 2000):
        with pytest.raises(ImageFileError):
            read(write(tmp_path / "image.tar", part), tmp_path)
