"""Puts tests/ on the path, so that tests import ``reference`` and ``tiny_models``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
