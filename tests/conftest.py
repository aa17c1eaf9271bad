"""Puts tests/ on the path, so that tests can import ``reference`` and ``tiny_models``."""

import os
import signal
import sys
from pathlib import Path

# before torch is imported, and for child processes: a second thread slows small operations on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

sys.path.insert(0, str(Path(__file__).parent))

# shells start background jobs with Ctrl-C ignored, which child processes would inherit
signal.signal(signal.SIGINT, signal.default_int_handler)
