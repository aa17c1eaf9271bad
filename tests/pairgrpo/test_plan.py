"""The estimates of --dry-run: memory compared with measured peaks, devices, strategies, adapters, micro-batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import JanusForConditionalGeneration

from benchmarks.shapes import SHAPES, byte_processor, janus_config
from pair_batches import make_pairs, run_settings
from pairuni.config import RunSettings
from pairuni.distributed.strategy import Replicate, Shard
from pairuni.distributed.world import World
from pairuni.pairgrpo import activations
from pairuni.pairgrpo.cards import NODES, USABLE
from pairuni.pairgrpo.plan import ERROR, choose_strategy, device_memory, plan_run
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.pairgrpo.step import update
from pairuni.policies import costs
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.replay import LOGITS_BUDGET
from pairuni.training.optimizer import NamedAdamW
from ranks import run_ranks, values_of
from tiny_models import tiny_janus

SMALL = {"patch_size": 4, "hidden": 256, "layers": 6}
LORA = {"lora": {"rank": 8, "alpha": 16.0}, "trainable": ["language_model"]}
LARGE = {"rollouts": 2, "sizes": {"hidden": 768}}
CASES = {
    "full": {},
    "adapters": {"policy": LORA, "dtype": "bfloat16"},
    "checkpointing": {"policy": {"activation_checkpointing": True}},
    "micro-batches": {"pairgrpo": {"micro_batch_tokens": 800}},
    "bfloat16": {"dtype": "bfloat16"},
    "adapters, float32": {"policy": LORA},
    "adapters, checkpointing": {"policy": {**LORA, "activation_checkpointing": True}},
    "reference": {"pairgrpo": {"beta": 0.1}},
    "two replicas": {"processes": 2},
    "two shards": {"processes": 2, "strategy": "shard"},
    "two shards, adapters": {"processes": 2, "strategy": "shard", "policy": LORA},
    # here the state is most of the memory
    "large model": LARGE,
    "large model, two replicas": {**LARGE, "processes": 2},
    "large model, two shards": {**LARGE, "processes": 2, "strategy": "shard"},
}


class Lengths:
    """A reward for both tasks that differs between all samples of a group, so that all are replayed."""

    name = "lengths"

    def __call__(self, records, samples):
        return [float(index) for index in range(len(samples))]


def resident(key: str) -> int:
    """Memory of this process in bytes: current (VmRSS) or peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def settings_of(case: dict, rollouts: int) -> RunSettings:
    return run_settings(
        policy={"model": "tiny", **case.get("policy", {})},
        rollout={
            "guidance": 3.0,
            "branch": "guided",
            "max_new_tokens": 64,
            "understanding": rollouts,
            "generation": rollouts,
        },
        pairgrpo={
            "steps": 1,
            "pairs_per_batch": 2 * case.get("processes", 1),
            "learning_rate": 1e-6,
            **case.get("pairgrpo", {}),
        },
    )


def train(case: dict, rollouts: int, world: World, folder: Path, **sizes: int) -> dict[str, float]:
    """Two steps of a random model: the bytes that they need besides its weights, measured and planned."""
    settings, dtype = settings_of(case, rollouts), getattr(torch, case.get("dtype", "float32"))
    model, processor = tiny_janus(**sizes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, std=0.02)
    policy = JanusPolicy(model.to(dtype), processor)
    # so much memory that the rollout's cache is kept, as on a CPU
    how = {"world_size": world.world_size, "strategy": case.get("strategy", "replicate"), "memory": 1e12}
    planned = plan_run(settings, policy, dtype, **how)
    weights = sum(parameter.nbytes for parameter in policy.module.parameters())
    before = resident("VmRSS")
    policy.activation_checkpointing = settings.policy.activation_checkpointing
    if settings.policy.lora is not None:
        policy.add_adapters(settings.policy.lora, seed=0)
    policy.train_only(settings.policy.trainable)
    assert sum(parameter.numel() for _, parameter in policy.trained()) == planned.trained
    reference = policy.reference() if settings.pairgrpo.beta > 0 else None
    strategy = Shard(world, "cpu") if how["strategy"] == "shard" else Replicate(world)
    strategy.place(policy)
    rewards = Rewards(understanding=Lengths(), generation=Lengths())
    optimizer = NamedAdamW(policy.trained(), learning_rate=1e-6)
    pairs = make_pairs(folder)[2 * world.rank : 2 * world.rank + 2]
    for step in (1, 2):  # AdamW's moments exist after the first
        policy.refresh_inference()
        batch = rollout_batch(policy, pairs, settings.rollout, rewards, seed=step, image_folder=folder)
        update(
            *(policy, batch, optimizer, settings.pairgrpo),
            step=step,
            learning_rate=1e-6,
            reference=reference,
            strategy=strategy,
        )
    tokens = sum(policy.replay_cost(one.trajectories).tokens for one in batch.rollouts.values())
    return {
        "measured": resident("VmHWM") - before,
        "planned": planned.peak - weights,
        "tokens": tokens / planned.replayed_tokens,
    }


