"""What every wave does with every clock: an issue, or a stall with its cause."""

from __future__ import annotations

from typing import Any

from petitgen.profiler.cu.columns import AT, CAUSE, GROUP, KNOWN
from petitgen.profiler.cu.compiled import called, inlined


@called
def note(w: Any, until: Any, what: Any, state: Any, events: Any, totals: Any, limit: Any) -> None:
    """An event of the timeline, merged with the wave's last if they are one."""
    n = int(totals[3])
    if n >= limit:
        return
    events[n, 0], events[n, 1], events[n, 2] = w, state[w, KNOWN], until
    events[n, 3], events[n, 4], events[n, 5] = what, state[w, AT], state[w, GROUP]
    totals[3] = n + 1


@inlined
def settle(w: Any, t: Any, state: Any, stalls: Any, events: Any, totals: Any, limit: Any) -> None:
    """Account the clocks up to `t` to what the wave waited for."""
    passed = t - state[w, KNOWN]
    if passed > 0:
        stalls[state[w, AT], state[w, CAUSE]] += passed
        if limit > 0:
            note(w, t, state[w, CAUSE], state, events, totals, limit)
        state[w, KNOWN] = t
