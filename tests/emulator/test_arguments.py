"""Kernel arguments as text: contents of buffers, files, seeds. Errors are in tests/cli/test_emulate.py."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from petitgen.emulator import DeviceMemory
from petitgen.emulator import arguments as args
from petitgen.errors import EmulationError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("x:f32[3]=iota", np.array([0, 1, 2], np.float32)),
        ("x:i16[2,2]=iota", np.array([[0, 1], [2, 3]], np.int16)),
        ("x:f64[2]=ones", np.ones(2)),
        ("x:u8[2]=zeros", np.zeros(2, np.uint8)),
        ("x:i32[2]=-7", np.array([-7, -7], np.int32)),
        ("x:u32[1]=0xdeadbeef", np.array([0xDEADBEEF], np.uint32)),
        ("x:bf16[2]=1.5", np.array([1.5, 1.5], ml_dtypes.bfloat16)),
        ("x:float8_e4m3fnuz[2]=240", np.array([240, 240], ml_dtypes.float8_e4m3fnuz)),
    ],
)
def test_contents(text: str, values: np.ndarray) -> None:
    made = args.contents(args.parse_buffer(text), np.random.default_rng(0))
    assert made is not None
    assert made.dtype == values.dtype
    assert made.tobytes() == values.tobytes()
    assert made.shape == values.shape


def test_random_is_of_the_type() -> None:
    floats = args.contents(args.parse_buffer("x:bf16[4096]=random"), np.random.default_rng(0))
    assert floats is not None
    assert abs(float(floats.astype(np.float64).mean())) < 0.1 < 0.9 < float(floats.astype(np.float64).std()) < 1.1
    whole = args.contents(args.parse_buffer("x:i8[4096]=random"), np.random.default_rng(0))
    assert whole is not None
    assert (whole.min(), whole.max()) == (-128, 127)


@pytest.mark.parametrize(("kind", "dtype"), [("bf16", ml_dtypes.bfloat16), ("float8_e5m2", ml_dtypes.float8_e5m2)])
def test_types_numpy_does_not_know_survive_a_file(kind: str, dtype: type, tmp_path: Path) -> None:
    values = np.array([1.5, -0.0, 2.0], dtype)
    args.save(values, tmp_path / "x.npy")
    assert np.load(tmp_path / "x.npy").dtype.kind == "u"
    spec = args.parse_buffer(f"x:{kind}[3]=@{tmp_path / 'x.npy'}")
    again = args.contents(spec, np.random.default_rng(0))
    assert again is not None
    assert again.dtype == dtype
    assert again.tobytes() == values.tobytes()


def test_one_more_buffer_leaves_the_random_ones_as_they_are() -> None:
    def first(*more: str) -> bytes:
        memory = DeviceMemory()
        specs = [args.parse_buffer(text) for text in ("a:f32[8]=random", *more)]
        return args.place(specs, memory, 3)["a"].read(memory).tobytes()

    assert first() == first("b:f32[8]=random")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(EmulationError, match="cannot be written"):
        args.save(np.zeros(2), tmp_path)
