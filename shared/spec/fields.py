"""The types of the spec's fields: each a Python type with the checks of a single value.

A check returns the value as the rest of the code wants it: durations in seconds, sizes in bytes, references to
resources as paths. It raises ValueError with `what is wrong; what to write instead`. The inputs of steps have types of
their own, in actions.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, InstanceOf
from pydantic_core import CoreSchema

from provisioner.protocol import CHECKS

from .. import names
from ..build.block_devices.description import DiskDescription
from ..build.block_devices.disk_layout import LARGEST_DISK_GB, SMALLEST_OEM
from ..build.export_formats import EXPORT_FORMATS, chosen_formats
from ..build.image.channels import CHANNEL_LENGTH, CHANNEL_NAME, MOST_APPROVALS
from ..build.image.guest_features import GUEST_FEATURES
from ..build.image.secure_boot import MOST_KEYS, BootKey, read_boot_key
from ..build.proxy import direct_host, proxy_url
from ..errors import InputError
from ..names import nearest, quoted, shown_value
from ..quantities import DURATION_FORM, GIB, SIZE_FORM, format_duration, format_size, parse_duration, parse_size
from .closed import problem
from .disk.reading import read_disk

DAY = 86400.0
MOST_SECRETS = 50  # of one step
MOST_VERIFIERS = 8  # VMs that verify one image
MOST_ALLOWED, LONGEST_PATH, LONGEST_REASON, MOST_STARS = 100, 1024, 500, 4  # of hygiene.allow
LONGEST_BOOT = 3600  # seconds

_BOOLEANS = {"true": True, "false": False}
_GS_OBJECT = re.compile(r"gs://[a-z0-9][-a-z0-9_.]{1,220}[a-z0-9]/.+")


def _whole(pattern: re.Pattern[str]) -> str:
    """Return what JSON Schema has for a pattern that a whole text matches."""
    return f"^(?:{pattern.pattern})$"


# Numbers, booleans, quantities


class FromParameter(str):
    """Text that is one `${parameter}` and nothing else: it may stand for a number or a boolean as well."""

    __slots__ = ()


def typed(value: Any) -> Any:
    """Return the number or boolean that the text of a parameter stands for; other values as they are."""
    if not isinstance(value, FromParameter):
        return value
    if value.isascii() and value.isdigit() and len(value) < 18:
        return int(value)
    return _BOOLEANS.get(value, value)


def _duration(least: float, most: float) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, str):
            raise problem(
                f"needs a duration, not {shown_value(value)}; write it with its unit, such as 90s, 5m or 1h30m"
            )
        seconds = parse_duration(value)
        if not least <= seconds <= most:
            raise ValueError(
                f"{value!r} is out of range; write {format_duration(least)} at least, {format_duration(most)} at most"
            )
        return seconds

    return BeforeValidator(check, json_schema_input_type=Annotated[str, Field(pattern=_whole(DURATION_FORM))])


def _fits_a_disk(count: int) -> int:
    if count >= LARGEST_DISK_GB * GIB:
        raise ValueError(f"is more than any disk has; write less than {LARGEST_DISK_GB}G")
    return count


def _size(least: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, str):
            raise problem(f"needs a size, not {shown_value(value)}; write it with its unit, such as 500M or 10G")
        count = parse_size(value)
        if count < least:
            raise ValueError(f"{value!r} is too small; write at least {format_size(least)}")
        return count

    return BeforeValidator(check, json_schema_input_type=Annotated[str, Field(pattern=_whole(SIZE_FORM))])


Whole = Annotated[int, BeforeValidator(typed)]
Cpus = Annotated[Whole, Field(ge=1, le=64)]
MemoryMb = Annotated[Whole, Field(ge=256, le=1 << 20)]
Flag = Annotated[bool, BeforeValidator(typed)]
Timeout = Annotated[float, _duration(1, 30 * DAY)]
Silence = Annotated[float, _duration(30, DAY)]
Age = Annotated[float, _duration(0, 36500 * DAY)]
Period = Annotated[float, _duration(3600, 366 * DAY)]
TimeToLive = Annotated[float, _duration(1, 36500 * DAY)]
DiskSize = Annotated[Whole, Field(ge=1, le=LARGEST_DISK_GB)]  # GB
OemSize = Annotated[int, _size(SMALLEST_OEM)]
RootRoom = Annotated[int, _size(0), AfterValidator(_fits_a_disk)]


# Texts of one form


@dataclass(frozen=True)
class Matching(AfterValidator):
    """The check that a whole text matches a pattern, which the JSON schema of the spec has as well."""

    pattern: re.Pattern[str] = re.compile("")

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": _whole(self.pattern)}


def matching(pattern: re.Pattern[str], wrong: str) -> Matching:
    """Make the check that a whole text matches; `wrong` follows the text in the message."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{quoted(text)} {wrong}")
        return text

    return Matching(check, pattern)


