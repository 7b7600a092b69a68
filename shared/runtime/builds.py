"""The builds of this machine: run, followed, and finished where a killed process has left them.

Only commands that run builds import the engine and its workers: `goldsmith builds list` would take twice as long.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..build.build import LOST, Build, State
from ..build.damage import readable_builds
from ..build.events import BuildRejected, BuildRequested
from ..build.identity import known_traceparent
from ..build.plan import AskedElements, Context
from ..engine.history import Followed
from ..errors import DamagedDocument, EnvironmentFault, GoldsmithError, InputError, NoSpace, NotFound
from ..host.build_folder import BuildFolder, build_ids
from ..host.scratch import faults
from ..interruption import Interruption
from ..local.console import LocalConsole
from ..names import LOCAL
from ..planning.requests import ask_to_cancel, give_up
from .followers.spans import send_traces, trace_of_call, wants_traces
from .followers.webhooks import make_calls

if TYPE_CHECKING:
    from ..build.plan import Plan
    from ..engine.engine import Listener
    from ..local.steps.cached_steps import CachedSteps
    from ..ports import Message, Resource
    from ..spec.model import Spec
    from ..tracing.trace import BuildTrace
    from .keeper import Retried
    from .one_machine import LocalBackend

LOG = logging.getLogger(__name__)

TRY_AGAIN = 60.0  # seconds after a try to end what a killed process has left
RECOVERY = 3.0  # seconds that a command spends on a clean-up which others have failed to end
POLL = 0.2  # seconds between looks at a build that another process runs


class LocalBuilds:
    """The builds of this machine. CloudClient has those of a project, as far as a terminal can see and end them."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self.store = backend.store
        self.bus = backend.bus
        self.clock = backend.clock
        self.family_concurrency = backend.family_concurrency

    @contextmanager
    def building(self, build_id: str) -> Iterator[bool]:
        """Hold a build from its packing to its end, so that no other process cleans it up meanwhile.

        Yields False, and holds nothing, while another process has it.
        """
        folder = BuildFolder(self._backend.home, build_id)
        with folder.running() as ours:
            try:
                yield ours
            finally:
                if ours:
                    self._tidy(folder)

    def packed_context(self, spec: Spec, folder: Path, build_id: str) -> Context | None:
        """Pack a spec's context, below a folder, into the folder of its build, which the caller holds."""
        from ..context.outside import outside
        from ..context.packing import pack_context

        if spec.context is None:
            return None
        return pack_context(
            folder / spec.context, BuildFolder(self._backend.home, build_id).context, outside(spec.steps)
        )

    @staticmethod
    def documents(spec: Spec, context: Context | None) -> Mapping[AskedElements, str]:
        """Return what steps of elements ask for, read from a packed context of this machine. InputError."""
        from ..elements.packed_links import PackedFile
        from ..elements.step_documents import step_documents

        steps = (*spec.steps, *(spec.verify.steps if spec.verify else ()))
        if context is None:
            return {}
        archive = Path(context.uri)
        return step_documents(steps, PackedFile(archive), archive.parent)

    def cached_steps(self, plan: Plan) -> CachedSteps:
        """Return which steps a build would take from the cache, whose context is packed. EnvironmentFault."""
        from ..local.steps.cached_steps import cached_steps

        return cached_steps(plan, self._backend.catalogue.disk(plan.source.name), self._backend.home, os.environ)

    def run(self, request: BuildRequested | BuildRejected, listener: Listener, interruption: Interruption) -> Build:
        """Run a build, which the caller holds, to its end in this process."""
        from ..engine.engine import Engine

        self._backend.reserve.keep()

        placed = replace(request, traceparent=known_traceparent(os.environ.get("TRACEPARENT", "")))

        def begin() -> None:
            Engine(self.store, self.bus, self.clock, listener).request(placed)

        return self._to_its_end(request.build_id, interruption, listener=listener, begin=begin)

    def retry_request(self, first: Build, start: str | None, export_to: str | None) -> BuildRequested:
        """Return the request for the retry of a build, whose id the caller holds. InputError, EnvironmentFault.

        The plan says of which context the image was made, also where no VM of this retry opens the file: the statement
        about the image tells that, and a later retry may verify.
        """
        from ..planning.retries import ask_for_retry, in_context, needs_context

        request = ask_for_retry(first, start, self._backend, export_to=export_to)
        if request.plan.context is None or not needs_context(first):
            return request
        before = BuildFolder(self._backend.home, first.id).context
        context = BuildFolder(self._backend.home, request.build_id).context
        context.unlink(missing_ok=True)
        try:
            with faults(context.parent):
                os.link(before, context)
        except FileNotFoundError as error:
            if not request.verify_again:
                return request
            raise InputError(
                f"{before}: the context of build {first.id} is gone, and its verify steps need it; build its spec again"
            ) from error
        return in_context(request, replace(request.plan.context, uri=str(context)))

    def retried(self, build: Build, spec: Spec, folder: Path) -> Retried:
        """Return the step that a held build has failed at, as a spec below a folder has it now. InputError."""
        from ..planning.plan import make_plan
        from .keeper import Retried, failed_step

        assert build.plan is not None
        name = failed_step(build)
        context = self.packed_context(spec, folder, build.id)
        plan = make_plan(
            spec,
            source=build.plan.source,
            context=context,
            request=build.plan.request,
            requested=build.plan.requested,
            provisioner_version="",
            documents=self.documents(spec, context),
        )
        for step in (plan.verify_steps or ()) if build.state is State.VERIFYING else plan.steps:
            if step.name == name and step.secrets:
                raise InputError(f"step {name} has secrets, which a held machine is not given; write: continue")
            if step.name == name:
                return Retried(step, plan.context)
        raise InputError(f"the spec has no step {name} any more; write: continue")

    def _to_its_end(
        self,
        build_id: str,
        interruption: Interruption,
        *,
        listener: Listener | None = None,
        leave: bool = False,
        begin: Callable[[], None],
    ) -> Build:
        """Run a build to its end after what begins it. When the disk is full, it ends for that, and leaves nothing.

        With `leave`, it is one that a killed process has left: it stays that when there is an interruption.
        """
        from .dispatcher import STUCK, Dispatcher

        patience = RECOVERY if leave else STUCK
        tried: dict[str, float] = {}

        def look() -> None:
            self._backend.reserve.look()
            self._end_abandoned(build_id, tried, interruption)

        dispatcher = Dispatcher(self._backend, self._backend.queue, listener, look)
        try:
            begin()
            done = dispatcher.run(build_id, interruption, patience, leave=leave)
        except NoSpace as error:
            self._make_room(build_id, error)
            done = Dispatcher(self._backend, self._backend.queue, listener).run(
                build_id, interruption, patience, leave=leave
            )
            with suppress(NoSpace):  # the next build keeps it, or is refused
                self._backend.reserve.keep()
        if done.finished and done.kept_until:
            from ..upkeep.sweep import let_go_of_earlier

            try:
                let_go_of_earlier(done, self._backend)
            except GoldsmithError as error:  # they have an end of their own
                LOG.warning("images that earlier builds of %s hold cannot be deleted yet: %s", done.name, error)
        self._make_calls()
        return done

    def _make_calls(self) -> None:
        """Tell webhooks what they have not been told yet, and the collector of traces what it has not got."""
        backend = self._backend
        calls: list[BuildTrace] = []

        def note(message: Message, name: str, start: float, end: float, failure: str | None) -> None:
            calls.extend(trace_of_call(message, name, start, end, failure))

        make_calls(backend.home, backend.queue, backend.logs, self.clock, note if wants_traces(os.environ) else None)
        send_traces(self.store, backend.queue, os.environ, calls)

    def _end_abandoned(self, build_id: str, tried: dict[str, float], interruption: Interruption) -> None:
        """Finish what killed processes have left: a queued build would wait for it, and no other process may come.

        `tried` is when each was last tried, which is done once a minute. What one of them meets with keeps neither the
        others nor the queued build from their end; an interruption is meant for the queued build alone.
        """
        if self.store.load(build_id).build.state is not State.QUEUED:
            return
        now = self.clock.now()
        for build in self.interrupted():
            if build.id == build_id or now < tried.get(build.id, 0.0) + TRY_AGAIN or interruption.asked:
                continue
            tried[build.id] = now
            LOG.warning("build %s was left by a killed process while it was %s; ending it", build.id, build.state)
            try:
                ended = self.resume(build.id, interruption)
            except NoSpace:
                raise
            except Exception as error:
                foreseen = isinstance(error, GoldsmithError)
                text = "build %s cannot be ended yet: %s: %s"
                LOG.warning(text, build.id, type(error).__name__, error, exc_info=None if foreseen else error)
                continue
            if ended is not None and not ended.finished and interruption.reason:
                LOG.warning("build %s is left as it is; the next build ends it", build.id)
            elif ended is not None and not ended.finished:
                LOG.warning("build %s cannot be cleaned up yet; see: goldsmith builds show %s", build.id, build.id)

    def _make_room(self, build_id: str, error: NoSpace) -> None:
        """End a build that can write nothing any more. Large files go first, which needs no database."""
        self._backend.reserve.give_up()
        folder = BuildFolder(self._backend.home, build_id)
        for name in folder.machines():
            self._backend.machines.stop(name)
        folder.drop_disks()
        try:
            build = self.store.load(build_id).build
        except NotFound:  # not even the request was written down, and nothing was made
            raise error from None
        if build.outcome is None:
            self._backend.queue.forget(build_id)  # whatever it was told before, this is its end
        if not build.finished:
            give_up(build, str(error), self.bus, self.clock)

    def is_interrupted(self, build: Build) -> bool:
        """Return whether a build is not finished and no process holds it: a killed one has left it."""
        return not build.finished and not BuildFolder(self._backend.home, build.id).is_held()

    def interrupted(self) -> list[Build]:
        """Return the builds that killed processes have left."""
        return [build for build in readable_builds(self.store.builds(unfinished=True)) if self.is_interrupted(build)]

    def can_go_on(self, build: Build) -> bool:
        """Return whether a build that a killed process has left goes on: its VM was done. Else it is cancelled."""
        return build.state not in (State.QUEUED, State.PREPARING, State.PROVISIONING)

    def resume(self, build_id: str, interruption: Interruption | None = None) -> Build | None:
        """Finish what a killed process has left of a build: go on where its VM was done, else cancel it and clean up.

        Return it as it is then, which is unfinished where the clean-up cannot come to its end, or an interruption has
        left it to a later command; None while another process holds it. NotFound.
        """
        with self.building(build_id) as ours:
            if not ours:
                return None
            build = self.store.load(build_id).build
            if build.finished:
                return build
            return self._finish(build, interruption or Interruption())

    def _finish(self, build: Build, interruption: Interruption) -> Build:
        def begin() -> None:
            if not self.can_go_on(build):
                ask_to_cancel(build.id, LOST, self.bus, self.clock)

        return self._to_its_end(build.id, interruption, leave=True, begin=begin)

    def sweep(self) -> list[str]:
        """Delete what belongs to no build, and images whose time to be deleted has come; give their names.

        Calls of webhooks that wait are made.
        """
        from ..upkeep.sweep import sweep_project

        self._make_calls()
        deleted = [f"{resource.kind} {resource.name}" for resource in sweep_project(LOCAL, self._backend)]
        self.tidy()
        return deleted + [f"image {name}" for name in self._backend.catalogue.purge()]

    def orphans(self) -> list[Resource]:
        """Return the machines and disks that sweep() would delete, since they belong to no build."""
        from ..upkeep.sweep import is_orphan

        return [resource for resource in self._backend.compute.labelled(LOCAL) if is_orphan(resource, self._backend)]

    def forget(self, build_id: str) -> Any:
        """Set a build aside; return its document as it stood. NotFound; InputError for one that goes on.

        Its VM and its disks stay until they expire: nothing is known of a damaged build but what they carry.
        """
        with self.building(build_id) as ours:
            if not ours:
                raise InputError(f"build {build_id} is held by another process; end that one first")
            document = self.store.set_aside(build_id)
            self._backend.queue.forget(build_id)
            return document

    def wait_until_finished(self, build_id: str) -> Build:
        """Wait for a build that another process runs; one that no process runs any more is ended here. NotFound."""
        while True:
            ended = self.resume(build_id)
            if ended is not None:
                return ended
            time.sleep(POLL)

    def logs_of(self, build_id: str) -> str:
        """The folder with the consoles of a finished build's VMs."""
        return str(BuildFolder(self._backend.home, build_id).logs)

    def console(self, build: str | Followed) -> LocalConsole:
        """Return a reader of the consoles of a build's VMs, by its id as well; there need not be any yet."""
        build_id = build if isinstance(build, str) else build.build.id
        return LocalConsole(BuildFolder(self._backend.home, build_id), self._backend.compute, self._backend.bucket)

    def tidy(self) -> None:
        """Remove what processes that were killed before a build began, or at its very end, have left in its folder.

        Images go that are not kept any longer, and old events, where there is room to write that down. A folder that
        cannot be tidied is left as it is.
        """
        from ..upkeep.sweep import sweep_kept

        with suppress(NoSpace):
            sweep_kept(self._backend)
            self._backend.events.forget_events()
        for build_id in build_ids(self._backend.home):
            try:
                if BuildFolder(self._backend.home, build_id).is_untidy():
                    with self.building(build_id):
                        pass
            except (EnvironmentFault, NoSpace) as error:
                LOG.warning("what is left of build %s cannot be removed yet: %s", build_id, error)

    def _tidy(self, folder: BuildFolder) -> None:
        """Remove the files of a build but its logs: what is not known to be done stays for the sweep."""
        try:
            build = self.store.load(folder.build_id).build
            if build.finished:
                folder.tidy(context=self._may_need_context(build))
        except NotFound:
            if not (folder.machines() or folder.disks()):
                folder.tidy()
        except DamagedDocument:
            return

    def _may_need_context(self, build: Build) -> bool:
        """Return whether a retry may verify the image of a finished build. DamagedDocument."""
        from ..planning.retries import needs_context

        if not needs_context(build) or build.image is None:
            return False
        known = self.store.image(build.image.project, build.image.name)
        return known is not None and known.build_id == build.id
