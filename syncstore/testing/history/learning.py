"""Which writes are known to have happened: those that were acknowledged, and doubtful ones whose tags were seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from syncstore.testing.history.order import Write
from syncstore.testing.history.records import LOOKS, Exchange


class Learnt(NamedTuple):
    """The known writes, and what remains in doubt."""

    known: list[Write]
    doubtful: list[Exchange]


def learn(
    exchanges: Sequence[Exchange], may_count: Callable[[Exchange], bool], say: Callable[[str], None]
) -> Learnt:
    """Judge the writes by what was read. `may_count` tells of a 503 whether it may have written all the same."""
    writes = [one for one in exchanges if one.sent.op not in (*LOOKS, "stage")]
    known = [Write(one, one.time) for one in writes if one.status == 200]
    doubtful = [one for one in writes if one.status is None or (one.status == 503 and may_count(one))]
    certain = {id(one) for one in doubtful}
    refused = [one for one in writes if one.status != 200 and id(one) not in certain]
    seen = _seen(exchanges, say)
    owners = {
        (write.sent.collection, item, tag): write.time
        for write in known
        for item, tag in write.sent.tags.items()
    }
    in_doubt = {
        (one.sent.collection, item, tag): one for one in doubtful for item, tag in one.sent.tags.items()
    }
    refusals = {tag: one for one in refused for tag in one.sent.tags.values()}
    times: dict[int, int] = {}
    for key, time in seen.items():
        if key in owners:
            if owners[key] != time:
                say(f"{key} was acknowledged at {owners[key]} and seen at {time}")
        elif key in in_doubt:
            one = in_doubt[key]
            if times.setdefault(id(one), time) != time:
                say(f"the items of {one.sent} have different times")
        elif key[2] in refusals:
            say(f"{key} was refused with {refusals[key[2]].status} and yet stored")
        else:
            say(f"{key} was never sent")
    known += [Write(one, times[id(one)], sure=False) for one in doubtful if id(one) in times]
    return Learnt(known, [one for one in doubtful if id(one) not in times])


def _seen(exchanges: Iterable[Exchange], say: Callable[[str], None]) -> dict[tuple[str, str, str], int]:
    """The times of all tags that were read, and whether each was always seen with the same."""
    seen: dict[tuple[str, str, str], int] = {}
    for one in exchanges:
        if one.sent.op == "info" or one.sent.op not in LOOKS or one.answer is None or one.status != 200:
            continue
        for item, (time, tag) in one.answer.items.items():
            before = seen.setdefault((one.sent.collection, item, tag), time)
            if before != time:
                say(f"{item} with {tag} was seen at {before} and at {time}")
    return seen
