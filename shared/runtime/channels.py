"""The channels of this machine: channels.json of the home."""

from __future__ import annotations

from pathlib import Path

from ..build.image.channels import Channels, no_channels, read_channels
from ..errors import InputError
from ..host.secret_file import NoPlainFile, read_plain

CHANNELS_FILE = "channels.json"
LARGEST_CHANNELS = 64 << 10  # bytes


def home_channels(home: Path) -> Channels:
    """Read the channels of a home. InputError has a line for each fault, with the file and the key."""
    path = home / CHANNELS_FILE
    try:
        data, _ = read_plain(path, LARGEST_CHANNELS + 1)
        text = data.decode("utf-8")
    except FileNotFoundError:
        return no_channels()
    except NoPlainFile as error:
        raise InputError(f"{path} is no plain file; write the channels into one") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; make it a plain file that you may read") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; correct it") from error
    if len(data) > LARGEST_CHANNELS:
        raise InputError(f"{path} has more than {LARGEST_CHANNELS >> 10} KiB; make it smaller")
    try:
        return read_channels(text)
    except InputError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error
