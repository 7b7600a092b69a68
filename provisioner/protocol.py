"""The wire contract between a build VM and its host: the job that the VM gets, and the reports that it sends back.

Both sides import this one file, so it obeys the stricter side's rules: standard library only, Python 3.6, cheap to
import. It holds shapes and their JSON, nothing that acts. A document with an unknown key, a missing key or a value of
the wrong type is a ProtocolError that names the key: an old and a new side must never half-understand each other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, List, Mapping, Optional, Tuple

VERSION = 1

BUILD = "build"
VERIFY = "verify"
EXPORT = "export"  # of a worker VM that reads the finished image as a second disk, and writes it in other formats
PHASES = (BUILD, VERIFY, EXPORT)

STARTED = "started"  # the provisioner runs; `resumed_at` names the step that it goes on with, None on the first boot
STEP_STARTED = "step-started"
STEP_FINISHED = "step-finished"
STEP_FAILED = "step-failed"  # one try failed; `final`: no other follows
SCRIPTS = "scripts"  # of a step of elements: `output` tells of scripts that have begun or ended, see encode_scripts()
REBOOTING = "rebooting"  # a step asked for a reboot; the provisioner reports `started` again after it
DISK_WANTED = "disk-wanted"  # the job waits for a larger boot disk, or for the disk that it is to export
INVENTORY = (
    "inventory"  # what is installed: `output` has one package a line, as provisioner/job/inventory.py writes them
)
HEARTBEAT = "heartbeat"  # alive; carries no fact, takes no sequence number (always 0)
COMPLETED = "completed"  # every step done and the machine's state cleaned; the VM powers itself off next
FAILED = "failed"  # the job cannot be done; the VM powers itself off next
REPORT_KINDS = (
    *(STARTED, STEP_STARTED, STEP_FINISHED, STEP_FAILED, SCRIPTS, REBOOTING, DISK_WANTED, INVENTORY),
    *(HEARTBEAT, COMPLETED, FAILED),
)

FROM_CACHE = "from the cache"  # the message of a step whose result an earlier build has left
REBOOT_STATUS = 194  # 3010 modulo 256; to the managed image builders it means "reboot, then go on after this step"
HYGIENE_OFF, HYGIENE_WARN, HYGIENE_FAIL = "off", "warn", "fail"  # what findings in the cleaned machine lead to
HYGIENES = (HYGIENE_OFF, HYGIENE_WARN, HYGIENE_FAIL)
SCRATCH = "scratch"  # the device name of the blank disk of Job.scratch
ROOT_DISK = "root"  # and of the disk of Job.makes_root
EXPORT_DISK = "export"  # and of the one that a VM of the phase EXPORT is given once it runs
NVME_SERIAL, SCRATCH_NAMESPACE, ROOT_NAMESPACE = "goldsmith", 200, 201  # of their controller, and their numbers there
KEEP_LAYER, LAYER_SIGNATURE = "/goldsmith/layers/", "Goldsmith-Signature"
"""The path, before a step's index, by which a VM of one machine has its disk kept, and the header that signs it."""
GIVE_SECRETS, SECRETS_REQUEST = "/goldsmith/secrets", b"give the secrets of the steps"
"""The path by which a machine of one host gets its steps' secrets, and the body, signed as for layers."""
ALLOWED = "allowed "  # begins a line of findings, before JSON: [index into Job.allow, path, finding]
SCRIPTS_LIMIT = 16384  # bytes of `output` in a report of scripts
ALL_SCRIPTS_LIMIT = 1 << 18  # bytes that all reports of scripts of one try have there together
SCRIPTS_PAUSE = 20.0  # seconds between two of them, at most
OUTPUT_LIMIT = 4096  # bytes of a failed step's output that travel in its report
SLOWEST_MOVE = 5 << 20  # bytes a second at which partitions move on a small disk of Compute Engine's slowest kind
SHELL_PORT = "goldsmith.shell"  # the name of a VM's virtio port for Job.hold
SHELL_HANDLE = 3  # the descriptor that a sandbox's provisioner inherits for it
SERIAL_MARK = "goldsmith-report:"  # `MARK BASE64(data) SIGNATURE`, one report a line, on the report port


class ProtocolError(ValueError):
    """A document that is not of this contract; the text names the key and what is wrong with it."""


@dataclass(frozen=True)
class RunScript:
    """Run a script of the context, in the context as its working directory."""

    script: str
    env: Mapping[str, str] = field(default_factory=dict)
    interpreter: Optional[str] = None  # absolute path; None: the one in the script's first line, else bash, else sh


