"""`pairuni app`: what is refused before anything is served."""

import sys

import pytest

from commands import fails
from pairuni.cli.serving import APP_TOKEN


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(APP_TOKEN, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.com", ""])
def test_other_machines_need_a_token(host: str) -> None:
    said = fails("app", "--host", host)
    assert said.startswith(f"error: anyone who can reach {host} could use this app: set {APP_TOKEN}")


def test_a_weak_or_wrong_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(APP_TOKEN, "hunter2")
    assert "too short" in (said := fails("app", "--host", "0.0.0.0"))
    assert "hunter2" not in said
    monkeypatch.setenv(APP_TOKEN, "correct horse battery")
    assert "contains a space" in (said := fails("app"))
    assert "horse" not in said


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "pairuni.app.server", raising=False)
    assert fails("app", "--port", 0).startswith("error: the app needs gradio: pip install 'pairuni[app]'")
