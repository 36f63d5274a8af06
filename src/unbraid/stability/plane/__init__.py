"""Whose answer does each point of the plane through three activations get?

Calling this module calls `unbraid.stability.plane.verb.plane`.
"""

from unbraid.core.verbs import make_callable

make_callable(__name__)
