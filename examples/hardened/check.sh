#!/bin/bash
# Runs on a VM that has booted from the new image. An exit status other than 0 keeps the image from its family.
set -euo pipefail
test "$(sysctl -n kernel.kptr_restrict)" = 2
test ! -u /usr/bin/chsh
passwd --status root | grep -q '^root L'
