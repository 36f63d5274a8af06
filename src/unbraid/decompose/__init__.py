"""The engine: writes each weight matrix as a sum of rank-one subcomponents and learns which of them each input needs.

Calling this module, `unbraid.decompose(target, config)`, calls `unbraid.decompose.verb.decompose`.
"""

from unbraid.core.verbs import make_callable

make_callable(__name__)
