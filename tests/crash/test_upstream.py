"""The file by which nginx sends users to one of two colours, and the plug."""

import random
import subprocess
import sys
import time

import pytest

from agent.core import upstreams
from agent.core.colours import Colour
from tests.crash.plug import Plug, plug
from tests.meta.sources import ROOT

__all__ = ["plug"]

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

PORTS = (9101, 9102)
TEXTS = {upstreams.text_of("app", colour, PORTS): colour for colour in Colour}
SWAPS = """
import sys
from itertools import cycle
from pathlib import Path
from agent.core.colours import Colour
from agent.system import upstream
refused = cycle([False, False, True])
def tried(service):
    if next(refused):
        raise upstream.NotSwappedError("no")
upstream._try, upstream._take_up = tried, lambda: None
for colour in cycle(Colour):
    try:
        upstream.swap("app", colour, (9101, 9102), Path(sys.argv[1]))
        print(colour, flush=True)
    except upstream.NotSwappedError:
        print("back", flush=True)
"""
CUTS = 6


def test_a_power_cut_leaves_the_file_whole_and_what_was_done_is_done(plug: Plug) -> None:
    """R-PL-1: swaps, and such as nginx refuses; what the device had not written is lost."""
    chance = random.Random(1)
    place = plug.mount_point / "conf.d"
    place.mkdir()
    for _ in range(CUTS):
        command = [sys.executable, "-c", SWAPS, str(place)]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as swaps:
            assert swaps.stdout is not None
            first = swaps.stdout.readline()
            time.sleep(chance.uniform(0, 0.1))
            plug.pull()
            rest, _ = swaps.communicate(timeout=60)
        plug.plug_in()
        told = (first + rest).split()
        done = next(word for word in reversed(told) if word != "back")
        begun = list(Colour)[len(told) % 2]
        text = (place / upstreams.path_of("app").rpartition("/")[2]).read_text()
        assert text in TEXTS, text
        assert TEXTS[text] in (done, begun), (told[-4:], text)
