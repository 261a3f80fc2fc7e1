"""Colours of the page. Hue says which unit; dark is issue, middle a wait for its result, pale that it is busy."""

from __future__ import annotations

from collections.abc import Mapping

ISSUE: Mapping[str, str] = {
    "MFMA": "#1b7837",
    "VALU": "#2166ac",
    "trans": "#053061",
    "LDS": "#8c510a",
    "VMEM": "#b2182b",
    "SMEM": "#762a83",
    "SALU": "#4d3a9e",
    "branch": "#3a3a3a",
    "wait": "#3a3a3a",
    "barrier": "#3a3a3a",
    "nop": "#3a3a3a",
}
STALL: Mapping[str, str] = {
    "vmem wait": "#f4a582",
    "vmem busy": "#fbd9c6",
    "store wait": "#e8889a",
    "smem wait": "#c2a5cf",
    "lds wait": "#d8b365",
    "lds busy": "#f3e3b8",
    "mfma result": "#7fbf7b",
    "mfma busy": "#cdeac6",
    "valu result": "#92c5de",
    "valu busy": "#d3e6f1",
    "barrier": "#909090",
    "nop": "#b4b4b4",
    "arbitration": "#d2d2d2",
    "fetch": "#e6dfc8",
}
# Series side by side, told apart by people who do not tell red from green (Okabe and Ito 2008).
SERIES: tuple[str, ...] = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
PLAIN = "#7a869a"  # bars that are all of one kind


def state_colour(state: str, name: str) -> str:
    """Of an Event: "issue" by the class of instruction, a stall by its cause."""
    return ISSUE[name] if state == "issue" else STALL[state]
