"""Is the package put together as it promises?"""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pytest

import unbraid


def test_every_public_name_is_there() -> None:
    for name in unbraid.__all__:
        assert getattr(unbraid, name) is not None
    assert set(unbraid.__all__) <= set(dir(unbraid))
    with pytest.raises(AttributeError, match="has no attribute 'decompse'"):
        _ = unbraid.decompse  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, unbraid; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_data_files_are_in_the_package() -> None:
    package = files("unbraid")
    assert package.joinpath("py.typed").is_file()
    assert package.joinpath("decompose/presets/spd.yaml").is_file()
    assert package.joinpath("targets/toys/weights/tms-5-2.safetensors").is_file()
