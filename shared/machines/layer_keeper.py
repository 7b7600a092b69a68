"""Keep the disk of a running machine after its build's steps, as layers for later builds.

    MACHINE/layers/STEP/content     the blocks that have changed since the layer before: a disk_delta.py

QEMU notes which blocks of the root disk the machine changes, from before its first instruction. After a step the guest
writes everything to its disk and asks for the layer, signed as its reports are. QEMU then copies those blocks, as they
are at that moment, and the guest goes on; a thread of this process gives the layer its place in the cache. A layer is
of use on the very layer that it was made on, and on nothing else: where another build was faster with one, or one could
not be kept, this build keeps no more. A guest that is told no goes on as well.
"""

from __future__ import annotations

import hmac
import logging
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

from provisioner.protocol import KEEP_LAYER, LAYER_SIGNATURE, layer_request, sign

from ..cache.disk_delta import create_delta
from ..cache.layer_store import CONTENT, LayerRecord, LayerStore, StepLayer, oldest_of
from ..errors import EnvironmentFault, GoldsmithError
from .metadata_server import MetadataRequest, Response, Route
from .monitor import Monitor
from .qemu import ROOT_DRIVE, MachineSpec, StepCache

LOG = logging.getLogger(__name__)

LEAST_ROOM = 512 << 20  # bytes that stay free on the host's disk beside a layer
COPY_SECONDS = 90.0  # less than the guest waits


class LayerKeeper:
    """Keeps the layers of one machine. Thread-safe."""

    def __init__(self, spec: MachineSpec, cache: StepCache, store: LayerStore) -> None:
        self._spec = spec
        self._cache = cache
        self._store = store
        self._folder = spec.folder / "layers"
        self._waiting = list(cache.chain)
        self._before = cache.before
        self._below: str | None = cache.before.digest if cache.before else ""
        self._began = time.time()
        self._monitor: Monitor | None = None
        self._turn = threading.Lock()
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix=f"layers-{spec.name}")

    @property
    def route(self) -> Route:
        """The route by which the guest asks for a layer."""
        return Route("POST", re.compile(re.escape(KEEP_LAYER) + "(?P<step>[0-9]{1,5})"), self._answer)

    def begin(self, monitor: Monitor) -> None:
        """Let the machine, which was started paused, run. Transient, EnvironmentFault."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        monitor.start_with_changes(ROOT_DRIVE)
        self._monitor = monitor

    def stop(self) -> None:
        """Keep no more layers: with QEMU, the knowledge of what has changed has ended."""
        with self._turn:
            self._monitor = None

    def close(self) -> None:
        """Wait until the layers that were copied have their places, and remove what has none."""
        self.stop()
        self._publisher.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answer(self, request: MetadataRequest) -> Response:
        step = int(request.groups["step"])
        wanted = sign(self._cache.key, layer_request(step))
        told = request.headers.get(LAYER_SIGNATURE.lower(), "")
        if request.body != layer_request(step) or not hmac.compare_digest(told.encode(), wanted.encode()):
            return Response.error(HTTPStatus.FORBIDDEN, "the request is not signed with this machine's key")
        with self._turn:
            if self._monitor is None:
                return Response.error(HTTPStatus.GONE, "no layers are kept any more")
            if not self._waiting or self._waiting[0].step != step:
                return Response.error(HTTPStatus.CONFLICT, f"a layer after step {step} is not the next one")
            try:
                self._keep(self._waiting.pop(0), self._monitor)
            except (GoldsmithError, OSError) as error:
                self._monitor = None
                LOG.warning("%s: the result of step %d is not kept: %s", self._spec.name, step + 1, error)
                return Response.error(HTTPStatus.INSUFFICIENT_STORAGE, "the layer could not be kept")
        return Response.of({})

    def _keep(self, layer: StepLayer, monitor: Monitor) -> None:
        """Copy what has changed since the layer before. GoldsmithError, OSError."""
        needed = monitor.changed_bytes(ROOT_DRIVE) + LEAST_ROOM
        if shutil.disk_usage(self._folder).free < needed:
            raise EnvironmentFault(f"{self._folder}: fewer than {needed >> 20} MiB are free")
        staged = self._folder / str(layer.step)
        staged.mkdir()
        create_delta(staged / CONTENT, self._spec.disk.stat().st_size)
        monitor.copy_changes(ROOT_DRIVE, staged / CONTENT, COPY_SECONDS)
        now = time.time()
        record = LayerRecord(
            key=layer.key,
            before=self._before.key if self._before else "",
            step=layer.name,
            build=self._cache.build,
            engine=self._spec.engine,
            made=now,
            oldest=oldest_of(self._before, layer.networked, self._began),
        )
        self._before, self._began = record, now
        self._publisher.submit(self._publish, staged, record)

    def _publish(self, staged: Path, record: LayerRecord) -> None:
        """Move a layer to its place, unless the one that it was made on has none. In the publisher's thread."""
        if self._below is None:
            return
        made = None
        try:
            made = self._store.publish(staged, replace(record, below=self._below))
        except (GoldsmithError, OSError) as error:
            LOG.warning("%s: the result of step %r is not kept: %s", self._spec.name, record.step, error)
        if made is None:
            self._monitor = None
        self._below = None if made is None else made.digest
