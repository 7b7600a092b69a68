"""kernel-command-line: each boot loader is configured in its own way, and a second run changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from provisioner.steps.step_context import StepError
from tests.provisioner.cos.machine_tree import GRUB_CFG, CosTree, act_on

WRITTEN = 'menuentry "Linux" {\n    linux /vmlinuz root=UUID=1 ro quiet console=ttyS0\n    initrd /initrd.img\n}\n'

# As Debian's: reads the settings as a shell, and writes the result.
UPDATE_GRUB = """\
#!/bin/sh
set -e
for file in {root}/etc/default/grub {root}/etc/default/grub.d/*.cfg; do [ ! -e "$file" ] || . "$file"; done
echo "menuentry 'a' {{" >{root}/boot/grub/grub.cfg
echo "	linux	/vmlinuz root=UUID=1 ro $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT" >>{root}/boot/grub/grub.cfg
echo "}}" >>{root}/boot/grub/grub.cfg
"""


class Image:
    """The root of a distribution's image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("etc/os-release", "ID=debian\n")

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        """Write one of its files."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        return target

    def change(self, add: Sequence[str] = (), remove: Sequence[str] = ()) -> int:
        """Do the step."""
        return act_on(self.root, "kernel-command-line", {"add": list(add), "remove": list(remove)})


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Make an image without any boot loader."""
    return Image(tmp_path)


@pytest.fixture
def debian(image: Image) -> Image:
    """Make an image as Debian's for clouds: settings in /etc/default/grub.d override the common ones."""
    image.write("boot/grub/grub.cfg", "")
    image.write("usr/sbin/update-grub", UPDATE_GRUB.format(root=image.root), 0o755)
    image.write("etc/default/grub", 'GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n')
    cloud = 'GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200 earlyprintk=ttyS0,115200"\n'
    image.write("etc/default/grub.d/10_cloud.cfg", cloud)
    return image


def kernel_line(image: Image) -> list[str]:
    """Return the words of the only kernel line."""
    [line] = [line for line in (image.root / "boot/grub/grub.cfg").read_text().splitlines() if "linux" in line]
    return line.split()[4:]


def test_container_optimized_os_is_told_in_its_grub_cfg(tmp_path: Path) -> None:
    cos = CosTree(tmp_path)
    inputs = {"add": ["nosmt", "loglevel=4"], "remove": ["loglevel", "boot=local"]}
    assert cos.act("kernel-command-line", inputs) == 0
    text = cos.grub_cfg.read_text()
    assert text.count(" nosmt loglevel=4\n") == GRUB_CFG.count("  linux ")
    assert "loglevel=7" not in text
    assert "boot=local" not in text
    assert cos.act("kernel-command-line", inputs) == 0
    assert sorted(cos.grub_cfg.read_text().split()) == sorted(text.split())


def test_debian_is_told_in_a_file_of_ours(debian: Image) -> None:
    assert debian.change(["nosmt", "quiet", "panic=10"]) == 0
    ours = debian.root / "etc/default/grub.d/zz-goldsmith.cfg"
    assert ours.read_text() == 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX nosmt panic=10"\n'  # quiet is there
    words = ["console=tty0", "console=ttyS0,115200", "earlyprintk=ttyS0,115200", "nosmt", "panic=10", "quiet"]
    assert kernel_line(debian) == words
    assert debian.change(["nosmt", "quiet", "panic=10"]) == 0
    assert kernel_line(debian) == words


def test_parameters_are_taken_out_where_they_stand(debian: Image) -> None:
    assert debian.change(["a=1"]) == 0
    assert debian.change(["a=2"], ["quiet", "console=tty0", "earlyprintk", "a", "absent"]) == 0
    assert kernel_line(debian) == ["console=ttyS0,115200", "a=2"]
    assert "GRUB_TIMEOUT=0\n" in (debian.root / "etc/default/grub").read_text()


def test_a_value_is_not_taken_for_a_parameter(debian: Image) -> None:
    debian.write("etc/default/grub", "GRUB_CMDLINE_LINUX='root=audit audit=1 audit a=quiet'\n")
    assert debian.change(remove=["audit", "quiet"]) == 0
    assert (debian.root / "etc/default/grub").read_text() == "GRUB_CMDLINE_LINUX='root=audit a=quiet'\n"


def test_a_parameter_that_others_overrule_fails_the_step(debian: Image) -> None:
    with pytest.raises(StepError, match=r"something other than /etc/default/grub and /etc/default/grub\.d sets it"):
        debian.change(remove=["root"])


def test_what_update_grub_says_is_the_steps_status(debian: Image) -> None:
    debian.write("usr/sbin/update-grub", "#!/bin/sh\nexit 3\n", 0o755)
    assert debian.change(["nosmt"]) == 3


def test_without_a_folder_of_settings_the_settings_grow(image: Image) -> None:
    made = "boot/grub2/grub.cfg"
    image.write(made, "")
    image.write("etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet splash=silent"\n')
    text = UPDATE_GRUB.format(root=image.root).replace("boot/grub/", "boot/grub2/")
    image.write("usr/sbin/grub2-mkconfig", f'{text}[ "$1 $2" = "-o {image.root / made}" ]\n', 0o755)
    assert image.change(["nosmt"], ["splash"]) == 0
    settings = 'GRUB_CMDLINE_LINUX="quiet "\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX nosmt"\n'
    assert (image.root / "etc/default/grub").read_text() == settings
    assert "ro quiet nosmt" in " ".join((image.root / made).read_text().split())


def test_settings_are_begun_where_there_are_none(debian: Image) -> None:
    (debian.root / "etc/default/grub").unlink()
    shutil.rmtree(debian.root / "etc/default/grub.d")
    assert debian.change(["nosmt"]) == 0
    assert kernel_line(debian) == ["nosmt"]


def test_grubby_is_told_and_so_are_later_kernels(image: Image) -> None:
    calls = image.root / "calls"
    image.write("usr/sbin/grubby", f'#!/bin/sh\nfor word; do echo "$word" >>{calls}; done\n', 0o755)
    image.write("etc/default/grub", 'GRUB_CMDLINE_LINUX="crashkernel=1G rhgb"\n')
    image.write("etc/kernel/cmdline", "root=UUID=1 ro rhgb\n")
    assert image.change(["nosmt", "a=1"], ["rhgb"]) == 0
    assert calls.read_text() == "--update-kernel=ALL\n--remove-args=rhgb\n--args=nosmt a=1\n"
    assert (image.root / "etc/kernel/cmdline").read_text() == "root=UUID=1 ro nosmt a=1\n"
    assert "rhgb" not in (image.root / "etc/default/grub").read_text()
    (image.root / "etc/default/grub").unlink()
    assert image.change(["nosmt"]) == 0
    assert not (image.root / "etc/default/grub").exists()


def test_kernel_install_makes_its_entries_anew(image: Image) -> None:
    calls = image.root / "calls"
    image.write("usr/bin/kernel-install", f'#!/bin/sh\necho "$@" >>{calls}\n', 0o755)
    image.write("etc/kernel/cmdline", "root=LABEL=root rw")
    first = image.write("usr/lib/modules/6.1/vmlinuz", "")
    (image.root / "usr/lib/modules/6.2").mkdir()
    second = image.write("boot/vmlinuz-6.2", "")
    assert image.change(["quiet"]) == 0
    assert (image.root / "etc/kernel/cmdline").read_text() == "root=LABEL=root rw quiet\n"
    assert calls.read_text() == f"add 6.1 {first}\nadd 6.2 {second}\n"


def test_a_grub_cfg_that_nothing_makes_is_edited(image: Image) -> None:
    written = image.write("boot/grub/grub.cfg", WRITTEN, 0o600)
    assert image.change(["nosmt"], ["quiet"]) == 0
    assert written.read_text() == WRITTEN.replace(" quiet", "").replace("ttyS0", "ttyS0 nosmt")
    assert written.stat().st_mode & 0o777 == 0o600


def test_an_image_without_a_boot_loader_fails_the_step(image: Image) -> None:
    with pytest.raises(StepError, match=r"neither grubby nor update-grub, .*install its boot loader's package"):
        image.change(["nosmt"])


def test_a_parameter_that_is_none_fails_the_step(image: Image) -> None:
    image.write("boot/grub/grub.cfg", WRITTEN)
    with pytest.raises(StepError, match="is no kernel parameter"):
        image.change(["a b"])
