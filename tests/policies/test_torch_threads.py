"""Torch's threads: one for a small model on a CPU, unless the user chose a number."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from pairuni import devices

SCRIPT = """
import torch
from pairuni.policies import load_policy
load_policy("tiny", device="cpu")
print(torch.get_num_threads())
"""


def test_a_small_model_takes_one_thread():
    environment = {key: value for key, value in os.environ.items() if key not in devices._THREAD_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1"]


def of_size(parameters, device="cpu"):
    module = nn.Module()
    module.weight = nn.Parameter(torch.empty(parameters, device=device), requires_grad=False)
    return module


@pytest.fixture
def free(monkeypatch):
    """Without a choice of the user; restores the number of threads."""
    before = torch.get_num_threads()
    for name in devices._THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "_DEFAULT_THREADS", 3)
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_a_large_model_takes_all_of_them_also_after_a_small_one(free):
    devices.fit_threads(of_size(devices.SMALL))
    assert torch.get_num_threads() == 1
    devices.fit_threads(of_size(devices.SMALL + 1))
    assert torch.get_num_threads() == 3


def test_the_number_that_the_user_chose_stays(free, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    devices.fit_threads(of_size(10))
    assert torch.get_num_threads() == 3


def test_the_number_that_the_program_set_stays(free):
    torch.set_num_threads(5)
    devices.fit_threads(of_size(10))
    assert torch.get_num_threads() == 5


def test_models_on_other_devices_change_nothing(free):
    devices.fit_threads(of_size(10, device="meta"))
    assert torch.get_num_threads() == 3
