"""The documents of a step of elements: read from the packed context, and part of the plan."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.build.plan import AskedElements, Context
from shared.cache.step_keys import layer_chain
from shared.context.outside import outside
from shared.context.packing import pack_context
from shared.elements.packed_links import PackedFile
from shared.elements.step_documents import step_documents
from shared.errors import InputError, SpecError
from shared.intake.stored_content import ReadRoom, StreamedContext
from shared.spec.model import Spec
from shared.submission import CONTEXT_METADATA
from tests.provisioner.elements.element_folders import element
from tests.shared.elements.test_packed_links import archive_of
from tests.shared.planning.test_plan import planned
from tests.shared.spec.reading import load_spec, read_spec
from tests.world.intake import BUCKET, SOURCE, Desk, reason
from tests.world.intake import planned as plan_of

TEXT = """\
name: web
source: {project: my-images, family: debian-12}
context: ctx
steps:
  - name: web
    action: elements
    inputs: {elements: [app], path: [own/, ../beside]}
    reads: [notes]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spec's folder: an element in the context, and one beside it."""
    files = {"package-installs.yaml": "nginx: {phase: install.d}\n", "install.d/50-app": "#!/bin/sh\n"}
    element(tmp_path / "ctx/own", "app", files, needs="base")
    element(tmp_path / "beside", "base", {"svc-map": "web: {default: httpd}\n", "install.d/10-base": "#!/bin/sh\n"})
    element(tmp_path / "beside", "app", {"pkg-map": "not JSON"})
    (tmp_path / "beside/base/link").symlink_to("svc-map")
    (tmp_path / "ctx/notes").write_text("")
    (tmp_path / "build.yaml").write_text(TEXT)
    return tmp_path


def packed(folder: Path, spec: Spec, context: str = "ctx") -> Context:
    return pack_context(folder / context, folder / "packed.tar", outside(spec.steps))


def read(spec: Spec, archive: Path) -> dict[AskedElements, str]:
    return step_documents(spec.steps, PackedFile(archive), archive.parent)


def test_the_documents_of_chosen_elements_are_read(folder: Path) -> None:
    spec = load_spec(folder / "build.yaml")
    made = packed(folder, spec)
    [found] = read(spec, Path(made.uri)).values()
    assert json.loads(found) == {
        "app": {"package-installs.yaml": {"nginx": {"phase": "install.d"}}},
        "base": {"svc-map": {"web": {"default": "httpd"}}},
    }
    with tarfile.open(made.uri) as archive:
        mode = {name: archive.getmember(name).mode for name in archive.getnames() if "install.d/" in name}
        assert archive.getmember(".goldsmith-outside/up/beside/base/link").linkname == "svc-map"
    assert mode == {"own/app/install.d/50-app": 0o755, ".goldsmith-outside/up/beside/base/install.d/10-base": 0o755}
    assert sorted(path.name for path in folder.iterdir()) == ["beside", "build.yaml", "ctx", "packed.tar"]


