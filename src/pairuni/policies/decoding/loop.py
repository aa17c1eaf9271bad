"""The decode loop of autoregressive policies: several requests, for text or images, in the same steps.

A step costs the reading of the weights whoever rides along. So the rows of all requests go through the layers
together and part only where they differ: attention, which each lane does over its own memory, and the heads.
Each distinct prompt is prefilled once. Noise belongs to the trajectory, so what is sampled does not depend on
how rows were batched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pairuni.policies.decoding.lane import Lane, Prompt, Request, Rollout, Workspace, rounded
from pairuni.policies.llama import Forward, LlamaLayers

MEMORY_BUDGET = 8 << 30
"""Bytes of keys and values that rollouts on a CPU may hold; a GPU offers what is free on it."""

KEPT_SHARE = 0.1
"""Of a GPU's memory: a loop that holds more gives it back after a rollout, for the update needs it."""

MAX_GRAPHS = 128
"""Captured steps that are kept."""

MAX_ROWS = 256
"""Rows of one request decoded together; beyond, a step's time grows as fast as its rows."""


Place = tuple[int, int]
"""A request's stream, and how many of the same stream come before it in a run: so its memory stays its own."""


class DecodeLoop:
    """Decodes requests on one model; keeps its memory, and on a GPU its captured steps, from call to call.

    memory_budget: bytes of keys and values; None offers what is free. max_rows: rows that one request decodes
    together, unconditional twins included. static: count positions on the device, and on a GPU capture the
    steps; None does so there alone.
    """

    def __init__(
        self,
        layers: LlamaLayers,
        *,
        memory_budget: int | None = None,
        max_rows: int = MAX_ROWS,
        static: bool | None = None,
    ) -> None:
        self.layers, self.max_rows, self.static = layers, max_rows, static
        self.memory_budget = memory_budget
        self._arenas: dict[Place, Workspace] = {}
        self._steps = CapturedSteps()
        self._rotary = torch.empty(2, 0, layers.head_dim)

    def run(self, requests: Sequence[Request]) -> list[list[list[Rollout]]]:
        """K rollouts of every prompt of every request, in their order."""
        device = self.layers.device
        # graphs are captured on streams of the current device, wherever the model is
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            # made here because parameters that move in inference mode could never be trained again
            forward = self.layers.inference(self.max_rows)
            found = self._decode(forward, requests)
        if sum(len(workspace.bytes) for workspace in self._arenas.values()) > kept_bytes(device):
            self._forget()
        return [
            [
                [
                    # tensors of inference mode cannot be saved for a backward pass, copies can
                    replace(one, tokens=one.tokens.clone(), log_probs=one.log_probs.clone())
                    for one in (results[prompt, rollout] for rollout in range(request.sampling.rollouts))
                ]
                for prompt in range(len(request.lengths))
            ]
            for request, results in zip(requests, found, strict=True)
        ]

    @torch.inference_mode()
    def _decode(self, forward: Forward, requests: Sequence[Request]) -> list[dict[tuple[int, int], Rollout]]:
        places = self._prepare(requests)
        needs = [needed(request, self.max_rows, self.layers) for request in requests]
        waiting = [
            deque(chunks(request, share, self.max_rows, self.layers))
            for request, share in zip(requests, shares(needs, self._budget()), strict=True)
        ]
        lanes: dict[int, Lane] = {}
        found: list[dict[tuple[int, int], Rollout]] = [{} for _ in requests]
        while any(waiting) or lanes:
            for place, queue in enumerate(waiting):
                if queue and place not in lanes:
                    prompts, rollouts = queue.popleft()
                    lanes[place] = self._begin(
                        forward, requests[place], prompts, rollouts, self._arenas[places[place]]
                    )
            for place in [place for place, lane in lanes.items() if lane.ended()]:
                found[place].update(lanes.pop(place).results)
            if lanes:
                self._step(forward, {places[place]: lane for place, lane in lanes.items()})
        return found

    def _forget(self) -> None:
        """Give all memory back, and with it the steps that were captured on it."""
        self._arenas.clear()
        self._steps.clear()

    def _prepare(self, requests: Sequence[Request]) -> list[Place]:
        """Rotary positions and an workspace for each request; returns whose is which."""
        device = self.layers.device
        longest = max((max(one.lengths, default=0) + one.sampling.steps for one in requests), default=0)
        stale = self._rotary.device != device or self._rotary.dtype != self.layers.dtype
        if stale or self._rotary.shape[1] < longest:
            self._rotary = self.layers.rotary(longest)
            self._steps.clear()
        if stale:
            self._forget()
        streams = [request.stream for request in requests]
        places = [(stream, streams[:index].count(stream)) for index, stream in enumerate(streams)]
        for place in places:
            if place not in self._arenas:
                self._arenas[place] = Workspace(device)
        return places

    def _budget(self) -> int:
        if self.memory_budget is not None:
            return self.memory_budget
        device = self.layers.device
        if device.type != "cuda":
            return MEMORY_BUDGET
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        ours = sum(len(workspace.bytes) for workspace in self._arenas.values())
        return int(0.8 * (free + cached + ours))

    def _begin(
        self, forward: Forward, request: Request, prompts: list[int], rollouts: range, workspace: Workspace
    ) -> Lane:
        """A lane whose prompts are prefilled and whose rollouts have their first token."""
        static = self.layers.device.type == "cuda" if self.static is None else self.static
        before = workspace.bytes.data_ptr()
        lane = Lane(request, prompts, rollouts, self.layers, workspace, static=static)
        if workspace.bytes.data_ptr() != before:
            self._steps.clear()
        lane.choose(prefill(forward, request.prompts(prompts), lane, self._rotary))
        lane.end_step()
        lane.filled += 1
        return lane

    @property
    def captures(self) -> bool:
        """Whether steps are captured once and replayed."""
        return self.layers.device.type == "cuda"

    def _step(self, forward: Forward, lanes: dict[Place, Lane]) -> None:
        """One more token for every rollout of the lanes."""
        running = list(lanes.values())
        key = (
            self.layers.model.norm.weight.data_ptr(),
            self._rotary.data_ptr(),
            self._rotary.shape[1],
            *(
                (place, lane.geometry, lane.width, lane.sampling, lane.request.head, lane.request.embed)
                for place, lane in lanes.items()
            ),
        )
        step = partial(decode_step, forward, running, self._rotary)
        if running[0].static and self.captures:
            self._steps.run(key, step)
        else:
            step()
        for lane in running:
            lane.filled += 1


