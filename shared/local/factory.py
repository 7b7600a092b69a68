"""The factory of this machine: state.db, the catalogue, QEMU; and what a build needs here beside the ports.

Every command opens it. What only some of them need (reading specs, packing, importing, carrying out orders) is imported
where it is used: all of it together would double the time that `goldsmith builds list` takes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..build import Build, State
from ..clock import SystemClock
from ..damage import readable_builds
from ..engine import Engine, Listener
from ..errors import AlreadyExists, DamagedDocument, InputError, NoSpace, NotFound
from ..events import BuildRequested
from ..factory import Factory, ReportTarget
from ..interruption import Interruption
from ..keys import Keys
from ..messages import REPORTS_TOPIC
from ..names import BUILD_LABEL, LOCAL
from ..ownership import ALL_FAMILIES
from ..plan import Context, SourceImage
from ..ports import Image, Progress
from ..requests import cancel, give_up
from ..sweep import sweep
from .bucket import LocalBucket
from .build_folder import BuildFolder, build_ids
from .bus import LocalBus
from .catalogue import Catalogue
from .compute import LocalCompute
from .console import Console
from .database import Database
from .machine import Machines
from .master_key import master_key
from .qemu_command import ADDRESS
from .reserve import Reserve
from .store import LocalStore

if TYPE_CHECKING:
    from ..image_diff import ImageDiff
    from ..spec import Source, Spec
    from .image_contents import ImageContents

LOG = logging.getLogger(__name__)

PUBLISH_URL = f"http://{ADDRESS}/v1/projects/{LOCAL}/topics/{REPORTS_TOPIC}:publish"
LOST = "the process that ran this build has ended"
RECOVERY = 3.0  # seconds that a command spends on a clean-up which others have failed to end
POLL = 0.2  # seconds between looks at a build that another process runs


def _silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class LocalFactory(Factory):
    """The factory of this machine. Close it, or use it as a context manager."""

    home: Path
    catalogue: Catalogue
    queue: LocalBus  # what `bus` is, with its reading end
    machines: Machines
    reserve: Reserve
    _closing: ExitStack = field(repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def resolve(self, source: Source, folder: Path) -> SourceImage:
        """Find the image that a spec starts from; a file beside the spec joins the catalogue first, once."""
        from ..sources import as_source, in_catalogue, resolve
        from ..spec_file import beside
        from .image_file import file_name, import_image

        if source.file is None:
            return resolve(in_catalogue(source), self.compute)
        file = beside(folder / "spec", source.file)
        name = file_name(file)
        image = self.catalogue.get(name)
        try:
            image = image or import_image(file, name, self.catalogue, progress=self._say)
        except AlreadyExists:  # another build of the same file was faster
            image = self.catalogue.get(name)
            if image is None:
                raise
        return as_source(image)

    @contextmanager
    def building(self, build_id: str) -> Iterator[bool]:
        """Hold a build from its packing to its end, so that no other process cleans it up meanwhile.

        Gives False, and holds nothing, while another process has it.
        """
        folder = BuildFolder(self.home, build_id)
        with folder.running() as ours:
            try:
                yield ours
            finally:
                if ours and self._owns_nothing(folder):
                    folder.tidy()

    def packed_context(self, spec: Spec, path: Path, build_id: str) -> Context | None:
        """Pack a spec's context into the folder of its build, which the caller holds."""
        from ..context import pack_context
        from ..spec_file import beside

        if spec.context is None:
            return None
        return pack_context(beside(path, spec.context), BuildFolder(self.home, build_id).context)

    def import_image(self, file: Path, name: str | None, family: str | None) -> Image:
        """Take a disk image into the catalogue, after checking it. ImageFileError, NoSpace, AlreadyExists."""
        from .image_file import image_name, import_image

        return import_image(file, name or image_name(file), self.catalogue, family=family, progress=self._say)

    def bootstrap(self, system: str, release: str | None, packages: list[str], mirror: str | None) -> Image:
        """Make an image of a distribution's packages, or give the one that there is of the same packages."""
        from .bootstrap import bootstrap

        return bootstrap(
            system,
            self.catalogue,
            home=self.home,
            release=release,
            packages=packages,
            mirror=mirror,
            progress=self._say,
        )

    def maker_of(self, image: str) -> Build | None:
        """Return the build that made an image of the catalogue; None for one that was imported or is from elsewhere."""
        found = self.catalogue.get(image)
        try:
            return None if found is None else self.store.load(found.labels.get(BUILD_LABEL, "")).build
        except (NotFound, DamagedDocument):
            return None

    def describe(self, image: str) -> ImageContents:
        """Say what is inside an image. NotFound."""
        from .image_contents import describe

        return describe(self.catalogue.disk(image))

    def diff(self, before: str, after: str) -> ImageDiff:
        """Compare two images: names of the catalogue, or files as import_image() takes them. ImageFileError, NoSpace.

        A file that is no raw disk is unpacked beside the catalogue's images, for as long as it is compared.
        """
        from .image_diff import diff

        with self.catalogue.staging() as scratch:
            first = self._disk_of(before, scratch.path / "before.raw")
            return diff(first, self._disk_of(after, scratch.path / "after.raw"), self._say)

    def _disk_of(self, image: str, unpacked: Path) -> Path:
        from .image_file import as_raw

        with suppress(InputError):  # of a text that is no image's name: it is a file's
            if self.catalogue.get(image) is not None:
                return self.catalogue.disk(image)
        if not Path(image).exists():
            raise InputError(f"there is no image {image}, and no such file; see: goldsmith images list")
        return as_raw(Path(image), unpacked, self._say)

    def _say(self, text: str) -> None:
        self.progress(text, 0, 0)

    def run(self, request: BuildRequested, listener: Listener, interruption: Interruption) -> Build:
        """Run a build, which the caller holds, to its end in this process."""
        self.reserve.keep()

        def begin() -> None:
            Engine(self.store, self.bus, self.clock, listener).request(request)

        return self._to_its_end(request.build_id, interruption, listener=listener, begin=begin)

    def _to_its_end(
        self,
        build_id: str,
        interruption: Interruption,
        patience: float | None = None,
        *,
        listener: Listener | None = None,
        begin: Callable[[], None],
    ) -> Build:
        """Run a build to its end after what begins it. When the disk is full, it ends for that, and leaves nothing."""
        from .dispatcher import STUCK, Dispatcher

        dispatcher = Dispatcher(self, self.queue, listener, self.reserve.look)
        try:
            begin()
            return dispatcher.run(build_id, interruption, patience or STUCK)
        except NoSpace as error:
            self._make_room(build_id, error)
            done = Dispatcher(self, self.queue, listener).run(build_id, interruption, patience or STUCK)
            with suppress(NoSpace):  # the next build keeps it, or is refused
                self.reserve.keep()
            return done

    def _make_room(self, build_id: str, error: NoSpace) -> None:
        """Let a build end that can write nothing any more: first what is large goes, which needs no database."""
        self.reserve.give_up()
        folder = BuildFolder(self.home, build_id)
        for name in folder.machines():
            self.machines.stop(name)
        folder.drop_disks()
        try:
            build = self.store.load(build_id).build
        except NotFound:  # not even the request was written down, and nothing was made
            raise error from None
        if build.outcome is None:
            self.queue.forget(build_id)  # whatever it was told before, this is its end
        if not build.finished:
            give_up(build, str(error), self.bus, self.clock)

    def is_interrupted(self, build: Build) -> bool:
        """Return whether a build is not finished and no process holds it: a killed one has left it."""
        return not build.finished and not BuildFolder(self.home, build.id).is_held()

    def interrupted(self) -> list[Build]:
        """Return the builds that killed processes have left."""
        return [build for build in readable_builds(self.store.builds(unfinished=True)) if self.is_interrupted(build)]

    def resume(self, build_id: str) -> Build | None:
        """Finish what a killed process has left of a build: go on where its VM was done, else cancel it and clean up.

        Return it as it is then, which is unfinished where the clean-up cannot come to its end; None while another
        process holds it. NotFound.
        """
        with self.building(build_id) as ours:
            if not ours:
                return None
            build = self.store.load(build_id).build
            if build.finished:
                return build
            return self._finish(build)

    def _finish(self, build: Build) -> Build:
        def begin() -> None:
            if build.state in (State.PREPARING, State.PROVISIONING):
                cancel(build.id, LOST, self.bus, self.clock)

        return self._to_its_end(build.id, Interruption(), RECOVERY, begin=begin)

    def sweep(self) -> list[str]:
        """Delete what belongs to no build, and images whose time to be deleted has come; give their names."""
        deleted = [f"{resource.kind} {resource.name}" for resource in sweep(LOCAL, self)]
        self.tidy()
        return deleted + [f"image {name}" for name in self.catalogue.purge()]

    def forget(self, build_id: str) -> Any:
        """Set a build aside; return its document as it stood. NotFound; InputError for one that goes on.

        Its VM and its disks stay until they expire: nothing is known of a damaged build but what they carry.
        """
        with self.building(build_id) as ours:
            if not ours:
                raise InputError(f"build {build_id} is held by another process; end that one first")
            document = self.store.set_aside(build_id)
            self.queue.forget(build_id)
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
        return str(BuildFolder(self.home, build_id).logs)

    def console(self, build_id: str) -> Console:
        """Give a reader of the consoles of a build's VMs; there need not be any yet."""
        return Console(BuildFolder(self.home, build_id), self.compute, self.bucket)

    def is_finished(self, build_id: str) -> bool:
        """Whether a build has come to its end. NotFound."""
        return self.store.load(build_id).build.finished

    def tidy(self) -> None:
        """Remove what processes that were killed before a build began, or at its very end, have left in its folder."""
        for build_id in build_ids(self.home):
            if BuildFolder(self.home, build_id).is_untidy():
                with self.building(build_id):
                    pass

    def _owns_nothing(self, folder: BuildFolder) -> bool:
        """Return whether all files of a build but its logs may go: what is not known to be done stays for the sweep."""
        try:
            return self.store.load(folder.build_id).build.finished
        except NotFound:
            return not (folder.machines() or folder.disks())
        except DamagedDocument:
            return False


