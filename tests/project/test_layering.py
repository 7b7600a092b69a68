"""Who may import whom, and where input and output may be done.

main → functions → shared → provisioner.protocol → standard library;  goldsmith → shared;  emulator → shared

Everything directly in shared/ is the core unless it is named in OUTER: a new module is held to the strictest rule until
somebody decides otherwise, here.
"""

OURS = ("main", "functions", "goldsmith", "provisioner", "shared", "emulator", "tests", "benchmarks")

MAY_IMPORT_OF_OURS = {
    "main": ("functions",),
    "functions": ("functions", "shared"),
    "goldsmith": ("goldsmith", "shared"),
    "emulator": ("emulator", "shared"),
    "shared": ("shared", "provisioner.protocol"),
    "provisioner": ("provisioner",),
}

ADAPTERS = ("shared.gcp", "shared.local")
FACTORY = "shared.factory"
# What works on files, or with a factory in hand.
ACTING = (
    "shared.bundle",
    "shared.context",
    "shared.context_members",
    "shared.requests",
    "shared.sweep",
    "shared.watch",
    "shared.workers",
)
