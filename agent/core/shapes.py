"""What text in the configuration must look like: paths below a directory, URLs, hosts, networks."""

import posixpath
import re
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit


def inside_problem(path: str) -> str:
    """Why a path does not name something below its directory; "" if it does."""
    if not path.strip() or posixpath.normpath(path) == ".":
        return "must name something below the directory"
    if path.startswith(("/", "~")):
        return "must be relative"
    if ".." in path.split("/"):
        return "must not contain `..`"
    if posixpath.normpath(path) != path.removesuffix("/"):
        return "must be written without `.` and double slashes"
    return "must not contain control characters" if re.search(r"[\x01-\x1f\x7f]", path) else ""


def is_inside(path: str, other: str) -> bool:
    """Whether one path lies below the other."""
    return path.startswith(other.rstrip("/") + "/")


def overlap(path: str, other: str) -> bool:
    """Whether one path is, or lies below, the other."""
    return path == other or is_inside(path, other) or is_inside(other, path)


def unit_problem(unit: str, kinds: tuple[str, ...]) -> str:
    """Why it is not the full name of a unit of these kinds (systemd.unit(5)); "" if it is."""
    name, _, kind = unit.rpartition(".")
    if kind not in kinds:
        return f"must be a unit's full name, such as {name or kind or 'scraper'}.{kinds[0]}"
    if not re.fullmatch(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?", name) or len(unit) > 255:
        return "is not a unit's name: letters, digits and :-_.\\, and an instance after one @"
    return ""


def url_problem(url: str) -> str:
    """Why it is not an http(s) URL that can be used; "" if it is. Never repeats the URL."""
    split = split_url(url)
    if split is None or not split.hostname or re.search(r"[\x00-\x20\x7f]", url):
        return "must be a URL such as http://127.0.0.1:9100/health"
    if split.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if "@" in split.netloc:
        return "must not hold a user name or password"
    return "" if is_host(split.hostname) else "names no valid host"


def split_url(url: str) -> SplitResult | None:
    """The parts of a URL; None if it is none."""
    try:
        split = urlsplit(url)
        _ = split.port, split.hostname
    except ValueError:
        return None
    return split


def is_host(host: str) -> bool:
    """Whether it is an IP address or can be a host's name."""
    try:
        ip_address(host)
    except ValueError:
        return re.fullmatch(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?", host) is not None
    return True


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of `127.0.0.1:9100` or `[::1]:9100`. Raises ValueError if it is no IP address and port."""
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (":" in bare) != (bare != host):
        raise ValueError(address)
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise ValueError(address)
    return str(ip_address(bare)), int(port)


def is_network(text: str) -> bool:
    """Whether it is an IP address or a network of them."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True
