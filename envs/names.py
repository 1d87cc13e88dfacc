"""What somebody may have meant who wrote a name that nothing has."""

import difflib
from collections.abc import Iterable


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, whatever its case; empty where none is near."""
    by_lower_case = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(given.lower(), by_lower_case, n=1)
    return f"; did you mean {by_lower_case[matches[0]]!r}?" if matches else ""
