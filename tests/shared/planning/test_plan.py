"""Plans: golden documents, names that always keep Compute Engine's rules, errors that only show with the source.

`.venv/bin/python tests/shared/planning/test_plan.py` writes the golden plans anew; look at the
difference before committing it.
"""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.protocol import DiskLayout, Job, decode_job, encode
from shared import names
from shared.build.identity import build_id
from shared.build.image.secure_boot import BootKey, SecureBootKeys
from shared.build.plan import Allowance, CachePlan, Context, Plan, SourceImage
from shared.build.resources import machine_name
from shared.errors import InputError
from shared.planning.plan import make_plan
from shared.spec.model import Spec
from tests.shared.spec.reading import read_spec

GOLDEN = Path(__file__).parents[1] / "golden"
EXAMPLES = Path(__file__).parents[3] / "examples"
REQUESTED = 1795176000.0  # 2026-11-20 12:00:00 UTC

DEBIAN = SourceImage("local", "debian-12-20261101", "sha256-0123", family="debian-12", disk_size_gb=3)
COS = SourceImage(
    "cos-cloud",
    "cos-stable-109-17800-66-27",
    "4815162342",
    labels={"team": "cos", "milestone": "109", "goldsmith-build": "older-0123456789ab"},
    licenses=("projects/cos-cloud/global/licenses/cos",),
)
CONTEXT = Context("/builds/hello/context.tar", "c0" * 32, 10240)

CASES: dict[str, tuple[Path, SourceImage, Context | None]] = {
    "hello": (EXAMPLES / "hello/build.yaml", DEBIAN, CONTEXT),
    "everything": (GOLDEN / "everything.yaml", COS, replace(CONTEXT, uri="gs://my-bucket/contexts/everything.tar.gz")),
    "arm": (GOLDEN / "arm.yaml", replace(COS, name="cos-arm64-stable-109-17800-66-27", architecture="arm64"), None),
}


def plan_of(case: str) -> Plan:
    """Plan one of the golden specs."""
    path, source, context = CASES[case]
    spec = read_spec(path.read_text(), str(path))
    return planned(spec, source=source, context=context)


def planned(spec: Spec, **changes: Any) -> Plan:
    """Plan a spec with values that do not matter, but for `changes`."""
    values: dict[str, Any] = {
        "source": DEBIAN,
        "context": None,
        "request": "bucket/specs/build.yaml/1",
        "requested": REQUESTED,
        "provisioner_version": "0123abcd",
    }
    return make_plan(spec, **(values | changes))


def document(plan: Plan) -> str:
    """Write a plan the way the golden files hold it."""
    return json.dumps(asdict(plan), indent=2) + "\n"


def spec_with(text: str = "", steps: str = "[]") -> Spec:
    return read_spec(f"name: hello\nsource: {{project: local, family: debian-12}}\nsteps: {steps}\n{text}", "s")


@pytest.mark.parametrize("case", CASES)
def test_plan_is_the_golden_one(case: str) -> None:
    assert document(plan_of(case)) == (GOLDEN / f"{case}.plan.json").read_text()


@pytest.mark.parametrize("case", CASES)
def test_planned_steps_are_of_the_wire_contract(case: str) -> None:
    plan = plan_of(case)
    for steps in (plan.steps, plan.verify_steps or ()):
        job = Job(plan.build_id, 1, "00", steps)
        assert encode(decode_job(encode(job))) == encode(job)


def test_same_request_is_the_same_build() -> None:
    spec = spec_with()
    assert planned(spec) == planned(spec)
    assert planned(spec).build_id == build_id("hello", b"bucket/specs/build.yaml/1")
    assert planned(spec, request="bucket/specs/build.yaml/2").build_id != planned(spec).build_id


STEP = "[{name: a, action: run-script, inputs: {script: a}}]"


