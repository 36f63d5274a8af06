"""How far can an activation move until the answer is another one, and does the direction matter?

Calling this module calls `unbraid.stability.radius.verb.radius`.
"""

from unbraid.core.verbs import make_callable

make_callable(__name__)
