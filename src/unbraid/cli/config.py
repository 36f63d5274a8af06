"""`unbraid config`: what exactly would a run do?"""

from __future__ import annotations

from typing import Annotated

import typer

from unbraid.cli.options import ConfigFile, Plugins, Preset, Set, start

app = typer.Typer(help="Which settings a name stands for.", no_args_is_help=True)


@app.command("show")
def show_config(
    name: Annotated[str, typer.Argument(help="A target (its own recipe) or a preset (apd, spd, vpd).", metavar="NAME")],
    preset: Preset = None,
    config: ConfigFile = None,
    set_: Set = None,
    plugins: Plugins = None,
) -> None:
    """Print every setting of a run as YAML, and nothing else.

    \b
    unbraid config show tms-5-2 > my.yaml
    unbraid decompose tms-5-2 --config my.yaml
    """
    start(plugins)
    from unbraid.core.config import read_yaml
    from unbraid.core.errors import unknown
    from unbraid.decompose.preset import preset_names, resolve
    from unbraid.targets.toy import toys

    is_preset = name in preset_names()
    if not is_preset and name not in toys.kinds():
        raise unknown("target or preset", name, [*preset_names(), *toys.kinds()])
    file = None if config is None else read_yaml(config)
    settings = resolve(None if is_preset else name, name if is_preset else preset, file, set_ or ())
    typer.echo(settings.to_yaml(), nl=False)