def measure(world: World, case: dict, folder: Path) -> dict[str, float]:
    """What ``train`` returns, once everything is loaded."""
    LOGITS_BUDGET.update(
        cpu=4 << 20, cuda=4 << 20
    )  # a large fixed cost would hide the part that grows with the model
    costs.PROMPT_TOKENS = 18  # of these pairs, one token a byte
    own = folder / str(world.rank)
    own.mkdir()
    train(case, 2, world, own)
    return train(case, case.get("rollouts", 8), world, own, **(SMALL | case.get("sizes", {})))


def measure_first(case: dict, folder: Path) -> None:
    """Print what ``measure`` returns in the first process."""
    if (processes := case.get("processes", 1)) == 1:
        print(json.dumps(measure(World(), case, folder)))
    else:
        print(json.dumps(values_of(run_ranks(processes, folder / "ranks", measure, case, folder))[0]))


def slow_but(names: list[str]):
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize("case", slow_but(["full"]))
def test_the_plan_is_near_the_measured_peak(case, tmp_path):
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(CASES[case]), str(tmp_path)],
        # freed tensors go back to the system at once, so that the peak is that of tensors that live together
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0.9 < found["tokens"] <= 1.0, found
    assert abs(found["planned"] / found["measured"] - 1) < ERROR, found


def skeleton(name: str) -> JanusPolicy:
    """Janus-Pro without weights, in bfloat16."""
    shape = SHAPES[name]
    processor = byte_processor(shape)
    with torch.device("meta"):
        model = JanusForConditionalGeneration(janus_config(shape, processor, shape.vocabulary))
    return JanusPolicy(model.to(torch.bfloat16), processor)


@pytest.fixture(scope="module")
def janus_1b() -> JanusPolicy:
    return skeleton("janus-pro-1b")


@pytest.fixture(scope="module")
def janus_7b() -> JanusPolicy:
    return skeleton("janus-pro-7b")


def janus_settings(**sections) -> RunSettings:
    base = {
        "policy": {"model": "janus"},
        "rollout": {"understanding": 4, "generation": 4},
        "pairgrpo": {"pairs_per_batch": 16, "micro_batch_tokens": 4096},
    }
    return run_settings(**(base | sections))


def test_state_of_one_device(janus_1b):
    """Counted by hand: 2 bytes a weight; of what trains, master and moments, and gradients in both precisions."""
    planned = plan_run(janus_settings(pairgrpo={"beta": 0.1}), janus_1b, torch.bfloat16)
    # language model with its head, and the image head: 2048 x 2048 and 2048 x 16384, with biases
    trained = 1_652_656_128 + 2048 * 2048 + 2048 + 2048 * 16384 + 16384
    assert planned.trained == trained
    assert planned.weights == 2 * planned.parameters
    assert (planned.gradients, planned.optimizer) == (6 * trained, 12 * trained)
    assert planned.reference == 2 * trained
    assert (planned.inference_weights, planned.gathered, planned.communicated) == (0, 0, 0)


def test_state_with_adapters(janus_7b):
    settings = janus_settings(policy={"model": "janus", **LORA}, pairgrpo={"beta": 0.1})
    planned = plan_run(settings, janus_7b, torch.bfloat16)
    hidden, wide, layers, rank = 4096, 11008, 30, 8
    adapters = layers * rank * (4 * 2 * hidden + 3 * (hidden + wide))
    assert planned.trained == adapters
    assert planned.inference_weights == 2 * layers * (4 * hidden**2 + 3 * hidden * wide)
    assert planned.weights == 2 * (planned.parameters - adapters) + 4 * adapters
    assert (planned.gradients, planned.optimizer, planned.reference) == (4 * adapters, 8 * adapters, 0)
    fewer = {"lora": {"rank": rank, "targets": ["q_proj", "v_proj"]}}
    planned = plan_run(janus_settings(policy={"model": "janus", **fewer}), janus_7b, torch.bfloat16)
    head = 4096 * 4096 + 4096 + 4096 * 16384 + 16384  # the image head is in ``trainable`` and trains whole
    assert planned.trained == layers * rank * 2 * 2 * hidden + head


