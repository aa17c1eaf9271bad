"""Puts tests/ on the path, so that tests can import ``reference`` and ``tiny_models``; fixtures of the session.

Tests in a browser need playwright and Chromium: pip install pairuni[browser].
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# before torch is imported, and for child processes: a second thread slows small operations on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

sys.path.insert(0, str(Path(__file__).parent))

# shells start background jobs with Ctrl-C ignored, which child processes would inherit
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than cores, as some tests only wait, but at most four: each holds torch and a model."""
    return min(len(os.sched_getaffinity(0)) + 1, 4)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on the path, and CHROMIUM is not set")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def warm_python() -> Iterator[Any]:
    """See ``warm_python.WarmPython``."""
    from warm_python import WarmPython

    warm = WarmPython()
    yield warm
    warm.close()
