"""How sharply does the answer change between two real activations, under which controls, and does training change it?

Calling this module calls `unbraid.stability.path.verb.path`.
"""

from unbraid.core.verbs import make_callable

make_callable(__name__)