def test_state_of_shards(janus_7b):
    settings = janus_settings()
    planned = plan_run(settings, janus_7b, torch.bfloat16, world_size=8, strategy="shard")
    frozen = planned.parameters - planned.trained
    assert planned.inference_weights == 2 * planned.trained
    assert planned.weights == pytest.approx(planned.trained * 4 / 8 + 2 * frozen, abs=8)
    assert planned.gradients == pytest.approx(planned.trained * 4 / 8, abs=8)
    assert planned.optimizer == pytest.approx(planned.trained * 8 / 8, abs=8)
    # all 16 pairs, two on each device
    alone = plan_run(settings, janus_7b, torch.bfloat16)
    assert planned.replayed_tokens * 8 == alone.replayed_tokens
    assert planned.sampled_tokens * 8 == alone.sampled_tokens

    def with_(**distributed):
        changed = janus_settings(distributed=distributed)
        return plan_run(changed, janus_7b, torch.bfloat16, world_size=8, strategy="shard")

    kept = with_(reshard_after_forward=False)
    assert kept.gathered > planned.gathered + planned.trained
    assert kept.communicated < planned.communicated
    halves = with_(shard_size=4)
    assert halves.optimizer == pytest.approx(2 * planned.optimizer, abs=8)
    with pytest.raises(ValueError, match="shard_size is 3, but must divide the number of processes, 8"):
        with_(shard_size=3)


def test_steps_that_take_the_tasks_in_turn(janus_1b):
    """Memory and tokens are those of the larger step; a round of two steps reads and computes what a joint one does."""
    rollout = {"understanding": 4, "generation": 8, "max_new_tokens": 256, "guidance": 5.0}
    joint, turns = (
        plan_run(
            janus_settings(rollout=rollout, pairgrpo={"pairs_per_batch": 16, "tasks": tasks}),
            janus_1b,
            torch.bfloat16,
        )
        for tasks in ("joint", "alternating")
    )
    images, answers, guided = 8 * 576, 4 * 256, 2
    assert joint.sampled_tokens == 16 * (images + answers)
    assert turns.sampled_tokens == 16 * images
    assert turns.replayed_tokens == 16 * guided * (costs.PROMPT_TOKENS + images)
    assert joint.replayed_tokens == turns.replayed_tokens + 16 * (costs.PROMPT_TOKENS + 576 + answers)
    assert 2 * turns.operations == pytest.approx(joint.operations)
    assert turns.peak < joint.peak
    assert (turns.weights, turns.optimizer) == (joint.weights, joint.optimizer)
    # answers decode in 256 steps of their own, no longer beside the images in 576
    weights = joint.parameters * 2
    question = costs.PROMPT_TOKENS + 576 + answers
    per_token = joint.rollout_cache / (16 * (question + guided * (costs.PROMPT_TOKENS + images)))
    parts = [576 * (weights + turns.rollout_cache / 2), 256 * (weights + 16 * question * per_token / 2)]
    assert 2 * turns.decoded_bytes == pytest.approx(sum(parts))


def test_what_replicas_send(janus_1b):
    planned = plan_run(janus_settings(), janus_1b, torch.bfloat16, world_size=4)
    assert planned.communicated == pytest.approx(2 * 3 / 4 * 4 * planned.trained)


@pytest.mark.parametrize(
    ("size", "memory", "processes", "expected"),
    [
        ("1b", 80e9, 8, ("replicate", "everything fits on each device")),
        ("1b", 40e9, 8, ("shard", "replicate would need")),
        ("7b", 80e9, 8, ("shard", "replicate would need")),
        ("7b", 24e9, 8, ("shard", "neither fits")),
        ("7b", 24e9, 1, ("replicate", "there is one process")),
    ],
)
def test_auto_replicates_where_that_fits(size, memory, processes, expected, janus_1b, janus_7b):
    policy = {"1b": janus_1b, "7b": janus_7b}[size]
    before = [parameter.requires_grad for parameter in policy.module.parameters()]
    strategy, reason = choose_strategy(janus_settings(), policy, processes, memory)
    assert (strategy, reason[: len(expected[1])]) == expected
    assert [parameter.requires_grad for parameter in policy.module.parameters()] == before


def test_a_chosen_strategy_stays(janus_1b):
    settings = janus_settings(distributed={"strategy": "shard"})
    assert choose_strategy(settings, janus_1b, 8, 80e9) == ("shard", "distributed.strategy is shard")
    # weights of rewards count
    assert choose_strategy(janus_settings(), janus_1b, 8, 80e9, reward_models=40 * 10**9)[0] == "shard"


