"""Which parts of a decomposition make a change sharp?

Calling this module calls `unbraid.stability.explain.verb.explain`.
"""

from unbraid.core.verbs import make_callable

make_callable(__name__)
