"""What a web server said to git besides git's own words: read from the trace that git writes of its requests. Pure.

git says "The requested URL returned error: 429" and nothing of the Retry-After that came along (it learned to wait by
itself only in 2.54). GIT_TRACE_CURL=2 puts the headers between its complaints, each line with a time and a source line;
git itself blacks out credentials there, and no line of it goes any further than this module.
"""

import re
from email.utils import parsedate_to_datetime

_LINE = re.compile(r"^\d\d:\d\d:\d\d\.\d{6} [\w./-]+\.c:\d+ +", re.MULTILINE)
_TRACED = re.compile(_LINE.pattern + r"(.*)\n?", re.MULTILINE)
_HEADER = re.compile(r"<= Recv header: *([A-Za-z-]+) *: *(.*?)\s*$")
_STATUS = re.compile(r"<= Recv header: *HTTP/[0-9.]+ (\d{3})")
_LIMITED = frozenset({"403", "429", "500", "502", "503", "504"})
"""Answers with which a Retry-After means what it says; GitHub limits with 403 and 429."""


def without(text: str, *, is_cut: bool) -> str:
    """What git said without the trace. `is_cut`: the beginning is missing, and with it the mark of the first line."""
    if is_cut:
        text = text.partition("\n")[2]
    return _TRACED.sub("", text)


def retry_after(text: str) -> float | None:
    """The seconds that the last answer asked to be left alone, if it was a refusal for now.

    A date is compared with the answer's own: a Pi's clock may be anywhere.
    """
    status, headers = "", dict[str, str]()
    for line in _TRACED.findall(text):
        if found := _STATUS.match(line):
            status, headers = found[1], {}
        elif found := _HEADER.match(line):
            headers[found[1].lower()] = found[2]
    wanted = headers.get("retry-after", "")
    if status not in _LIMITED or not wanted:
        return None
    return float(wanted) if re.fullmatch(r"[0-9]{1,6}", wanted) else _until(wanted, headers.get("date", ""))


def _until(date: str, now: str) -> float | None:
    try:
        seconds = (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds()
    except (ValueError, TypeError):  # no date; one with a zone and one without
        return None
    return max(seconds, 0.0)
