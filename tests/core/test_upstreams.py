"""The file of nginx's upstream, and what a unit's name may ask for."""

import pytest

from agent.core.colours import Colour
from agent.core.upstreams import asked, is_used, ports_in, served_by, table_of, text_of, unit_of

PORTS = (9101, 9102)


@pytest.mark.parametrize("colour", Colour)
def test_a_file_tells_whom_it_names(colour: Colour) -> None:
    text = text_of("app", colour, PORTS)
    assert served_by(text, "app", PORTS) is colour
    assert served_by(text.partition("\n")[2], "app", PORTS) is colour, "without the comment"


@pytest.mark.parametrize("colour", Colour)
def test_no_part_of_a_file_tells_anything_unless_it_is_whole(colour: Colour) -> None:
    text = text_of("app", colour, PORTS).rstrip()
    for end in range(len(text)):
        assert served_by(text[:end], "app", PORTS) is None, text[:end]


def test_ports_that_are_not_the_services_are_nobody() -> None:
    assert served_by(text_of("app", Colour.BLUE, (1, 2)), "app", PORTS) is None
    both = "upstream homeport-app {\n    server 127.0.0.1:9101;\n    server 127.0.0.1:9102;\n}\n"
    assert served_by(both, "app", PORTS) is None


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        ("app-blue", ("app", Colour.BLUE)),
        ("my-app-green", ("my-app", Colour.GREEN)),
        ("app-red", None), ("blue", None), ("-blue", None), ("", None), ("app", None),
    ],
)  # fmt: skip
def test_a_units_instance_says_a_service_and_a_colour(instance: str, expected: object) -> None:
    assert asked(instance) == expected
    if expected:
        assert unit_of(*asked(instance) or ("", Colour.BLUE)) == f"homeport-upstream@{instance}.service"


def test_the_table_is_read_as_it_was_written_and_nothing_else_is() -> None:
    text = table_of({"app": PORTS, "bot": (1, 2)})
    assert ports_in(text, "app") == PORTS
    assert ports_in(text, "../app") is None
    for wrong in ("", "[]", '{"app": 1}', '{"app": ["9101", "9102; include /etc/x"]}', '{"app": [1]}'):
        assert ports_in(wrong, "app") is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("        proxy_pass http://homeport-app;", True),
        ("        proxy_pass http://homeport-app/x/;", True),
        ("        proxy_pass http://homeport-app$request_uri;", True),
        ('        proxy_pass "http://homeport-app";', True),
        ("    location / { proxy_pass http://homeport-app; }", True),
        ("        grpc_pass grpc://homeport-app;", True),
        ("        uwsgi_pass homeport-app;", True),
        ("        # proxy_pass http://homeport-app;", False),
        ("        proxy_pass http://homeport-app-two;", False),
        ("        proxy_pass http://127.0.0.1:9101;", False),
        ("upstream homeport-app {", False),
    ],
)
def test_a_site_that_passes_to_the_upstream_is_found(line: str, *, expected: bool) -> None:
    assert is_used(f"http {{\nserver {{\n{line}\n}}\n}}\n", "app") is expected
