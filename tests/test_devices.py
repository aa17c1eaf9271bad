"""Which device a process takes."""

import pytest
import torch

from pairuni.devices import resolve_device


@pytest.mark.parametrize(("rank", "index"), [("0", 0), ("1", 1), ("2", 0)])
def test_processes_of_torchrun_share_the_gpus(monkeypatch: pytest.MonkeyPatch, rank: str, index: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", index)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert resolve_device("cpu") == torch.device("cpu")
