"""Which activations are treated as one, and what else sorts them alike?

Calling this module calls `unbraid.stability.regions.verb.regions`.
"""

from unbraid.core.verbs import make_callable

make_callable(__name__)
