"""CUDA graphs, simulated on a CPU: the operators of one captured step run again on the same tensors.

A step that reads something from the host, or allocates where a graph would not, gives other tokens here.
"""

from contextlib import contextmanager

import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pairuni.policies import llama
from pairuni.policies.decoding import graphs
from pairuni.policies.decoding.graphs import CudaGraphs
from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.llama import LlamaLayers
from pairuni.policies.registry import load_policy
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.training.optimizer import NamedAdamW

WAITS = ("aten._local_scalar_dense.default", "aten.nonzero.default")
QUESTIONS = [
    "which digit is red?",
    "how many digits are there?",
    "what is the sum of the digits at the left?",
]
PROMPTS = ["a red seven", "two zeros and a blue one below a yellow nine right of it", "a", "three sixes"]


class Recording(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert str(function) not in WAITS, "a captured step may not wait for the device"
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result


class Graph:
    """Replays as ``torch.cuda.CUDAGraph`` does: every operator again, with results in the original tensors."""

    def replay(self):
        for function, args, kwargs, result in self.calls:
            made = [one for one in tree_leaves(result) if isinstance(one, torch.Tensor)]
            given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
            stored = {one.untyped_storage().data_ptr() for one in given}
            if function._schema.is_mutable:
                function(*args, **kwargs)
            elif not all(one.untyped_storage().data_ptr() in stored for one in made):
                again = tree_leaves(function(*args, **kwargs))
                for old, new in zip(made, again, strict=True):
                    old.copy_(new)


class Captured(DecodeLoop):
    captures = True


@pytest.fixture
def policy(monkeypatch):
    """Without oneDNN, which copies the weights at each rollout; a GPU reads them in place."""
    monkeypatch.setattr(llama.mkldnn, "is_available", lambda: False)
    return load_policy("tiny", device="cpu", dtype="float32")


@pytest.mark.parametrize("truncation", [{}, {"top_k": 40, "top_p": 0.9}], ids=str)
def test_replayed_steps_sample_the_same_tokens(policy, monkeypatch, truncation):
    layers = LlamaLayers(policy.module.model.language_model)
    plain, captured = DecodeLoop(layers, static=True), Captured(layers, static=True)
    counts = {"captured": 0}

    @contextmanager
    def capture(graph, **_):
        counts["captured"] += 1
        before = [workspace.bytes.clone() for workspace in captured._workspaces.values()]
        with Recording() as recording:
            yield
        graph.calls = recording.calls
        for workspace, old in zip(captured._workspaces.values(), before, strict=True):
            workspace.bytes.copy_(old)  # capturing does nothing yet

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    optimizer = NamedAdamW(policy.train_only(["language_model", "generation_head"]), learning_rate=1e-3)
    shown = [Image.radial_gradient("L"), Image.linear_gradient("L"), Image.new("RGB", (32, 32), "black")]
    captures = []
    for step in range(6):
        number = (2, 3, 2)[step % 3]
        texts = TextSampling(
            images=shown[:number],
            questions=(QUESTIONS * 2)[step % 3 :][:number],
            rollouts=3,
            temperature=1.0,
            max_new_tokens=24,
            seed=step,
            **truncation,
        )
        images = ImageSampling(
            prompts=(PROMPTS * 2)[step % 4 :][:number],
            rollouts=3,
            temperature=1.0,
            guidance=4.0,
            branch="guided" if step % 2 else "conditional",
            seed=step,
            **truncation,
        )
        policy.loop = plain
        expected = policy.sample(texts, images)
        policy.loop = captured
        found = policy.sample(texts, images)
        for one, other in zip(
            (t for groups in expected for group in groups for t in group),
            (t for groups in found for group in groups for t in group),
            strict=True,
        ):
            assert torch.equal(one.tokens, other.tokens)
            torch.testing.assert_close(one.log_probs, other.log_probs, atol=1e-5, rtol=0)
            assert (one.kept is None) == (not truncation)
            assert one.kept is None or torch.equal(one.kept, other.kept)
        captures.append(counts["captured"])
        # captured steps must see the new weights
        optimizer.zero_grad()
        sampled = [trajectory for group in found[1] for trajectory in group]
        policy.log_probs(sampled).values.sum().backward()
        optimizer.collect_gradients()
        optimizer.step(1e-3)
    assert captures[-1] > 0


def test_graphs_are_used_again_and_the_least_recently_used_is_dropped(monkeypatch):
    """The order of events, with a stub for the graph."""
    events: list[str] = []
    pools: list[tuple[int, int]] = []

    class Counted:
        def replay(self):
            events.append("replay")

    @contextmanager
    def capture(graph, pool, stream, **_):
        events.append("capture")
        pools.append(pool)
        assert stream == "a stream"
        yield

    monkeypatch.setattr(graphs, "MAX_GRAPHS", 2)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Counted)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    handles = iter(range(9))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, next(handles)))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: "a stream")
    steps = CudaGraphs()

    def run(key):
        events.clear()
        steps.run(key, lambda: events.append("step"))
        return events.copy()

    assert run("a") == ["step"]
    assert run("a") == ["capture", "step", "replay"]
    assert run("a") == ["replay"]
    assert run("b") == ["step"]
    assert run("a") == ["replay"]
    assert run("c") == ["step"]  # in the place of b
    assert run("a") == ["replay"]
    assert run("b") == ["step"]
    assert len(set(pools)) == 1
    steps.clear()
    assert run("a") == ["step"]
    assert run("a") == ["capture", "step", "replay"]
    assert len(set(pools)) == 2  # the first pool went with its last graph
