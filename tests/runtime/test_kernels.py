"""Finding kernels: which directory is taken, what is said when there is none, and what a device runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import kernels
from runtime.errors import ArchError, CodeObjectError, KernelsNotFoundError, ManifestError, ManifestVersionError
from runtime.manifest import parse
from runtime.modules import read
from tests.runtime.manifests import CODE, kernel, manifest, write


@pytest.fixture
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without kernels, no variable, no kernels in the package or the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    monkeypatch.setattr(kernels, "_HERE", tmp_path / "site" / "runtime")
    return tmp_path


def test_argument_then_variable_then_package_then_generated(nothing_built: Path, monkeypatch) -> None:
    places = {
        "checkout": nothing_built / "site" / "generated",
        "here": nothing_built / "generated",
        "package": nothing_built / "site" / "runtime" / "prebuilt",
        "variable": nothing_built / "v",
        "argument": nothing_built / "a",
    }
    for name, place in places.items():  # each goes before all that were there
        write(place / "gfx942", kernel(16, 16))
        if name == "variable":
            monkeypatch.setenv(kernels.VARIABLE, f"/no/such:{place}")
        found = kernels.find("gfx942", place if name == "argument" else None)
        assert found.directory == place / "gfx942"


def test_a_directory_may_be_that_of_one_architecture(nothing_built: Path) -> None:
    folder = write(nothing_built / "x", kernel(16, 16))
    assert kernels.find("gfx942", folder).directory == folder
    with pytest.raises(ArchError, match=r"manifest.json is for gfx942, gfx90a is needed: petitgen build --arch gfx90a"):
        kernels.find("gfx90a", folder)


def test_what_was_named_is_not_left_for_what_was_not(nothing_built: Path, monkeypatch) -> None:
    write(nothing_built / "generated" / "gfx942", kernel(16, 16))
    write(nothing_built / "other" / "gfx90a", kernel(16, 16, arch="gfx90a"), arch="gfx90a")
    with pytest.raises(KernelsNotFoundError, match=r"the directory given: .*other; there are kernels for gfx90a"):
        kernels.find("gfx942", nothing_built / "other")
    monkeypatch.setenv(kernels.VARIABLE, str(nothing_built / "empty"))
    with pytest.raises(KernelsNotFoundError, match=r"\$PETITGEN_KERNELS: .*empty; .*petitgen build --arch gfx942"):
        kernels.find("gfx942")


def test_a_manifest_of_another_version_or_a_broken_one(nothing_built: Path) -> None:
    folder = write(nothing_built / "x", kernel(16, 16), schema=1)
    with pytest.raises(ManifestVersionError, match="build again"):
        kernels.find("gfx942", folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ManifestError, match="build the kernels again"):
        kernels.find("gfx942", folder)


@pytest.mark.parametrize(
    ("target", "device", "runs"),
    [
        ("gfx942", "gfx942:sramecc+:xnack-", True),
        ("gfx90a:xnack-", "gfx90a:sramecc+:xnack-", True),
        ("gfx90a:xnack-", "gfx90a:sramecc+:xnack+", False),
        ("gfx90a:xnack+", "gfx90a", True),
        ("gfx90a", "gfx942:sramecc+:xnack-", False),
    ],
)
def test_a_device_runs_kernels_whose_features_agree(target, device, runs):
    entry = parse(manifest(kernel(16, 16, target=target))).kernels
    assert kernels.runs_on(next(iter(entry.values())), device) is runs


def test_code_objects_are_what_the_manifest_says(tmp_path: Path) -> None:
    found = kernels.find("gfx942", write(tmp_path, kernel(16, 16)))
    (one,) = found.kernels.values()
    assert read(found, one) == CODE
    file = tmp_path / one.file
    file.write_bytes(CODE[:-1])
    with pytest.raises(CodeObjectError, match=f"{len(CODE) - 1} bytes, the manifest says {len(CODE)}; build again"):
        read(found, one)
    file.write_bytes(bytes([CODE[0] ^ 1]) + CODE[1:])
    with pytest.raises(CodeObjectError, match="sha256 is not the manifest's"):
        read(found, one)
    file.unlink()
    with pytest.raises(CodeObjectError, match="cannot be read"):
        read(found, one)
