"""Where built kernels are: the directories that are searched, and which kernels a device can run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import ArchError, KernelsNotFoundError
from runtime.manifest import FILE_NAME, Kernel, Manifest

VARIABLE = "PETITGEN_KERNELS"
_HERE = Path(__file__).resolve().parent


def find(arch: str, directory: str | Path | None = None) -> Manifest:
    """The kernels for `arch`: from `directory` if given, else $PETITGEN_KERNELS, else those installed with the
    package, else generated/ here or in the checkout.

    A directory holds manifest.json, or one folder for each architecture. The one that was named (argument, then
    variable) has to have them: then nothing else is searched. Raises KernelsNotFoundError, ArchError (kernels for
    another architecture) and ManifestError.
    """
    places, source = search_path(directory)
    for place in places:
        for folder in (place / arch, place):
            if (folder / FILE_NAME).is_file():
                return _load(folder, arch)
    raise KernelsNotFoundError(_nothing(arch, places, source))


def search_path(directory: str | Path | None = None) -> tuple[list[Path], str]:
    """The directories in the order of search, and who named them."""
    if directory is not None:
        return [Path(directory)], "the directory given"
    named = os.environ.get(VARIABLE)
    if named:
        return [Path(part) for part in named.split(os.pathsep) if part], f"${VARIABLE}"
    installed = [_HERE / "prebuilt", Path("generated").absolute(), _HERE.parent / "generated"]
    return list(dict.fromkeys(installed)), "the places where kernels are installed or built"


def _load(folder: Path, arch: str) -> Manifest:
    manifest = Manifest.load(folder)
    if manifest.arch != arch:
        raise ArchError(f"{folder / FILE_NAME} is for {manifest.arch}, {arch} is needed: petitgen build --arch {arch}")
    return manifest


def _nothing(arch: str, places: Sequence[Path], source: str) -> str:
    others = sorted({file.parent.name for place in places for file in place.glob(f"*/{FILE_NAME}")})
    there = f"there are kernels for {', '.join(others)}" if others else "there are none for any architecture"
    return (
        f"no kernels for {arch} in {source}: {', '.join(map(str, places))}; {there}."
        f" Build them with: petitgen build --arch {arch}; or say where they are with directory= or ${VARIABLE}"
    )


def runs_on(kernel: Kernel, target: str) -> bool:
    """Whether a device of `target` (gfx90a:sramecc+:xnack-) runs a kernel: each feature it insists on has to agree."""
    arch, *features = target.split(":")
    wanted_arch, *wanted = kernel.target.split(":")
    settings = {feature[:-1]: feature[-1] for feature in features}
    return arch == wanted_arch and all(settings.get(w[:-1], w[-1]) == w[-1] for w in wanted)
