"""Run one sandbox from its beginning to its end: the process that stands where QEMU stands for a VM.

It is started with a SandboxSpec as JSON and three inherited sockets: `console` and `reports` take what the sandbox
writes, as a VM's serial ports do; on `control` it asks its parent for a network, and says when all is ready. It ends
with status 0 when the job has come to its end and the disk is whole. It ends with another one, and words on standard
error, when the sandbox was lost.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..cache.layer_store import LayerStore, look_along
from ..cache.moving import export_layers, import_layers
from ..errors import EnvironmentFault, GoldsmithError, InputError
from ..host.programs import end_programs_with_this_process
from .inside import LAYER, Entrance, Furniture, enter
from .limits import Groups, SandboxLimits, alive_pipe, make_limits
from .roots.layer_stack import CacheSpec, LayerStack
from .roots.loop_root import LoopRoot
from .roots.tree_root import SourceDisk, TreeRoot
from .roots.unpack_root import remove_all, remove_unpacked
from .system_calls import (
    NEW_MOUNTS,
    NO_DEVICES,
    NO_PROGRAMS,
    NO_SET_ID,
    READ_ONLY,
    bind,
    end_with_parent,
    keep_mounts_private,
    mount_file_system,
    unshare,
)
from .user_namespace import FIRST_ID, IDS, enter_user_namespace, own_id_ranges, run_with_all_ids

BAD_INPUT = 2  # the exit status for an archive that has no layers
CHUNK = 1 << 16
LOOK = 0.5  # seconds between two looks at a memory that no group limits
HELD = "held"  # a file in the folder: a hand may have touched the sandbox, and nothing of it is kept any more
REMOVE, VERIFY, EXPORT, IMPORT, LAYERS = "--remove", "--verify", "--export", "--import", "--layers"
COMPLETED, FAILED = 0, 1  # exit statuses of the provisioner; of a job that has failed, the disk is not wanted


@dataclass(frozen=True)
class SandboxSpec:
    """What a sandbox is made of. `folder` is the machine's own; it has a folder `cidata` with the files of the job."""

    name: str
    disk: str
    offset: int  # bytes, of the partition with the root file system
    size: int
    root_uuid: str
    root_label: str
    table: str  # the kind of its partition table: gpt, mbr or none
    image: str  # the id of the image that the disk is of, and the path of its own disk
    source: str
    roots: str  # the folder of unpacked images
    folder: str
    memory: int  # bytes
    address: str  # at which it finds the HTTP server that takes its reports
    network: bool  # whether it reaches other hosts
    written_at: int | None  # the date of a file system that is to be the same bytes each time; None for any other
    console: int
    reports: int
    control: int
    cache: CacheSpec | None = None
    shell: int = -1  # of a job that may hold it for a person

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> SandboxSpec:
        """Read what encode() has written."""
        document: Mapping[str, Any] = json.loads(text)
        values = {each.name: document[each.name] for each in fields(cls)}
        if values["cache"] is not None:
            values["cache"] = CacheSpec.decode(values["cache"])
        return cls(**values)


