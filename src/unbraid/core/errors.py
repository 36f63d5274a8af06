"""How does unbraid tell a person what went wrong? One kind of error: what, what was given, what is allowed, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the person at the keyboard can mend; the command line prints it as one line and exits with 2.

    Args:
        what: What is wrong, naming the thing that was given.
        fix: What to do next, as a full sentence or a command.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what} {fix}")
        self.what = what
        self.fix = fix

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        """Let the error cross from a worker process to the one that prints it."""
        return type(self), (self.what, self.fix)


class Abandoned(UserError):
    """One of several processes is gone. What torch's threads still wait for never comes, so the command line leaves without waiting for them."""


def closest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name most like `name`, or None when nothing is near."""
    matches = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(noun: str, name: str, allowed: Iterable[str], command: str | None = None) -> UserError:
    """Build the error for a name that is not among the allowed ones: closest match, all choices, where to look."""
    choices = sorted(allowed)
    near = closest(name, choices)
    hint = f"Closest: {near!r}. " if near else ""
    listing = f"Allowed: {', '.join(choices)}." if choices else "There are none."
    return UserError(f"Unknown {noun} {name!r}.", f"{hint}{listing}" + (f" List them: {command}" if command else ""))
