"""What can a person type? The commands, and how a mistake is told: one line that names the fix, and exit code 2."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from unbraid.cli import compare, config, decompose, estimate, generate, models, score, sites, stability, targets, text, verify
from unbraid.core.errors import Abandoned, UserError


class Commands(TyperGroup):
    """The top of the command line, where every mistake that a person can mend becomes one line on stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; 2 is the exit code of a mistake, 130 that of Ctrl-C."""
        try:
            return super().invoke(ctx)
        except Abandoned as error:
            _complain(str(error))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(2)  # an orderly end joins threads that wait for the lost process, and may be aborted by them
        except UserError as error:
            _complain(str(error))
            raise typer.Exit(2) from None
        except BrokenPipeError:  # whoever read the output has gone
            raise
        except OSError as error:
            place = f" {str(error.filename)!r}" if error.filename else ""
            _complain(f"Could not use{place or ' a file'}: {error.strerror or error}. Check the path and its permissions.")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            _complain("Interrupted. What was saved before is whole; a run goes on with: unbraid decompose --resume RUN")
            raise typer.Exit(130) from None


def _complain(text: str) -> None:
    typer.echo(f"error: {' '.join(text.split())}", err=True)


app = typer.Typer(
    cls=Commands,
    name="unbraid",
    help="Take the parameters of a trained network apart, and measure whether the parts are real.",
    epilog="Start with:  unbraid targets list   then   unbraid decompose tms-5-2",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(targets.app, name="targets")
app.add_typer(models.app, name="models")
app.add_typer(text.app, name="text")
app.command("sites")(sites.sites)
app.command("estimate")(estimate.estimate)
app.command("decompose")(decompose.decompose)
app.command("score")(score.score)
app.command("compare")(compare.compare)
app.command("generate")(generate.generate)
app.add_typer(stability.app, name="stability")
app.command("verify")(verify.verify)
app.add_typer(config.app, name="config")


def _show_version(wanted: bool) -> bool:
    if wanted:
        from unbraid import __version__

        typer.echo(f"unbraid {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Say which version this is, and stop.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line; the entry point of the `unbraid` script."""
    try:
        app(prog_name="unbraid")
    except KeyboardInterrupt:
        sys.exit(130)
