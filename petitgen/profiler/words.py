"""Figures as people read them."""

from __future__ import annotations


def percent(share: float | None) -> str:
    """A share in percent; "-" for None."""
    if share is None:
        return "-"
    return f"{100 * share:.1f}%" if share < 0.9995 else f"{100 * share:.0f}%"


def microseconds(us: float) -> str:
    """A time with at least three figures: 4.31 us, 812 us, 12.3 ms."""
    if us >= 9999.5:
        return f"{us / 1000:.1f} ms"
    return f"{us:.2f} us" if us < 99.995 else f"{us:.0f} us"


def size(count: float) -> str:
    """A number of bytes: 37.5 KiB."""
    for limit, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f} B"
