"""A build from end to end, with tiny kernels and the clang of the ziglang wheel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from petitgen.build.run import Observer, Outcome, Report, build
from petitgen.errors import BuildError, RenderError
from petitgen.spec.model import KernelInstance
from runtime.manifest import Manifest

from .conftest import MakeInstance, source, tree

pytestmark = pytest.mark.compiler

# One word in a kernel's name breaks it in a way of its own; what the report must then say.
BODIES = {
    "syntax": "v = = v;",
    "scratch": "volatile u32 big[64]; for (int i = 0; i < 64; i++) big[i] = n + i; v += big[v & 63];",
    "lds": "__attribute__((shared)) volatile static u32 l[2048]; l[at] = v; v = l[at ^ 4];",
    "registers": 'asm volatile("v_mov_b32 v99, 0" ::: "v99");',
}
COMPLAINTS = {
    "syntax": "error: expected expression",
    "scratch": "bytes of scratch a lane, limit 0",
    "lds": "8192 bytes of LDS, limit 4096",
    "registers": "100 registers (VGPR + AGPR), limit 64",
}


def render(instance: KernelInstance) -> str:
    return source(instance, next((body for word, body in BODIES.items() if word in instance.name), ""))


def run(
    instances: list[KernelInstance],
    output: Path,
    cache: Path,
    matrix: list[KernelInstance] | None = None,
    **options: object,
) -> Report:
    options = {"render": render, "jobs": 2, "hipcc": "ziglang", **options}
    return build(instances, matrix or instances, output, cache=cache, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("word", BODIES)
def test_a_bad_kernel_fails_alone(word: str, make_instance: MakeInstance, tmp_path: Path) -> None:
    """It is reported with its figures or its compiler's words; its neighbours are built and listed."""
    limits = {"registers": 64, "lds_bytes": 4096}
    instances = [make_instance(name, limits=limits) for name in ("first", f"bad_{word}", "last")]
    report = run(instances, tmp_path / "out", tmp_path / "cache")
    (failed,) = report.failed
    assert failed.name == f"bad_{word}"
    assert COMPLAINTS[word] in failed.error
    assert ("bad_syntax.hip -o bad_syntax.hsaco" in failed.command) == (word == "syntax")
    assert sorted(Manifest.load(tmp_path / "out/gfx942").kernels) == ["first", "last"]
    left = {path.name for path in (tmp_path / "out/gfx942").glob("bad_*")}
    assert left == {f"bad_{word}.hip"}, "the source stays for whoever runs the command, the object does not"


def test_the_reported_command_reproduces_the_failure(make_instance: MakeInstance, tmp_path: Path) -> None:
    import subprocess

    report = run([make_instance("bad_syntax")], tmp_path / "out", tmp_path / "cache")
    done = subprocess.run(
        report.failed[0].command, shell=True, cwd=tmp_path / "out/gfx942", capture_output=True, text=True
    )
    assert done.returncode != 0
    assert COMPLAINTS["syntax"] in done.stderr


def test_a_kernel_that_turns_bad_is_taken_out(make_instance: MakeInstance, tmp_path: Path) -> None:
    """Otherwise the manifest would offer code that no longer follows from the sources."""
    instance = make_instance("one")
    run([instance], tmp_path / "out", tmp_path / "cache")
    run([instance], tmp_path / "out", tmp_path / "cache", render=lambda one: source(one, "v = = v;"))
    assert Manifest.load(tmp_path / "out/gfx942").kernels == {}
    assert not (tmp_path / "out/gfx942/one.hsaco").exists()


def test_abi_must_agree(make_instance: MakeInstance, tmp_path: Path) -> None:
    """Swapping two parameters of the same size in the source is found by name."""
    swapped = lambda one: source(one).replace("u32x4 a, u32x4 c", "u32x4 c, u32x4 a")  # noqa: E731
    report = run([make_instance("one")], tmp_path / "out", tmp_path / "cache", render=swapped)
    assert "compiled c (16 bytes), a (16 bytes), n (4 bytes)" in report.failed[0].error
    assert "spec a (16 bytes), c (16 bytes), n (4 bytes)" in report.failed[0].error


