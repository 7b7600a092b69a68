"""install-gpu -deps-dir outside of the build context: its files go along, on one machine as in the cloud."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from shared.context.outside import context_name, outside, packed_inputs
from shared.context.packing import pack_context
from shared.errors import InputError, SpecError
from shared.submission import CONTEXT_METADATA, context_metadata
from tests.shared.spec.cloudbuild.test_flags import FINISH, START, workflow
from tests.shared.spec.reading import load_specs
from tests.world.intake import BUCKET, Desk, planned, reason

RUN = "NVIDIA-Linux-x86_64-450.51.06.run"
THERE = ".goldsmith-outside/up/deps"
TEXT = workflow((*START, "-build-context=ctx"), ("install-gpu", f"-version={RUN}", "-deps-dir=deps"), FINISH)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workflow's folder, with a context, and dependencies beside that."""
    for name, text in {"ctx/preload.sh": "true\n", f"deps/{RUN}": "driver", "deps/below/x": "x"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "deps/link").symlink_to("/etc/passwd")
    (tmp_path / "cloudbuild.yaml").write_text(TEXT)
    return tmp_path


def names(packed: tarfile.TarFile) -> list[str]:
    return [name for name in packed.getnames() if packed.getmember(name).isreg()]


def test_its_regular_files_are_packed_and_the_step_finds_them(folder: Path) -> None:
    """Those of the folder itself, as COS Customizer takes them: no links, and nothing below."""
    [build] = load_specs(folder / "cloudbuild.yaml", source=folder).builds
    [step] = build.spec.steps
    assert (step.inputs["deps_dir"], outside(build.spec.steps)) == ("../deps", ("../deps",))
    assert packed_inputs(step.action, step.inputs)["deps_dir"] == THERE
    made = pack_context(folder / "ctx", folder / "p.tar", ("../deps",))
    with tarfile.open(made.uri) as packed:
        assert names(packed) == [f"{THERE}/{RUN}", "preload.sh"]
    assert made.digest != pack_context(folder / "ctx", folder / "q.tar").digest


def test_what_is_not_there_is_told(folder: Path) -> None:
    (folder / "deps" / RUN).unlink()
    with pytest.raises(SpecError, match=rf"steps\[1\] -version: there is no file .*/deps/{RUN}; put it there"):
        load_specs(folder / "cloudbuild.yaml", source=folder)
    (folder / "deps").rename(folder / "gone")
    with pytest.raises(SpecError, match=r"steps\[1\] -deps-dir: there is no folder .*/deps; put it there"):
        load_specs(folder / "cloudbuild.yaml", source=folder)


def test_its_place_in_the_context_must_be_free(folder: Path) -> None:
    (folder / "ctx/.goldsmith-outside").mkdir()
    with pytest.raises(InputError, match=r"holds \.goldsmith-outside, where the files of .*/deps go; rename it"):
        pack_context(folder / "ctx", folder / "p.tar", ("../deps",))


SOURCE_HERE = TEXT.replace("-image-project=cos-cloud", "-image-project=local").replace("cos-stable", "debian-12")


def test_an_uploaded_workflow_brings_them_too(folder: Path) -> None:
    desk = Desk()
    for name in ("ctx/preload.sh", f"deps/{RUN}", "deps/below/x"):
        desk.put(f"specs/web/{name}", (folder / name).read_text())
    context = planned(desk.upload(SOURCE_HERE, "specs/web/cloudbuild.yaml")).context
    assert context is not None
    with tarfile.open(fileobj=io.BytesIO(desk.objects.contents[context.uri, "5"])) as packed:
        assert names(packed) == [f"{THERE}/{RUN}", "preload.sh"]
    assert context.digest == pack_context(folder / "ctx", folder / "p.tar", ("../deps",)).digest


def test_submit_brings_them_under_a_name_of_their_own(folder: Path) -> None:
    """Of two builds with one context, each has what goes with it."""
    assert context_metadata({context_name("ctx", ()): "gs://b/1", context_name("ctx", ("../deps",)): "gs://b/2"}) == (
        json.dumps({"ctx": "gs://b/1", "ctx + ../deps": "gs://b/2"})
    )
    made = pack_context(folder / "ctx", folder / "p.tar", ("../deps",))
    desk = Desk()
    uri = f"gs://{BUCKET}/uploads/{made.digest}.tar"
    desk.objects.put(uri, (folder / "p.tar").read_bytes(), None)
    packed = json.dumps({"ctx + ../deps": uri, "other": uri})
    build = desk.upload(SOURCE_HERE, "specs/web/cloudbuild.yaml", **{CONTEXT_METADATA.replace("-", "_"): packed})
    context = planned(build).context
    assert context is not None
    assert context.digest == made.digest


@pytest.mark.parametrize("deps", ["../../../../../../etc", "../../../x", "../../../../specs/web/deps"])
def test_a_path_that_leads_out_of_a_functions_own_folder_reads_nothing(deps: str) -> None:
    desk = Desk()
    desk.put("specs/web/ctx/preload.sh", "true")
    spec = {
        "name": "web",
        "source": {"project": "local", "family": "debian-12"},
        "context": "ctx",
        "steps": [{"name": "gpu", "action": "install-gpu", "inputs": {"version": RUN, "deps_dir": deps}}],
    }
    assert "leads out of gs://" in reason(desk.upload(json.dumps(spec), "specs/web/build.yaml"))