@pytest.mark.parametrize(
    ("text", "steps", "changes"),
    [
        ("", STEP, {"source": replace(DEBIAN, id="sha256-4567")}),
        ("", STEP, {"context": CONTEXT}),
        ("", STEP, {"provisioner_version": "4567"}),
        ("", "[{name: a, action: run-script, inputs: {script: b}}]", {}),
        ("", "[{name: a, action: run-script, inputs: {script: a, env: {A: b}}}]", {}),
        ("", "[{name: a, action: reboot}]", {}),
        ("verify: {}", STEP, {}),
        ("verify: {disk_gb: 2}", STEP, {}),
        ("verify: {boot: firmware}", STEP, {}),
        ("verify: {steps: [{name: a, action: reboot}]}", STEP, {}),
        ("context: files", "[{name: a, action: run-script, inputs: {script: a}, reads: [b]}]", {}),
        ("", "[{name: a, action: run-script, inputs: {script: a}, network: false}]", {}),
    ],
)
def test_other_contents_have_another_digest(text: str, steps: str, changes: dict[str, Any]) -> None:
    assert planned(spec_with(text, steps), **changes).content_digest != planned(spec_with("", STEP)).content_digest


@pytest.mark.parametrize(
    ("text", "steps", "changes"),
    [
        ("", STEP, {"request": "other", "requested": 0.0}),
        ("", STEP, {"source": replace(DEBIAN, name="renamed", labels={"a": "b"})}),
        ("output: {family: a, labels: {b: c}}\nbuild: {machine_type: e2-small}", STEP, {}),
        ("", "[{name: b, action: run-script, inputs: {script: a, env: {}}, timeout: 1m, retries: 3}]", {}),
        (
            "cache: {max_age: 1h}",
            "[{name: a, action: run-script, inputs: {script: a}, cache: false, network: true}]",
            {},
        ),
    ],
)
def test_equal_contents_have_the_same_digest(text: str, steps: str, changes: dict[str, Any]) -> None:
    assert planned(spec_with(text, steps), **changes).content_digest == planned(spec_with("", STEP)).content_digest


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "local.engine: vm boots the source, and cos-117 has no kernel; add packages"),
        ("local: {engine: chroot}\nverify: {}", "verify: boots the image, and cos-117 has no kernel"),
        ("local: {engine: auto}\nverify: {}", "verify: boots the image"),
    ],
)
def test_a_source_without_a_kernel_is_not_booted(text: str, why: str) -> None:
    source = replace(DEBIAN, name="cos-117", bootable=False)
    with pytest.raises(InputError, match=re.escape(why)):
        planned(spec_with(text, STEP), source=source)
    for engine in ("chroot", "auto"):
        assert planned(spec_with(f"local: {{engine: {engine}}}", STEP), source=source).machine.engine == "chroot"
        with pytest.raises(InputError, match="needs a booted system"):
            planned(spec_with(f"local: {{engine: {engine}}}", "[{name: a, action: reboot}]"), source=source)


@pytest.mark.parametrize(
    ("source", "machine_type", "why"),
    [
        (
            "arm64",
            "n1-standard-1",
            "n1-standard-1 has x86_64 processors, and the source image cos-cloud/one is for arm64",
        ),
        ("arm64", "e2-medium", "write a type such as c4a-standard-1 or t2a-standard-1, or name a source for x86_64"),
        (
            "x86_64",
            "t2a-standard-1",
            "t2a-standard-1 has arm64 processors, and the source image cos-cloud/one is for x",
        ),
        ("x86_64", "c4a-standard-4", "write a type such as e2-standard-2 or n2-standard-2, or name a source for arm64"),
    ],
)
def test_a_machine_type_has_the_processor_that_the_source_is_for(source: str, machine_type: str, why: str) -> None:
    image = replace(COS, name="one", architecture=source)
    fitting = "c4a-standard-1" if source == "arm64" else "n2-standard-2"
    with pytest.raises(InputError, match=rf"^build\.machine_type: .*{re.escape(why)}"):
        planned(spec_with(f"build: {{project: my-project, machine_type: {machine_type}}}", STEP), source=image)
    plan = planned(spec_with(f"build: {{project: my-project, machine_type: {fitting}}}", STEP), source=image)
    assert plan.source.architecture == source
    here = planned(spec_with(f"build: {{machine_type: {machine_type}}}", STEP), source=image)
    assert here.machine.machine_type == machine_type  # one machine emulates any processor