@dataclass(frozen=True)
class CopyFiles:
    """Copy a file or a folder's contents from the context into the image."""

    source: str
    destination: str
    owner: str = "root:root"
    mode: Optional[str] = None  # octal, of files; folders get execute where they have read. None keeps the context's


@dataclass(frozen=True)
class InstallPackages:
    """Install packages with the distribution's own manager (apt, dnf or zypper)."""

    packages: Tuple[str, ...]


@dataclass(frozen=True)
class InstallGpu:
    """Install NVIDIA's driver with the installer container of Container-Optimized OS."""

    version: str  # of the driver; or the name of an installer NVIDIA-Linux-ARCH-VERSION.run in deps_dir
    md5sum: Optional[str] = None  # of the driver's installer, in hex
    install_dir: str = "/var/lib/nvidia"
    deps_dir: Optional[str] = None  # folder of the context; the installer container downloads its files from there
    installer_container: str = "gcr.io/cos-cloud/cos-gpu-installer:v20230815"


@dataclass(frozen=True)
class InstallAnthos:
    """Install the packages of an Anthos package specification with Google's anthos_installer."""

    package_spec: str  # http(s) or gs:// URL, or a file or folder of the context
    workdir: Optional[str] = None  # absolute; keeps the specification and its tarballs
    installer: str = (  # http(s) or gs:// URL of its archive; this one is the first that takes -top-workdir
        "gs://cos-anthos-builds-us/anthos_installer-linux-amd64-v0.0.1-ecea8c6.tar.gz"
    )


@dataclass(frozen=True)
class SealOem:
    """Seal the OEM partition with dm-verity; Job.layout says how large its file system is."""


@dataclass(frozen=True)
class DisableAutoUpdate:
    """Keep Container-Optimized OS from updating itself."""


@dataclass(frozen=True)
class KernelCommandLine:
    """Change the kernel command line of the boot loader's configuration."""

    add: Tuple[str, ...] = ()  # parameters; those that are there already are not added again
    remove: Tuple[str, ...] = ()  # parameters, NAME or NAME=VALUE


ELEMENTS_OWN = (
    *("DIB_ARGS", "DIB_ENV", "ELEMENTS_PATH", "IMAGE_ELEMENT", "IMAGE_ELEMENT_YAML", "LC_ALL"),
    *("TARGET_ROOT", "TMP_BUILD_DIR", "TMP_HOOKS_PATH", "TMP_IMAGE_DIR", "TMP_MOUNT_PATH"),
)
"""Variables of the scripts of elements that no spec can set."""


@dataclass(frozen=True)
class Elements:
    """Run elements of diskimage-builder in the image: their scripts, packages and files."""

    elements: Tuple[str, ...]
    path: Tuple[str, ...] = ("elements",)  # folders of the context that hold elements; the first one that has it wins
    env: Mapping[str, str] = field(default_factory=dict)
    documents: str = ""  # JSON of the elements' YAML, by element and file, which the plan adds
    packages: Tuple[str, ...] = ()  # installed after install.d, by the distribution's own names


IMAGES_ANSIBLE = "image"  # the version that stands for the image's own ansible-playbook
KEPT_ANSIBLE = "/usr/local/lib/ansible-core"  # where it is in an image that keeps it
ANSIBLE_VERSIONS = ("2.21.5", "2.18.19", "2.17.14", "2.15.13", IMAGES_ANSIBLE)


@dataclass(frozen=True)
class Ansible:
    """Run a playbook of the context on this machine, with an ansible-core for the step alone."""

    playbook: str
    extra_vars: Mapping[str, str] = field(default_factory=dict)
    tags: Tuple[str, ...] = ()
    skip_tags: Tuple[str, ...] = ()
    groups: Tuple[str, ...] = ()  # of the inventory, in which this machine is
    roles: Tuple[str, ...] = ()  # folders of the context that hold roles, beside the playbook's own
    requirements: Optional[str] = None  # file of the context for ansible-galaxy; what it names is there for the step
    version: Optional[str] = None  # of ansible-core, or "image" for the image's own; None: by the image's Python
    keep: bool = False  # ansible-core stays in the image


@dataclass(frozen=True)
class Reboot:
    """Reboot, then go on with the next step."""


ELEMENTS_ACTION = "elements"
ACTIONS: Mapping[str, type] = {
    "run-script": RunScript,
    "copy-files": CopyFiles,
    "install-packages": InstallPackages,
    "install-gpu": InstallGpu,
    "install-anthos": InstallAnthos,
    "seal-oem": SealOem,
    "disable-auto-update": DisableAutoUpdate,
    "kernel-command-line": KernelCommandLine,
    ELEMENTS_ACTION: Elements,
    "ansible": Ansible,
    "reboot": Reboot,
}
"""Every action a step can name, and the closed schema of its inputs."""