def open_factory(home: Path, progress: Progress | None = None) -> LocalFactory:
    """Open the factory whose state is below `home`; the folder is made where it does not exist."""
    with ExitStack() as stack:
        reserve = Reserve(home)
        database = stack.enter_context(_database(home / "state.db", reserve))
        queue = LocalBus(database)
        stack.callback(queue.close)
        clock = SystemClock()
        catalogue = Catalogue(home, clock)
        machines = stack.enter_context(Machines(home, queue.publish))
        return LocalFactory(
            compute=LocalCompute(home, catalogue, machines, clock),
            store=LocalStore(database),
            bucket=LocalBucket(home),
            bus=queue,
            clock=clock,
            keys=Keys(master_key(home)),
            reports=ReportTarget(PUBLISH_URL, None),
            logs=str(home / "builds" / "{build_id}" / "logs"),
            progress=progress or _silent,
            adopted_families=(ALL_FAMILIES,),  # whose else should they be?
            home=home,
            catalogue=catalogue,
            queue=queue,
            machines=machines,
            reserve=reserve,
            _closing=stack.pop_all(),
        )


def _database(path: Path, reserve: Reserve) -> Database:
    """Open the state; on a full disk in the reserve's place, so that what is large can be ended and deleted."""
    try:
        return Database(path)
    except NoSpace:
        if not reserve.give_up():
            raise
        return Database(path)