def test_programs_for_another_processor_run_in_a_vm() -> None:
    source = replace(DEBIAN, name="arm", architecture="arm64", native=False)
    assert planned(spec_with("local: {engine: auto}", STEP), source=source).machine.engine == "vm"
    assert planned(spec_with("", STEP), source=source).machine.engine == "vm"
    why = "programs of the image on this machine's processor, and arm is for arm64; write engine: vm"
    with pytest.raises(InputError, match=why):
        planned(spec_with("local: {engine: chroot}", STEP), source=source)
    with pytest.raises(InputError, match=r"vm boots the source, and arm has no kernel; .* what it is made of$"):
        planned(spec_with("", STEP), source=replace(source, bootable=False))
    with pytest.raises(InputError, match="and arm is for arm64; arm has no kernel"):
        planned(spec_with("local: {engine: auto}", STEP), source=replace(source, bootable=False))


def test_step_runs_no_longer_than_the_build() -> None:
    steps = (
        "[{name: a, action: reboot, timeout: 2h}, {name: b, action: reboot}, {name: c, action: reboot, timeout: 1m}]"
    )
    plan = planned(spec_with("build: {timeout: 30m}\nverify: {steps: [{name: a, action: reboot}]}", steps))
    assert [step.timeout for step in plan.steps] == [1800, 1800, 60]
    assert plan.verify_steps is not None
    assert [step.timeout for step in plan.verify_steps] == [1800, 1800]


def test_the_built_in_checks_come_before_the_verify_steps() -> None:
    assert planned(spec_with()).verify_steps is None
    checks, step = (
        planned(spec_with("verify: {boot_seconds: 60, steps: [{name: a, action: reboot}]}")).verify_steps or ()
    )
    assert (checks.name, checks.inputs, checks.reads) == ("built-in checks", {"boot_seconds": 60}, ())
    assert step.name == "a"
    assert planned(spec_with("verify: {boot: firmware}")).verify_boot == "firmware"


def test_a_restart_of_the_verifying_vm_comes_last() -> None:
    plan = planned(
        spec_with(
            "verify: {restart: true, skip: [clock], steps: [{name: restart, action: run-script, inputs: {script: a}}]}"
        )
    )
    first, own, restart, last = plan.verify_steps or ()
    assert [step.action for step in (first, own, restart, last)] == [
        "check-image",
        "run-script",
        "reboot",
        "check-image",
    ]
    assert len({step.name for step in (first, own, restart, last)}) == 4
    assert (first.inputs, last.inputs) == ({"skip": ["clock"]}, {"again": True, "skip": ["clock"]})


def test_steps_of_other_architectures_are_left_out() -> None:
    spec = spec_with(
        "verify: {steps: [{name: v, action: reboot, when: {arch: arm64}}]}",
        "[{name: a, action: reboot, when: {arch: arm64}}, {name: b, action: reboot, when: {arch: x86_64}}]",
    )
    assert [step.name for step in planned(spec).steps] == ["b"]
    assert [step.action for step in planned(spec).verify_steps or ()] == ["check-image"]
    assert [step.name for step in planned(spec, source=replace(DEBIAN, architecture="arm64")).steps] == ["a"]


def test_disk_is_as_large_as_the_source_or_larger() -> None:
    """finish-image-build -disk-size-gb (10): the size of Container-Optimized OS's images."""
    assert planned(spec_with(), source=COS).image.disk_size_gb == 10
    assert planned(spec_with()).image.disk_size_gb == planned(spec_with()).machine.disk_size_gb == 3
    assert planned(spec_with("output: {disk_size_gb: 20}")).machine.disk_size_gb == 20
    with pytest.raises(InputError) as caught:
        planned(spec_with("output: {disk_size_gb: 2}"))
    assert str(caught.value) == (
        "output.disk_size_gb: 2 GB is less than the 3 GB of the source image local/debian-12-20261101; "
        "write 3 or more, or leave the key out"
    )


OEM = "output: {oem_size: 500M, disk_size_gb: 11}"


def test_disk_with_a_layout_is_made_at_the_sources_size() -> None:
    """finish-image-build -oem-size, -disk-size-gb: the disk is created at 10 GB, and grows while the VM waits."""
    plan = planned(spec_with(OEM), source=COS)
    assert plan.layout == DiskLayout(oem_size=499 << 20, disk_size=11 << 30)
    assert (plan.machine.disk_size_gb, plan.image.disk_size_gb) == (10, 11)