@dataclass(frozen=True)
class InstallPrograms:
    """Install programs that a maker VM needs, where they are not there."""

    packages: Mapping[str, str]  # name of a program, or an absolute path -> its Debian package


@dataclass(frozen=True)
class MakeRoot:
    """Make the root of Job.makes_root in the maker VM's own files."""

    origin: Mapping[str, Any]  # as shared/build/plan.py has it


@dataclass(frozen=True)
class WriteRoot:
    """Write the root, as the steps have left it, to the maker VM's disk of that name."""


MAKER_ACTIONS: Mapping[str, type] = {
    "install-programs": InstallPrograms,
    "make-root": MakeRoot,
    "write-root": WriteRoot,
}
"""The actions that a plan adds to the steps of a root from nothing. No spec can name them."""


CHECKS = ("boot", "network", "clock", "disk", "growth", "identity", "leftovers")
"""What CheckImage looks at, in this order."""


@dataclass(frozen=True)
class CheckImage:
    """Look over a system that has booted from a new image, before the steps of its verification."""

    boot_seconds: Optional[float] = None  # from the kernel's start to the default target, at most
    disk_gb: Optional[float] = None  # that the files of the root file system take, at most
    skip: Tuple[str, ...] = ()  # of CHECKS
    again: bool = False  # after a restart: what is of the first boot was seen then


CHECK_ACTIONS: Mapping[str, type] = {"check-image": CheckImage}
"""The action that a plan adds to the steps of a verification. No spec can name it."""


GCE_FORMAT, RAW_FORMAT = "gce", "raw"  # of ExportDisk, written without another program
QEMU_FORMATS: Mapping[str, Tuple[str, ...]] = {
    "qcow2": ("qcow2",),
    "qcow2-compressed": ("qcow2", "-c"),
    "vmdk": ("vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic"),
}
"""The other formats of ExportDisk: qemu-img's name of each, and its options."""


@dataclass(frozen=True)
class ExportDisk:
    """Write the disk of EXPORT_DISK in a format, into one object of Cloud Storage."""

    format: str
    session: str  # the URL of a resumable upload, which gives the right to write this object and nothing else
    compression: str = "fast"  # or best; of the format gce alone


@dataclass(frozen=True)
class ExportedObject:
    """What ExportDisk has written, as the note of its step says it."""

    format: str
    bytes: int
    sha256: str
    md5: str  # the digest that Cloud Storage reports as well
    disk_bytes: int
    data_bytes: int = 0  # of the format gce, as what follows: what is not zeros, in whole blocks of 64 KiB
    tar_sha256: str = ""
    crc32: str = ""


def encode_exported(written: ExportedObject) -> str:
    """Return the note of a step."""
    return json.dumps(asdict(written), separators=(",", ":"))


def decode_exported(text: str) -> ExportedObject:
    """Read what encode_exported() wrote. Raises ProtocolError."""
    found: ExportedObject = _decode(ExportedObject, _object(text.encode(errors="replace")), "exported")
    return found


EXPORT_ACTIONS: Mapping[str, type] = {"export-disk": ExportDisk}
"""The action of a VM of the phase EXPORT. No spec can name it."""


@dataclass(frozen=True)
class Step:
    """One action on the build VM."""

    name: str
    action: str
    inputs: Mapping[str, Any]  # of ACTIONS[action]'s shape
    timeout: float = 3600.0  # seconds, of one try
    retries: int = 0  # further tries after a failed first one
    idempotent: bool = True  # may be run again when a power cut interrupted it
    reads: Optional[Tuple[str, ...]] = None  # patterns of the only files of the context that it sees; None: all
    network: bool = True  # False: it reaches no other host
    cache: bool = True  # False: it goes on from the processes, /run and /tmp of the step before
    secrets: Mapping[str, str] = field(default_factory=dict)  # variables of its own, and where their values come from


@dataclass(frozen=True)
class DiskLayout:
    """The wanted layout of the partitions of Container-Optimized OS before the first step. All sizes in bytes."""

    reclaim: bool = False  # give the 2 GB of the second root partition (number 3) to OEM
    oem_size: Optional[int] = None  # of the OEM partition (number 8); None: as it is
    oem_blocks: Optional[int] = None  # of 4 KiB, in OEM's file system; None: it fills its partition
    disk_size: Optional[int] = None  # of the whole disk, which is smaller at first: ask for it and wait


