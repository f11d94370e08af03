"""Where a function is to run, if that can be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

from tunnelkit.config.names import check_name
from tunnelkit.errors import InvalidError

__all__ = ["SchedulerPlacement"]


class _Zone:
    """``SchedulerPlacement.zone``: of the class, a way to make one; of a placement, the zone's name."""

    @overload
    def __get__(
        self, placement: None, kind: type[SchedulerPlacement]
    ) -> Callable[[str], SchedulerPlacement]: ...
    @overload
    def __get__(self, placement: SchedulerPlacement, kind: type[SchedulerPlacement]) -> str | None: ...
    def __get__(
        self, placement: SchedulerPlacement | None, kind: type[SchedulerPlacement]
    ) -> Callable[[str], SchedulerPlacement] | str | None:
        if placement is not None:
            return placement._zone

        def zone(zone: str) -> SchedulerPlacement:
            """Prefer ``zone``, such as ``eu-west-1``. Raises InvalidNameError."""
            return kind(zone=zone)

        return zone


class SchedulerPlacement:
    """Zones in which a function preferably runs; where none of them has room, it runs elsewhere.

    ``SchedulerPlacement.zone("eu-west-1")`` names one zone. ``SchedulerPlacement(region="eu")`` means all
    zones of a region (or of several): those whose names are the region's, or go on from it with a hyphen.
    """

    __slots__ = ("_region", "_zone")

    zone = _Zone()

    def __init__(self, *, region: str | Iterable[str] | None = None, zone: str | None = None) -> None:
        """One of the two or both: then the zone comes first and the region next. Raises InvalidError."""
        regions = () if region is None else (region,) if isinstance(region, str) else tuple(region)
        self._region = tuple(check_name(name, what="region") for name in regions)
        self._zone = None if zone is None else check_name(zone, what="zone")
        if not self._region and self._zone is None:
            raise InvalidError("A placement without a place", hint="Give zone= or region=")

    @property
    def region(self) -> tuple[str, ...]:
        """The regions, in the order of preference."""
        return self._region

    def order(self, zones: Iterable[str]) -> list[str]:
        """Those of ``zones`` that are preferred, best first; empty where none is."""
        ranked = [(rank, zone) for zone in zones if (rank := self._rank(zone)) is not None]
        return [zone for _, zone in sorted(ranked, key=lambda it: it[0])]

    def _rank(self, zone: str) -> int | None:
        if zone == self._zone:
            return 0
        fits = (
            i for i, region in enumerate(self._region, 1) if zone == region or zone.startswith(f"{region}-")
        )
        return next(fits, None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SchedulerPlacement):
            return NotImplemented
        return (self._zone, self._region) == (other._zone, other._region)

    def __hash__(self) -> int:
        return hash((SchedulerPlacement, self._zone, self._region))

    def __repr__(self) -> str:
        if not self._region:
            return f"SchedulerPlacement.zone({self._zone!r})"
        zone = "" if self._zone is None else f", zone={self._zone!r}"
        return f"SchedulerPlacement(region={list(self._region)!r}{zone})"
