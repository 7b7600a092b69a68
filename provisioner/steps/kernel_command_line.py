"""kernel-command-line: add and remove parameters of the kernel, wherever this image's boot loader reads them.

Container-Optimized OS        grub.cfg on EFI-SYSTEM
Fedora, RHEL, Rocky Linux     grubby, and the files from which later kernels get theirs
Debian, Ubuntu, SUSE          /etc/default/grub, and in /etc/default/grub.d a file of ours; then update-grub
systemd-boot                  /etc/kernel/cmdline; then kernel-install
a grub.cfg that nothing makes /boot/grub/grub.cfg itself, as in the images that `images bootstrap` makes
"""

from __future__ import annotations

import glob
import os
import re
import stat

from ..cos.grub_config import GrubConfigError, with_parameters
from ..protocol import KernelCommandLine
from ..system.files import read_text, write_whole
from ..system.os_release import COS, system_id
from ..system.process import find_program
from .step_context import StepContext, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional

DEFAULTS = "etc/default/grub"
DEFAULTS_FOLDER = "etc/default/grub.d"  # read after DEFAULTS, by distributions that have patched GRUB for it
OURS = "zz-goldsmith.cfg"
KERNEL_INSTALL = "etc/kernel/cmdline"
MAKERS = ("update-grub", "grub2-mkconfig", "grub-mkconfig")
WRITTEN = ("boot/grub/grub.cfg", "boot/grub2/grub.cfg")
_WORD = re.compile(r"[^\s\"']+ ?")
_SETTING = re.compile(r"^\s*GRUB_CMDLINE_LINUX(_DEFAULT)?=")
_SHOW = 'for file; do . "$file"; done; printf "%s" "$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"'


def act(inputs: KernelCommandLine, context: StepContext) -> int:
    """Return the exit status of the program that makes the boot loader's configuration, or 0. StepError."""
    try:
        if system_id(context.root) == COS:
            return _edit_cos(inputs, context)
        for way in (_grubby, _grub, _kernel_install, _written):
            status = way(inputs, context)
            if status is not None:
                return status
    except GrubConfigError as error:
        raise StepError(str(error)) from error
    raise StepError(
        f"this image has neither grubby nor {', '.join(MAKERS)}, nor kernel-install with /{KERNEL_INSTALL}, nor "
        f"/{WRITTEN[0]}; install its boot loader's package in an earlier step"
    )


def changed_words(words: list[str], inputs: KernelCommandLine) -> list[str]:
    """Return the words without those to be removed, by name or as a whole, and with the missing ones added."""
    kept = [word for word in words if word not in inputs.remove and word.partition("=")[0] not in inputs.remove]
    return kept + [word for word in dict.fromkeys(inputs.add) if word not in kept]


def _edit_cos(inputs: KernelCommandLine, context: StepContext) -> int:
    from ..cos.cos import CosError, edit_boot_configuration

    try:
        edit_boot_configuration(context.root, "kernel-command-line", _on_kernel_lines(inputs))
    except CosError as error:
        raise StepError(str(error)) from error
    return 0


def _on_kernel_lines(inputs: KernelCommandLine) -> Callable[[str], str]:
    return lambda text: with_parameters(text, inputs.add, inputs.remove)


def _grubby(inputs: KernelCommandLine, context: StepContext) -> Optional[int]:
    program = find_program("grubby", context.root)
    if not program:
        return None
    if os.path.exists(os.path.join(context.root, DEFAULTS)):  # the next kernel's package reads this
        _edit_settings(inputs, context.root)
    _edit_kernel_install(inputs, context.root)
    changes = [f"--remove-args={' '.join(inputs.remove)}"] if inputs.remove else []
    changes += [f"--args={' '.join(inputs.add)}"] if inputs.add else []
    return context.run([program, "--update-kernel=ALL", *changes], {}) if changes else 0