@pytest.mark.parametrize(
    ("action", "layout"),
    [
        ("disable-auto-update", DiskLayout(reclaim=True)),
        ("seal-oem", DiskLayout(reclaim=True, oem_size=32 << 20, oem_blocks=4096)),
    ],
)
def test_steps_that_reclaim_lay_the_disk_out(action: str, layout: DiskLayout) -> None:
    """seal-oem and disable-auto-update: reclaim sda3, on the architecture that has the step."""
    steps = f"[{{name: a, action: {action}, when: {{arch: x86_64}}}}]"
    assert planned(spec_with("", steps), source=COS).layout == layout
    assert planned(spec_with("", steps), source=replace(COS, architecture="arm64")).layout is None


def test_machine_with_a_layout_boots_by_firmware() -> None:
    assert planned(spec_with(OEM), source=COS).machine.boot == "firmware"
    assert planned(spec_with(), source=COS).machine.boot == "direct"


def test_the_cache_is_used_for_a_day_unless_all_is_to_be_new() -> None:
    assert planned(spec_with()).cache == CachePlan(enabled=True, max_age=86400.0)
    assert planned(spec_with("cache: {max_age: 2h}")).cache == CachePlan(enabled=True, max_age=7200.0)
    assert planned(spec_with("rebuild: always")).cache == CachePlan(enabled=True, max_age=0.0)
    assert planned(spec_with("rebuild: changed")).cache == CachePlan(enabled=True, max_age=86400.0)
    assert planned(spec_with("build: {project: my-project}")).cache == CachePlan()


def test_a_step_reads_its_own_files_too() -> None:
    [step] = planned(
        spec_with("context: files", "[{name: a, action: run-script, inputs: {script: 'a[1].sh'}, reads: [b]}]")
    ).steps
    assert step.reads == ("b", "a[[]1].sh")


def test_layout_is_content_and_its_absence_is_as_before() -> None:
    plain, laid_out = planned(spec_with(), source=COS), planned(spec_with(OEM), source=COS)
    larger = planned(spec_with(OEM.replace("11", "12")), source=COS)
    assert len({plan.content_digest for plan in (plain, laid_out, larger)}) == 3
    assert planned(spec_with("output: {disk_size_gb: 11}"), source=COS).content_digest == plain.content_digest


def test_oem_size_is_held_to_the_source_that_was_found() -> None:
    large = replace(COS, disk_size_gb=20)
    with pytest.raises(InputError) as caught:
        planned(spec_with(OEM.replace("11", "20")), source=large)
    assert str(caught.value) == (
        "output.disk_size_gb: 20 GB cannot hold the 20 GB of the source image cos-cloud/cos-stable-109-17800-66-27 "
        "and an oem_size of 500M; write at least 21"
    )
    made = planned(spec_with(OEM.replace("11", "21")), source=large)
    assert made.layout == DiskLayout(oem_size=499 << 20, disk_size=21 << 30)
    assert made.machine.disk_size_gb == 20


def test_driver_is_installed_with_a_scratch_disk() -> None:
    """install-gpu: a 10 GB scratch disk, and none without."""
    steps = '[{name: gpu, action: install-gpu, inputs: {version: "390.46"}, when: {arch: x86_64}}]'
    assert planned(spec_with("", steps), source=COS).machine.scratch_gb == 10
    assert planned(spec_with("", steps), source=replace(COS, architecture="arm64")).machine.scratch_gb == 0


def test_bill_of_materials_and_hygiene_are_planned() -> None:
    """finish-image-build -sbom-input-path, -sbom-output-path."""
    plan = planned(spec_with("output: {sbom: {input: own.json, to: gs://my-bucket/sbom.json}}\nhygiene: warn"))
    assert (plan.image.sbom_input, plan.image.sbom_to, plan.hygiene) == ("own.json", "gs://my-bucket/sbom.json", "warn")
    plain = planned(spec_with("output: {sbom: {}}"))
    assert (plain.image.sbom_input, plain.image.sbom_to, plain.hygiene) == (None, None, "fail")
    assert plan.content_digest != plain.content_digest == planned(spec_with()).content_digest
    allow = "allow: [{path: /opt/app/*.pem, why: of the demo}]"
    both = planned(spec_with(f"hygiene: {{findings: warn, {allow}}}"))
    assert (both.hygiene, both.allow) == ("warn", (Allowance("/opt/app/*.pem", "of the demo"),))
    assert planned(spec_with(f"hygiene: {{{allow}}}")).hygiene == "fail"


