"""Which pictures show a decomposition? Every figure by name: what it measures, and how that is drawn in either theme."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from unbraid.core.errors import UserError
from unbraid.decompose.plot_curves import draw_ladder, draw_spectrum, draw_training, ladder_data, spectrum_data, training_data
from unbraid.decompose.plot_directions import directions_data, draw_directions
from unbraid.decompose.plot_importance import draw_importance, importance_data
from unbraid.decompose.plot_observe import Observed, observe
from unbraid.decompose.plot_pieces import draw_pieces, pieces_data
from unbraid.decompose.plot_scorecard import draw_scorecard, scorecard_data
from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Scorecard
from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, draw_named

DRAWINGS: dict[str, Callable[[Data, Theme], Figure]] = {
    "scorecard": draw_scorecard,
    "importance": draw_importance,
    "directions": draw_directions,
    "pieces": draw_pieces,
    "spectrum": draw_spectrum,
    "ladder": draw_ladder,
    "training": draw_training,
}


def draw(name: str, data: Data, theme: ThemeName = "light") -> Plot:
    """Draw a figure again from its numbers, for example those of `figures/NAME.json`.

    Raises:
        UserError: There is no figure or theme of that name.
    """
    return draw_named(DRAWINGS, name, data, theme)


def figure_data(decomposition: Decomposition, scorecard: Scorecard) -> dict[str, Data]:
    """Return the numbers of every figure that this decomposition allows, in the order of the report."""
    observed = observe(decomposition)
    found = {
        "scorecard": scorecard_data(scorecard),
        "importance": importance_data(decomposition, observed),
        "directions": directions_data(decomposition, observed),
        "pieces": pieces_data(decomposition, observed),
        "spectrum": spectrum_data(scorecard),
        "ladder": ladder_data(scorecard),
        "training": training_data(decomposition),
    }
    return {name: data for name, data in found.items() if data is not None}


def plot_importance(decomposition: Decomposition, theme: ThemeName = "light") -> Plot:
    """Show which subcomponents each feature needs, one feature on at a time; without a known truth, what fresh inputs need."""
    return draw("importance", importance_data(decomposition, observe(decomposition)), theme)


def plot_pieces(decomposition: Decomposition, theme: ThemeName = "light") -> Plot:
    """Show the cosine between planted pieces and alive subcomponents, both as matrices.

    Raises:
        UserError: No sparse truth is known for the target.
    """
    return draw("pieces", _known(pieces_data(decomposition, observe(decomposition)), decomposition, "planted pieces"), theme)


def plot_directions(decomposition: Decomposition, theme: ThemeName = "light") -> Plot:
    """Show planted and recovered directions in the plane.

    Raises:
        UserError: No site with a sparse truth reads from or writes to two dimensions.
    """
    return draw(
        "directions", _known(directions_data(decomposition, observe(decomposition)), decomposition, "site with two dimensions"), theme
    )


def plot_training(decomposition: Decomposition, theme: ThemeName = "light") -> Plot:
    """Show the losses and L0 over the steps.

    Raises:
        UserError: Fewer than two rows of metrics were logged.
    """
    return draw("training", _known(training_data(decomposition), decomposition, "training metrics"), theme)


def plot_spectrum(scorecard: Scorecard, theme: ThemeName = "light") -> Plot:
    """Show the mean importance of every subcomponent, sorted, with its cliff and the planted count."""
    return draw("spectrum", spectrum_data(scorecard), theme)


def plot_ladder(scorecard: Scorecard, theme: ThemeName = "light") -> Plot:
    """Show the share of the behaviour that an adversary of each budget takes, beside the planted truth, chance and the nulls.

    Raises:
        UserError: The scorecard measured no adversary.
    """
    data = ladder_data(scorecard)
    if data is None:
        raise UserError(f"The scorecard of {scorecard.target!r} measured no adversary.", "Set evaluation.adversary_steps and score again.")
    return draw("ladder", data, theme)


def plot_scorecard(scorecard: Scorecard, theme: ThemeName = "light") -> Plot:
    """Show how far each line is from its bar, as a multiple of the error that the bar allows.

    Raises:
        UserError: No line has a bar.
    """
    data = scorecard_data(scorecard)
    if data is None:
        raise UserError(f"No line of the scorecard of {scorecard.target!r} has a bar.", "Read the table instead: scorecard.show()")
    return draw("scorecard", data, theme)


def _known(data: Data | None, decomposition: Decomposition, what: str) -> Data:
    if data is None:
        raise UserError(f"{decomposition.target.name!r} has no {what} to draw.", "Look at plot_importance() and plot_spectrum().")
    return data


__all__ = [
    "DRAWINGS",
    "Observed",
    "Plot",
    "draw",
    "figure_data",
    "plot_directions",
    "plot_importance",
    "plot_ladder",
    "plot_pieces",
    "plot_scorecard",
    "plot_spectrum",
    "plot_training",
]
