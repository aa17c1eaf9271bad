"""Training with rewards in other processes: equal results, and recovery after the reward fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from chat_server import ChatServer
from fake_policy import FakePolicy
from pair_batches import REWARDS, make_pairs, run_settings
from pairuni.config import JudgeSettings, RemoteSettings
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.trainer import Trainer
from pairuni.rewards.checked import RewardError
from pairuni.rewards.judge import JudgeReward
from pairuni.rewards.service.remote import RemoteReward
from pairuni.rewards.service.server import RewardServer
from pairuni.runs.metrics import MetricsLog
from pairuni.training.checkpoint import list_checkpoints


def serve(port: int = 0) -> RewardServer:
    server = RewardServer(REWARDS.generation, ("127.0.0.1", port))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def trainer(folder: Path, out: Path, rewards: Rewards) -> Trainer:
    pairs = make_pairs(folder)
    return Trainer(run_settings(), FakePolicy(), pairs, rewards, out, image_folder=folder)


def steps(out: Path) -> list[Any]:
    return [row["step"] for row in MetricsLog(out / "metrics.jsonl").rows()]


class Before:
    """A reward; ``act`` is called before its fifth batch."""

    def __init__(self, reward: Any, act: Callable[[], None]) -> None:
        self.name, self.reward, self.act, self.calls = reward.name, reward, act, 0

    def __call__(self, records: Any, samples: Any) -> list[float]:
        self.calls += 1
        if self.calls == 5:
            self.act()
        scores: list[float] = self.reward(records, samples)
        return scores


def rewards(generation: Any) -> Rewards:
    return Rewards(understanding=REWARDS.understanding, generation=generation)


def test_a_server_that_dies_stops_the_run_and_resuming_gives_the_same_result(tmp_path: Path) -> None:
    trainer(tmp_path, tmp_path / "local", REWARDS).run()
    server, out = serve(), tmp_path / "cut"
    port = server.server_port
    settings = RemoteSettings(url=server.url, batch_size=3, max_retries=1, timeout=5.0)

    def die() -> None:
        server.shutdown()
        server.server_close()

    remote = RemoteReward(settings, backoff=0.01)
    with pytest.raises(
        RewardError, match=r"^reward 'remote' \(redness\) failed on .*\.png .*connection broke"
    ):
        trainer(tmp_path, out, rewards(Before(remote, die))).run()
    assert list_checkpoints(out / "checkpoints")[-1].name == "step-000004"
    assert steps(out) == [1, 2, 3, 4]
    assert not (out / "final").exists()

    again = serve(port)
    assert trainer(tmp_path, out, rewards(RemoteReward(settings))).run(resume=True).steps == 6
    again.shutdown()
    again.server_close()
    assert steps(out) == [1, 2, 3, 4, 5, 6]
    mine, theirs = (load_file(one / "final/model.safetensors") for one in (out, tmp_path / "local"))
    assert all((mine[name] == theirs[name]).all() for name in theirs)


def test_a_judge_that_hangs_stops_the_run_and_resuming_continues(tmp_path: Path) -> None:
    def score(ask: Any) -> dict[str, Any]:
        return {"reason": "", "score": ask.serial % 7}

    out = tmp_path / "run"
    with ChatServer(reply=score) as server:
        settings = JudgeSettings(model="m", base_url=server.url, timeout=0.5, max_retries=1)

        def break_down() -> None:
            server.misbehave = lambda ask: "hang"

        judge = JudgeReward(settings, backoff=0.01)
        with pytest.raises(
            RewardError, match=r"^reward 'judge' failed on .*\.png .*no answer within 0\.5 seconds"
        ):
            trainer(tmp_path, out, rewards(Before(judge, break_down))).run()
        assert list_checkpoints(out / "checkpoints")[-1].name == "step-000004"
        server.misbehave = lambda ask: None
        assert trainer(tmp_path, out, rewards(judge)).run(resume=True).steps == 6
    assert steps(out) == [1, 2, 3, 4, 5, 6]