def test_they_are_part_of_the_plan_and_of_the_keys_of_the_cache(folder: Path) -> None:
    spec = load_spec(folder / "build.yaml")
    made = packed(folder, spec)
    one = planned(spec, context=made, documents=read(spec, Path(made.uri)))
    [step] = one.steps
    assert step.inputs["path"] == ["own", ".goldsmith-outside/up/beside"]
    assert step.reads == ("notes", "own", ".goldsmith-outside/up/beside")
    assert "nginx" in step.inputs["documents"]
    assert one.machine.engine == "vm"
    (folder / "beside/base/svc-map").write_text("web: {default: apache2}\n")
    other = planned(spec, context=made, documents=read(spec, Path(packed(folder, spec).uri)))
    assert one.content_digest != other.content_digest
    first, second = (layer_chain(plan, {}, lambda patterns: "same") for plan in (one, other))
    assert first != second


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda folder: (folder / "ctx/own/app/element-deps").write_text("bass\n"),
            "own/app/element-deps:1: there is no",
        ),
        (
            lambda folder: (folder / "beside/base/svc-map").write_text("web:\n  default: 1\n"),
            "../beside/base/svc-map:2:3: web.default: is a number; write the service's name",
        ),
        (
            lambda folder: (folder / "ctx/own/app/install.d/10-base").write_text(""),
            "own/app/install.d/10-base: element app and element base both have install.d/10-base",
        ),
    ],
)
def test_elements_that_cannot_be_used_are_told_with_their_places(folder: Path, change: object, why: str) -> None:
    change(folder)  # type: ignore[operator]
    spec = load_spec(folder / "build.yaml")
    with pytest.raises(InputError) as raised:
        read(spec, Path(packed(folder, spec).uri))
    assert str(raised.value).startswith(f"step 'web': {why}"), raised.value


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ("{elements: []}", "elements: is empty; write at least one element"),
        ("{elements: [a/b]}", "elements[0]: 'a/b' is no element's name; write the name of its folder in each entry"),
        ("{elements: [a], path: []}", "path: is empty; write the folders that hold elements"),
        ("{elements: [a], path: [/etc]}", "path[0]: '/etc' is not a path of a folder; write it relative"),
        ("{elements: [a], path: [none]}", "path[0]: 'none' is not in the context"),
        ("{elements: [a], path: [../none]}", "path[0]: there is no folder"),
        ("{elements: [a], path: [notes]}", "path[0]: 'notes' is a file; write the path of a folder"),
        ("{elements: [a], env: {TMP_HOOKS_PATH: /x}}", "env: TMP_HOOKS_PATH is set by the step itself; leave it out"),
        ("{elements: [a], documents: x}", "documents: unknown key"),
    ],
)
def test_inputs_are_held_to_the_model(folder: Path, inputs: str, why: str) -> None:
    (folder / "ctx/elements").mkdir()
    head = TEXT.partition("    inputs")[0]
    (folder / "build.yaml").write_text(f"{head}    inputs: {inputs}\n")
    with pytest.raises(SpecError) as raised:
        load_spec(folder / "build.yaml")
    assert any(f"steps[0].inputs.{why}" in problem for problem in raised.value.problems), raised.value.problems


def test_folders_in_the_verify_steps_lie_in_the_context(folder: Path) -> None:
    steps = TEXT.partition("steps:\n")[2].replace("    reads: [notes]\n", "")
    text = TEXT.partition("steps:\n")[0] + "steps: []\nverify:\n  steps:\n" + steps.replace("  - ", "    - ")
    (folder / "build.yaml").write_text(
        text.replace("\n    action", "\n      action").replace("\n    inputs", "\n      inputs")
    )
    with pytest.raises(SpecError, match=r"verify.steps\[0\].inputs.path\[1\]: .* leads out of the context"):
        load_spec(folder / "build.yaml")


def test_an_uploaded_spec_has_them_too(folder: Path) -> None:
    desk = Desk()
    for path in (path for name in ("ctx", "beside") for path in (folder / name).rglob("*") if path.is_file()):
        if not path.is_symlink():
            desk.put(f"specs/web/{path.relative_to(folder)}", path.read_text())
    plan = plan_of(desk.upload(TEXT, "specs/web/build.yaml"))
    assert "nginx" in plan.steps[0].inputs["documents"]
    desk.put("specs/web/beside/base/svc-map", "web: 1\n")
    assert "../beside/base/svc-map:1:1: web: is a number" in reason(desk.upload(TEXT, "specs/web/build.yaml"))


