"""Stochastic rounding: the words are Philox's, the result is right on average, and what needs no rounding stays."""

from __future__ import annotations

import numpy as np
import pytest

from tests.quantize import plain
from tests.quantize.test_quantize import FORMATS, every_value, nibbles, same, spread_floats

torch = pytest.importorskip("torch", reason="torch is an extra")

from runtime.quantize import dequantize, philox, quantize  # noqa: E402
from runtime.quantize.elements import encode  # noqa: E402
from runtime.quantize.philox import philox4x32, words  # noqa: E402

CPU = torch.device("cpu")

# Known answers of Philox4x32-10: counter, key, result. From kat_vectors of Random123, its authors' library.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def numbers(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "wanted"), KNOWN)
def test_known_answers(counter, key, wanted):
    given = tuple(torch.tensor([n]) for n in numbers(counter))
    assert [int(c) for c in philox4x32(given, tuple(numbers(key)))] == numbers(wanted)


@pytest.mark.parametrize("seed", [0, 1, 0x0123456789ABCDEF, 2**64 - 1, 1 << 63])
@pytest.mark.parametrize("offset", [0, 5, 2**32 - 2, 2**63 - 2, 2**64 - 2])
def test_words_are_those_of_the_counter(seed, offset):
    got = words(seed, offset, 19, CPU)
    assert got.tolist() == [plain.random_word(seed, (offset + i // 4) % 2**64, i % 4) for i in range(19)]


def test_words_are_the_same_however_many_are_made_at_once(monkeypatch):
    wanted = words(3, 2**32 - 5, 90, CPU)
    monkeypatch.setattr(philox, "_AT_ONCE", 7)
    assert torch.equal(words(3, 2**32 - 5, 90, CPU), wanted)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (7, 18), (20, 70)], ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_random_tensors(name, shape, square):
    x = spread_floats(shape, seed=31)
    seed, offset = 0xFEEDFACE12345678, 2**32 - 3
    q = quantize(name, x, block_2d=square, rounding="stochastic", seed=seed, offset=offset)
    same(q, plain.quantize(name, x.numpy(), square, words=plain.random_words(seed, offset, shape)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_every_value_of_16_bits(name, dtype):
    x = every_value(dtype, "mixed")
    random = words(77, 0, x.numel(), CPU).reshape(x.shape)  # test_words_are_those_of_the_counter says they are right
    q = quantize(name, x, rounding="stochastic", seed=77)
    same(q, plain.quantize(name, x.float().numpy(), words=random.numpy()))


def test_the_word_of_an_element_does_not_depend_on_axis_strides_or_neighbours():
    x = spread_floats((6, 64), seed=3)
    whole = quantize("mxfp4", x, rounding="stochastic", seed=9, offset=100)
    rows = [quantize("mxfp4", x[i], rounding="stochastic", seed=9, offset=100 + 16 * i).codes for i in range(6)]
    assert torch.equal(whole.codes, torch.stack(rows))
    fortran = x.T.contiguous().T
    assert torch.equal(quantize("mxfp4", fortran, rounding="stochastic", seed=9, offset=100).codes, whole.codes)
    along_0 = quantize("mxfp4", x, axis=0, rounding="stochastic", seed=9, offset=100)
    random = plain.random_words(9, 100, (6, 64)).T
    wanted = plain.quantize("mxfp4", np.ascontiguousarray(x.numpy().T), words=random)
    np.testing.assert_array_equal(nibbles(along_0.codes.numpy(), 0).T, wanted[0])


def test_a_seed_may_be_of_numpy():
    x = torch.full((4, 32), 0.3)
    how = {"rounding": "stochastic", "outer_scale": 1.0}
    q = quantize("nvfp4", x, seed=np.uint64(2**64 - 1), offset=np.int64(3), **how)
    assert torch.equal(q.codes, quantize("nvfp4", x, seed=2**64 - 1, offset=3, **how).codes)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # in what torch traced
def test_quantizers_are_traced_whole():
    def there_and_back(x, seed):
        q = quantize("mxfp4", x, axis=0, block_2d=True, rounding="stochastic", seed=seed)
        return q.codes, q.scales, dequantize(q)

    traced = torch.compile(there_and_back, fullgraph=True, backend="eager")
    x = torch.randn(34, 48, generator=torch.Generator().manual_seed(1))
    for seed in (5, 6, 7):
        assert all(map(torch.equal, traced(x, seed), there_and_back(x, seed)))


def test_seed_and_offset_make_the_result():
    x = torch.full((64, 256), 0.3)
    x[:, ::16] = 6.0

    def codes(seed, offset):
        return quantize("nvfp4", x, outer_scale=1.0, rounding="stochastic", seed=seed, offset=offset).codes

    assert torch.equal(codes(1, 2), codes(1, 2))
    for other in [(2, 2), (1, 3), (1 + 2**32, 2), (1, 2 + 2**32)]:
        assert not torch.equal(codes(1, 2), codes(*other))


# v, the code below it, and how many words make it go up
THRESHOLDS = [
    (0.0, 0, 0),
    (3.0, 5, 0),
    (5.75 * 2.0**-33, 0, 5),
    (2.0**-35, 0, 0),
    (0.125, 0, 2**30),
    (0.5 - 2.0**-25, 0, 2**32 - 2**8),
    (0.75, 1, 2**31),
    (1 + 2.0**-23, 2, 2**10),
    (2 + 2.0**-22, 4, 2**10),
    (3.25, 5, 2**30),
    (5.5, 6, 3 * 2**30),
    (6 - 2.0**-21, 6, 2**32 - 2**10),
]


@pytest.mark.parametrize(("v", "below", "count"), THRESHOLDS)
def test_words_below_the_truncated_fraction_go_up(v, below, count):
    random = [word for word in (0, count - 1, count, count + 1, 2**32 - 1) if 0 <= word < 2**32]
    x = torch.full((len(random),), v)
    assert (x.double() == v).all()
    codes = encode(torch.cat((x, -x)), torch.tensor(random + random))
    wanted = [below + (word < count) for word in random]
    assert codes.tolist() == wanted + [8 + code for code in wanted]


@pytest.mark.parametrize(
    ("v", "code"), [(6.0, 7), (6.1, 7), (np.inf, 7), (-7.9, 15), (np.nan, 0), (-np.nan, 0), (-0.0, 8)]
)
def test_what_no_word_changes(v, code):
    assert encode(torch.full((3,), v), torch.tensor([0, 2**31, 2**32 - 1])).tolist() == [code] * 3


# Fractions of a gap, beside the usual ones: the smallest that float32 has above 1 and below 2, and tiny ones.
FRACTIONS = [2**-22, 1e-4, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.99, 1 - 2**-22]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("lower", range(7))
def test_the_average_is_the_number(lower, sign):
    """Only the neighbours occur, the upper one as often as it should: within 5 standard deviations."""
    low, high = plain.E2M1[lower], plain.E2M1[lower + 1]
    count = 1 << 15
    for i, fraction in enumerate(FRACTIONS):
        v = np.float32(low + fraction * (high - low))
        exact = (float(v) - low) / (high - low)
        x = torch.full((count // 15, 16), float(v) * sign)
        x[:, 0] = 6.0
        q = quantize("nvfp4", x, outer_scale=1.0, rounding="stochastic", seed=1000 + lower, offset=i << 20)
        assert (q.scales == 0x38).all()
        codes = nibbles(q.codes.numpy())[:, 1:] - (8 if sign < 0 else 0)
        assert set(np.unique(codes)) <= {lower, lower + 1}
        up, n = int((codes == lower + 1).sum()), codes.size
        deviation = np.sqrt(n * exact * (1 - exact))
        assert abs(up - n * exact) <= max(5 * deviation, 1.5), (float(v), up / n, exact)


@pytest.mark.parametrize("name", FORMATS)
def test_a_random_tensor_is_right_on_average(name):
    """The mean of many roundings of each element, against the tensor: chi-square of the whole is near its expectation."""
    x = spread_floats((16, 96), seed=6, low=-1, high=2).numpy()
    _, scales, outer = plain.quantize(name, x)
    block = plain.BLOCK[name]
    grid = plain.LEVELS[name].grid if name != "mxfp4" else 2.0 ** (np.arange(255) - 127.0)
    step = np.repeat(grid[scales] * (1 if outer is None else float(outer)), block, axis=1)
    v = x / step
    inside = np.abs(v) < 6  # the others saturate
    below = np.searchsorted(plain.E2M1, np.abs(v), side="right") - 1
    low, high = plain.E2M1[below], plain.E2M1[np.minimum(below + 1, 7)]
    variance = (np.abs(v) - low) * (high - np.abs(v))
    chosen = inside & (variance > 1e-3)
    assert chosen.sum() > 1000
    times = 150
    total = np.zeros_like(v)
    for i in range(times):
        q = quantize(name, torch.from_numpy(x), rounding="stochastic", seed=4, offset=i * x.size // 4)
        code = nibbles(q.codes.numpy())
        total += np.where(code >= 8, -1, 1) * plain.E2M1[code % 8]
    z = (total / times - v)[chosen] / np.sqrt(variance[chosen] / times)
    n = len(z)
    assert abs(z.mean()) < 5 / np.sqrt(n)
    assert abs((z**2).mean() - 1) < 5 * np.sqrt(2 / n)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_representable_is_never_rounded(name):
    rng = np.random.default_rng(12)
    codes = rng.integers(0, 16, (500, 64))
    codes[:, ::16] = 7
    x = plain.E2M1[codes % 8] * np.where(codes >= 8, -1, 1) * 2.0**-3
    x[codes == 8] = -0.0
    outer = None if name == "mxfp4" else 2.0**-8
    for seed in range(8):
        q = quantize(name, torch.from_numpy(x.astype(np.float32)), outer_scale=outer, rounding="stochastic", seed=seed)
        np.testing.assert_array_equal(nibbles(q.codes.numpy()), codes)
