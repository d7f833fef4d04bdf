"""Where a submodule lies."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import StepFailed
from agent.core.repository import host_of, transport
from agent.core.submodules import address_of, urls

HTTPS = "https://git.example.org/me/app.git"
SSH = "ssh://git@git.example.org:2222/srv/me/app.git"
SHORT = "git@git.example.org:me/app.git"
PATH = "/srv/git/app.git"


@pytest.mark.parametrize(
    ("base", "url", "expected"),
    [
        (HTTPS, "../lib.git", "https://git.example.org/me/lib.git"),
        (HTTPS + "/", "../lib.git", "https://git.example.org/me/lib.git"),
        (HTTPS, "../../you/lib", "https://git.example.org/you/lib"),
        (HTTPS, "./lib", "https://git.example.org/me/app.git/lib"),
        (HTTPS, ".././/./lib/", "https://git.example.org/me/lib"),
        (HTTPS, "https://GIT.example.org/you/lib", "https://GIT.example.org/you/lib"),
        (HTTPS, "https://git.example.org:443/lib", "https://git.example.org:443/lib"),
        (HTTPS, "git@git.example.org:you/lib", "git@git.example.org:you/lib"),
        (HTTPS, "ssh://git.example.org:2200/lib", "ssh://git.example.org:2200/lib"),
        (SSH, "../lib", "ssh://git@git.example.org:2222/srv/me/lib"),
        (SSH, "../../../lib", "ssh://git@git.example.org:2222/lib"),
        (SSH, "https://git.example.org/lib", "https://git.example.org/lib"),
        (SHORT, "../lib.git", "git@git.example.org:me/lib.git"),
        (SHORT, "../../you/lib.git", "git@git.example.org:you/lib.git"),
        (SHORT, "ssh://root@git.example.org/x", "ssh://root@git.example.org/x"),
        ("[git.example.org:2222]:/srv/app", "../lib", "[git.example.org:2222]:/srv/lib"),
        (PATH, "../lib.git", "/srv/git/lib.git"),
        (PATH, "./modules/lib", "/srv/git/app.git/modules/lib"),
        (PATH, "/srv/git/x/../lib", "/srv/git/lib"),
    ],
)
def test_what_lies_beside_the_repository_is_found(base: str, url: str, expected: str) -> None:
    assert address_of(url, base, base) == expected


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (HTTPS, "https://example.org/lib"),
        (HTTPS, "https://git.example.org.evil.org/lib"),
        (HTTPS, "https://git.example.org:8443/lib"),
        (HTTPS, "https://token@git.example.org/lib"),
        (HTTPS, "https://user:hunter2@git.example.org/lib"),
        (HTTPS, "https://git.example.org@evil.org/lib"),
        (HTTPS, "http://git.example.org/lib"),
        (HTTPS, "../../../lib"),
        (HTTPS, "../.."),
        (HTTPS, "/srv/lib"),
        (HTTPS, "lib"),
        (HTTPS, ""),
        (HTTPS, "-oProxyCommand=x"),
        (HTTPS, "ext::sh -c x"),
        (HTTPS, "file:///srv/lib"),
        (HTTPS, "git@other.example.org:lib"),
        (SSH, "ssh://git@git.example.org/lib"),
        (SSH, "ssh://-oProxyCommand=x/lib"),
        (SHORT, "../../../lib"),
        (SHORT, "git@git.example.org:"),
        (PATH, "https://localhost/lib"),
        (PATH, "/etc/lib"),
        (PATH, "/srv/git"),
        (PATH, "../../lib"),
        (PATH, "../sub/lib"),
        (PATH, "../app.git/../../x"),
        (PATH, "~/lib"),
        (PATH, "/srv/git/lib\n"),
    ],
)
def test_what_lies_elsewhere_is_refused(base: str, url: str) -> None:
    """R-GIT-1, R-GIT-3"""
    with pytest.raises(StepFailed) as caught:
        address_of(url, base, base)
    assert caught.value.code == "submodule-refused"
    assert "hunter2" not in caught.value.message


def test_a_submodule_of_a_submodule_is_relative_to_it_and_judged_by_the_configured_repository() -> None:
    assert address_of("../c", "/srv/git/b", PATH) == "/srv/git/c"
    assert address_of("./../../b", "/srv/git/app.git/x", PATH) == "/srv/git/b"
    with pytest.raises(StepFailed):
        address_of("../c", "/srv/git/app.git/../../x", PATH)


@given(
    st.sampled_from([HTTPS, SSH, SHORT, PATH]),
    st.lists(
        st.sampled_from(["..", ".", "", "a", "b:c", "git@evil.org", "https:", "x@y:z", "~"]), max_size=8
    ),
    st.sampled_from(["", "./", "../", "/", "https://git.example.org/", "git@evil.org:", "https://"]),
)
def test_no_address_leads_to_another_host(base: str, parts: list[str], head: str) -> None:
    """R-GIT-3"""
    try:
        address = address_of(head + "/".join(parts), base, base)
    except StepFailed:
        return
    if transport(base) == "path":
        assert transport(address) == "path"
        assert posixpath.commonpath([address, "/srv/git"]) == "/srv/git"
    else:
        assert host_of(address)[0] == "git.example.org"


def test_gitmodules_names_a_url_for_each_path() -> None:
    listing = (
        b"submodule.a.b.path\nlib/a\0submodule.a.b.url\n../a\0submodule.c.path\nlib/c\0core.path\nx\0"
        b"submodule.d.url\n../d\0submodule.a.b.update\n!evil\0submodule.a.b.url\n../last\0submodule.e.path\0"
    )
    assert urls(listing) == {b"lib/a": "../last"}
    assert urls(b"") == {}


@given(st.binary(max_size=200))
def test_no_gitmodules_is_too_strange_to_be_read(listing: bytes) -> None:
    urls(listing)
    urls(b"submodule.a.url\n" + listing)
