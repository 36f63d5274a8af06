"""Which options do several commands share, and what do they do before anything heavy is imported?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

PLUGINS_VARIABLE = "UNBRAID_PLUGINS"

Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object and nothing else.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugins",
        metavar="DIR",
        help=f"Import every Python file of this folder, so that its targets, losses and importance functions can be named. Repeatable; "
        f"or set {PLUGINS_VARIABLE}.",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting, such as losses.minimality.coefficient=1e-3. Repeatable; see unbraid config show.",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(help="Start from this published recipe (apd, spd, vpd), not from the target's own.", metavar="NAME", show_default=False),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Lay the settings of this YAML file over the recipe.", metavar="FILE", show_default=False),
]


def start(plugins: Sequence[Path] | None) -> None:
    """Set the process up before torch is imported, and load the plugins of `--plugins` and of the environment."""
    from unbraid.core.devices import keep_freed_memory, set_waiting_policy

    set_waiting_policy()
    keep_freed_memory()
    named = [Path(part) for part in os.environ.get(PLUGINS_VARIABLE, "").split(os.pathsep) if part]
    folders = [*named, *(plugins or [])]
    if folders:
        from unbraid.core.registry import load_plugins

        for folder in folders:
            load_plugins(folder)
