"""What is said of a value of a wrong type, with its hint and with what is left out so that the rest can be read."""

import pytest

from agent.core.findings import explain
from agent.core.location import Finding, Location
from tests.core.test_configuration import differing

HERE: Location = ("services", "scraper")
PROBE: Location = (*HERE, "health", "probes", 0)
PROBES = "services__scraper__health__probes"
KINDS = "one of command, freshness, http, tcp, unit"


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"listen__port": "8300"}, Finding(("listen", "port"), "must be a whole number, not text")),
        ({"listen__port": -1}, Finding(("listen", "port"), "must be at least 0")),
        ({"listen__port": 65536}, Finding(("listen", "port"), "must be at most 65535")),
        ({"listen__host": 1}, Finding(("listen", "host"), "must be text, not a whole number", "put it in quotes")),
        ({"listen__host": 1.5}, Finding(("listen", "host"), "must be text, not a number", "put it in quotes")),
        ({"listen__host": True}, Finding(("listen", "host"), "must be text, not true or false", "put it in quotes")),
        ({"listen__host": []}, Finding(("listen", "host"), "must be text, not a list")),
        ({"listen__host": {}}, Finding(("listen", "host"), "must be text, not a block of options")),
        ({"listen__host": None}, Finding(("listen", "host"), "must be text, not empty")),
        ({"hosts": "pi.local"}, Finding(("hosts",), "must be a list, not text", "write a list: [one, two]")),
        ({"hosts": 1}, Finding(("hosts",), "must be a list, not a whole number")),
        ({"listen__prot": 1}, Finding(("listen", "prot"), "is not an option", "did you mean `port`?")),
        ({"listen__zzz": 1}, Finding(("listen", "zzz"), "is not an option")),
        (
            {"services__scraper__health__every": 5},
            Finding((*HERE, "health", "every"), "must be a duration such as 200ms, 30s, 5m, 2h or 30d",
                    "a duration has a unit"),
        ),
        (
            {"services__scraper__deploy__build__memory": "2 GB"},
            Finding((*HERE, "deploy", "build", "memory"), "must be a size such as 64M or 2G"),
        ),
        (
            {PROBES: [{"kind": "htpp", "url": "http://h/"}]},
            Finding((*PROBE, "kind"), f"must be {KINDS}", "did you mean `http`?", drop=PROBE, whole=True),
        ),
        ({PROBES: [{"url": "http://h/"}]}, Finding((*PROBE, "kind"), f"is missing: {KINDS}", drop=PROBE)),
        ({PROBES: ["x"]}, Finding(PROBE, "must be a block of options with a kind, not text")),
        (
            {"access": {"tokens": [{"name": "a", "secret": "x"}]}},
            Finding(("access", "tokens", 0, "secret"),
                    "must be a reference: {env: NAME}, {file: PATH} or {credential: NAME}",
                    "a secret is never written in the file itself"),
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_whole(changes: dict[str, object], finding: Finding) -> None:
    assert explain(differing(**changes)) == [finding]
