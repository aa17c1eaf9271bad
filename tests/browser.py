"""Helpers of tests that drive a page in Chromium; conftest.py launches it."""

from __future__ import annotations

from typing import Any


def faults_of(page: Any) -> list[str]:
    """A list that grows with the console messages and the uncaught errors of a page."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    return said
