"""One of two ranks that wait for each other without a time limit; the one whose number is given is stopped, as a machine that hangs would be."""

from __future__ import annotations

import os
import signal
import sys
import time

from unbraid.core.ranks import LostRank, join

ranks = join()
if sys.argv[1] == str(ranks.rank):
    os.kill(os.getpid(), signal.SIGSTOP)
if sys.argv[1] == "nobody" and ranks.first:
    time.sleep(3)  # longer than the others wait for a sign of life
try:
    sys.stdout.write(ranks.agreed(f"rank {ranks.rank} works"))
except LostRank as lost:
    sys.stdout.write(str(lost))
    sys.stdout.flush()
    os._exit(2)
