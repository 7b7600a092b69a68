"""What a person writes: the spec, as closed models. docs/spec.md has the same, key by key, for readers.

Nothing here reads a file or looks anything up; spec_file.py turns text into a Spec. Values are held as the rest of the
code wants them: durations in seconds, sizes in bytes, lists as tuples. This module imports pydantic, which takes a
tenth of a second: import it only where a spec is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from provisioner.protocol import ACTIONS

from . import names
from .closed import Closed, Flag, Loc, Rule, Whole, describe, nearest, problem
from .cos_rules import cos_rules
from .names import COMPUTE_URL, COS_PROJECT
from .oem_size import LARGEST_DISK_GB, SMALLEST_OEM
from .quantities import format_duration, format_size, parse_duration, parse_size
from .spec_inputs import INPUTS

DAY = 86400.0
MOST_ALLOWED, LONGEST_PATH, LONGEST_REASON, MOST_STARS = 100, 1024, 500, 4  # of hygiene.allow

_STEP_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_GS_OBJECT = re.compile(r"gs://[a-z0-9][-a-z0-9_.]{1,220}[a-z0-9]/.+")
_MACHINE_PART = re.compile(r"[a-z][-a-z0-9]*[a-z0-9]")
_NETWORK = re.compile(rf"({re.escape(COMPUTE_URL)})?(projects/[-a-z0-9.:]+/[-a-z0-9/]+/)?[a-z][-a-z0-9]*")


def _duration_between(least: float, most: float) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, str):
            raise problem(f"needs a duration, not {describe(value)}; write it with its unit, such as 90s, 5m or 1h30m")
        seconds = parse_duration(value)
        if not least <= seconds <= most:
            raise ValueError(
                f"{value!r} is out of range; write {format_duration(least)} at least, {format_duration(most)} at most"
            )
        return seconds

    return BeforeValidator(check)


def _size_from(least: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, str):
            raise problem(f"needs a size, not {describe(value)}; write it with its unit, such as 500M or 10G")
        count = parse_size(value)
        if count < least:
            raise ValueError(f"{value!r} is too small; write at least {format_size(least)}")
        return count

    return BeforeValidator(check)


def _matching(pattern: re.Pattern[str], what: str, write: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{names.quoted(text)} is not {what}; write {write}")
        return text

    return AfterValidator(check)


def _action(text: str) -> str:
    if text not in ACTIONS:
        raise ValueError(f"{names.quoted(text)} is no action; {nearest(text, ACTIONS)}")
    return text


def _own_label(key: str) -> str:
    if key.startswith(names.RESERVED_LABELS):
        raise ValueError(f"labels that start with {names.RESERVED_LABELS} are set by Goldsmith; choose another key")
    return names.label_key(key)


def _spec_name(text: str) -> str:
    return names.output_name(text, names.SPEC_NAME_LENGTH)


def _license(text: str) -> str:
    return text and names.license_path(text.removeprefix(COMPUTE_URL))


def _filled(licenses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text for text in licenses if text)  # here, so that problems of the others keep their places


def _export_target(text: str) -> str:
    if not text.endswith(".tar.gz") or (text.startswith("gs:") and not _GS_OBJECT.fullmatch(text)):
        raise ValueError(
            f"{names.quoted(text)} cannot hold an image; write gs://BUCKET/NAME.tar.gz, or a path that ends in .tar.gz"
        )
    return text


def _place(text: str) -> str:
    if not text or "\0" in text or (text.startswith("gs:") and not _GS_OBJECT.fullmatch(text)):
        raise ValueError(f"{names.quoted(text)} is no place for files; write a path, or gs://BUCKET/OBJECT")
    return text


def _place_or_folder(value: str) -> str:
    """Take a bucket as a folder, too, when it ends as one."""
    if not (value.endswith("/") and _GS_OBJECT.fullmatch(value + "_")):
        _place(value)
    return value


def _allowed_path(path: str) -> str:
    """Hold a path to one place: anchored at the root, with a limited number of parts and stars."""
    parts = path.split("/")
    odd = not path.startswith("/") or {"", ".", ".."} & set(parts[1:]) or not path.isprintable()
    if odd or len(path) > LONGEST_PATH:
        raise ValueError(f"{names.quoted(path)} is no absolute path of a file; write one such as /opt/app/server.key")
    if "*" in parts[1] or any(part.count("*") > 1 for part in parts) or path.count("*") > MOST_STARS:
        raise ValueError(
            f"{names.quoted(path)} allows too much; write one * in a name at most, {MOST_STARS} in all, "
            "and none in the first folder, such as /opt/app/keys/*.pem"
        )
    return path


def _reason(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; write why this may be in the image, as the manifest will show it")
    if len(text) > LONGEST_REASON:
        raise ValueError(f"is too long; write at most {LONGEST_REASON} characters")
    return text


def _hygiene(value: Any) -> Any:
    """Take `hygiene: warn` as `hygiene: {findings: warn}`."""
    if not isinstance(value, str):
        return value
    if value not in ("fail", "warn"):
        raise problem(f"cannot be {describe(value)}; write fail, warn, or the keys findings and allow")
    return {"findings": str(value)}


Name = Annotated[str, AfterValidator(names.resource_name)]
OutputName = Annotated[str, AfterValidator(names.output_name)]
Project = Annotated[str, AfterValidator(names.project_id)]
Place = Annotated[str, AfterValidator(_place)]
StepName = Annotated[
    str, _matching(_STEP_NAME, "a step's name", "at most 63 letters, digits and -_. with a letter or digit first")
]
MachinePart = Annotated[str, _matching(_MACHINE_PART, "a type", "its name, such as n1-standard-1 or pd-ssd")]
Network = Annotated[str, _matching(_NETWORK, "a network", "its name, or projects/PROJECT/.../NAME")]
ServiceAccount = Annotated[
    str, _matching(re.compile(r"default|[^@\s]+@[^@\s]+"), "a service account", "its e-mail address, or default")
]
Arch = Literal["x86_64", "arm64"]
Timeout = Annotated[float, _duration_between(1, 30 * DAY)]


class Source(Closed):
    """The image to start from."""

    project: Project | None = None
    image: Name | None = None
    family: Name | None = None
    milestone: Annotated[Whole, Field(ge=1)] | None = None
    arch: Arch | None = None
    file: Place | None = None

    @classmethod
    def rules(cls, keys: Mapping[str, Any]) -> Iterator[Rule]:
        """Exactly one way to name the image, and a project where that way needs one."""
        ways = [key for key in ("image", "family", "milestone", "file") if key in keys]
        if not ways:
            yield (), "names no image; write exactly one of image, family, milestone and file"
        if len(ways) > 1:
            yield (), f"names its image in {len(ways)} ways ({', '.join(ways)}); keep one of them"
        if ways == ["file"] and "project" in keys:
            yield ("project",), "has no meaning beside file; leave it out"
        if ways and "file" not in ways and "project" not in keys:
            yield ("project",), f"is missing; write the project of the image, or {names.LOCAL} for one of this machine"
        if "milestone" in ways and keys.get("project", COS_PROJECT) not in (COS_PROJECT, names.LOCAL):
            yield (
                ("milestone",),
                f"only images of {COS_PROJECT} have milestones; write project: {COS_PROJECT}, or a family",
            )
        if "arch" in keys and "milestone" not in ways:
            yield ("arch",), "only chooses between the images of a milestone; leave it out"


class When(Closed):
    """When a step runs; it is left out otherwise."""

    arch: Arch


class SpecStep(Closed):
    """One action on the build VM, as written. Unlike on the wire, no timeout means the build's."""

    name: StepName
    action: Annotated[str, AfterValidator(_action)]
    inputs: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    timeout: Timeout | None = None
    retries: Whole = Field(default=0, ge=0, le=10)
    when: When | None = None
    idempotent: Flag = True

    @field_validator("inputs")
    @classmethod
    def _of_the_action(cls, inputs: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Hold the inputs to their action's schema, fill in its defaults, and keep them as JSON has them."""
        action = info.data.get("action")  # absent when it is no action: that is its own problem
        return INPUTS[action].model_validate(inputs).model_dump(mode="json") if action else inputs


def _names_taken(steps: Any, where: Loc) -> Iterator[Rule]:
    """Find steps of one list that share a name."""
    if not isinstance(steps, (tuple, list)):
        return
    first: dict[str, int] = {}
    for index, step in enumerate(steps):
        name = step.get("name") if isinstance(step, Mapping) else getattr(step, "name", None)
        if isinstance(name, str) and first.setdefault(name, index) != index:
            yield (
                (*where, index, "name"),
                f"{names.quoted(name)} names step {first[name] + 1} already; choose another name",
            )


Steps = Annotated[tuple[SpecStep, ...], Field(max_length=100)]


class Verify(Closed):
    """Steps that run on a VM booted from the new image; with none, the image must boot and start its provisioner."""

    steps: Steps = ()

    @classmethod
    def rules(cls, keys: Mapping[str, Any]) -> Iterator[Rule]:
        """Step names are unique."""
        yield from _names_taken(keys.get("steps"), ("steps",))


class DeprecateOld(Closed):
    """What happens to the older images of the family."""

    ttl: Annotated[float, _duration_between(1, 36500 * DAY)] | None = None
    keep: Whole = Field(default=0, ge=0, le=1000)


class Export(Closed):
    """An archive of the image."""

    to: Annotated[str, AfterValidator(_export_target)]
    compression: Literal["fast", "best"] = "fast"


class Sbom(Closed):
    """The list of the image's packages, beside the one that goes with the build's results."""

    input: Place | None = None
    to: Annotated[str, AfterValidator(_place_or_folder)] | None = None


class Output(Closed):
    """The image that will be made."""

    project: Project | None = None
    name: OutputName | None = None
    name_suffix: Annotated[str, AfterValidator(names.name_suffix)] | None = None
    family: Name | None = None
    labels: Annotated[
        dict[Annotated[str, AfterValidator(_own_label)], Annotated[str, AfterValidator(names.label_value)]],
        Field(max_length=names.LABEL_COUNT - 3),  # three are Goldsmith's own
    ] = Field(default_factory=dict)
    inherit_labels: Flag = False
    licenses: Annotated[tuple[Annotated[str, AfterValidator(_license)], ...], AfterValidator(_filled)] = ()
    disk_size_gb: Annotated[Whole, Field(ge=1, le=LARGEST_DISK_GB)] | None = None
    oem_size: Annotated[int, _size_from(SMALLEST_OEM)] | None = None
    deprecate_old: DeprecateOld | None = None
    export: Export | None = None
    sbom: Sbom | None = None

    @classmethod
    def rules(cls, keys: Mapping[str, Any]) -> Iterator[Rule]:
        """One name, and a family where one is deprecated."""
        if "name" in keys and "name_suffix" in keys:
            yield ("name_suffix",), "cannot stand beside name; keep one of them"
        if "deprecate_old" in keys and "family" not in keys:
            yield ("deprecate_old",), "needs a family, whose older images it deprecates; add family"


class BuildOptions(Closed):
    """The VM that the steps run on, and how long it may take."""

    project: Project | None = None
    zones: tuple[Annotated[str, AfterValidator(names.zone)], ...] = ()
    machine_type: MachinePart = "n1-standard-1"
    disk_type: MachinePart = "pd-standard"
    network: Network | None = None
    subnet: Network | None = None
    external_ip: Flag = False
    service_account: ServiceAccount | None = None
    gpu_type: MachinePart | None = None
    spot: Flag = False
    timeout: Timeout = 3600.0
    attempts: Whole = Field(default=3, ge=1, le=10)
    silence: Annotated[float, _duration_between(30, DAY)] = 300.0


class LocalOptions(Closed):
    """How the build runs on one machine; the cloud does not read it."""

    engine: Literal["vm"] = "vm"
    boot: Literal["direct", "firmware"] = "direct"
    network: Flag = True
    cpus: Whole = Field(default=2, ge=1, le=64)
    memory_mb: Whole = Field(default=1024, ge=256, le=1 << 20)


class Allowance(Closed):
    """Where a finding is allowed, and why."""

    path: Annotated[str, AfterValidator(_allowed_path)]
    why: Annotated[str, AfterValidator(_reason)]


class Hygiene(Closed):
    """What findings in the finished image lead to, and which are allowed."""

    findings: Literal["fail", "warn"] = "fail"
    allow: Annotated[tuple[Allowance, ...], Field(max_length=MOST_ALLOWED)] = ()


class Spec(Closed):
    """One image build, as a person writes it."""

    name: Annotated[str, AfterValidator(_spec_name)]
    description: str = Field(default="", max_length=2048)
    source: Source
    context: Place | None = None
    parameters: dict[Annotated[str, _matching(_PARAMETER, "a parameter's name", "letters, digits and _")], str] = Field(
        default_factory=dict
    )
    steps: Steps
    verify: Verify | None = None
    output: Output = Field(default_factory=Output)
    build: BuildOptions = Field(default_factory=BuildOptions)
    hygiene: Annotated[Hygiene, BeforeValidator(_hygiene)] = Field(default_factory=Hygiene)
    rebuild: Literal["always", "changed"] = "always"
    local: LocalOptions = Field(default_factory=LocalOptions)

    @classmethod
    def rules(cls, keys: Mapping[str, Any]) -> Iterator[Rule]:
        """Step names are unique; and what holds of Container-Optimized OS."""
        yield from _names_taken(keys.get("steps"), ("steps",))
        yield from cos_rules(keys)
