#!/bin/bash
# Runs as root on the build VM, in the folder of the spec's context. Whatever it changes on the disk is in the image;
# an exit status other than 0 fails the build.
set -euo pipefail

# The variable comes from `env` in build.yaml. Without it, -u makes the script stop here.
echo "${GREETING} from $(uname --machine)" > /var/lib/hello

# What a step prints is shown by `goldsmith build` and kept in the build's log.
cat /var/lib/hello
