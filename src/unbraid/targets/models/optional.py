"""Which packages does only a language model need, and what is said when they are not there?"""

from __future__ import annotations

from importlib.util import find_spec

from unbraid.core.errors import UserError

EXTRA = ("transformers", "tokenizers", "gguf")


def require(*packages: str) -> None:
    """Check that the optional packages for language models are installed.

    Raises:
        UserError: One of them is not.
    """
    missing = [package for package in packages or EXTRA if find_spec(package) is None]
    if missing:
        raise UserError(f"Language models need {' and '.join(missing)}, which is not installed.", 'Run: pip install "unbraid[lm]"')
