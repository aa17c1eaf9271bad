"""Puts tests/ on the path, so that tests import ``reference`` and ``tiny_models``."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# a shell starts what runs in its background with Ctrl-C ignored, which child processes would inherit
signal.signal(signal.SIGINT, signal.default_int_handler)