def test_a_small_model_replicates_in_this_machines_memory():
    model, processor = tiny_janus()
    memory = device_memory(torch.device("cpu"), processes=2)
    assert choose_strategy(settings_of({}, 2), JanusPolicy(model, processor), 2, memory)[0] == "replicate"


def test_auto_fills_what_is_left_of_a_card(janus_7b):
    settings = janus_settings(
        policy={"model": "janus", **LORA}, pairgrpo={"pairs_per_batch": 16, "micro_batch_tokens": "auto"}
    )
    small, large = (
        plan_run(settings, janus_7b, torch.bfloat16, memory=USABLE * card.memory)
        for card in sorted(NODES, key=lambda card: card.memory)[1:3]
    )
    assert small.micro_batch_tokens == activations.LEAST_TOKENS
    assert large.micro_batch_tokens > activations.LEAST_TOKENS
    assert 0.8 * USABLE * 80e9 < large.peak < USABLE * 80e9
    # rollouts decode in parts rather than exceed the memory
    assert large.rollout_cache < plan_run(settings, janus_7b, torch.bfloat16).rollout_cache


def batch_of(policy: JanusPolicy, folder: Path, settings: RunSettings):
    rewards = Rewards(understanding=Lengths(), generation=Lengths())
    pairs = make_pairs(folder)[: settings.pairgrpo.pairs_per_batch]
    return rollout_batch(policy, pairs, settings.rollout, rewards, seed=1, image_folder=folder)


def gradients_of(policy: JanusPolicy, batch, settings: RunSettings) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    optimizer = NamedAdamW(policy.train_only(settings.policy.trainable), learning_rate=0.0)
    optimizer.before_update = lambda: found.update(
        {name: gradient.clone() for name, gradient in optimizer.gradients().items()}
    )
    update(policy, batch, optimizer, settings.pairgrpo, step=1, learning_rate=0.0)
    return found


def test_auto_does_not_change_the_gradient(tmp_path, monkeypatch):
    monkeypatch.setattr(activations, "LEAST_TOKENS", 100)
    model, processor = tiny_janus()
    policy = JanusPolicy(model, processor)
    auto, whole = (settings_of({"pairgrpo": {"micro_batch_tokens": size}}, 4) for size in ("auto", None))
    batch = batch_of(policy, tmp_path, auto)
    expected = gradients_of(policy, batch, whole)
    monkeypatch.setattr(activations, "CPU_ACTIVATIONS", 0)
    passes = []
    monkeypatch.setattr(
        policy,
        "log_probs",
        lambda ones, real=policy.log_probs: passes.append(policy.replay_cost(ones).tokens) or real(ones),
    )
    found = gradients_of(policy, batch, auto)
    assert len(passes) > 2
    assert max(passes) <= 100
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_the_budget_grows_with_the_memory_and_counts_adapters(tmp_path, monkeypatch):
    monkeypatch.setattr(activations, "LEAST_TOKENS", 1)
    monkeypatch.setattr(activations, "CPU_ACTIVATIONS", 900 << 20)
    model, processor = tiny_janus(**SMALL)
    policy = JanusPolicy(model.to(torch.bfloat16), processor)
    settings = settings_of({"policy": LORA}, 2)
    batch = batch_of(policy, tmp_path, settings)
    tasks = [one.trajectories for one in batch.rollouts.values()]

    def budget() -> int:
        return activations.micro_batch_budget(policy, tasks, moments=True)

    policy.train_only(["language_model"])
    full = budget()
    policy.activation_checkpointing = True
    assert budget() > 2 * full
    policy.activation_checkpointing = False
    policy.add_adapters(settings.policy.lora, seed=0)
    policy.train_only(settings.policy.trainable)
    # float32 copies of the inputs of the adapted matrices
    assert budget() < full
    monkeypatch.setattr(activations, "CPU_ACTIVATIONS", 1800 << 20)
    assert budget() > full


def test_what_an_update_allocates_besides_activations():
    model, processor = tiny_janus()
    policy = JanusPolicy(model, processor)
    trained = sum(one.numel() for _, one in policy.train_only(["language_model"]))
    pending = activations.pending_bytes
    assert pending(policy.module, torch.float32, moments=True) == 4 * trained
    assert pending(policy.module, torch.float32, moments=False) == 12 * trained
    policy.module.to(torch.bfloat16)
    assert pending(policy.module, torch.bfloat16, moments=True) == 6 * trained


if __name__ == "__main__":
    measure_first(json.loads(sys.argv[1]), Path(sys.argv[2]))