def decode_step(forward: Forward, lanes: Sequence[Lane], rotary: Tensor) -> None:
    """The whole step as one function of tensors: last tokens in, next tokens and their log-probs out.

    Nothing here waits for the device, so that on a GPU it is captured once and replayed.
    """
    counts = [lane.rows for lane in lanes]

    def attend(layer: int, *states: Tensor) -> Tensor:
        if len(lanes) == 1:
            return lanes[0].attend(layer, *states)
        parts = zip(*(one.split(counts) for one in states), strict=True)
        mixed = [lane.attend(layer, *part) for lane, part in zip(lanes, parts, strict=True)]
        return torch.cat(mixed)

    positions = torch.cat([lane.begin_step(rotary) for lane in lanes], dim=1)
    states = forward(torch.cat([lane.embed() for lane in lanes]), positions, attend)
    for lane, own in zip(lanes, states.split(counts), strict=True):
        lane.choose(own)
        lane.end_step()


def prefill(forward: Forward, prompts: Sequence[Prompt], lane: Lane, rotary: Tensor) -> Tensor:
    """Fill a lane's prefix memory; returns the prompts' last states [branches G, H] in its order.

    Prompts that share a tensor are computed once. Sequences are padded on the right, where causal attention
    never looks; the lane's mask hides the padding later.
    """
    rows = [prompt.conditional for prompt in prompts]
    if lane.sampling.guided:
        twins = [prompt.unconditional for prompt in prompts if prompt.unconditional is not None]
        assert len(twins) == len(rows), "guidance needs the unconditional prompt"
        rows += twins
    distinct = {id(row): row for row in rows}
    place = {key: index for index, key in enumerate(distinct)}
    owner = torch.tensor([place[id(row)] for row in rows], device=lane.device)
    sequences = list(distinct.values())
    lengths = [len(sequence) for sequence in sequences]
    assert max(lengths) <= lane.prefix_width
    slots = torch.arange(lane.prefix_width, device=lane.device)
    real = slots < torch.tensor(lengths, device=lane.device)[:, None]

    def padded(states: Tensor) -> Tensor:
        """[tokens, heads, D] -> [sequences, heads, W, D], zeros on padding."""
        spread = states.new_zeros(*real.shape, *states.shape[1:])
        spread[real] = states
        return spread.transpose(1, 2)

    def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        wide_keys, wide_values = padded(keys), padded(values)
        lane.prefix_keys[layer].copy_(wide_keys[owner].flatten(0, 1))
        lane.prefix_values[layer].copy_(wide_values[owner].flatten(0, 1))
        gqa = queries.shape[1] != keys.shape[1]
        mixed = scaled_dot_product_attention(
            padded(queries), wide_keys, wide_values, is_causal=True, enable_gqa=gqa
        )
        return mixed.transpose(1, 2)[real]

    positions = torch.cat([rotary[:, :length] for length in lengths], dim=1)
    states = forward(torch.cat(sequences), positions, attend)
    last = torch.tensor(lengths, device=lane.device).cumsum(0) - 1
    return states[last][owner]


