"""What `import runtime` offers, without loading anything before it is asked for."""

from __future__ import annotations

import runtime


def test_every_name_is_there():
    assert set(runtime.__all__) <= set(dir(runtime))
    for name in runtime.__all__:
        assert getattr(runtime, name).__name__ == name
