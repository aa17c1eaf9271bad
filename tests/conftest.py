"""Puts tests/ on the path, so that tests import ``reference`` and ``tiny_models``."""

import os
import signal
import sys
from pathlib import Path

# before torch is imported, for child processes too: threads of small operations wait for whatever else runs here
os.environ.setdefault("OMP_NUM_THREADS", "1")

sys.path.insert(0, str(Path(__file__).parent))

# a shell starts what runs in its background with Ctrl-C ignored, which child processes would inherit
signal.signal(signal.SIGINT, signal.default_int_handler)
