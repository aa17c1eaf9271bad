"""The decode loop of autoregressive policies: several requests, for text or images, in the same steps.

A step costs the reading of the weights, however many rows share it. So the rows of all requests pass the layers
together and separate only where they differ: in attention, which each batch does over its own cache, and in the heads.
Each distinct prompt is prefilled once. Noise belongs to the trajectory, so samples do not depend on how rows were
batched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from pairuni.policies.decoding.batch import DecodeBatch
from pairuni.policies.decoding.cache import Workspace
from pairuni.policies.decoding.chunks import bytes_needed, chunks, free_bytes, kept_bytes, share_budget
from pairuni.policies.decoding.graphs import CudaGraphs
from pairuni.policies.decoding.requests import Request, Rollout
from pairuni.policies.llama import Forward, LlamaLayers

MAX_ROWS = 256
"""Rows of one request decoded together; beyond, a step's time grows as fast as its rows."""

Slot = tuple[int, int]
"""A request's stream, and how many of the same stream come before it in a run: so it keeps its own workspace."""


class DecodeLoop:
    """Decodes requests with one model; keeps its workspaces, and on a GPU its captured steps, from call to call.

    memory_budget: bytes of keys and values; None is all free memory. max_rows: rows that one request decodes
    together, unconditional ones included. static: count positions on the device, and on a GPU capture the steps;
    None does so on a GPU only.
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
        self._workspaces: dict[Slot, Workspace] = {}
        self._graphs = CudaGraphs()
        self._rotary = torch.empty(2, 0, layers.head_dim)

    def with_layers(self, layers: LlamaLayers) -> DecodeLoop:
        """A loop with the same limits for other weights."""
        return DecodeLoop(
            layers, memory_budget=self.memory_budget, max_rows=self.max_rows, static=self.static
        )

    @property
    def captures(self) -> bool:
        """Whether steps are captured once and replayed."""
        return self.layers.device.type == "cuda"

    def run(self, requests: Sequence[Request]) -> list[list[list[Rollout]]]:
        """K rollouts of every prompt of every request, in their order."""
        device = self.layers.device
        # graphs are captured on streams of the current device, which need not be the model's
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            # outside of inference mode: parameters that move in it could never be trained again
            forward = self.layers.inference(self.max_rows)
            results = self._decode(forward, requests)
        if self._held() > kept_bytes(device):
            self._free()
        return [
            [
                [
                    # tensors of inference mode cannot be saved for a backward pass, copies can
                    replace(
                        one,
                        tokens=one.tokens.clone(),
                        log_probs=one.log_probs.clone(),
                        kept=None if one.kept is None else one.kept.clone(),
                    )
                    for one in (found[prompt, rollout] for rollout in range(request.sampling.rollouts))
                ]
                for prompt in range(len(request.lengths))
            ]
            for request, found in zip(requests, results, strict=True)
        ]

    @torch.inference_mode()
    def _decode(self, forward: Forward, requests: Sequence[Request]) -> list[dict[tuple[int, int], Rollout]]:
        slots = self._prepare(requests)
        budget = self.memory_budget
        if budget is None:
            budget = free_bytes(self.layers.device, self._held())
        needs = [bytes_needed(request, self.max_rows, self.layers) for request in requests]
        waiting = [
            deque(chunks(request, share, self.max_rows, self.layers))
            for request, share in zip(requests, share_budget(needs, budget), strict=True)
        ]
        running: dict[int, DecodeBatch] = {}
        results: list[dict[tuple[int, int], Rollout]] = [{} for _ in requests]
        while any(waiting) or running:
            for index, queue in enumerate(waiting):
                if queue and index not in running:
                    running[index] = self._begin(forward, requests[index], *queue.popleft(), slots[index])
            for index in [index for index, batch in running.items() if batch.ended()]:
                results[index].update(running.pop(index).results)
            if running:
                self._step(forward, {slots[index]: batch for index, batch in running.items()})
        return results

    def _prepare(self, requests: Sequence[Request]) -> list[Slot]:
        """Make rotary positions and a workspace for each request; returns the slots of the requests."""
        device = self.layers.device
        longest = max((one.longest + one.sampling.steps for one in requests), default=0)
        stale = self._rotary.device != device or self._rotary.dtype != self.layers.dtype
        if stale or self._rotary.shape[1] < longest:
            self._rotary = self.layers.rotary(longest)
            self._graphs.clear()
        if stale:
            self._free()
        streams = [request.stream for request in requests]
        slots = [(stream, streams[:index].count(stream)) for index, stream in enumerate(streams)]
        for slot in slots:
            if slot not in self._workspaces:
                self._workspaces[slot] = Workspace(device)
        return slots

    def _begin(
        self, forward: Forward, request: Request, prompts: list[int], rollouts: range, slot: Slot
    ) -> DecodeBatch:
        """A batch whose rollouts have their first token."""
        workspace = self._workspaces[slot]
        address = workspace.bytes.data_ptr()
        static = self.captures if self.static is None else self.static
        batch = DecodeBatch(request, prompts, rollouts, self.layers, workspace, static=static)
        if workspace.bytes.data_ptr() != address:
            self._graphs.clear()
        batch.prefill(forward, self._rotary)
        return batch

    def _step(self, forward: Forward, batches: dict[Slot, DecodeBatch]) -> None:
        """One more token for every rollout."""
        running = list(batches.values())
        step = partial(decode_step, forward, running, self._rotary)
        if running[0].static and self.captures:
            kind = (
                self.layers.model.norm.weight.data_ptr(),
                self._rotary.data_ptr(),
                self._rotary.shape[1],
                *(
                    (slot, one.geometry, one.width, one.sampling, one.request.head, one.request.embed)
                    for slot, one in batches.items()
                ),
            )
            self._graphs.run(kind, step)
        else:
            step()
        for batch in running:
            batch.filled += 1

    def _held(self) -> int:
        return sum(len(workspace.bytes) for workspace in self._workspaces.values())

    def _free(self) -> None:
        """Free all workspaces, and with them the steps that were captured on them."""
        self._workspaces.clear()
        self._graphs.clear()


def decode_step(forward: Forward, batches: Sequence[DecodeBatch], rotary: Tensor) -> None:
    """One step as one function of tensors: last tokens in, next tokens and their log-probs out.

    Nothing here waits for the device, so that on a GPU it is captured once and replayed.
    """
    counts = [batch.rows for batch in batches]

    def attend(layer: int, *states: Tensor) -> Tensor:
        if len(batches) == 1:
            return batches[0].attend(layer, *states)
        parts = zip(*(one.split(counts) for one in states), strict=True)
        return torch.cat([batch.attend(layer, *part) for batch, part in zip(batches, parts, strict=True)])

    positions = torch.cat([batch.begin_step(rotary) for batch in batches], dim=1)
    states = forward(torch.cat([batch.embed() for batch in batches]), positions, attend)
    for batch, own in zip(batches, states.split(counts), strict=True):
        batch.sample(own)
