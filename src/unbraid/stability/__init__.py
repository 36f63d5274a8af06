"""Why does activation space have plateaus, and do they tell us about features?

One folder per question, each with its config, verb, result, plot and command, and `engine` below them all. A question's verb has its folder's name:

    from unbraid.stability import path
    from unbraid.stability.path.config import PathConfig

    path(target, PathConfig(pairs=200))
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unbraid.stability.explain.verb import explain as explain
    from unbraid.stability.path.verb import path as path
    from unbraid.stability.plane.verb import plane as plane
    from unbraid.stability.radius.verb import radius as radius
    from unbraid.stability.regions.verb import regions as regions