def test_licences_are_those_of_the_spec() -> None:
    """finish-image-build -licenses: a leading URL of Compute Engine is stripped, empty ones dropped."""
    url, path = "https://www.googleapis.com/compute/v1/", "projects/p/global/licenses/l"
    other = "https://compute.googleapis.com/compute/beta/"
    plan = planned(spec_with(f'output: {{licenses: ["", {url}{path}, {path}2, "{other}{path}3"]}}'), source=COS)
    assert plan.image.licenses == (path, f"{path}2", f"{path}3")


CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIABTAFAgEA
-----END CERTIFICATE-----
"""
KEY = "projects/p/locations/global/keyRings/r/cryptoKeys/k"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("guest_os_features: [GVNIC, UEFI_COMPATIBLE, GVNIC]", "guest_os_features", ("GVNIC", "UEFI_COMPATIBLE")),
        ("storage_locations: [europe-west4]", "storage_locations", ("europe-west4",)),
        (f"kms_key: {KEY}", "kms_key", KEY),
        (
            "secure_boot_keys: {db: [AAECAw==]}",
            "secure_boot_keys",
            SecureBootKeys(db=(BootKey("AAECAw==", "BIN"),)),
        ),
        (
            f"secure_boot_keys: {{pk: {json.dumps(CERTIFICATE)}}}",
            "secure_boot_keys",
            SecureBootKeys(pk=BootKey("MIIABTAFAgEA", "X509")),
        ),
    ],
)
def test_what_an_image_has_beside_its_disk_makes_another_image(text: str, name: str, value: object) -> None:
    """With `rebuild: changed` an image of the same files with Google's own key would be taken for it otherwise."""
    plain, plan = planned(spec_with()), planned(spec_with(f"output: {{{text}}}"))
    assert getattr(plan.image, name) == value
    assert plan.content_digest != plain.content_digest
    assert planned(spec_with("output: {guest_os_features: [], storage_locations: []}")).content_digest == (
        plain.content_digest
    )


def test_who_gets_the_image_makes_no_other_image() -> None:
    text = f"""
output:
  project: my-project
  kms_key: {KEY}
  share: ["group:team@example.com", "project:123456789012", "group:team@example.com"]
  copies: [{{project: their-project}}, {{storage_location: asia, kms_key: {KEY}2}}]
"""
    plan = planned(spec_with(text))
    assert plan.image.share == (
        "group:team@example.com", "serviceAccount:123456789012@cloudservices.gserviceaccount.com"
    )  # fmt: skip
    theirs, here = plan.image.copies
    assert (theirs.name_for(plan.image), theirs.kms_key) == (plan.image.name, KEY)
    assert (here.name_for(plan.image), here.kms_key) == (f"{plan.image.name}-asia", f"{KEY}2")
    plain = planned(spec_with(f"output: {{project: my-project, kms_key: {KEY}}}"))
    assert plan.content_digest == plain.content_digest