class Supervisor:
    """The host's side of one sandbox."""

    def __init__(self, spec: SandboxSpec) -> None:
        self._spec = spec
        self._console = socket.socket(fileno=spec.console)
        self._reports = socket.socket(fileno=spec.reports)
        self._control = socket.socket(fileno=spec.control)
        self._began = time.time()
        self._ready = False

    def run(self) -> int:
        """Run the sandbox; return the exit status. GoldsmithError."""
        spec = self._spec
        limits = make_limits(spec.name, spec.memory)
        alive = alive_pipe(limits)
        self._say(f"limits: {limits.how}")
        base = 0 if os.geteuid() else FIRST_ID
        if not base:
            enter_user_namespace(own_id_ranges())
            _end_with_parent()
        unshare(NEW_MOUNTS)
        keep_mounts_private()
        staging = Path(spec.folder, "sandbox")
        staging.mkdir(exist_ok=True)
        mount_file_system("sandbox", staging, "tmpfs", options="size=1m,mode=755")
        layers = None
        if spec.cache is not None or not base:
            layers = LayerStack(spec.cache, Path(spec.folder, "changes"), self._say)
            self._note_first(layers.first)
        self._show_cidata(base, staging / "cidata")
        root: LoopRoot | TreeRoot
        if layers is None or base:
            disk, original = Path(spec.disk), Path(spec.source)
            root = LoopRoot(disk, spec.offset, spec.size, original, staging, layers, base)
        else:
            source = SourceDisk(spec.image, Path(spec.source), Path(spec.roots))
            root = TreeRoot(Path(spec.disk), source, layers, staging, self._say)
        os.chdir(staging)  # the sandbox's root may not pass through the folders that lead here
        furniture = Furniture(
            root=Path("root"),
            cidata=Path("cidata"),
            run_bytes=max(spec.memory // 4, 1 << 24),
            root_uuid=spec.root_uuid,
            root_label=spec.root_label,
            table=spec.table,
            address=spec.address,
            network=spec.network,
            limits=(*limits.resources, *(() if base else ((resource.RLIMIT_FSIZE, spec.size),))),
            shell=spec.shell,
        )
        entrance = enter(furniture, self._close_all)
        if spec.shell >= 0:
            os.close(spec.shell)
        with entrance.closing(alive):
            status = self._rounds(entrance, base, root, limits)
        if status == COMPLETED:
            root.finish(self._began, spec.written_at)
        if layers is not None:
            layers.close()
        if status not in (COMPLETED, FAILED):
            sys.stderr.write(f"{_describe(status)}\n")
            return 1
        return 0

    def _rounds(self, entrance: Entrance, base: int, root: LoopRoot | TreeRoot, limits: SandboxLimits) -> int:
        """Run the job: in one root, or in a new one after each step whose result is kept. Return its exit status."""
        rounds = 1 + (len(self._spec.cache.chain) if self._spec.cache else 0)
        status = LAYER
        while status == LAYER and rounds:
            rounds -= 1
            ports = self._introduce(entrance, base, root, limits)
            status = self._follow(entrance, ports, root, limits)
            if status == LAYER and Path(self._spec.folder, HELD).exists():
                status = FAILED
            if status == LAYER:
                root.keep()
        return status

    def _note_first(self, first: int) -> None:
        """Tell the provisioner the step that it begins with: others have left the results of those before."""
        if first:
            path = Path(self._spec.folder, "cidata", "job.json")
            path.write_text(json.dumps({**json.loads(path.read_text()), "first": first}))
            self._say(f"the first {first} {'step is' if first == 1 else 'steps are'} from the cache")

    def _show_cidata(self, base: int, target: Path) -> None:
        """Show the files of the job at `target`, and give them to the sandbox's root: it could read no others."""
        folder = Path(self._spec.folder, "cidata")
        for path in folder.iterdir():
            os.chown(path, base, base)
        target.mkdir()
        bind(folder, target, READ_ONLY | NO_SET_ID | NO_DEVICES | NO_PROGRAMS)  # here, where the sandbox cannot undo it

    def _close_all(self) -> None:
        for each in (self._console, self._reports, self._control):
            each.close()

    def _introduce(
        self, entrance: Entrance, base: int, root: LoopRoot | TreeRoot, limits: SandboxLimits
    ) -> tuple[int, int]:
        """Do what the new processes wait for; return the descriptors of their ports. EnvironmentFault."""
        while True:
            text, descriptors = entrance.receive()
            if text == "users":
                for name in ("gid_map", "uid_map"):
                    Path(f"/proc/{entrance.pid}/{name}").write_text(f"0 {base} {IDS}\n")
                root.shift(descriptors[0])
                limits.apply(entrance.pid)
            elif text == "network":
                self._connect(descriptors)
            elif text == "round":
                root.begin()
            elif text == "ports":
                if not self._ready:
                    self._control.sendall(b"ready")
                self._ready = True
                return descriptors[0], descriptors[1]
            else:
                why = text.removeprefix("failed: ") or "its first process ended"
                raise EnvironmentFault(f"the sandbox could not be set up: {why}; write local.engine: vm")
            for descriptor in descriptors:
                os.close(descriptor)
            entrance.go_on()

    def _connect(self, descriptors: list[int]) -> None:
        """Have the parent serve and connect the network namespace, and wait until that is done."""
        socket.send_fds(self._control, [b"network"], descriptors)
        if self._control.recv(CHUNK) != b"connected":
            raise EnvironmentFault("the sandbox has no network: its parent could not connect it")

    def _say(self, text: str) -> None:
        self._console.sendall(f"goldsmith: {text}\n".encode())

    def _follow(
        self, entrance: Entrance, ports: tuple[int, int], root: LoopRoot | TreeRoot, limits: SandboxLimits
    ) -> int:
        """Pass on what the sandbox writes until its first process ends; return that one's exit status."""
        end = entrance.descriptor
        targets = dict(zip(ports, (self._console, self._reports), strict=True))
        poller = select.poll()
        for descriptor in (end, *targets):
            poller.register(descriptor, select.POLLIN)
        held = isinstance(limits, Groups) and isinstance(root, LoopRoot)  # then the kernel holds all limits
        look = time.monotonic()
        while True:
            ready = [descriptor for descriptor, _ in poller.poll(None if held else LOOK * 1000)]
            for descriptor in ready:
                if descriptor != end:
                    _pass_on(descriptor, targets[descriptor])
            if end in ready:
                break
            if not held and time.monotonic() >= look:
                look = time.monotonic() + LOOK
                self._look(entrance.pid, root, limits)
        text, _ = entrance.receive()
        for descriptor, target in targets.items():
            while _pass_on(descriptor, target):
                pass
            os.close(descriptor)
        if text.startswith("ended "):
            return int(text.split()[1])
        _, told = os.waitpid(entrance.pid, 0)
        return 128 + os.WTERMSIG(told) if os.WIFSIGNALED(told) else os.WEXITSTATUS(told)

    def _look(self, entrance: int, root: LoopRoot | TreeRoot, limits: SandboxLimits) -> None:
        """End a sandbox that has more memory than it may, or that leaves no room on the disk of its files."""
        why = ""
        if limits.is_exceeded(entrance):
            why = f"the sandbox used more than {self._spec.memory >> 20} MiB of memory"
        elif not root.has_room():
            why = "the disk that holds the sandbox's files is nearly full"
        if why:
            self._say(f"{why}; the sandbox is ended")
            os.kill(entrance, signal.SIGKILL)


def _chore(name: str, folder: Path, archive: Path = Path()) -> str:
    store = LayerStore(folder, remove_all)
    if name == VERIFY:
        return "\n".join(store.verify())
    return str(export_layers(store, archive) if name == EXPORT else import_layers(store, archive, remove_all))


def _look_along(cache: CacheSpec) -> str:
    found, lack = look_along(LayerStore(Path(cache.folder), remove_all), cache.chain, cache.max_age)
    return json.dumps({"found": [asdict(record) for record in found], "lack": lack})


def _pass_on(descriptor: int, target: socket.socket) -> bool:
    """Pass on what is there; return False where there is nothing more."""
    try:
        data = os.read(descriptor, CHUNK)
    except BlockingIOError:
        return False
    target.sendall(data)
    return bool(data)


def _describe(status: int) -> str:
    if status == 128 + signal.SIGKILL:
        return "the sandbox's first process was killed: it may have used more memory than local.memory_mb"
    return f"the sandbox's first process ended with status {status}"


def _end_with_parent() -> None:
    parent = os.getppid()
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main(arguments: list[str]) -> int:
    """Run the sandbox of the SandboxSpec in `arguments`, or do other work on files of other ids.

    --remove FOLDER             remove it
    --verify LAYERS             remove damaged layers, and print their keys
    --export LAYERS ARCHIVE     write all layers into an archive, and print their number
    --import LAYERS ARCHIVE     add those of an archive, and print their number
    --layers CACHE              print the records of its layers that are of use, and what the next one lacks
    """
    _end_with_parent()
    end_programs_with_this_process()
    try:
        if arguments[0] == REMOVE:
            remove_unpacked(Path(arguments[1]))
            return 0
        if arguments[0] == LAYERS:
            cache = CacheSpec.decode(json.loads(arguments[1]))
            sys.stdout.write(run_with_all_ids(lambda: _look_along(cache)) + "\n")
            return 0
        if arguments[0].startswith("--"):
            sys.stdout.write(run_with_all_ids(lambda: _chore(arguments[0], *map(Path, arguments[1:]))) + "\n")
            return 0
        return Supervisor(SandboxSpec.decode(arguments[0])).run()
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    except GoldsmithError as error:
        sys.stderr.write(f"{error}\n")
    except OSError as error:
        sys.stderr.write(f"the sandbox was lost: {error}\n")
    return 1
