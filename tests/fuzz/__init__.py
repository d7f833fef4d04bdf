"""Fuzzing: what nobody would write by hand goes into every place that reads what others wrote.

Each case is made by a generator of its own number, so it can be had again alone. The seed is fixed in CI; a failure
prints what to type. By hand:

    make fuzz                    ten times the cases
    FUZZ_TIMES=50 FUZZ_SEED=7    any number, other cases
    FUZZ_CASE=1234               one case of each
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time
from typing import TypeVar

T = TypeVar("T")

TIMES = float(os.environ.get("FUZZ_TIMES", "1"))
SEED = os.environ.get("FUZZ_SEED", "20261129")
ONLY = os.environ.get("FUZZ_CASE")

SECONDS = 5.0
"""Of the processor, for one case of at most some hundred kilobytes: hundreds of times what it takes. What is
quadratic has tests of its own with long inputs; this finds what never ends."""


def numbers(count: int) -> Iterator[int]:
    """The cases of a test: `count` of them in CI."""
    return iter((int(ONLY),)) if ONLY else iter(range(int(count * TIMES)))


def chance_of(name: str, number: int) -> random.Random:
    """What decides about one case."""
    return random.Random(f"{SEED}/{name}/{number}")


@contextmanager
def case_of(name: str, number: int, shown: object) -> Iterator[None]:
    """What fails inside says which case it was, and how to have it again. It must not take long either."""
    began = thread_time()
    try:
        yield
        took = thread_time() - began
        assert took < SECONDS, f"it took {took:.1f} s"
    except Exception as error:
        text = f"case {number} of {name} (FUZZ_SEED={SEED} FUZZ_CASE={number}): {error!r} of {shown!r}"
        raise AssertionError(text[:6000]) from error


def fuzz(name: str, count: int, make: Callable[[random.Random], T], judge: Callable[[T], object]) -> None:
    """Judges every case that is made; prints how many there were."""
    done = 0
    for number in numbers(count):
        made = make(chance_of(name, number))
        with case_of(name, number, made):
            judge(made)
        done += 1
    print(f"{name}: {done} cases, seed {SEED}")
    assert done
