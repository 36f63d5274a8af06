"""With which versions, on which machine and when was something measured?"""

from __future__ import annotations

import time
from typing import Any

from unbraid.core.devices import environment


def provenance() -> dict[str, Any]:
    """Return the versions, the machine and the time, as JSON-ready values."""
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "environment": environment("cpu", 1)}