def _grub(inputs: KernelCommandLine, context: StepContext) -> Optional[int]:
    root = context.root
    program = next(filter(None, (find_program(name, root) for name in MAKERS)), "")
    if not program:
        return None
    _edit_settings(inputs, root)
    made = next((path for path in WRITTEN if os.path.isdir(os.path.join(root, os.path.dirname(path)))), WRITTEN[0])
    target = [] if program.endswith("/update-grub") else ["-o", os.path.join(root, made)]
    status = context.run([program, *target], {})
    if status == 0:
        _check(inputs, os.path.join(root, made))
    return status


def _check(inputs: KernelCommandLine, path: str) -> None:
    """Check that the file that was made has the wanted parameters: another file may set them too. StepError."""
    text = _read(path)
    if sorted(_on_kernel_lines(inputs)(text).split()) != sorted(text.split()):
        raise StepError(
            f"{path} does not have the kernel's command line that was asked for; something other than "
            f"/{DEFAULTS} and /{DEFAULTS_FOLDER} sets it"
        )


def _edit_settings(inputs: KernelCommandLine, root: str) -> None:
    """Remove words from the settings wherever they are, and add others in the file that is read last."""
    defaults, folder = os.path.join(root, DEFAULTS), os.path.join(root, DEFAULTS_FOLDER)
    files = [defaults, *sorted(glob.glob(os.path.join(glob.escape(folder), "*.cfg")))]
    files = [path for path in files if os.path.exists(path)]
    for path in files:
        _replace(path, "".join(_without(line, inputs) for line in _read(path).splitlines(keepends=True)))
    there = _settings(files)
    missing = [word for word in dict.fromkeys(inputs.add) if word not in there]
    if missing:
        last = os.path.join(folder, OURS) if os.path.isdir(folder) else defaults
        text = _read(last) if os.path.exists(last) else ""
        text += "" if not text or text.endswith("\n") else "\n"
        _replace(last, f'{text}GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(missing)}"\n')


def _without(line: str, inputs: KernelCommandLine) -> str:
    """Return a line without the words to be removed, where it sets the kernel's command line; else unchanged."""
    setting = _SETTING.match(line)
    if setting is None:
        return line

    def kept(word: re.Match[str]) -> str:
        whole = word[0].rstrip(" ")
        return "" if whole in inputs.remove or whole.partition("=")[0] in inputs.remove else word[0]

    return setting[0] + _WORD.sub(kept, line[setting.end() :])


def _settings(files: list[str]) -> list[str]:
    """Return the words that the settings come to, by a shell: the settings are shell scripts."""
    import subprocess

    done = subprocess.run(["/bin/sh", "-c", _SHOW, "sh", *files], stdout=subprocess.PIPE, check=False)
    return done.stdout.decode("utf-8", "replace").split()


def _kernel_install(inputs: KernelCommandLine, context: StepContext) -> Optional[int]:
    root = context.root
    program = find_program("kernel-install", root)
    if not program or not _edit_kernel_install(inputs, root):
        return None
    for folder in sorted(glob.glob(os.path.join(glob.escape(root), "usr/lib/modules/*"))):
        version = os.path.basename(folder)
        images = [os.path.join(folder, "vmlinuz"), os.path.join(root, "boot", f"vmlinuz-{version}")]
        for image in filter(os.path.exists, images[:1] if os.path.exists(images[0]) else images):
            status = context.run([program, "add", version, image], {})
            if status:
                return status
    return 0


def _edit_kernel_install(inputs: KernelCommandLine, root: str) -> bool:
    """Change the file from which kernel-install makes its entries; return whether there is one."""
    path = os.path.join(root, KERNEL_INSTALL)
    if not os.path.exists(path):
        return False
    _replace(path, " ".join(changed_words(_read(path).split(), inputs)) + "\n")
    return True


def _written(inputs: KernelCommandLine, context: StepContext) -> Optional[int]:
    for path in (os.path.join(context.root, path) for path in WRITTEN):
        if os.path.exists(path):
            _replace(path, _on_kernel_lines(inputs)(_read(path)))
            return 0
    return None


def _read(path: str) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise StepError(f"{path}: {error.strerror}") from error


def _replace(path: str, text: str) -> None:
    """Write a file, whole or not at all, and keep its mode."""
    if os.path.exists(path) and _read(path) == text:
        return
    mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644
    write_whole(path, text.encode("utf-8", "surrogateescape"), mode)
