from __future__ import annotations

from pathlib import Path

import pytest

from unbraid.targets.toy import find_toy
from unbraid.verify import code
from unbraid.verify.code import code_of


@pytest.fixture(autouse=True)
def forget() -> None:
    code._rooms.cache_clear()
    code._meaning.cache_clear()


def test_the_same_code_has_the_same_hash() -> None:
    assert code_of(find_toy("tms-5-2")) == code_of(find_toy("tms-5-2"))


def test_toys_with_other_files_have_other_hashes() -> None:
    assert code_of(find_toy("tms-5-2")) != code_of(find_toy("tms-40-10"))


def test_what_a_toy_imports_counts_and_other_toys_do_not() -> None:
    source = Path(code.__file__).parent.parent / "targets" / "toys" / "tms_5_2.py"
    names = {path.name for path in code._imported(source)}
    assert {"tms_5_2.py", "tms.py", "toy.py", "data.py"} <= names
    assert not names & {"tms_40_10.py", "residual_mlp.py"}


def test_comments_and_docstrings_do_not_count_but_code_does(tmp_path: Path) -> None:
    def meaning(text: str) -> str:
        path = tmp_path / "file.py"
        path.write_text(text)
        code._meaning.cache_clear()
        return code._meaning(path)

    plain = meaning('def f(x):\n    """One."""\n    return x + 1\n')
    assert meaning('"""Top."""\n\n\ndef f(x):\n    """Two, longer."""\n    return x + 1  # why\n') != ""
    assert meaning('def f(x):\n    """Two."""\n    return x + 1  # why\n') == plain
    assert meaning('def f(x):\n    """One."""\n    return x + 2\n') != plain
