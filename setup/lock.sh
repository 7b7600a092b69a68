#!/bin/sh
# Write requirements.txt and requirements-dev.txt from requirements.in and requirements-dev.in: every package that is
# needed, directly or indirectly, with the hashes of all of its files. Versions stay as they are where possible:
#
#     setup/lock.sh [--upgrade | --upgrade-package NAME] ...
#
# It needs only PyPI, and leaves only the two files behind: uv, which resolves for all versions of
# Python at once, goes into an environment that is thrown away (docs/decisions/0034-hashes-of-packages.md).
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cat >"$scratch/requirements.txt" <<'END'
uv==0.13.9 \
    --hash=sha256:5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe \
    --hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19 \
    --hash=sha256:ecb6028d79dc96fbeafffe5c8af62a7099487ebc05a701e76714eebcffd06375
END
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --require-hashes \
	--only-binary :all: -r "$scratch/requirements.txt"

# Wheels alone: building a package would run code that no hash covers. colorama is for Windows.
lock() {
	target=$1
	shift
	"$scratch/venv/bin/uv" pip compile --quiet --no-config --cache-dir "$scratch/cache" \
		--universal --python-version 3.11 --no-build --no-emit-package colorama \
		--generate-hashes --emit-build-options --no-emit-index-url --custom-compile-command 'make lock' \
		--output-file "$target" "$@" >/dev/null
}

lock requirements.txt requirements.in "$@"
lock requirements-dev.txt requirements-dev.in --constraints requirements.txt "$@"
