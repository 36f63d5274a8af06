"""Which words does a report use, and what is there to see in each of its figures? All of its fixed text is here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureText:
    """A figure's title, what to see in it, and what it shows in words."""

    title: str
    caption: str
    alt: str


FIGURES = {
    "scorecard": FigureText(
        "How far from its bar is each line?",
        "Each dot is one line of the scorecard: its error as a multiple of what its bar allows, so that left of the line passes. "
        "Diamonds are the planted truth, ticks the nulls. A line is a test only if its nulls stand on the right.",
        "Dot chart of every scorecard line relative to its bar, with the planted truth and the nulls.",
    ),
    "importance": FigureText(
        "Which subcomponents does each input need?",
        "One row per input, one column per subcomponent; strong colour is needed. Where features can be asked one at a time, columns "
        "stand in the order of the features they match: a clean diagonal means one subcomponent per feature, and frames mark entries "
        "that count as errors. Otherwise rows are fresh inputs, sorted by what they need first, and columns stand by planted module where "
        "one is known. Subcomponents that are never needed are only counted.",
        "Matrix of importances per input and subcomponent for each site.",
    ),
    "directions": FigureText(
        "Do the recovered directions lie on the planted ones?",
        "Wide bands are the planted directions in the hidden plane, numbered by feature; thin lines with a dot are what the recovered "
        "subcomponents do for that feature. They should share direction and length. Idle subcomponents lie at the origin.",
        "Planted and recovered directions as arrows in a plane.",
    ),
    "pieces": FigureText(
        "Is each planted piece a subcomponent?",
        "Cosine between whole rank-one matrices, planted against recovered, read and write directions together. "
        "A strong diagonal and nothing else means that each piece was found once, unsplit and unmerged.",
        "Matrix of cosines between planted pieces and alive subcomponents for each site.",
    ),
    "modules": FigureText(
        "Are the groups the planted modules?",
        "Subcomponents are grouped by which inputs need them together. Rows are planted modules, columns the groups that fit them best; colour is "
        "the share of the module's weight that lies in the group. A diagonal means that each module was found whole and by itself.",
        "Aligned matrix of planted modules and recovered groups.",
    ),
    "cross_talk": FigureText(
        "Does ablating one group leave the other modules alone?",
        "Left: a group is ablated, and the loss grows where its module is asked, or elsewhere. Right: the inputs of one module are "
        "resampled, and groups change that should not listen. What is off the diagonal is cross-talk.",
        "Cross-talk matrices of groups and planted modules, from the output and from the input side.",
    ),
    "calibration": FigureText(
        "Do as many groups fire as modules are needed?",
        "Groups that fire on an input against planted modules that the input needs. Dots on the line mean that groups are switched on and "
        "off as the modules are.",
        "Number of active groups against the number of planted modules that are needed.",
    ),
    "spectrum": FigureText(
        "How many subcomponents are in use?",
        "Mean importance of every subcomponent on fresh data, most used first. A cliff means that the count is a finding and not a choice "
        "of threshold; it should fall at the dashed line, where the number of planted pieces is known.",
        "Sorted mean importances on a logarithmic scale for each site.",
    ),
    "ladder": FigureText(
        "What does a stronger adversary break?",
        "An adversary chooses the worst masks that the importances allow, with more and more steps. A flat line means that more search "
        "finds nothing new. Compare with random masks, with what the planted truth itself loses, and with the nulls.",
        "Share of the behaviour lost against the adversary's budget.",
    ),
    "training": FigureText(
        "How did training go?",
        "Losses and the number of subcomponents in use over the steps. L0 should fall early and settle; a loss that still moves at the "
        "end asks for more steps.",
        "Training curves of the losses and of L0 per site.",
    ),
}

GLOSSARY = (
    ("site", "A weight matrix that is taken apart."),
    ("subcomponent", "A rank-one matrix, a read direction times a write direction; a site's subcomponents and Δ add up to its weights."),
    ("importance", "How much an input needs a subcomponent, in [0, 1]; learned by a small network, the importance function."),
    ("mask", "What a subcomponent is multiplied by in a forward pass: 1 keeps it, 0 ablates it. Importance is the least it may be."),
    ("source", "The number in [0, 1], drawn at random or chosen by an adversary, that places a mask between the importance and 1."),
    ("Δ (delta)", "What the subcomponents leave of the weights; masked like one more subcomponent that is never important."),
    ("alive", "Above 0.1 importance on at least one fresh input in a thousand."),
    ("L0", "How many subcomponents of a site have an importance above 0.1, on average over inputs."),
    ("share lost", "Distance to the model's own output, over the distance when everything is ablated: 0 is unchanged, 1 is nothing left."),
    ("adversary", "Gradient ascent on the sources, one choice for a whole batch; its budget is its number of steps."),
    ("planted truth", "The mechanisms built into a toy, scored like a decomposition: the oracle, and what is at best possible."),
    ("null", "The same measurement on something that found nothing: the untrained start, importances shuffled over inputs, or all zero."),
    ("bar", "What a value must meet to pass; where its numbers come from stands below it in the table."),
    ("MMCS, ML2R", "Mean best cosine of the planted directions with recovered ones, and the ratio of their lengths there."),
    (
        "module",
        "Subcomponents of one or several sites that belong together; planted in some toys, and found as groups that inputs need together.",
    ),
    ("ARI", "Adjusted Rand index: how far found groups agree with planted modules; 1 is the same, 0 is chance."),
    ("identity error", "How many entries keep the importances on one-hot probes from being a permuted identity."),
)
