"""A price list: what Google Cloud charges for what builds use. A price that it does not have is None, never a guess.

It is also the form of the JSON file of `goldsmith plan --prices`, whose entries replace those of the list that is
shipped (list_prices.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import InputError
from ...json_values import reader

_SHAPE = re.compile(r"([a-z][a-z0-9]*)-([a-z]+)-([0-9]{1,4})")
MONTH_HOURS = 730.0  # of a month, as Google Cloud's price pages count
MOST = 1e6  # dollars, GB a vCPU, or a factor: what is larger is a mistake
LONGEST_DATE = 40  # characters
_SINGLE = ("image_gb_month", "invocation", "address_hour", "spot_address_hour")  # prices that are the same everywhere


@dataclass(frozen=True)
class MachinePrices:
    """The prices of a series of machine types, such as e2, in dollars an hour."""

    vcpu_hour: float
    gb_hour: float  # of memory
    memory: Mapping[str, float]  # GB of memory a vCPU, by the word in the type's name: standard, highmem ...
    regions: Mapping[str, float]  # the factor of each region with a known price: 1 is that of the two prices above
    spot: Mapping[str, float] = field(default_factory=dict)  # by region, the share of the price that Spot VMs cost


@dataclass(frozen=True)
class PriceList:
    """List prices in US dollars, without any discount."""

    date: str  # when they were read: 2025-03-06
    source: str  # where
    machines: Mapping[str, MachinePrices] = field(default_factory=dict)  # by series
    types: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # types with a price of their own, by region
    gpus: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # an hour, by type and region
    disks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # a GB and month, by type and region
    storage: Mapping[str, float] = field(default_factory=dict)  # a GB and month of objects, by region
    image_gb_month: float | None = None
    invocation: float | None = None  # of a function
    address_hour: float | None = None  # of an external IPv4 address that a VM has
    spot_address_hour: float | None = None  # the same of a Spot VM

    def machine_hour(self, machine_type: str, region: str, *, spot: bool) -> float | None:
        """Return the price of an hour. A Spot VM without a known price counts as any other: it never costs more."""
        own = self.types.get(machine_type)
        if own is not None:
            return own.get(region)
        found = _SHAPE.fullmatch(machine_type)
        series = self.machines.get(found[1]) if found else None
        if found is None or series is None or found[2] not in series.memory or region not in series.regions:
            return None
        cpus = int(found[3])
        full = cpus * (series.vcpu_hour + series.gb_hour * series.memory[found[2]]) * series.regions[region]
        return full * (series.spot.get(region, 1.0) if spot else 1.0)

    def knows_spot(self, machine_type: str, region: str) -> bool:
        """Return whether the price of Spot VMs of a type is known, and not only what they cost at most."""
        series = self.machines.get(machine_type.partition("-")[0])
        return machine_type not in self.types and series is not None and region in series.spot

    def gpu_hour(self, gpu_type: str, region: str) -> float | None:
        """Return the price of an hour of one GPU."""
        return self.gpus.get(gpu_type, {}).get(region)

    def disk_hour(self, disk_type: str, region: str) -> float | None:
        """Return the price of an hour of one GB."""
        month = self.disks.get(disk_type, {}).get(region)
        return None if month is None else month / MONTH_HOURS

    def external_address_hour(self, *, spot: bool) -> float | None:
        """Return the price of an hour of a VM's external address."""
        return self.address_hour if self.spot_address_hour is None or not spot else self.spot_address_hour

    def over(self, other: PriceList) -> PriceList:
        """Return the list of both, in which the entries of this one count where both have some."""
        return replace(
            self,
            machines={**other.machines, **self.machines},
            types={**other.types, **self.types},
            gpus={**other.gpus, **self.gpus},
            disks={**other.disks, **self.disks},
            storage={**other.storage, **self.storage},
            **{name: getattr(other, name) for name in _SINGLE if getattr(self, name) is None},
        )


def read_prices(text: str, name: str) -> PriceList:
    """Read a price list from JSON. InputError names the file.

    Numbers have an upper bound, so that no product of them is infinite, and the date is short: it is shown with costs.
    """
    try:
        found: PriceList = reader(PriceList)(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is no price list: {error}; see docs/cost.md") from error
    if any(not 0 <= number <= MOST for number in _numbers(found)):
        raise InputError(
            f"{name} is no price list: each number is between 0 and {MOST:,.0f}, and a price is in dollars; see "
            "docs/cost.md"
        )
    if not (found.date.isprintable() and 0 < len(found.date) <= LONGEST_DATE):
        raise InputError(
            f"{name} is no price list: its date is a line of at most {LONGEST_DATE} characters, such as 2026-11-01; "
            "see docs/cost.md"
        )
    return found


def _numbers(value: Any) -> Iterator[float]:
    """Yield all numbers in a list."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _numbers(each)
    elif isinstance(value, PriceList | MachinePrices):
        yield from _numbers(vars(value))
    elif isinstance(value, int | float):
        yield value