def test_symbol_must_be_the_name(make_instance: MakeInstance, tmp_path: Path) -> None:
    other = lambda one: source(one).replace("void one(", "void another(")  # noqa: E731
    report = run([make_instance("one")], tmp_path / "out", tmp_path / "cache", render=other)
    assert "no kernel of that name, only another" in report.failed[0].error


def test_render_errors_are_reported_too(make_instance: MakeInstance, tmp_path: Path) -> None:
    def broken(instance: KernelInstance) -> str:
        raise RenderError("gemm/resident.hip.j2:3: 'k.tile' is undefined")

    report = run([make_instance("one")], tmp_path / "out", tmp_path / "cache", render=broken)
    assert report.failed[0].error == "gemm/resident.hip.j2:3: 'k.tile' is undefined"


def test_manifest_facts(make_instance: MakeInstance, tmp_path: Path) -> None:
    """Figures that can be known from the source: offsets by C's rules, block, symbol, grid by the tile."""
    instance = make_instance("one", arch="gfx90a")
    run([instance], tmp_path / "out", tmp_path / "cache")
    kernel = Manifest.load(tmp_path / "out/gfx90a").kernels["one"]
    assert [(arg.name, arg.kind, arg.offset, arg.size) for arg in kernel.kernarg.args] == [
        ("a", "buffer", 0, 16),
        ("c", "buffer", 16, 16),
        ("n", "u32", 32, 4),
    ]
    assert kernel.kernarg.size == 36
    assert [arg.out_of_range for arg in kernel.kernarg.args] == [True, False, False]
    assert kernel.target == "gfx90a"
    assert kernel.code_object_version == 5
    assert kernel.block == kernel.resources.max_workgroup == instance.block
    m, n = instance.tile.m, instance.tile.n
    assert kernel.grid.size(m=m + 1, n=5 * n, k=16) == (5, 2, 1)
    assert kernel.resources.scratch_bytes == kernel.resources.lds_bytes == 0