@dataclass(frozen=True)
class Job:
    """The provisioner's task: one document, job.json on the cidata."""

    build_id: str
    attempt: int
    key: str  # hex; signs this attempt's reports and nothing else
    steps: Tuple[Step, ...]
    phase: str = BUILD
    publish_url: Optional[str] = None  # Pub/Sub's REST `...:publish`; None: the report port alone
    token_url: Optional[str] = None  # metadata server's access token, for publish_url; None: no Authorization header
    report_port: str = "/dev/ttyS2"  # serial port 3; the console is used where the machine has no such port
    heartbeat: float = 20.0  # seconds between heartbeats
    linger: float = 0.0  # seconds to stay up so that the host can read the serial ports: failed, or not published
    clean: bool = True  # remove this machine's identity, logs and caches after the steps
    layout: Optional[DiskLayout] = None  # of Container-Optimized OS; None: the disk stays as it is
    scratch: bool = False  # the machine has a blank disk for what must not be in the image; see scratch_disk.py
    hygiene: str = HYGIENE_OFF  # off where the host checks the finished disk itself
    allow: Tuple[str, ...] = ()  # paths at which a finding is allowed; each of their parts may have one `*`
    context_digest: str = ""  # that context.tar must have; "" in jobs of the release before
    inventory: bool = False  # report what is installed, where the host cannot read the disk
    allow_failed: Tuple[str, ...] = ()  # units that may have failed in a system that is verified
    proxy: Mapping[str, str] = field(default_factory=dict)  # http, https: URLs with user and password; no_proxy
    package_proxy: str = ""  # URL of one for apt's packages by http, which keeps them on the host
    authorities: str = ""  # certificates of the site's own, PEM, that the steps trust
    source_date: Optional[int] = None  # SOURCE_DATE_EPOCH of the steps, in Unix seconds; None: they have none
    layers: Tuple[int, ...] = ()  # indexes of the steps after which the host keeps the disk as it is then
    first: int = 0  # the disk is one that was kept after the step before this one, perhaps by another build
    hold: float = 0.0  # seconds for which a step that has failed for good leaves the machine to a person; 0: none
    makes_root: bool = False  # this VM is a maker: steps but those of MAKER_ACTIONS run in a root that it makes
    kept: bool = False  # the host keeps the disk that a failed step has left, and may end this machine at its last word
    secrets_url: str = ""  # where the values of the steps' secrets are fetched
    machine: str = ""  # which of several VMs that verify one image this is; "" for any other
    version: int = VERSION


@dataclass(frozen=True)
class Report:
    """A message of the provisioner. It is a claim, not a proof: readers check it before anything irreversible."""

    build_id: str
    attempt: int
    phase: str
    sequence: int  # 1, 2, 3 ... over all boots of an attempt; 0 for heartbeats
    kind: str
    time: float  # the guest's clock, Unix seconds
    step: Optional[int] = None  # index into Job.steps
    tries: int = 0  # which try of the step, from 1
    exit_status: Optional[int] = None  # 128 + signal number when killed by a signal
    seconds: Optional[float] = None
    final: bool = False
    resumed_at: Optional[int] = None
    message: str = ""  # one line for people
    output: str = (
        ""  # the last OUTPUT_LIMIT bytes of a failed step; or an inventory; or findings or scripts, one a line
    )
    machine: str = ""  # as of the job
    identity: Tuple[str, ...] = ()  # of the machine, for comparison with others: lines `NAME SHA-256`
    version: int = VERSION


@dataclass(frozen=True)
class ScriptFact:
    """A script of an element that has begun or, with `seconds` and `exit_status`, ended."""

    phase: str
    file: str
    element: str
    seconds: Optional[float] = None
    exit_status: Optional[int] = None  # 128 + signal number when killed by a signal


def encode_script(fact: ScriptFact) -> str:
    """Return the line of a script in the output of a report: JSON, without what is not known yet."""
    values = [fact.phase, fact.file, fact.element]
    known = [] if fact.seconds is None else [round(fact.seconds, 3), fact.exit_status]
    return json.dumps([*values, *known], separators=(",", ":"))


def decode_scripts(text: str) -> List[ScriptFact]:
    """Read the lines of a report of scripts. Never raises: lines that are of another form are left out."""
    found = []
    for line in text[: 4 * SCRIPTS_LIMIT].split("\n"):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(values, list) or len(values) not in (3, 5) or not _is_texts(values[:3]):
            continue
        seconds, status = values[3:] or (None, None)
        if len(values) == 3 or (_is_number(seconds) and _is_index(status)):
            phase, file, element = values[:3]
            found.append(ScriptFact(phase, file, element, seconds, status))
    return found