def chunks(
    request: Request, memory: int, max_rows: int, layers: LlamaLayers
) -> list[tuple[list[int], range]]:
    """(prompts, rollouts) that are decoded together, within ``memory`` bytes and ``max_rows`` rows.

    Prompts of similar length share a chunk, and all rollouts of a prompt do where they fit. A single rollout
    is never refused.
    """
    sampling = request.sampling
    order = sorted(range(len(request.lengths)), key=lambda prompt: (request.lengths[prompt], prompt))
    prefix, row = _bytes_of(request, layers)
    found: list[tuple[list[int], range]] = []
    most = min(max(max_rows // sampling.branches, 1), max(memory // max(row, 1), 1))
    if most < sampling.rollouts or prefix + sampling.rollouts * row > memory:
        rollouts = max(1, min(most, sampling.rollouts, (memory - prefix) // row))
        for prompt in order:
            found += [
                ([prompt], range(start, min(start + rollouts, sampling.rollouts)))
                for start in range(0, sampling.rollouts, rollouts)
            ]
        return found
    groups = max(1, min(most // sampling.rollouts, memory // (prefix + sampling.rollouts * row)))
    return [
        (order[start : start + groups], range(sampling.rollouts)) for start in range(0, len(order), groups)
    ]


def needed(request: Request, max_rows: int, layers: LlamaLayers) -> int:
    """Bytes of the largest chunk that ``max_rows`` allows."""
    sampling = request.sampling
    prefix, row = _bytes_of(request, layers)
    groups = max_rows // sampling.branches // sampling.rollouts
    return min(max(groups, 1), len(request.lengths)) * (prefix + sampling.rollouts * row)


def shares(needs: Sequence[int], budget: int) -> list[int]:
    """What each of several gets of a budget: what it needs, or an equal part of what the modest ones leave."""
    granted = [0] * len(needs)
    order = sorted(range(len(needs)), key=needs.__getitem__)
    for done, place in enumerate(order):
        granted[place] = min(needs[place], budget // (len(needs) - done))
        budget -= granted[place]
    return granted


def _bytes_of(request: Request, layers: LlamaLayers) -> tuple[int, int]:
    """Of keys and values of the longest prompt, and of what one rollout adds."""
    token = layers.token_bytes * request.sampling.branches
    prefix = token * rounded(max(request.lengths, default=0), layers.device)
    return prefix, token * rounded(max(request.sampling.steps - 1, 1), layers.device)


def kept_bytes(device: torch.device) -> float:
    """What a loop may hold from call to call; on a CPU all that it ever took."""
    if device.type != "cuda":
        return float("inf")
    return KEPT_SHARE * torch.cuda.get_device_properties(device).total_memory


class CapturedSteps:
    """Steps captured as CUDA graphs, by whatever decides their shapes and places.

    A step of a new kind first runs as it is, which warms the libraries up, and is captured the next time.
    """

    def __init__(self) -> None:
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}
        self._pool: Any = None
        self._stream: Any = None

    def clear(self) -> None:
        """Forget all graphs: memory that they were captured on has moved."""
        self._graphs.clear()
        self._pool = None  # a pool dies with its last graph, and its handle cannot be captured into again

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Do one step of the kind ``key``."""
        if key not in self._graphs:
            while len(self._graphs) >= MAX_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[key] = None
            step()
            return
        graph = self._graphs.pop(key)
        if graph is None:
            # no step reads what another left in scratch memory, so all may use the same
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            # torch's own capture stream is of whichever device was current first
            self._stream = self._stream or torch.cuda.Stream()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                step()
        self._graphs[key] = graph  # at the end: the first is the one that was not used for longest
        graph.replay()
