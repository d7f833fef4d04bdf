"""Which of two instances is meant, and what a probe asks it."""

import pytest

from agent.core import colours, settings
from agent.core.colours import Colour, Side, asked_of, chosen, instance, lacking, meant

BLUE, GREEN = Colour.BLUE, Colour.GREEN
OLD, NEW = "1-aaaaaaa", "2-bbbbbbb"
PORTS = (9101, 9102)
MIB = 1 << 20


def sides(blue: str | None = None, green: str | None = None, **named: str) -> dict[Colour, Side]:
    """What runs in each, and what is named where that differs."""
    return {
        BLUE: Side(running=blue, named=named.get("blue", blue)),
        GREEN: Side(running=green, named=named.get("green", green)),
    }


@pytest.mark.parametrize(
    ("there", "serving", "expected"),
    [
        (sides(), None, BLUE),
        (sides(blue=OLD), BLUE, GREEN),
        (sides(green=OLD), GREEN, BLUE),
        (sides(blue=OLD, green=NEW), BLUE, GREEN),
        (sides(blue=NEW, green=OLD), GREEN, BLUE),
        (sides(), GREEN, GREEN),
        (sides(green=OLD), BLUE, BLUE),
        (sides(blue=OLD, green="3-ccccccc"), BLUE, GREEN),
        (sides(blue=""), BLUE, GREEN),
        (sides(blue=OLD), None, GREEN),
        (sides(green=NEW, blue=OLD), None, GREEN),
        (sides(blue=OLD, green="3-ccccccc"), None, GREEN),
    ],
)
def test_a_release_stays_where_it_runs_and_else_goes_beside_who_serves(
    there: dict[Colour, Side], serving: Colour | None, expected: Colour
) -> None:
    assert chosen(NEW, there, serving) is expected


def test_where_nobody_knows_who_serves_the_link_that_names_it_says_where() -> None:
    assert chosen(NEW, sides(green=None, blue=OLD) | {GREEN: Side(named=NEW)}, None) is GREEN


@pytest.mark.parametrize(
    ("current", "there", "serving", "expected"),
    [
        (NEW, sides(blue=OLD, green=NEW), BLUE, GREEN),
        (OLD, sides(blue=OLD, green=NEW), GREEN, BLUE),
        (NEW, {BLUE: Side(running=OLD, named=OLD), GREEN: Side(named=NEW)}, BLUE, GREEN),
        (NEW, sides(blue=OLD), BLUE, BLUE),
        (None, sides(blue=OLD, green=NEW), GREEN, GREEN),
        (None, sides(green=NEW), None, GREEN),
        (None, sides(), None, BLUE),
    ],
)
def test_who_asks_about_the_service_means_what_current_names(
    current: str | None, there: dict[Colour, Side], serving: Colour | None, expected: Colour
) -> None:
    assert meant(current, there, serving) is expected


def test_a_second_copy_needs_its_memory_and_a_margin() -> None:
    assert lacking(100 * MIB, 116 * MIB) == ""
    assert lacking(100 * MIB, 116 * MIB - 1) == ("115M of memory are available, and a second copy needs 116M")
    assert lacking(1 << 60, None) == ""


@pytest.mark.parametrize(
    ("probe", "green"),
    [
        (
            settings.HttpProbe(url="http://127.0.0.1:9101/health?a=9101"),
            settings.HttpProbe(url="http://127.0.0.1:9102/health?a=9101"),
        ),
        (settings.HttpProbe(url="http://[::1]:9101/"), settings.HttpProbe(url="http://[::1]:9102/")),
        (settings.HttpProbe(url="http://127.0.0.1:9200/"), settings.HttpProbe(url="http://127.0.0.1:9200/")),
        (settings.TcpProbe(port=9101), settings.TcpProbe(port=9102)),
        (settings.TcpProbe(port=80), settings.TcpProbe(port=80)),
        (settings.UnitProbe(unit="app@.service"), settings.UnitProbe(unit="app@green.service")),
        (settings.UnitProbe(unit="worker.service"), settings.UnitProbe(unit="worker.service")),
        (settings.CommandProbe(command="true"), settings.CommandProbe(command="true")),
    ],
)
def test_the_first_port_stands_for_whichever_instance_is_asked(
    probe: settings.AnyProbe, green: settings.AnyProbe
) -> None:
    asked = {colour: asked_of(probe, colour, unit="app@.service", ports=PORTS) for colour in Colour}
    assert asked[GREEN] == green
    assert asked[BLUE] == (probe if probe != settings.UnitProbe(unit="app@.service") else asked[BLUE])


def test_an_instance_is_named_behind_the_at() -> None:
    assert instance("app@.service", BLUE) == "app@blue.service"
    assert colours.is_template("app@.service")
    assert not colours.is_template("app@blue.service")
