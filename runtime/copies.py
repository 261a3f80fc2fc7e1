"""The copies of packed weights that a library keeps on its devices."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

Copy = TypeVar("Copy")


class Copies:
    """What was uploaded, by what it was packed as: one for each device and code order, while the packed form is alive."""

    def __init__(self) -> None:
        self._copies: weakref.WeakKeyDictionary[Any, dict[tuple[int, str], Any]] = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()

    def get(self, packed: Any, device: int, order: str, upload: Callable[[Any, int, str], Copy]) -> Copy:
        """The copy, made by upload(packed, device, order) when there is none, or none any more since its device was reset."""
        with self._lock:
            copies = self._copies.setdefault(packed, {})
            copy = copies.get((device, order))
            if copy is None or copy.owner.epoch.over:
                copy = copies[device, order] = upload(packed, device, order)
            return copy

    def clear(self) -> None:
        """Forget all of them."""
        self._copies = weakref.WeakKeyDictionary()