def test_a_submitted_spec_has_them_too(folder: Path) -> None:
    desk = Desk()
    spec = load_spec(folder / "build.yaml")
    made = packed(folder, spec)
    uri = f"gs://{BUCKET}/uploads/{made.digest}.tar"
    desk.objects.put(uri, Path(made.uri).read_bytes(), None)
    plan = plan_of(desk.upload(TEXT, "specs/web/build.yaml", **{CONTEXT_METADATA.replace("-", "_"): uri}))
    assert "nginx" in plan.steps[0].inputs["documents"]
    assert plan.source.name == SOURCE.name


def test_of_a_large_context_the_folders_of_elements_alone_are_held(folder: Path, tmp_path: Path) -> None:
    (folder / "ctx" / "large.bin").write_bytes(bytes(3 << 20))
    desk, spec = Desk(), load_spec(folder / "build.yaml")
    uri = f"gs://{BUCKET}/contexts/some.tar"
    desk.objects.put(uri, Path(packed(folder, spec).uri).read_bytes(), None)
    found = desk.objects.stat(uri)
    assert found is not None
    reads = ReadRoom(3 * found.size - 1)

    def read_stream(most: int) -> dict[AskedElements, str]:
        return step_documents(spec.steps, StreamedContext(desk.objects, found, most, reads), tmp_path)

    assert read_stream(1 << 20) == read(spec, Path(packed(folder, spec).uri))
    with pytest.raises(InputError, match=r"its folders of elements hold more than 0 MiB, .*; fetch large data in a"):
        read_stream(10)
    with pytest.raises(
        InputError, match=r"builds of this text .* read more than 0 GiB .*; keep large data in a bucket"
    ):
        read_stream(1 << 20)
    assert [path for path in tmp_path.iterdir() if path.name.startswith("goldsmith-elements-")] == []


class CountedContext(PackedFile):
    """A packed context that counts how often it is read."""

    reads = 0

    def unpack(self, folder: Path, only: Sequence[str] | None) -> None:
        """Unpack what patterns select."""
        self.reads += 1
        super().unpack(folder, only)


def test_the_archive_is_read_as_often_for_many_steps_as_for_one(folder: Path) -> None:
    own = "{name: own%d, action: elements, inputs: {elements: [app], path: [own/, ../beside], env: {N: '%d'}}}"
    base = "{name: base%d, action: elements, inputs: {elements: [base], path: [%s../beside]}}"
    steps = [own % (0, 0), *(base % (number, "../beside, " * number) for number in range(20))]
    head = TEXT.partition("steps:")[0]
    (folder / "build.yaml").write_text(f"{head}steps:\n" + "".join(f"  - {step}\n" for step in steps))
    spec = load_spec(folder / "build.yaml")
    archive = CountedContext(Path(packed(folder, spec).uri))
    found = step_documents(spec.steps, archive, folder)
    assert (len(found), archive.reads) == (21, 1)
    assert json.loads(found[("app",), ("own/", "../beside")]).keys() == {"app", "base"}
    (folder / "beside/base/element-deps").write_text("bass\n")
    with pytest.raises(InputError, match=r"^step 'own0': \.\./beside/base/element-deps:1: (.*\n)+step 'base19': "):
        read(spec, Path(packed(folder, spec).uri))


def test_a_fault_of_the_archive_is_told_with_the_steps(folder: Path) -> None:
    steps = TEXT.partition("steps:\n")[2]
    text = TEXT + "".join(steps.replace("name: web", f"name: web{number}") for number in range(3))
    (folder / "build.yaml").write_text(text.replace("../beside", "own/app"))
    spec = load_spec(folder / "build.yaml")
    archive = folder / "out.tar"
    archive.write_bytes(archive_of({"own/app/element-deps": "/etc/passwd"}))
    with pytest.raises(InputError, match=r"^steps 'web', 'web0', 'web1' and 1 more: own/app/element-deps: is a link"):
        read(spec, archive)


def test_a_spec_without_elements_needs_no_archive() -> None:
    spec = read_spec("name: a\nsource: {project: local, family: f}\nsteps: []\n", "s")
    assert step_documents(spec.steps, None, Path()) == {}