@pytest.mark.parametrize(
    ("copies", "why"),
    [
        ("{project: my-project}", "project my-project has the image; write a storage_location for its"),
        (
            "{project: other-project}, {project: other-project, storage_location: eu}",
            "two images of one name",
        ),
        (
            "{storage_location: eu}, {project: my-project, storage_location: eu}",
            "two images of one name",
        ),
    ],
)
def test_copies_of_one_name_are_told(copies: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        planned(spec_with(f"output: {{project: my-project, copies: [{copies}]}}"))


def test_disks_have_the_key_of_the_image() -> None:
    assert planned(spec_with(f"output: {{kms_key: {KEY}}}")).machine.kms_key == KEY
    assert planned(spec_with()).machine.kms_key is None


def test_a_description_refers_to_source_and_build() -> None:
    text = "r1 of ${source.project}/${source.name} (${source.family}), ${build.date}, ${build.id}, $${build.digest}"
    plan = planned(spec_with(f'description: "{text}"\n'))
    assert plan.image.description == (
        f"r1 of local/debian-12-20261101 (debian-12), 2026-11-20, {plan.build_id}, ${{build.digest}}"
    )
    digest = planned(spec_with("description: ${build.digest}\n"))
    assert digest.image.description == digest.content_digest


def test_values_of_parameters_in_a_description_are_text() -> None:
    given = read_spec(
        "name: hello\nsource: {project: local, family: debian-12}\nsteps: []\n"
        'parameters: {note: x}\ndescription: "by ${note}"\n',
        "s",
        {"note": "${build.id} $${build.id}"},
    )
    assert planned(given).image.description == "by ${build.id} $${build.id}"


def test_a_description_that_grows_too_long_is_told() -> None:
    with pytest.raises(InputError, match="description: it has 2049 characters with what it refers to"):
        planned(spec_with(f"description: '{'x' * 2031}${{source.name}}'\n"))


def test_deprecation_has_a_ttl_only_where_one_is_written() -> None:
    """finish-image-build -deprecate-old-images, -old-image-ttl: seconds; without, there is no `deleted` time."""
    assert planned(spec_with("output: {family: f}")).image.deprecate_old is None
    ttl = planned(spec_with("output: {family: f, deprecate_old: {ttl: 1s}}")).image.deprecate_old
    assert ttl is not None
    assert (ttl.ttl_seconds, ttl.keep) == (1.0, 0)
    none = planned(spec_with("output: {family: f, deprecate_old: {}}")).image.deprecate_old
    assert none is not None
    assert none.ttl_seconds is None


def test_machine_is_as_the_spec_says() -> None:
    """finish-image-build -zone, -project, -machine-type, -disk-type, -network, -subnet, -service-account, -gpu-type."""
    build = {
        "project": "builders",
        "machine_type": "n2-standard-4",
        "disk_type": "pd-ssd",
        "network": "my-network",
        "subnet": "regions/us-central1/subnetworks/my-subnet",
        "service_account": "default",
        "gpu_type": "nvidia-tesla-t4",
    }
    build["subnet"] = f"projects/my-project/{build['subnet']}"
    lines = "".join(f"  {key}: {value}\n" for key, value in build.items())
    machine = asdict(planned(spec_with(f"build:\n  zones: [us-west1-b]\n{lines}")).machine)
    assert {key: machine[key] for key in build} == build
    assert machine["zones"] == ("us-west1-b",)
    plain = planned(spec_with()).machine
    assert (plain.machine_type, plain.disk_type, plain.gpu_type) == ("n1-standard-1", "pd-standard", None)
    assert (plain.network, plain.subnet, plain.service_account) == (None, None, None)


def test_timeout_is_an_hour_unless_written() -> None:
    """finish-image-build -timeout (1h)."""
    assert planned(spec_with()).timeout == 3600
    assert planned(spec_with("build: {timeout: 1h30m}")).timeout == 5400


def test_image_is_described_as_a_derivative() -> None:
    """The image: description "Derivative of SOURCE.", word for word."""
    assert planned(spec_with(), source=COS).image.description == (
        "Derivative of projects/cos-cloud/global/images/cos-stable-109-17800-66-27."
    )


def test_suffix_is_appended_to_the_source() -> None:
    """finish-image-build -image-suffix: appended to the source image's name."""
    spec = spec_with("output: {name_suffix: -hello}")
    assert planned(spec).image.name == "debian-12-20261101-hello"
    with pytest.raises(InputError) as caught:
        planned(spec, source=replace(DEBIAN, name="d" * 60))
    assert str(caught.value) == (
        f"output.name_suffix: the image would be named {'d' * 60}-hello, 66 characters, and Compute Engine "
        "takes at most 63 lower-case letters, digits and dashes; shorten the suffix, or write output.name"
    )


def test_a_suffix_makes_no_name_of_what_builds_make_for_themselves() -> None:
    with pytest.raises(InputError, match=r"^output.name_suffix: .* named gs-x-a1-vm-ci, .* begin with gs-"):
        planned(spec_with("output: {name_suffix: -ci}"), source=replace(DEBIAN, name="gs-x-a1-vm"))


def test_projects_stand_in_for_each_other() -> None:
    """finish-image-build -image-project, -project."""

    def projects(text: str) -> tuple[str, str]:
        plan = planned(spec_with(text))
        return plan.image.project, plan.machine.project

    assert projects("") == ("local", "local")
    assert projects("build: {project: builders}") == ("builders", "builders")
    assert projects("output: {project: images}") == ("images", "images")
    assert projects("output: {project: images}\nbuild: {project: builders}") == ("images", "builders")


def test_labels_are_inherited_only_when_asked_for() -> None:
    """finish-image-build -labels, -inherit-labels: those of -labels win."""
    own = {"goldsmith-build", "goldsmith-source", "goldsmith-digest"}
    assert set(planned(spec_with(), source=COS).image.labels) == own
    labels = planned(spec_with("output: {inherit_labels: true, labels: {team: mine}}"), source=COS).image.labels
    assert set(labels) == own | {"team", "milestone"}
    assert (labels["team"], labels["goldsmith-build"]) == ("mine", build_id("hello", "bucket/specs/build.yaml/1"))


def test_a_spec_s_most_labels_leave_room_for_our_own() -> None:
    labels = ", ".join(f"k{number}: x" for number in range(60))
    assert len(planned(spec_with(f"output: {{labels: {{{labels}}}}}"), source=COS).image.labels) == 63


def test_too_many_inherited_labels() -> None:
    many = replace(DEBIAN, labels={f"key{number}": "x" for number in range(61)})
    assert len(planned(spec_with(), source=many).image.labels) == 3
    with pytest.raises(InputError) as caught:
        planned(spec_with("output: {inherit_labels: true}"), source=many)
    assert str(caught.value) == (
        "output.inherit_labels: the image would carry 64 labels, and there is room for 63; "
        "leave inherit_labels out, or write fewer labels"
    )


@given(
    name=st.from_regex(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?", fullmatch=True),
    request=st.binary(max_size=20),
    requested=st.floats(min_value=0, max_value=4e9),
    source=st.text(max_size=80),
)
def test_names_and_labels_always_keep_the_rules(name: str, request: bytes, requested: float, source: str) -> None:
    spec = spec_with().model_copy(update={"name": name})
    plan = planned(spec, request=request, requested=requested, source=replace(DEBIAN, name=source))
    assert names.check_name(plan.image.name)
    assert names.check_name(machine_name(plan.build_id, spec.build.attempts, "verify"))
    for key, value in plan.image.labels.items():
        assert names.label_key(key) == key
        assert names.label_value(value) == value


REPRODUCIBLE = "output: {reproducible: true}\n"


def test_a_reproducible_image_is_the_chroot_engines() -> None:
    chroot = planned(spec_with(REPRODUCIBLE + "local: {engine: chroot}\n"))
    assert chroot.machine.reproducible
    assert chroot.content_digest != planned(spec_with("local: {engine: chroot}\n")).content_digest
    for text in ("", "local: {engine: vm}\n"):
        with pytest.raises(InputError, match=r"^output\.reproducible: .*; write local\.engine: chroot"):
            planned(spec_with(REPRODUCIBLE + text))
    with pytest.raises(InputError, match=r"^output\.reproducible: .*; leave the key out for a build in my-project"):
        planned(spec_with(REPRODUCIBLE + "local: {engine: chroot}\nbuild: {project: my-project}\n"))


def test_the_date_is_the_sources_unless_the_caller_has_one() -> None:
    spec = spec_with()
    assert planned(spec).source_date is None
    own = planned(spec, source=replace(DEBIAN, created=1_700_000_000.7))
    assert own.source_date == 1_700_000_000
    assert own.content_digest == planned(spec).content_digest  # the source's id stands for it
    told = planned(spec, date=0)
    assert told.source_date == 0
    assert told.content_digest != own.content_digest


if __name__ == "__main__":
    for case in CASES:
        (GOLDEN / f"{case}.plan.json").write_text(document(plan_of(case)))