def most_script_reports(step: Step) -> int:
    """Return how many reports of scripts one try of a step sends, at most."""
    return 160 + int(min(step.timeout, 1e6) / SCRIPTS_PAUSE) if step.action == ELEMENTS_ACTION else 0


def sign(key: str, data: bytes) -> str:
    """Return the HMAC-SHA-256 of the exact bytes of a report's data, in hex. `key` is the job's, in hex."""
    import hmac  # loads OpenSSL: on a build VM that goes on beside the first step

    return hmac.new(bytes.fromhex(key), data, "sha256").hexdigest()


def layer_request(step: int) -> bytes:
    """Return the body of the request to keep the disk after a step, which is what sign() signs."""
    return b"keep the disk after step %d" % step


def encode(document: Any) -> bytes:
    """Return the JSON of a Job or a Report: keys sorted, no spaces, so that equal documents are equal bytes."""
    return json.dumps(asdict(document), sort_keys=True, separators=(",", ":")).encode()


def decode_job(data: bytes) -> Job:
    """Read job.json. Raises ProtocolError, also for a step whose inputs are not of its action's shape."""
    job: Job = _decode(Job, _object(data), "job")
    _known(job.version, (VERSION,), "job.version")
    _known(job.phase, PHASES, "job.phase")
    _known(job.hygiene, HYGIENES, "job.hygiene")
    try:
        bytes.fromhex(job.key)
    except ValueError as error:
        raise ProtocolError("job.key: needs hexadecimal digits") from error
    for index, step in enumerate(job.steps):
        decode_inputs(step, f"job.steps[{index}]")
    return job


def decode_inputs(step: Step, where: str = "step") -> Any:
    """Return a step's inputs as the dataclass of its action. Raises ProtocolError."""
    actions = {**ACTIONS, **MAKER_ACTIONS, **CHECK_ACTIONS, **EXPORT_ACTIONS}
    _known(step.action, tuple(actions), where + ".action")
    return _decode(actions[step.action], step.inputs, where + ".inputs")


def decode_report(data: bytes) -> Report:
    """Read a report as it arrives over the wire. Raises ProtocolError."""
    report: Report = _decode(Report, _object(data), "report")
    _known(report.version, (VERSION,), "report.version")
    _known(report.kind, REPORT_KINDS, "report.kind")
    _known(report.phase, PHASES, "report.phase")
    return report


def _object(data: bytes) -> Dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ProtocolError(f"not a JSON object but {type(document).__name__}")
    return document


def _known(value: Any, choices: Tuple[Any, ...], where: str) -> None:
    if value not in choices:
        raise ProtocolError(f"{where}: {value!r} is none of {', '.join(map(str, choices))}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 16


def _is_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_text_map(value: Any) -> bool:
    return _is_map(value) and all(isinstance(item, str) for item in value.values())


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


_CHECKS: Mapping[str, Any] = {
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: _is_number(value) and isinstance(value, int),
    "float": _is_number,
    "Mapping[str, str]": _is_text_map,
    "Mapping[str, Any]": _is_map,
    "Tuple[str, ...]": _is_texts,
    "Tuple[Step, ...]": lambda value: isinstance(value, list),
    "Tuple[int, ...]": lambda value: isinstance(value, (list, tuple)) and all(map(_is_index, value)),
}


def _decode(shape: Any, document: Any, where: str) -> Any:
    """Build a `shape` from a JSON object, its keys exactly the dataclass's fields (defaults may be left out)."""
    if not isinstance(document, dict):
        raise ProtocolError(f"{where}: needs an object, not {type(document).__name__}")
    unknown = sorted(set(document) - {entry.name for entry in fields(shape)})
    if unknown:
        raise ProtocolError(f"{where}.{unknown[0]}: unknown key")
    values: Dict[str, Any] = {}
    for entry in fields(shape):
        if entry.name in document:
            values[entry.name] = _value(str(entry.type), document[entry.name], f"{where}.{entry.name}")
    try:
        return shape(**values)
    except TypeError as error:  # a field without a default is missing; Python's text names it
        raise ProtocolError(f"{where}: {error}") from error


def _value(kind: str, value: Any, where: str) -> Any:
    if kind.startswith("Optional["):
        if value is None:
            return None
        kind = kind[len("Optional[") : -1]
    if kind == "DiskLayout":
        return _decode(DiskLayout, value, where)
    if not _CHECKS[kind](value):
        raise ProtocolError(f"{where}: needs {kind}, not {value!r:.80}")
    if kind == "Tuple[Step, ...]":
        steps: List[Step] = [_decode(Step, item, f"{where}[{index}]") for index, item in enumerate(value)]
        return tuple(steps)
    return tuple(value) if kind.startswith("Tuple[") else value
