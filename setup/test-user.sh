#!/bin/sh
# Make the ordinary user that tests of the chroot engine run as: goldsmith-test, without a home, with 65536 subordinate
# ids that no other user has. Only root can do so, and needs it: for any other user, tests run with that user's own ids.
# What is there already is left as it is.
set -eu
PATH=$PATH:/usr/sbin:/sbin
user=goldsmith-test
first_of_all=100000
count=65536

[ "$(id -u)" -eq 0 ] || exit 0

id "$user" >/dev/null 2>&1 ||
	useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"

# Print the first id behind all ranges in the files given.
free() {
	awk -F : -v free="$first_of_all" '$2 + $3 > free { free = $2 + $3 } END { print free }' "$@"
}

has_range() {
	awk -F : -v user="$user" -v count="$count" '$1 == user && $3 >= count { found = 1 } END { exit !found }' "$1"
}

touch /etc/subuid /etc/subgid
start=$(free /etc/subuid /etc/subgid)
has_range /etc/subuid || usermod --add-subuids "$start-$((start + count - 1))" "$user"
has_range /etc/subgid || usermod --add-subgids "$start-$((start + count - 1))" "$user"
