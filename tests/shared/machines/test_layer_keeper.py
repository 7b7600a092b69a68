"""The layers of a running machine: a QEMU without a guest, whose disk is written to by its own monitor."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioner.protocol import KEEP_LAYER, LAYER_SIGNATURE, layer_request, sign
from shared.cache.disk_delta import apply_delta, read_delta
from shared.cache.layer_store import LayerStore, StepLayer, open_chain
from shared.machines.accelerator import QEMU
from shared.machines.layer_keeper import LayerKeeper
from shared.machines.metadata_server import MetadataRequest
from shared.machines.monitor import Monitor
from shared.machines.qemu import DISK_OPTIONS, ROOT_DRIVE, MachineSpec, StepCache

KEY, SIZE = "5a" * 32, 64 << 20
CHAIN = tuple(StepLayer(step, f"step{step}", f"{step}" * 64, step > 1) for step in (0, 2, 3))
PATIENCE = 60.0
PROMPT = b"(qemu) "


@dataclass
class Running:
    """A machine whose layers are kept."""

    keeper: LayerKeeper
    store: LayerStore
    disk: Path
    process: subprocess.Popen[bytes]
    console: socket.socket
    monitor: socket.socket

    def write(self, command: str) -> None:
        """Have QEMU write to the disk, as its guest would: a command of qemu-io(1)."""
        self.console.sendall(f'qemu-io {ROOT_DRIVE} "{command}"\n'.encode())
        told = b""
        while not told.endswith(PROMPT):
            told += self.console.recv(1 << 16)

    def ask(self, step: int, signed: int | None = None, key: str = KEY) -> int:
        """Ask for a layer as a guest does; return the status."""
        body = layer_request(step if signed is None else signed)
        headers = {LAYER_SIGNATURE.lower(): sign(key, body)}
        request = MetadataRequest("POST", f"{KEEP_LAYER}{step}", headers, body, {"step": str(step)})
        return self.keeper.route.answer(request).status


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Running]]:
    started: list[Running] = []

    def begin() -> Running:
        place = tmp_path / f"machine{len(started)}"
        place.mkdir()
        disk = place / "disk.raw"
        with disk.open("wb") as file:
            file.write(b"\x11" * (1 << 20))
            file.truncate(SIZE)
        store = LayerStore(tmp_path / "layers", shutil.rmtree)
        store.folder.mkdir(exist_ok=True)
        spec = MachineSpec("gs-b-a1-vm", place, disk, None)
        keeper = LayerKeeper(spec, StepCache("b", CHAIN, 60.0, key=KEY), store)
        ours, theirs = socket.socketpair()
        console, inner = socket.socketpair()
        console.settimeout(PATIENCE)
        line = [QEMU, "-nodefaults", "-display", "none", "-machine", "none", "-S"]
        line += ["-drive", f"if=none,id={ROOT_DRIVE},format=raw,{DISK_OPTIONS},file={disk}"]
        for name, end, mode in (("monitor", theirs, "control"), ("console", inner, "readline")):
            line += ["-chardev", f"socket,id={name},fd={end.fileno()}", "-mon", f"chardev={name},mode={mode}"]
        process = subprocess.Popen(line, pass_fds=(theirs.fileno(), inner.fileno()), stdout=subprocess.DEVNULL)
        theirs.close()
        inner.close()
        keeper.begin(Monitor("vm", ours))
        told = b""
        while not told.endswith(PROMPT):
            told += console.recv(1 << 16)
        started.append(Running(keeper, store, disk, process, console, ours))
        return started[-1]

    yield begin
    for running in started:
        running.process.kill()
        running.process.wait()
        running.keeper.close()
        running.console.close()
        running.monitor.close()


def disk_after(running: Running, layers: int) -> bytes:
    """Return what a build begins with after some layers."""
    path = running.disk.with_name("begun")
    with path.open("w+b") as file:
        file.write(b"\x11" * (1 << 20))
        file.truncate(SIZE)
        opened = open_chain(running.store, CHAIN[:layers], 60.0)
        assert len(opened) == layers
        for each in opened:
            apply_delta(each.content, read_delta(each.content, SIZE), file.fileno())
            each.close()
    return path.read_bytes()


def test_each_layer_is_the_disk_of_its_moment(start: Callable[[], Running]) -> None:
    running = start()
    states = []
    for step, *commands in (
        (0, "write -P 1 128k 64k", "write -P 2 3M 1M"),
        (2, "discard 3M 128k", "write -P 0 0 64k", "write -P 3 60M 4k"),
        (3,),
    ):
        for command in commands:
            running.write(command)
        assert running.ask(step) == 200
        assert running.disk.read_bytes()[192 << 10 : 193 << 10] == b"\x11" * 1024
        states.append(running.disk.read_bytes())
    running.write("write -P 9 0 32M")
    running.process.kill()
    running.process.wait()
    running.keeper.close()
    assert [disk_after(running, count) == state for count, state in enumerate(states, 1)] == [True] * 3
    first, second, third = (running.store.open(layer.key) for layer in CHAIN)
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.record.before, second.record.before) == ("", first.record.key)
    assert (first.record.below, second.record.below) == ("", first.record.digest)
    assert (first.record.engine, first.record.step, first.record.oldest) == ("vm", "step0", None)
    assert second.record.oldest == third.record.oldest is not None
    assert third.record.disk_bytes < first.record.disk_bytes < 2 << 20
    assert not (running.disk.parent / "layers").exists()
    for each in (first, second, third):
        each.close()


def test_only_the_next_layer_is_kept_and_only_for_the_machine(start: Callable[[], Running]) -> None:
    running = start()
    assert running.ask(0, key="00" * 32) == 403
    assert running.ask(2, signed=0) == 403
    assert running.ask(2) == 409
    assert running.ask(0) == 200
    assert running.ask(0) == 409
    running.keeper.stop()
    assert running.ask(2) == 410
    running.keeper.close()
    assert [record.step for record in running.store.records()] == ["step0"]


def test_what_was_made_on_another_layer_is_not_kept(start: Callable[[], Running]) -> None:
    """Of two builds, the slower one keeps nothing: its second layer would be of no use on the first one's."""
    fast, slow = start(), start()
    fast.write("write -P 1 0 64k")
    slow.write("write -P 2 0 64k")
    for running in (fast, slow):
        assert running.ask(0) == 200
        running.keeper._publisher.submit(int).result()
    assert slow.ask(2) == 410
    slow.write("write -P 3 0 64k")
    fast.write("write -P 4 64k 64k")
    state = fast.disk.read_bytes()
    assert fast.ask(2) == 200
    for running in (fast, slow):
        running.keeper.close()
    assert disk_after(fast, 2) == state


def test_a_layer_of_another_one_below_is_thrown_away(start: Callable[[], Running]) -> None:
    one = start()
    one.write("write -P 1 0 64k")
    assert (one.ask(0), one.ask(2)) == (200, 200)
    one.keeper.close()
    assert one.store.discard(CHAIN[0].key)
    other = start()
    other.write("write -P 2 0 64k")
    assert other.ask(0) == 200
    other.keeper.close()
    found = open_chain(other.store, CHAIN, 60.0)
    assert [each.record.step for each in found] == ["step0"]
    found[0].close()
    assert [record.step for record in other.store.records()] == ["step0"]


def test_a_machine_that_ends_keeps_nothing(start: Callable[[], Running]) -> None:
    running = start()
    running.write("write -P 1 0 64k")
    running.process.kill()
    running.process.wait()
    assert running.ask(0) == 507
    assert running.ask(0) == 410
    running.keeper.close()
    assert list(running.store.folder.iterdir()) == []
    assert not (running.disk.parent / "layers").exists()
