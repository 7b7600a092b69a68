"""Every exception that Goldsmith raises on purpose. Library code never exits the process; goldsmith/ maps these.

GoldsmithError                anything below; carries the remedy as its last sentence
├── InputError                what a person wrote is wrong: exit status 2, nothing created
│   ├── SpecError             problems of one spec, all of them, each with file, line and column
│   └── ImageFileError        a file given as an image is not one, or is damaged
├── EnvironmentFault          this machine or project lacks something: exit status 3, nothing left behind
│   ├── MissingTool           a program is not installed; names the package that has it
│   └── NoSpace               the disk is full, or would be
├── PoisonMessage             a message that can never be read: dropped, and logged
│   └── WrongSignature        a report that was not signed by the VM that it says it is from: counted as well
├── Passing                   may work if done again later: redelivery retries it
├── StoreError                state could not be read or written
│   ├── NotFound              no such build, image or object
│   ├── AlreadyExists         the document is there; for events this is the dedupe
│   ├── NameTaken             another build makes, or has made, an image of that name
│   ├── Conflict (Passing)    another process wrote first; load again and decide again
│   ├── TooLarge              a document that the store cannot take, however often it is tried
│   └── DamagedDocument       a document that cannot be read, or that a newer release has written
└── CloudError                a call to a backend's adapter failed
    ├── Transient (Passing)   may work if done again later
    │   └── LineFull          so many reports of a build wait that it takes none until some are read
    └── Permanent             will not work however often: the build fails with this text
        ├── ImageNotMade      no image could be made of a disk that is whole: a retry may make it
        └── DiskGone          the disk that an image was to be made of is not there any more
"""

from collections.abc import Sequence

NO_SPACE = "no space: "
"""How every NoSpace begins, and the reason of every build that ended for one."""


class GoldsmithError(Exception):
    """Anything that Goldsmith raises on purpose."""


class InputError(GoldsmithError):
    """Input is wrong; nothing has been created."""


class SpecError(InputError):
    """All problems of one spec, each `FILE:LINE:COLUMN: path.to.key: what is wrong; what to write instead`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ImageFileError(InputError):
    """A file given as an image is not one, or is damaged."""


class EnvironmentFault(GoldsmithError):
    """This machine or project lacks something that a build needs."""


class MissingTool(EnvironmentFault):
    """A program is not installed."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(f"{program} is not installed; install it with: apt-get install {package}")
        self.program = program


class NoSpace(EnvironmentFault):
    """A file system is full, or would be; the text names a place on it."""

    def __init__(self, text: str) -> None:
        super().__init__(text if text.startswith(NO_SPACE) else NO_SPACE + text)


class PoisonMessage(GoldsmithError):
    """A message that can never be read."""


class WrongSignature(PoisonMessage):
    """A report that was not signed by the VM that it says it is from."""


class Passing(GoldsmithError):
    """May work if done again later."""


class StoreError(GoldsmithError):
    """State could not be read or written."""


class NotFound(StoreError):
    """There is no such build, image or object."""


class AlreadyExists(StoreError):
    """The document is there already."""


class NameTaken(StoreError):
    """Another build makes, or has made, an image of that name."""


class Conflict(StoreError, Passing):
    """Another writer was first; load again and decide again."""


class TooLarge(StoreError):
    """A document that the store cannot take, however often it is tried."""


class DamagedDocument(StoreError):
    """A document that cannot be read, or that a newer release has written."""


class CloudError(GoldsmithError):
    """A call to a backend's adapter failed."""


class Transient(CloudError, Passing):
    """A call that may work if done again later."""


class LineFull(Transient):
    """So many reports of a build wait that it takes none until some are read."""


class Permanent(CloudError):
    """Will not work however often it is tried."""


class ImageNotMade(Permanent):
    """No image could be made of a disk that is whole."""


class DiskGone(Permanent):
    """The disk that an image was to be made of is not there any more."""
