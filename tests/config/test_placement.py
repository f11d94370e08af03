from __future__ import annotations

import pickle

import pytest

from tunnelkit import SchedulerPlacement
from tunnelkit.errors import InvalidError, InvalidNameError

ZONES = ["us-east-1", "eu-west-1", "eu-central-1", "europe-1", "eu"]


def test_a_zone() -> None:
    placement = SchedulerPlacement.zone("eu-west-1")
    assert placement.zone == "eu-west-1"
    assert placement.region == ()
    assert placement.order(ZONES) == ["eu-west-1"]
    assert repr(placement) == "SchedulerPlacement.zone('eu-west-1')"
    assert placement == SchedulerPlacement(zone="eu-west-1")


@pytest.mark.parametrize(
    ("placement", "zones"),
    [
        (SchedulerPlacement(region="eu"), ["eu-west-1", "eu-central-1", "eu"]),
        (SchedulerPlacement(region="eu-west"), ["eu-west-1"]),
        (SchedulerPlacement(region=["us", "eu"]), ["us-east-1", "eu-west-1", "eu-central-1", "eu"]),
        (
            SchedulerPlacement(region=["eu"], zone="us-east-1"),
            ["us-east-1", "eu-west-1", "eu-central-1", "eu"],
        ),
        (SchedulerPlacement(region="eu", zone="eu-central-1"), ["eu-central-1", "eu-west-1", "eu"]),
        (SchedulerPlacement(region="ap"), []),
    ],
    ids=repr,
)
def test_the_order_of_preference(placement: SchedulerPlacement, zones: list[str]) -> None:
    assert placement.order(ZONES) == zones


def test_it_is_a_value() -> None:
    placement = SchedulerPlacement(region=["eu", "us"], zone="eu-west-1")
    assert pickle.loads(pickle.dumps(placement)) == placement
    assert len({placement, SchedulerPlacement(region=("eu", "us"), zone="eu-west-1")}) == 1
    assert placement != SchedulerPlacement.zone("eu-west-1")
    assert placement != "eu-west-1"
    assert repr(placement) == "SchedulerPlacement(region=['eu', 'us'], zone='eu-west-1')"


@pytest.mark.parametrize("wrong", ["", "a b", "x" * 65, None, 7])
def test_names(wrong: object) -> None:
    with pytest.raises(InvalidError):
        SchedulerPlacement.zone(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidNameError):
        SchedulerPlacement(region=["eu", wrong])  # type: ignore[list-item]


def test_nowhere() -> None:
    for make in (SchedulerPlacement, lambda: SchedulerPlacement(region=[])):
        with pytest.raises(InvalidError, match="without a place"):
            make()
