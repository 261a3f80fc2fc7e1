"""Which problems are tuned: models' weights by their published sizes, shapes and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from petitgen.errors import TuneError
from petitgen.tune.problems import parse_rows, parse_weights


def test_shapes_and_files(tmp_path: Path):
    file = tmp_path / "weights.txt"
    file.write_text("# two\n8192,1024\n\n 57344 x 8192  # gate_up\n8192,1024\n")
    assert parse_weights(["1024,4096", str(file), "1024x4096"]) == [(1024, 4096), (8192, 1024), (57344, 8192)]


def test_models():
    # config.json of Llama-3-70B: hidden 8192, intermediate 28672, 64 heads and 8 of keys and values, 128 wide
    assert parse_weights([], ["llama-3-70b"], [8]) == [(1280, 8192), (8192, 1024), (7168, 8192), (8192, 3584)]
    assert parse_weights(["16,32"], ["llama-3-70b"], [8])[:2] == [(16, 32), (1280, 8192)]
    everything = parse_weights([])
    assert (57344, 8192) in everything
    assert (28672, 4096) in everything
    assert len(set(everything)) == len(everything)
    assert parse_weights(["16,32"]) == [(16, 32)]


@pytest.mark.parametrize("text", ["8192", "8192,", "a,b", "0,16", "1,2,3", "-1,16", "none.txt", "1.5,2"])
def test_what_is_no_weight_is_refused(text: str):
    with pytest.raises(TuneError, match="is no weight: N,K is needed"):
        parse_weights([text])


def test_a_line_that_is_none_is_named(tmp_path: Path):
    file = tmp_path / "weights.txt"
    file.write_text("8192,1024\n8192\n")
    with pytest.raises(TuneError, match=r"weights\.txt:2: '8192' is no weight"):
        parse_weights([str(file)])
    with pytest.raises(TuneError, match="no model 'gpt-9'; known are llama-3-70b"):
        parse_weights([], ["gpt-9"])


def test_a_number_of_ranks_that_leaves_a_rest_is_refused():
    with pytest.raises(TuneError, match="llama-3-70b does not divide among 3 ranks"):
        parse_weights([], ["llama-3-70b"], [8, 3])


def test_rows():
    assert parse_rows(["4,1", "16", "1"], (7,)) == (1, 4, 16)
    assert parse_rows([], (7, 8)) == (7, 8)
    for text in ("0", "a", "1,,2", "-1"):
        with pytest.raises(TuneError, match="numbers of rows are needed"):
            parse_rows([text], ())