def test_manifest_follows_the_schema(make_instance: MakeInstance, tmp_path: Path) -> None:
    import jsonschema

    import runtime

    run([make_instance("one")], tmp_path / "out", tmp_path / "cache")
    schema = json.loads((Path(runtime.__file__).parent / "manifest.schema.json").read_text())
    data = json.loads((tmp_path / "out/gfx942/manifest.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(data)


def test_same_bytes_in_any_directory_and_order(make_instance: MakeInstance, tmp_path: Path) -> None:
    instances = [make_instance(f"kernel_{i}", arch) for i in range(4) for arch in ("gfx942", "gfx90a")]
    run(instances, tmp_path / "one", tmp_path / "cache 1", jobs=1)
    run(instances[::-1], tmp_path / "another place/deep", tmp_path / "cache 2", jobs=3)
    one, another = tree(tmp_path / "one"), tree(tmp_path / "another place/deep")
    assert len(one) == 8 * 2 + 2
    assert one == another


def states(report: Report) -> list[str]:
    return [outcome.state for outcome in report.outcomes]


def test_only_what_changed_is_compiled(make_instance: MakeInstance, tmp_path: Path) -> None:
    instances = [make_instance("one"), make_instance("two")]
    assert states(run(instances, tmp_path / "out", tmp_path / "cache")) == ["compiled", "compiled"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/gfx942").glob("*.*")}
    assert states(run(instances, tmp_path / "out", tmp_path / "cache")) == ["cached", "cached"]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/gfx942").glob("*.*")}
    assert before == after, "a build that changes nothing touches nothing"
    changed = lambda one: source(one, "v += 1;" if one.name == "two" else "")  # noqa: E731
    report = run(instances, tmp_path / "out", tmp_path / "cache", render=changed)
    assert states(report) == ["cached", "compiled"]


def test_damage_is_repaired(make_instance: MakeInstance, tmp_path: Path) -> None:
    """A truncated object in the output or in the cache, a lost manifest, a changed source: all made good."""
    instances = [make_instance("one"), make_instance("two")]
    out, cache = tmp_path / "out", tmp_path / "cache"
    run(instances, out, cache)
    good = tree(out)
    (out / "gfx942/one.hsaco").write_bytes(good["gfx942/one.hsaco"][:1000])
    (out / "gfx942/two.hip").write_text("// edited by hand")
    (out / "gfx942/manifest.json").unlink()
    entries = [path for path in cache.rglob("*") if path.is_file()]
    entries[0].write_bytes(entries[0].read_bytes()[:-1])
    report = run(instances, out, cache)
    assert sorted(states(report)) == ["cached", "compiled"]
    assert tree(out) == good


def test_part_of_the_matrix(make_instance: MakeInstance, tmp_path: Path) -> None:
    """Building one kernel leaves the others; a kernel no longer in the matrix goes, whatever was selected."""
    one, two, three = (make_instance(name) for name in ("one", "two", "three"))
    out, cache = tmp_path / "out", tmp_path / "cache"
    run([one, two, three], out, cache)
    run([one], out, cache, matrix=[one, two])
    assert sorted(Manifest.load(out / "gfx942").kernels) == ["one", "two"]
    assert sorted(tree(out / "gfx942")) == ["manifest.json", "one.hip", "one.hsaco", "two.hip", "two.hsaco"]


@pytest.mark.parametrize("text", ["not JSON", '{"schema": 1}'])
def test_part_of_the_matrix_needs_the_manifest_of_the_others(make_instance: MakeInstance, tmp_path: Path, text: str) -> None:
    """They would be dropped. All of them can be built, and then all is as it was."""
    one, two = make_instance("one"), make_instance("two")
    out, cache = tmp_path / "out", tmp_path / "cache"
    run([one, two], out, cache)
    good = tree(out)
    (out / "gfx942/manifest.json").write_text(text)
    before = tree(out)
    with pytest.raises(BuildError, match="keeps the others that are listed there: build all, with petitgen build"):
        run([one], out, cache, matrix=[one, two])
    assert tree(out) == before
    run([one, two], out, cache)
    assert tree(out) == good


def test_what_goes_wrong_inside_is_that_kernels_failure(make_instance: MakeInstance, tmp_path: Path) -> None:
    one, two = make_instance("one"), make_instance("two")

    def render(instance: KernelInstance) -> str:
        return {"one": source(one)}[instance.name]

    report = run([one, two], tmp_path / "out", tmp_path / "cache", render=render)
    assert states(report) == ["compiled", "failed"]
    assert "KeyError: 'two'" in report.failed[0].error
    assert sorted(Manifest.load(tmp_path / "out/gfx942").kernels) == ["one"]


def test_part_of_the_matrix_does_not_keep_damage(make_instance: MakeInstance, tmp_path: Path) -> None:
    one, two = make_instance("one"), make_instance("two")
    out, cache = tmp_path / "out", tmp_path / "cache"
    run([one, two], out, cache)
    (out / "gfx942/two.hsaco").write_bytes(b"\x7fELF")
    run([one], out, cache, matrix=[one, two])
    assert sorted(Manifest.load(out / "gfx942").kernels) == ["one"]


def test_observer_hears_everything(make_instance: MakeInstance, tmp_path: Path) -> None:
    class Listener(Observer):
        def __init__(self) -> None:
            self.total, self.names = 0, list[str]()

        def started(self, total: int) -> None:
            self.total = total

        def finished(self, outcome: Outcome) -> None:
            self.names.append(outcome.name)

    listener = Listener()
    run(
        [make_instance("one"), make_instance("bad_syntax")], tmp_path / "o", tmp_path / "c", observer=listener
    )
    assert listener.total == 2
    assert sorted(listener.names) == ["bad_syntax", "one"]


def test_output_that_cannot_be_written(make_instance: MakeInstance, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, not a directory")
    with pytest.raises(BuildError, match="cannot be written to"):
        run([make_instance("one")], tmp_path / "out", tmp_path / "cache")
