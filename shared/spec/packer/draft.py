"""From a build of a template to the document of a spec, its notes, and the files that go with it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...names import SPEC_NAME_LENGTH, quoted
from ..cloudbuild.native_draft import Draft
from ..document import Document, Position
from .language.scope import Confidential, Varying
from .option_reader import OptionReader
from .options import BUILDERS, OTHER_POST_PROCESSOR, POST_PROCESSORS, OptionPlacement
from .parts import PackerBuild, PackerPart
from .step_maker import StepMaker, TemplatePlaces
from .steps import add_steps

DEFAULT_DISK_GB = 20  # of Packer's googlecompute
DEFAULT_MACHINE_TYPE = "e2-standard-2"
_PUBLIC_PROJECTS = (  # where Packer looks for an image after its own project, by how its name or family begins
    (re.compile(r"almalinux-\d"), "almalinux-cloud"),
    (re.compile(r"centos-(stream-)?\d"), "centos-cloud"),
    (re.compile(r"cos-(\d|arm64-|stable|beta|dev)"), "cos-cloud"),
    (re.compile(r"debian-\d"), "debian-cloud"),
    (re.compile(r"fedora-cloud-"), "fedora-cloud"),
    (re.compile(r"fedora-coreos-"), "fedora-coreos-cloud"),
    (re.compile(r"hpc-"), "cloud-hpc-image-public"),
    (re.compile(r"opensuse-(leap|tumbleweed)"), "opensuse-cloud"),
    (re.compile(r"oracle-linux-\d"), "oracle-linux-cloud"),
    (re.compile(r"rhel-\d+(-\d+)?-sap"), "rhel-sap-cloud"),
    (re.compile(r"rhel-\d"), "rhel-cloud"),
    (re.compile(r"rocky-linux-\d"), "rocky-linux-cloud"),
    (re.compile(r"sles-\d+(-sp\d+)?-sap"), "suse-sap-cloud"),
    (re.compile(r"sles-\d"), "suse-cloud"),
    (re.compile(r"ubuntu-pro-"), "ubuntu-os-pro-cloud"),
    (re.compile(r"ubuntu-(minimal-)?\d"), "ubuntu-os-cloud"),
)
_IMAGE_PATH = re.compile(r"(?:https://[^/]+/compute/v1/)?projects/([^/]+)/global/images/(family/)?([^/]+)")
_HARMLESS_METADATA = frozenset(
    ["enable-oslogin", "block-project-ssh-keys", "ssh-keys", "serial-port-enable", "enable-guest-attributes"]
)
_ORDER = ("name", "description", "source", "context", "steps", "output", "build", "local")
_WINDOWS = re.compile(r"windows|sql-")
_URL = re.compile(r"(https?|ftp|s3|gs)://", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]{1,12})\s*([KMGT]?)(?:i?B?)", re.IGNORECASE)
_MEGABYTES = {"K": 1 / 1024, "M": 1, "": 1, "G": 1024, "T": 1024 * 1024}  # of a disk_size without a unit: MB
_ENDING = re.compile(r"\.(qcow2|raw|img)$")
_NOT_OF_A_NAME = re.compile(r"[^a-z0-9]+")
_KEEPS_PACKER = re.compile(r"PACKER_BUILD(ER)?_(NAME|TYPE)")


@dataclass
class PackerDraft:
    """The document of one build, with what is not taken over, and the texts of files that go with it."""

    document: Document
    notes: list[tuple[Position, str]]
    made: Mapping[str, str]
    full_name: str  # by which Packer's -only knows the image
    named: list[str] = field(default_factory=list)  # paths that the template says, relative to where Packer runs


def draft_template_build(
    build: PackerBuild, name: str, places: TemplatePlaces, output: Callable[[str], str] = lambda path: path
) -> PackerDraft:
    """Return the document of a build, which will be the spec `name`. What is wrong is in its problems.

    `output` gives a folder for files, as the spec says it.
    """
    maker = _Maker(build, places, output)
    maker.draft.put(("name",), name, build.source.place)
    table = BUILDERS.get(build.source.kind)
    if table is None:
        known = ", ".join(BUILDERS)
        what = f"is of a builder that is not taken over; write one of: {known}, or name others by --only"
        maker.draft.fault((), what, build.source.place)
    else:
        maker.builder(table)
        maker.steps()
        maker.after()
    data = maker.draft.document.data
    maker.draft.document.data = {key: data[key] for key in _ORDER if key in data}
    document = maker.draft.finished()
    named = [*maker.made.named, *maker.named]
    return PackerDraft(document, sorted(maker.all_notes()), maker.made.made, build.full_name, named)


def spec_names(builds: list[PackerBuild]) -> list[str]:
    """Return a name for the spec of each build, no two alike."""
    found: list[str] = []
    several = len({build.source.name for build in builds}) < len(builds)
    for build in builds:
        words = [build.name, build.source.kind, build.source.name] if several else [build.source.name]
        if len(words) == 1 and _plain_name(words[0]) in ("image", "default", "main", "this"):
            words = [build.name or build.source.kind, *words]
        name = unique = _plain_name("-".join(word for word in words if word))
        number = 2
        while unique in found:
            unique, number = f"{name[: SPEC_NAME_LENGTH - 4]}-{number}", number + 1
        found.append(unique)
    return found


def _plain_name(text: str) -> str:
    name = _NOT_OF_A_NAME.sub("-", text.lower()).strip("-")
    name = name if name[:1].isalpha() else f"image-{name}".strip("-")
    return name[:SPEC_NAME_LENGTH].strip("-")


class _Maker:
    """Makes the document, key by key."""

    def __init__(self, build: PackerBuild, places: TemplatePlaces, output: Callable[[str], str]) -> None:
        self.build = build
        self.places = places
        self.output = output
        self.draft = Draft()
        self.draft.locate((), build.source.place)
        self.draft.put(("source",), {}, build.source.place)
        self.draft.put(("context",), ".", build.source.place)
        self.made = StepMaker(self.draft, places, self.packer_names())
        self.notes: list[tuple[Position, str]] = []
        self.named: list[str] = []
        self.options = OptionReader(build.source, {}, self.draft)

    def all_notes(self) -> list[tuple[Position, str]]:
        readers = [self.options, *self.made.readers]
        return list(
            dict.fromkeys([*self.notes, *self.made.notes, *(note for reader in readers for note in reader.notes)])
        )

    def packer_names(self) -> dict[str, str]:
        """Return the variables that Packer sets, where a script uses one."""
        source = self.build.source
        for part in self.build.provisioners:
            known = {key: part.settings[key].known for key in ("script", "scripts", "inline") if key in part.settings}
            paths = [path for key in ("script", "scripts") for path in _several(known.get(key))]
            texts = [self.places.text(path) for path in paths if isinstance(path, str)]
            if _KEEPS_PACKER.search("\n".join([*texts, *map(str, _several(known.get("inline")))])):
                return {"PACKER_BUILD_NAME": source.name, "PACKER_BUILDER_TYPE": source.kind}
        return {}

    def put(self, path: tuple[str, ...], option: str, value: Any) -> None:
        """Set a key from an option, unless there is no value."""
        if value not in (None, "", [], {}):
            self.draft.put(path, value, self.options.place(option))

    def builder(self, table: Mapping[str, OptionPlacement]) -> None:
        self.options = options = OptionReader(self.build.source, table, self.draft)
        communicator = options.text("communicator") or "ssh"
        if communicator not in ("ssh", "none"):
            options.fault("communicator", f"cannot be {quoted(communicator)}: Goldsmith makes no Windows images")
        if self.build.source.kind == "qemu":
            self.qemu()
        else:
            self.googlecompute()
        options.finish()

    # googlecompute

    def googlecompute(self) -> None:
        options = self.options
        self.source_image()
        options.text("image_architecture")
        self.put(("description",), "image_description", self.described(options))
        project, target = options.text("project_id"), options.text("image_project_id")
        if project is None:
            options.fault("project_id", "is missing, or has no value; write the project of the VM")
        self.output_keys(project, target)
        self.put(("build", "project"), "project_id", project if target and target != project else None)
        zone = options.text("zone")
        self.put(("build", "zones"), "zone", [zone] if zone else None)
        machine = options.text("machine_type")
        self.put(("build", "machine_type"), "machine_type", machine or DEFAULT_MACHINE_TYPE)
        self.put(("build", "disk_type"), "disk_type", options.text("disk_type"))
        self.network(project, zone)
        self.put(("build", "external_ip"), "omit_external_ip", not options.flag("omit_external_ip"))
        account = options.text("service_account_email")
        self.put(("build", "service_account"), "service_account_email", account)
        self.accelerator()
        self.put(("build", "spot"), "preemptible", options.flag("preemptible") or None)
        self.put(("build", "secure_boot"), "enable_secure_boot", options.flag("enable_secure_boot") or None)
        self.startup_script()
        self.metadata()

    def described(self, options: OptionReader) -> str | None:
        setting = options.setting("image_description")
        if setting is not None and isinstance(setting.value, Varying):
            options.note("image_description", "is another text each time; ${build.date} stands for the day")
            return None
        return options.text("image_description")

    def source_image(self) -> None:
        options = self.options
        image, family = options.text("source_image"), options.text("source_image_family")
        projects = options.texts("source_image_project_id")
        key = "source_image" if image else "source_image_family"
        found, is_family = image or family, image is None
        if found is None:
            options.fault(key, "is missing, or has no value; write the image to start from")
            return
        if _WINDOWS.match(found) or any(_WINDOWS.match(project) for project in projects):
            options.fault(key, f"{quoted(found)} is of Windows, and Goldsmith makes no Windows images; keep Packer")
        if len(projects) > 1:
            options.note("source_image_project_id", f"{projects[0]} is taken, and the others are not looked into")
        if path := _IMAGE_PATH.fullmatch(found):
            projects, is_family, found = [path[1]], path[2] is not None, path[3]
        public = next((each for start, each in _PUBLIC_PROJECTS if start.match(found)), None)
        project = projects[0] if projects else public or options.text("project_id")
        self.put(("source", "project"), "source_image_project_id", project)
        self.put(("source", "family" if is_family else "image"), key, found)

    def output_keys(self, project: str | None, target: str | None) -> None:
        options = self.options
        self.put(("output", "project"), "image_project_id" if target else "project_id", target or project)
        name = options.setting("image_name")
        value = name.value if name else Varying("packer-")
        if isinstance(value, Varying) or (isinstance(value, Confidential) and isinstance(value.value, Varying)):
            what = "the image is called NAME-DATE-DIGEST, since a spec says the same each time"
            options.note("image_name", f"{what}; write output.name for a fixed name") if name else None
        else:
            self.put(("output", "name"), "image_name", options.text("image_name"))
        self.put(("output", "family"), "image_family", options.text("image_family"))
        self.put(("output", "labels"), "image_labels", self.labels())
        self.put(("output", "licenses"), "image_licenses", options.texts("image_licenses"))
        features = options.texts("image_guest_os_features")
        self.put(("output", "guest_os_features"), "image_guest_os_features", features)
        locations = options.texts("image_storage_locations")
        self.put(("output", "storage_locations"), "image_storage_locations", locations)
        size = options.number("disk_size")
        self.put(("output", "disk_size_gb"), "disk_size", DEFAULT_DISK_GB if size is None else size)
        self.keys_of_disks()

    def labels(self) -> dict[str, str]:
        """Return the image's labels; those that differ each time are noted."""
        setting = self.options.setting("image_labels")
        value = setting.value if setting else {}
        if isinstance(value, Mapping) and any(isinstance(each, Varying) for each in value.values()):
            gone = ", ".join(key for key, each in value.items() if isinstance(each, Varying))
            self.options.note("image_labels", f"{gone}: not taken over: another text each time; the image has its date")
            value = {key: each for key, each in value.items() if not isinstance(each, Varying)}
        plain = self.options.plain("image_labels", value)
        if not isinstance(plain, dict):
            self.options.fault("image_labels", "needs keys and values; write those")
            return {}
        return {key: str(each) for key, each in plain.items()}

    def keys_of_disks(self) -> None:
        options = self.options
        image, disk = options.mapping("image_encryption_key"), options.mapping("disk_encryption_key")
        for option, block in (("image_encryption_key", image), ("disk_encryption_key", disk)):
            if set(block) - {"kmsKeyName"}:
                options.fault(option, "can only have kmsKeyName; keep keys in Cloud KMS")
        key = image.get("kmsKeyName")
        if disk and disk.get("kmsKeyName") != key:
            options.fault("disk_encryption_key", "is not the image's key, and both have the same here; write that")
        if isinstance(key, str):
            self.put(("output", "kms_key"), "image_encryption_key", key.partition("/cryptoKeyVersions/")[0])

    def network(self, project: str | None, zone: str | None) -> None:
        options = self.options
        host = options.text("network_project_id")
        network, subnet = options.text("network"), options.text("subnetwork")
        region = options.text("region") or (zone or "").rpartition("-")[0]
        if network and host and "/" not in network:
            network = f"projects/{host}/global/networks/{network}"
        if subnet and "/" not in subnet and (host or region):
            subnet = f"regions/{region}/subnetworks/{subnet}" if region else subnet
            subnet = f"projects/{host}/{subnet}" if host and host != project else subnet
        self.put(("build", "network"), "network", network)
        self.put(("build", "subnet"), "subnetwork", subnet)

    def accelerator(self) -> None:
        kind, count = self.options.text("accelerator_type"), self.options.number("accelerator_count")
        if kind and count not in (None, 1):
            self.options.fault("accelerator_count", "cannot be other than 1; write 1")
        self.put(("build", "gpu_type"), "accelerator_type", kind.rpartition("/")[2] if kind else None)

    def startup_script(self) -> None:
        path = self.options.text("startup_script_file")
        found = self.made.path(self.options, "startup_script_file", path) if path else None
        if found is not None:
            place = self.options.place("startup_script_file")
            self.made.put("startup-script", "run-script", {"script": found}, place, reads=[])

    def metadata(self) -> None:
        """Take over a startup script, and refuse what else metadata could change in the image; the rest is noted."""
        metadata = self.options.mapping("metadata")
        script = metadata.pop("startup-script", None)
        if isinstance(script, str):
            path = self.made.make("startup-script.sh", script)
            self.made.put("startup-script", "run-script", {"script": path}, self.options.place("metadata"), reads=[])
        keys = set(metadata)
        if keys - _HARMLESS_METADATA:
            what = f"cannot have {', '.join(sorted(keys - _HARMLESS_METADATA))}: steps get what they need as inputs"
            self.options.fault("metadata", f"{what}; write env of a step, or files of the context")
        elif keys:
            self.options.note("metadata", f"not taken over: {', '.join(sorted(keys))}: of no use to steps")

    # qemu

    def qemu(self) -> None:
        options = self.options
        is_disk = options.flag("disk_image")
        urls = [*filter(None, [options.text("iso_url")]), *options.texts("iso_urls")]
        key = "iso_url" if options.text("iso_url") else "iso_urls"
        checksum = options.text("iso_checksum")
        if not is_disk:
            what = "is an installer, and nothing installs from one here; begin with a disk image (disk_image = true)"
            options.fault(key, f"{what}, or with source.bootstrap, which makes one of packages")
        elif not urls:
            options.fault(key, "is missing, or has no value; write the disk image to start from")
        else:
            self.disk_image(key, urls[0], checksum)
        name = _ENDING.sub("", (self.fixed("vm_name") or "image").replace("/", "-"))
        if self.fixed("vm_name"):
            self.draft.put(("output", "name"), _plain_name(name), options.place("vm_name"))
        self.disk_size()
        kind = options.text("format") or "qcow2"
        is_small = options.flag("disk_compression") and kind == "qcow2"
        self.put(("output", "formats"), "format", ["qcow2-compressed" if is_small else kind])
        folder = self.fixed("output_directory") or f"output-{self.build.source.name}"
        self.put(("output", "export", "to"), "output_directory", f"{self.output(folder)}/{name}.tar.gz")
        self.put(("local", "cpus"), "cpus", options.number("cpus"))
        self.put(("local", "memory_mb"), "memory", options.number("memory"))
        firmware = options.text("firmware")
        if options.flag("efi_boot") or firmware:
            option = "firmware" if firmware else "efi_boot"
            self.draft.put(("local", "boot"), "firmware", options.place(option))

    def fixed(self, option: str) -> str | None:
        """Return a text, or None where it is another one each time, which is told."""
        setting = self.options.setting(option)
        if setting is not None and isinstance(setting.value, Varying):
            self.options.note(option, "not taken over: it is another text each time")
            return None
        return self.options.text(option)

    def disk_image(self, key: str, url: str, checksum: str | None) -> None:
        path = url.removeprefix("file://")
        name = posixpath.basename(path.partition("?")[0])
        if _URL.match(path):
            check = _checked(checksum, name)
            if self.places.is_folder(name) is None:
                what = f"is not fetched by builds; fetch it once: curl -fLo {name} {url}{check}"
                self.options.fault(key, f"{what}, then convert again")
                return
            self.options.note(key, f"{name} is taken, which is here already; fetch it anew if the URL has another one")
            path = name
        if self.places.is_folder(path) is None:
            self.options.fault(key, f"{quoted(path)} is not there; name the folder in which packer is run by --source")
            return
        self.named.append(path)
        self.put(("source", "file"), key, self.output(path))

    def disk_size(self) -> None:
        size, keeps = self.options.text("disk_size"), self.options.flag("skip_resize_disk")
        if size is None or keeps:
            return
        match = _SIZE.fullmatch(size.strip())
        if match is None:
            self.options.fault("disk_size", f"{quoted(size)} is no size; write one such as 10G")
            return
        megabytes = int(match[1]) * _MEGABYTES[match[2].upper()]
        gigabytes = -(-megabytes // 1024)
        if megabytes % 1024:
            self.options.note("disk_size", f"becomes {int(gigabytes)} GB, the next whole size")
        self.put(("output", "disk_size_gb"), "disk_size", int(gigabytes))

    # Steps, and what comes after the image

    def steps(self) -> None:
        self.draft.document.data.setdefault("steps", [])
        self.draft.locate(("steps",), self.build.source.place)
        for part in self.build.provisioners:
            add_steps(self.made, part)
        place = self.made.runs_as_user
        if place is not None:
            user = self.build.source.settings.get("ssh_username")
            who = user.known if user and isinstance(user.known, str) else "its user"
            what = f"steps are root in the context's folder, with HOME=/root; Packer ran scripts as {who} in its home"
            self.notes.append((place.position, f"{place.shown}: {what}"))

    def after(self) -> None:
        for part in self.build.post_processors:
            placement = POST_PROCESSORS.get(part.kind, OptionPlacement("left", OTHER_POST_PROCESSOR))
            if placement.verdict != "taken" or not self.exported(part):
                self.notes.append((part.place.position, f"{part.place.shown}: not taken over: {placement.text}"))

    def exported(self, part: PackerPart) -> bool:
        """Take over the export to a bucket, if it is one that a spec can ask for."""
        paths = part.settings.get("paths")
        listed = paths.known if paths and isinstance(paths.known, list) else []
        if len(listed) != 1 or not isinstance(listed[0], str) or not listed[0].startswith("gs://"):
            return False
        others = sorted(set(part.settings) - {"paths", "only", "except", "keep_input_artifact"})
        kept = part.settings.get("keep_input_artifact")
        notes = [f"not taken over: {', '.join(others)}: the deployment chooses the VM that writes it"] if others else []
        notes += [] if kept and kept.known in (True, "true") else ["the image stays as well"]
        self.notes += [(part.place.position, f"{part.place.shown}: {note}") for note in notes]
        self.draft.put(("output", "export", "to"), listed[0], paths.place if paths else part.place)
        return True


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _checked(checksum: str | None, name: str) -> str:
    """Return the part of a command that checks a file by a template's checksum."""
    kind, colon, digest = (checksum or "none").partition(":")
    if not colon:
        kind, digest = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}.get(len(kind), "none"), kind
    if kind not in ("md5", "sha1", "sha256", "sha512"):
        return ""
    return f" && echo '{digest}  {name}' | {kind}sum -c"
