"""Every flag of COS Customizer's command line, and the key of the spec that it becomes. The ids name the flags."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import SpecError
from shared.spec.model import Spec
from shared.spec.read import SpecBuild
from tests.shared.spec.reading import read_text

START = ("start-image-build", "-image-project=cos-cloud", "-image-family=cos-stable", "-gcs-bucket=b", "-gcs-workdir=w")
FINISH = ("finish-image-build", "-project=my-project", "-zone=us-west1-b", "-image-name=my-image")
CUSTOMIZER = "gcr.io/cos-cloud/cos-customizer"


def workflow(*commands: tuple[str, ...], **more: Any) -> str:
    """Write a workflow of these steps, as the JSON that YAML is too."""
    return json.dumps({"steps": [{"name": CUSTOMIZER, "args": command} for command in commands], **more})


def build_of(*commands: tuple[str, ...], **more: Any) -> SpecBuild:
    """Read the only build of a workflow."""
    (build,) = read_text(workflow(*commands, **more), "cloudbuild.yaml")
    return build


def spec_of(*commands: tuple[str, ...]) -> Spec:
    """Read the spec of a build of these optional steps."""
    return build_of(START, *commands, FINISH).spec


def at(spec: Spec, path: str) -> Any:
    """Return the value at a path such as `output.family` of a spec, as JSON has it."""
    value: Any = spec.model_dump(mode="json")
    for key in path.split("."):
        value = value[key]
    return value


PINNED = f"gcr.io/p/i@sha256:{'0a' * 32}"


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (("-build-context=files",), "context", "files"),
        ((), "context", "."),
        (("-build-context=./a/../b/",), "context", "b"),
        (("-gcs-bucket=other", "-gcs-workdir=there"), "source.project", "cos-cloud"),
        (("-image-project=my-project",), "source.project", "my-project"),
        (("-image-family=", "-image-name=cos-stable-68-10718-86-0"), "source.image", "cos-stable-68-10718-86-0"),
        (("-image-family=", "-image-milestone=69"), "source.milestone", 69),
        (("-image-family=cos-beta", "-image-milestone=0"), "source.family", "cos-beta"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_start_image_build(flags: tuple[str, ...], key: str, value: Any) -> None:
    """start-image-build -build-context, -gcs-bucket, -gcs-workdir, -image-project, -image-name, -image-milestone."""
    assert at(build_of(START + flags, FINISH).spec, key) == value


def test_start_image_build_image_family() -> None:
    """start-image-build -image-family."""
    assert (spec_of().source.family, spec_of().source.image) == ("cos-stable", None)


@pytest.mark.parametrize(
    ("flags", "inputs"),
    [
        (("-script=preload.sh",), {"script": "preload.sh", "env": {}}),
        (("-script=a.sh", "-env=A=1,B=2"), {"script": "a.sh", "env": {"A": "1", "B": "2"}}),
        (("-script=a.sh", "-env=A=1,B=2", "-env", "B=x=y,C="), {"env": {"A": "1", "B": "x=y", "C": ""}}),
        (("-script=a.sh", "-env=my-key=1,9.x=2"), {"env": {"my-key": "1", "9.x": "2"}}),
        (("-script=a.sh", "-script=b.sh"), {"script": "b.sh"}),
    ],
    ids=["-script", "-env", "-env repeated", "-env with dashes", "-script repeated"],
)
def test_run_script(flags: tuple[str, ...], inputs: dict[str, Any]) -> None:
    """run-script -script, -env: bash runs the script, whatever its first line says."""
    (step,) = spec_of(("run-script", *flags)).steps
    assert step.action == "run-script"
    assert step.inputs["interpreter"] == "/bin/bash"
    assert step.inputs | inputs == step.inputs


@pytest.mark.parametrize(
    ("flags", "inputs"),
    [
        (("-version=450.51.06",), {"version": "450.51.06", "install_dir": "/var/lib/nvidia", "deps_dir": None}),
        (("-version=450.51.06", "-md5sum=" + "0f" * 16), {"md5sum": "0f" * 16}),
        (("-version=450.51.06", "-install-dir=/home/gpu"), {"install_dir": "/home/gpu"}),
        (("-version=450.51.06", "-deps-dir=deps"), {"deps_dir": "deps"}),
        (
            ("-version=NVIDIA-Linux-x86_64-450.51.06.run", "-deps-dir=./deps/"),
            {"version": "NVIDIA-Linux-x86_64-450.51.06.run", "deps_dir": "deps"},
        ),
        (("-version=450.51.06", "-installer-container=gcr.io/p/i:v1"), {"installer_container": "gcr.io/p/i:v1"}),
        (("-version=450.51.06", f"-installer-container={PINNED}"), {"installer_container": PINNED}),
        (("-version=450.51.06",), {"installer_container": "gcr.io/cos-cloud/cos-gpu-installer:v20230815"}),
    ],
    ids=[
        "-version",
        "-md5sum",
        "-install-dir",
        "-deps-dir",
        "-version=*.run",
        "-installer-container",
        "by digest",
        "its default",
    ],
)
def test_install_gpu(flags: tuple[str, ...], inputs: dict[str, Any]) -> None:
    """install-gpu -version, -md5sum, -install-dir, -deps-dir, -installer-container."""
    (step,) = spec_of(("install-gpu", *flags)).steps
    assert step.action == "install-gpu"
    assert step.inputs | inputs == step.inputs


@pytest.mark.parametrize(
    ("of_step", "of_finish", "gpu"),
    [
        ("", "", "nvidia-tesla-p100"),
        ("-gpu-type=", "", None),
        ("-gpu-type=", "-gpu-type=nvidia-tesla-t4", "nvidia-tesla-t4"),
        ("-gpu-type=nvidia-tesla-v100", "", "nvidia-tesla-v100"),
        ("", "-gpu-type=nvidia-tesla-t4", "nvidia-tesla-t4"),
        ("-gpu-type=nvidia-tesla-p100", "-gpu-type=nvidia-l4", "nvidia-l4"),
    ],
)
def test_gpu_type(of_step: str, of_finish: str, gpu: str | None) -> None:
    """install-gpu -gpu-type: a P100 unless written; the one of finish-image-build -gpu-type wins, and may be any."""
    step = ("install-gpu", "-version=450.51.06", *([of_step] if of_step else []))
    assert build_of(START, step, (*FINISH, *([of_finish] if of_finish else []))).spec.build.gpu_type == gpu


def test_without_install_gpu_there_is_no_gpu() -> None:
    assert spec_of(("run-script", "-script=a.sh")).build.gpu_type is None


def test_install_gpu_get_valid_drivers() -> None:
    """install-gpu -get-valid-drivers is no part of a build, and may stand outside of one."""
    build = build_of(("install-gpu", "-get-valid-drivers"), START, FINISH)
    assert build.spec.steps == ()
    (note,) = build.notes
    assert note.endswith("steps[0]: not taken over: it only prints drivers: see goldsmith gpu-drivers")


@pytest.mark.parametrize(
    ("flags", "inputs"),
    [
        (("-pkgspec-url=https://example.org/pkg.yaml",), {"package_spec": "https://example.org/pkg.yaml"}),
        (("-pkgspec-url=gs://bucket/pkg.yaml",), {"package_spec": "gs://bucket/pkg.yaml", "workdir": None}),
        (("-pkgspec-url=pkg.yaml", "-top-workdir=/var/lib/pkg"), {"workdir": "/var/lib/pkg"}),
        (("-pkgspec-url=pkg.yaml", "-top-workdir=var/lib/./pkg/"), {"workdir": "/var/lib/pkg"}),
    ],
    ids=["-pkgspec-url", "-pkgspec-url=gs:", "-top-workdir", "-top-workdir relative"],
)
def test_anthos_installer_install(flags: tuple[str, ...], inputs: dict[str, Any]) -> None:
    """anthos-installer-install -pkgspec-url, -top-workdir."""
    (step,) = spec_of(("anthos-installer-install", *flags)).steps
    assert step.action == "install-anthos"
    assert step.inputs | inputs == step.inputs


def test_the_installer_s_archive_is_given_by_a_variable() -> None:
    """_ANTHOS_INSTALLER, declared or given: the workflow stays as it is when Google publishes a later one."""
    steps, later = (START, ("anthos-installer-install", "-pkgspec-url=pkg"), FINISH), "gs://b/anthos_installer-2.tar.gz"
    [given] = read_text(workflow(*steps), "w", {"_ANTHOS_INSTALLER": later})
    declared = build_of(*steps, substitutions={"_ANTHOS_INSTALLER": later})
    assert given.spec.steps[0].inputs["installer"] == declared.spec.steps[0].inputs["installer"] == later
    with pytest.raises(SpecError, match="'later' is no archive that can be fetched"):
        build_of(*steps, substitutions={"_ANTHOS_INSTALLER": "later"})
    with pytest.raises(SpecError, match="a value is given for '_ANTHOS_INSTALLER', which the workflow neither"):
        read_text(workflow(START, FINISH), "w", {"_ANTHOS_INSTALLER": later})


@pytest.mark.parametrize("name", ["seal-oem", "disable-auto-update"])
def test_steps_without_flags(name: str) -> None:
    """seal-oem, disable-auto-update."""
    assert [step.action for step in spec_of((name,)).steps] == [name]


def test_disable_auto_update_twice_is_once() -> None:
    """disable-auto-update."""
    assert [step.action for step in spec_of(("disable-auto-update",), ("disable-auto-update",)).steps] == [
        "disable-auto-update"
    ]


def test_what_is_sealed_last_counts() -> None:
    """seal-oem twice: an image is sealed once, after the last step that may change OEM."""
    steps = spec_of(("seal-oem",), ("run-script", "-script=a.sh"), ("seal-oem",)).steps
    assert [step.action for step in steps] == ["run-script", "seal-oem"]


GOOGLE = "https://www.googleapis.com/compute/v1/"
LICENCE = "projects/p/global/licenses/"


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (("-image-project=other-project",), "output.project", "other-project"),
        ((), "output.project", None),
        (("-project=other-project",), "build.project", "other-project"),
        (("-zone=europe-west4-a",), "build.zones", ["europe-west4-a"]),
        (("-image-name=other",), "output.name", "other"),
        (("-image-name=", "-image-suffix=-x"), "output.name_suffix", "-x"),
        (("-image-family=fam",), "output.family", "fam"),
        (("-image-family=fam", "-deprecate-old-images"), "output.deprecate_old", {"ttl": None, "keep": 0}),
        (("-image-family=fam", "-deprecate-old-images=F"), "output.deprecate_old", None),
        (("-image-family=f", "-deprecate-old-images", "-old-image-ttl=3600"), "output.deprecate_old.ttl", 3600.0),
        (("-image-family=f", "-deprecate-old-images", "-old-image-ttl=0"), "output.deprecate_old.ttl", None),
        (("-image-family=f", "-deprecate-old-images", "-old-image-ttl=-5"), "output.deprecate_old.ttl", None),
        (("-old-image-ttl=0",), "output.deprecate_old", None),
        (("-labels=a=1,b=2", "-labels", "b=3,c="), "output.labels", {"a": "1", "b": "3", "c": ""}),
        (
            (f"-licenses={LICENCE}a,,https://www.googleapis.com/compute/v1/{LICENCE}b", f"-licenses={LICENCE}c"),
            "output.licenses",
            [LICENCE + "a", LICENCE + "b", LICENCE + "c"],
        ),
        (("-licenses=",), "output.licenses", []),
        ((), "output.own_labels", False),
        (("-inherit-labels",), "output.inherit_labels", True),
        (("-inherit-labels=0",), "output.inherit_labels", False),
        (("-disk-size-gb=50",), "output.disk_size_gb", 50),
        (("-disk-size-gb=0",), "output.disk_size_gb", None),
        ((), "output.disk_size_gb", None),
        (("-disk-type=pd-ssd",), "build.disk_type", "pd-ssd"),
        ((), "build.disk_type", None),
        (("-machine-type=n2-standard-4",), "build.machine_type", "n2-standard-4"),
        ((), "build.machine_type", "n1-standard-1"),
        (
            ("-service-account=me@my-project.iam.gserviceaccount.com",),
            "build.service_account",
            "me@my-project.iam.gserviceaccount.com",
        ),
        (("-service-account=default",), "build.service_account", "default"),
        ((), "build.service_account", None),
        (("-network=net",), "build.network", "net"),
        (("-network=global/networks/auto-vpc",), "build.network", "global/networks/auto-vpc"),
        (("-network=projects/p/global/networks/n",), "build.network", "projects/p/global/networks/n"),
        ((f"-network={GOOGLE}projects/p/global/networks/n",), "build.network", "projects/p/global/networks/n"),
        (
            ("-network=//compute.googleapis.com/compute/beta/projects/example.com:p/global/networks/n",),
            "build.network",
            "projects/example.com:p/global/networks/n",
        ),
        (("-subnet=projects/p/regions/r/subnetworks/s",), "build.subnet", "projects/p/regions/r/subnetworks/s"),
        (("-subnet=regions/us-west1/subnetworks/s",), "build.subnet", "regions/us-west1/subnetworks/s"),
        (
            ("-subnet=https://compute.googleapis.com/compute/v1/projects/p/regions/r/subnetworks/s",),
            "build.subnet",
            "projects/p/regions/r/subnetworks/s",
        ),
        (("-subnet=s",), "build.subnet", "s"),
        (
            (f"-machine-type={GOOGLE}projects/p/zones/z/machineTypes/n2-standard-4",),
            "build.machine_type",
            "n2-standard-4",
        ),
        (("-disk-type=zones/z/diskTypes/pd-ssd",), "build.disk_type", "pd-ssd"),
        (("-project=example.com:my-project",), "build.project", "example.com:my-project"),
        (("-image-project=example.com:my-project",), "output.project", "example.com:my-project"),
        ((), "build.external_ip", True),
        (("-oem-size=1G", "-disk-size-gb=11"), "output.oem_size", 1 << 30),
        (("-oem-size=200M", "-disk-size-gb=11"), "output.oem_size", 200 << 20),
        (("-oem-size=60000K", "-disk-size-gb=11"), "output.oem_size", 60000 << 10),
        (("-oem-size=50000000B", "-disk-size-gb=11"), "output.oem_size", 50000000),
        (("-oem-size=40960", "-disk-size-gb=11"), "output.oem_size", 40960 * 512),
        ((), "build.timeout", 3600.0),
        (("-timeout=1h30m",), "build.timeout", 5400.0),
        (("-timeout=90.5s",), "build.timeout", 91.0),
        (
            ("-sbom-input-path=packages.json", "-sbom-output-path=gs://bucket/sboms"),
            "output.sbom",
            {"input": "packages.json", "to": "gs://bucket/sboms/"},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_finish_image_build(flags: tuple[str, ...], key: str, value: Any) -> None:
    """finish-image-build: each of its flags, and the defaults of those that are not given."""
    assert at(build_of(START, (*FINISH, *flags)).spec, key) == value


def test_sbom_input_path_is_below_the_build_context() -> None:
    """finish-image-build -sbom-input-path: a file of the build context, wherever that is."""
    flags = (*FINISH, "-sbom-input-path=lists/own.json", "-sbom-output-path=gs://bucket/")
    sbom = build_of((*START, "-build-context=ctx"), flags).spec.output.sbom
    assert sbom is not None
    assert (sbom.input, sbom.to) == ("ctx/lists/own.json", "gs://bucket/")


def test_sbom_output_path_is_shown_as_a_folder() -> None:
    """finish-image-build -sbom-output-path: an impossible bucket is reported as it is in the workflow."""
    flags = (*FINISH, "-sbom-input-path=own.json", "-sbom-output-path=gs://b/out")
    with pytest.raises(
        SpecError, match="-sbom-output-path: 'gs://b/out/' is no place for files; write a path, or gs://"
    ):
        build_of(START, flags)


def test_finish_image_build_enable_cleanup() -> None:
    """finish-image-build -enable-cleanup: what earlier builds have left is always deleted, so it changes nothing."""
    assert build_of(START, (*FINISH, "-enable-cleanup")).spec == build_of(START, FINISH).spec


def test_compute_endpoint() -> None:
    """-compute-endpoint, as any global flag before the subcommand: noted, since the deployment sets the endpoint."""
    build = build_of(("--compute-endpoint", "https://example.org/compute/v1/", *START), FINISH)
    (note,) = build.notes
    assert note.endswith(": steps[0] -compute-endpoint: not taken over: the deployment says which endpoint is asked")
    assert build.spec == build_of(("-compute-endpoint=", *START), FINISH).spec == build_of(START, FINISH).spec


def test_image_without_optional_steps() -> None:
    assert spec_of().steps == ()


def test_local_state_workdir() -> None:
    """-local-state-workdir keeps two builds of one workflow apart, however their steps are mixed."""
    builds = read_text(
        workflow(
            ("-local-state-workdir=a", *START),
            ("--local-state-workdir", "./b", *START),
            ("-local-state-workdir=a/", "run-script", "-script=a.sh"),
            ("-local-state-workdir=b", "run-script", "-script=b.sh"),
            ("-local-state-workdir=b", *FINISH[:-1], "-image-name=image-b"),
            ("-local-state-workdir=a", *FINISH),
        ),
        "cloudbuild.yaml",
    )
    assert [build.spec.output.name for build in builds] == ["image-b", "my-image"]
    assert [[step.inputs["script"] for step in build.spec.steps] for build in builds] == [["b.sh"], ["a.sh"]]
