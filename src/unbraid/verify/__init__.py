"""Is the planted truth found, at every seed, on every toy? Decompose, score and tabulate, and go on where an earlier session stopped.

Calling this module, `unbraid.verify(names)`, calls `unbraid.verify.verb.verify`.
"""

from unbraid.core.verbs import make_callable

make_callable(__name__)
