#!/bin/sh
# Unpack diskimage-builder from PyPI into .venv/share, whose elements are what tests run, and what they are compared
# with. It is data: nothing here imports it, and .venv/bin/python does not find it.
#
# Run by `make setup`. It does nothing where the package is there.
set -eu
cd "$(dirname "$0")/.."
place=.venv/share/diskimage-builder-3.43.0
[ ! -d "$place" ] || exit 0
echo "setup: fetching diskimage-builder, whose elements the tests use" >&2
mkdir -p .venv/share
scratch=$(mktemp -d .venv/share/new-XXXXXX)
trap 'rm -rf "$scratch"' EXIT

cat >"$scratch/requirements.txt" <<'END'
diskimage-builder==3.43.0 \
    --hash=sha256:ece951ea63ea0ea55ecb4c4a75d6d453dc5e77c5558aace3dee883fa0e2dd039
END
.venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check --require-hashes \
	--only-binary :all: --no-deps --no-compile --target "$scratch/unpacked" -r "$scratch/requirements.txt"
mv "$scratch/unpacked" "$place"
