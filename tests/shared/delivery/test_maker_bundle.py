"""maker.zip: all that making a root needs, and nothing that a build VM has not."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

from provisioner.protocol import Job
from shared.delivery.cidata import small_files
from shared.delivery.maker_bundle import MAKER, maker_files, maker_version, maker_zip

ABSENT = ("isal", "zlib_ng", "pydantic", "pydantic_core", "google")  # a maker VM has PyYAML alone, of Debian
IMPORT = f"""import sys
sys.modules.update(dict.fromkeys({ABSENT}))
sys.path[:0] = sys.argv[1:]
import shared.maker.main
ours = [each for name, each in sys.modules.items() if name.split(".")[0] in ("shared", "provisioner")]
print(*(each.__file__ for each in ours), sep="\\n")
"""


def test_it_runs_by_itself(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(maker_zip())) as archive:
        archive.extractall(tmp_path / "code")
    parsers = str(Path(yaml.__file__).parents[1])
    command = [sys.executable, "-I", "-S", "-c", IMPORT, str(tmp_path / "code"), parsers]
    loaded = subprocess.run(command, cwd="/", check=True, capture_output=True, text=True).stdout.split()
    assert len(loaded) > 100
    assert {path for path in loaded if not path.startswith(f"{tmp_path}/code/")} == set()


def test_it_holds_what_is_imported_late_and_the_files_beside_modules() -> None:
    files = maker_files()
    assert {
        "shared/quick_dataclasses.py",  # only the text of a program names it
        *("shared/machines/start_sandbox.py", "shared/sandbox/supervisor.py", "shared/origins/room.py"),
        *("shared/machines/direct_boot/guest/fill", "provisioner/bootstrap.sh", "provisioner/__main__.py"),
    } <= set(files)
    assert not {name for name in files if name.startswith(("shared/gcp", "shared/workers", "goldsmith", "tests"))}
    assert not {name for name in files if "__pycache__" in name}


def test_the_same_sources_give_the_same_bytes() -> None:
    again = [sys.executable, "-c", "from shared.delivery import maker_bundle as m; print(m.maker_version())"]
    tree = Path(__file__).parents[3]
    assert subprocess.run(again, cwd=tree, check=True, capture_output=True, text=True).stdout.strip() == maker_version()


def test_only_a_maker_gets_it() -> None:
    job = Job("hello-0123456789ab", 1, "00", ())
    assert MAKER not in small_files(job)
    assert small_files(Job("hello-0123456789ab", 1, "00", (), makes_root=True))[MAKER] == maker_zip()
