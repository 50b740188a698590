"""Where calls go on that nobody took, as a graph of destinations: its circles, and its order. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from b2bua.directory import Cause

Ways = Mapping[str, Mapping[Cause, str]]   # destination -> where a call goes on from it


def circles(ways: Ways) -> Iterator[tuple[str, Cause, tuple[str, ...]]]:
    """Each way that leads back to where a call has been: whose it is, its cause, and the circle from there to there.

    Without recursion, here and below: a file may have a chain of thousands.
    """
    done: set[str] = set()
    for root in ways:
        if root in done:
            continue
        path = {root: iter(ways.get(root, {}).items())}
        while path:
            here = next(reversed(path))
            cause, target = next(path[here], (None, ""))
            if cause is None:
                done.add(here)
                del path[here]
            elif target in path:
                been = list(path)
                yield here, cause, (*been[been.index(target):], target)
            elif target not in done:
                path[target] = iter(ways.get(target, {}).items())


def all_from(ways: Ways, begin: str) -> list[str]:
    """Where a call can come from `begin`, the first; each before all that it leads to, if there is no circle."""
    order: list[str] = []
    path = {begin: iter(ways.get(begin, {}).values())}
    seen = {begin}
    while path:
        here = next(reversed(path))
        target = next(path[here], None)
        if target is None:
            order.append(here)
            del path[here]
        elif target not in seen:
            seen.add(target)
            path[target] = iter(ways.get(target, {}).values())
    return order[::-1]
