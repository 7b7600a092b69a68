#!/bin/bash
# Runs on the build VM, in a copy of this folder.
set -euo pipefail
echo "$GREETING from $(uname -m)" >"$PLACE"
