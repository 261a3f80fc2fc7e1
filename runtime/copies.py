"""The copies of packed weights that a library keeps on its devices."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from runtime.weights import Uploaded

Packed = TypeVar("Packed")
Copy = TypeVar("Copy", bound=Uploaded)


class Copies(Generic[Packed, Copy]):
    """What `upload` made of packed weights: a copy for each device and code order, while the packed form is alive."""

    def __init__(self, upload: Callable[[Packed, int, str], Copy]) -> None:
        self._upload = upload
        self._copies: weakref.WeakKeyDictionary[Packed, dict[tuple[int, str], Copy]] = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()

    def get(self, packed: Packed, device: int, order: str) -> Copy:
        """The copy; made when there is none, or none any more since its device was reset."""
        with self._lock:
            copies = self._copies.setdefault(packed, {})
            copy = copies.get((device, order))
            if copy is None or copy.owner.epoch.over:
                copy = copies[device, order] = self._upload(packed, device, order)
            return copy

    def clear(self) -> None:
        """Forget all of them."""
        self._copies = weakref.WeakKeyDictionary()