Arch = Literal["x86_64", "arm64"]
StepName = Annotated[
    str,
    matching(
        re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}"),
        "is not a step's name; write at most 63 letters, digits and -_. with a letter or digit first",
    ),
]
ParameterName = Annotated[
    str,
    matching(re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}"), "is not a parameter's name; write letters, digits and _"),
]
VerifierName = Annotated[
    str,
    matching(
        re.compile(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?"),
        "is not a name; write up to 32 lower-case letters, digits and dashes, such as small",
    ),
]
ChannelName = Annotated[
    str,
    matching(
        CHANNEL_NAME,
        f"is no name of a channel; write at most {CHANNEL_LENGTH} lower-case letters and digits, a letter first and no "
        "dash",
    ),
]
AskedApprovals = Annotated[Whole, Field(ge=1, le=MOST_APPROVALS)]
MachinePart = Annotated[
    str,
    matching(re.compile(r"[a-z][-a-z0-9]*[a-z0-9]"), "is not a type; write its name, such as n1-standard-1 or pd-ssd"),
]
ServiceAccount = Annotated[
    str,
    matching(
        re.compile(r"default|[^@\s]+@[^@\s]+"),
        "is not a service account; write its e-mail address, or default",
    ),
]
Unit = Annotated[
    str,
    matching(
        re.compile(
            r"[A-Za-z0-9:_.\\@-]{1,200}"
            r"\.(?:automount|device|mount|path|scope|service|slice|socket|swap|target|timer)"
        ),
        "is no unit of systemd; write its whole name, such as app.service",
    ),
]


# Secrets


def _secret_place(value: Any) -> str:
    """Check the place of a secret; nothing is quoted that may be its value."""
    if not isinstance(value, str):
        raise problem("needs the place of a secret, as text; write env:NAME, for instance")
    try:
        return names.secret_place(str(value))
    except ValueError as error:
        raise problem(str(error)) from error


SecretPlace = Annotated[str, BeforeValidator(_secret_place)]
SecretVariable = Annotated[
    str,
    matching(
        re.compile(r"(?!LD_)[A-Za-z_][A-Za-z0-9_]{0,254}"),
        "cannot name the variable of a secret; write letters, digits and _",
    ),
]


def _built_in_check(value: str) -> str:
    if value not in CHECKS:
        raise ValueError(f"{quoted(value)} is no built-in check; {nearest(value, CHECKS)}")
    return value


BuiltInCheck = Annotated[str, AfterValidator(_built_in_check)]


# Resources of Compute Engine


def _own_label(key: str) -> str:
    if key.startswith(names.RESERVED_LABELS):
        raise ValueError(f"labels that start with {names.RESERVED_LABELS} are set by Goldsmith; choose another key")
    return names.label_key(key)


def _license(text: str) -> str:
    return text and names.license_path(names.compute_path(text))


def _without_empty(licenses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text for text in licenses if text)  # here, so that problems of the others keep their places


def _guest_feature(name: str) -> str:
    if name not in GUEST_FEATURES:
        raise ValueError(f"{quoted(name)} is no feature of a guest system; {nearest(name, GUEST_FEATURES)}")
    return name


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _boot_key(value: Any) -> Any:
    if isinstance(value, BootKey):
        return value
    if not isinstance(value, str):
        raise problem(f"needs the text of a certificate, not {shown_value(value)}")
    return read_boot_key(value)


SpecName = Annotated[str, AfterValidator(partial(names.output_name, longest=names.SPEC_NAME_LENGTH))]
Name = Annotated[str, AfterValidator(names.check_name)]
OutputName = Annotated[str, AfterValidator(names.output_name)]
NameSuffix = Annotated[str, AfterValidator(names.name_suffix)]
Project = Annotated[str, AfterValidator(names.project_id)]
Zone = Annotated[str, AfterValidator(names.zone)]
Network = Annotated[str, AfterValidator(names.network)]
Subnetwork = Annotated[str, AfterValidator(names.subnetwork)]
Labels = Annotated[
    dict[Annotated[str, AfterValidator(_own_label)], Annotated[str, AfterValidator(names.label_value)]],
    Field(max_length=names.SPEC_LABEL_COUNT),
]
GuestFeatures = Annotated[tuple[Annotated[str, AfterValidator(_guest_feature)], ...], AfterValidator(_each_once)]
MOST_USERS, MOST_COPIES = 50, 20  # of one image
StorageLocation = Annotated[
    str,
    matching(
        re.compile(r"[a-z]{2,20}(?:-[a-z]{2,20}[0-9]{1,2})?"),
        "is no location of Cloud Storage; write a region such as europe-west4, or eu, us or asia",
    ),
]
StorageLocations = Annotated[tuple[StorageLocation, ...], Field(max_length=1)]  # Compute Engine takes one
SharedWith = Annotated[
    tuple[Annotated[str, AfterValidator(names.image_user)], ...],
    AfterValidator(_each_once),
    Field(max_length=MOST_USERS),
]
CloudProject = Annotated[str, AfterValidator(names.cloud_project)]
SecureBootKey = Annotated[BootKey, BeforeValidator(_boot_key, json_schema_input_type=str)]
SecureBootKeyList = Annotated[tuple[SecureBootKey, ...], Field(max_length=MOST_KEYS)]
KmsKey = Annotated[str, AfterValidator(names.kms_key)]
Licenses = Annotated[tuple[Annotated[str, AfterValidator(_license)], ...], AfterValidator(_without_empty)]


# Places of files


LONGEST_EXPORT = 900  # bytes; an object's name has 1024, and those that are derived of this one are longer


def _export_target(text: str) -> str:
    """Check where an export goes. Names that begin with a dot are those of files before their publication."""
    hidden = text.rpartition("/")[2].startswith(".") or any(letter < " " or letter == "\x7f" for letter in text)
    if text.startswith("gs:") and (hidden or len(text.encode(errors="replace")) > LONGEST_EXPORT):
        raise ValueError(
            f"{quoted(text)} cannot be the name of an export; write one of {LONGEST_EXPORT} bytes at most, without "
            "control characters, and whose last part does not begin with a dot"
        )
    if text.startswith("gs:") and text.endswith("/") and _GS_OBJECT.fullmatch(text + "_"):
        return text
    if not text.endswith(".tar.gz") or (text.startswith("gs:") and not _GS_OBJECT.fullmatch(text)):
        raise ValueError(
            f"{quoted(text)} cannot hold an image; write gs://BUCKET/NAME.tar.gz, gs://BUCKET/FOLDER/, or a path that "
            "ends in .tar.gz"
        )
    return text


def _place(text: str) -> str:
    if not text or "\0" in text or (text.startswith("gs:") and not _GS_OBJECT.fullmatch(text)):
        raise ValueError(f"{quoted(text)} is no place for files; write a path, or gs://BUCKET/OBJECT")
    return text


def _place_or_folder(text: str) -> str:
    """Check a place; also take a bucket as a folder, when it ends as one."""
    return text if text.endswith("/") and _GS_OBJECT.fullmatch(text + "_") else _place(text)


def _local_file(text: str) -> str:
    if not text or "\0" in text or text.startswith("gs:"):
        raise ValueError(f"{quoted(text)} is no file of this machine; write a path")
    return text


OutputPlace = Annotated[str, AfterValidator(_place)]
LocalFile = Annotated[str, AfterValidator(_local_file)]
ProxyUrl = Annotated[str, AfterValidator(proxy_url)]
DirectHosts = Annotated[tuple[Annotated[str, AfterValidator(direct_host)], ...], Field(max_length=MOST_ALLOWED)]
PlaceOrFolder = Annotated[str, AfterValidator(_place_or_folder)]
ExportTarget = Annotated[str, AfterValidator(_export_target)]


def _format(name: str) -> str:
    if name not in EXPORT_FORMATS:
        raise ValueError(f"{quoted(name)} is no format; write one of {', '.join(EXPORT_FORMATS)}")
    return name


def _formats(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Check that all can be in one folder; each is there once."""
    try:
        return tuple(known.name for known in chosen_formats(chosen))
    except InputError as error:
        raise ValueError(str(error)) from error


Formats = Annotated[tuple[Annotated[str, AfterValidator(_format)], ...], AfterValidator(_formats)]


# The cache


def _context_pattern(pattern: str) -> str:
    parts = pattern.split("/")
    if (
        not pattern.isprintable()
        or pattern.startswith("/")
        or {"", ".", ".."} & set(parts)
        or len(pattern) > LONGEST_PATH
    ):
        raise ValueError(f"{quoted(pattern)} is no pattern of files of the context; write one such as scripts/*.sh")
    if parts.count("**") > 1:
        raise ValueError(f"{quoted(pattern)} has more than one **; write several patterns")
    return pattern


Reads = Annotated[tuple[Annotated[str, AfterValidator(_context_pattern)], ...], Field(max_length=MOST_ALLOWED)]


# Packages that a root file system is made of

Release = Annotated[
    str,
    matching(re.compile(r"[a-z][-a-z0-9.]{0,23}"), "is no release; write its name, such as bookworm or noble"),
]
Mirror = Annotated[
    str,
    matching(
        re.compile(r"(?:https?|file|copy)://?[^\s\[\]\"']+"),
        "is no mirror; write the URL of an archive, such as http://deb.debian.org/debian",
    ),
]
Component = Annotated[
    str,
    matching(re.compile(r"[a-z][-a-z0-9/]{0,39}"), "is no component; write a name such as main or universe"),
]
ArchivePackage = Annotated[
    str,
    matching(
        re.compile(r"[a-z0-9][a-z0-9.+-]+(?::[a-z0-9]+)?(?:/[-a-z0-9]+|=[A-Za-z0-9.+:~-]+)?"),
        "is not the name of a package; write one package in each entry",
    ),
]


# The disk


def _described(value: Any) -> Any:
    """Return the description of a disk; of one that is wrong, whose problems the rules tell, none."""
    return value if isinstance(value, DiskDescription) else read_disk(value).description


DescribedDisk = Annotated[
    InstanceOf[DiskDescription] | None,
    BeforeValidator(_described, json_schema_input_type=Literal["filesystem"] | list[dict[str, Any]]),
]


# Hygiene


def _allowed_path(path: str) -> str:
    """Check that a path means one place: anchored at the root, with a limited number of parts and stars."""
    parts = path.split("/")
    odd = not path.startswith("/") or {"", ".", ".."} & set(parts[1:]) or not path.isprintable()
    if odd or len(path) > LONGEST_PATH:
        raise ValueError(f"{quoted(path)} is no absolute path of a file; write one such as /opt/app/server.key")
    if "*" in parts[1] or any(part.count("*") > 1 for part in parts) or path.count("*") > MOST_STARS:
        raise ValueError(
            f"{quoted(path)} allows too much; write one * in a name at most, {MOST_STARS} in all, "
            "and none in the first folder, such as /opt/app/keys/*.pem"
        )
    return path


def _reason(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; write why this may be in the image, as the manifest will show it")
    if len(text) > LONGEST_REASON:
        raise ValueError(f"is too long; write at most {LONGEST_REASON} characters")
    return text


def _findings(value: Any) -> Any:
    """Take `hygiene: warn` as `hygiene: {findings: warn}`."""
    if not isinstance(value, str):
        return value
    if value not in ("fail", "warn"):
        raise problem(f"cannot be {shown_value(value)}; write fail, warn, or the keys findings and allow")
    return {"findings": str(value)}


AllowedPath = Annotated[str, AfterValidator(_allowed_path)]
AllowanceReason = Annotated[str, AfterValidator(_reason)]
OR_FINDINGS = BeforeValidator(_findings)
"""Lets `hygiene` be its `findings` alone."""
