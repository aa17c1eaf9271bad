"""AdamW over named parameters, exact for low-precision weights, with state addressed by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pairuni.training.shards import as_sharded, is_sharded, local, outline, rows_for

_STATE_KEYS = ("step", "exp_avg", "exp_avg_sq")


class NamedAdamW:
    """AdamW whose updates are not lost in low precision.

    A bf16 weight has 8 significant bits: an update of 1e-6 to a weight of 0.02 is rounded away. Parameters that are
    not float32 or float64 therefore have a float32 master copy, which is updated and cast back, and their gradients
    are summed over micro-batches in float32. Weight decay applies to matrices, not to biases and norms.

    Parameters may be DTensors that FSDP2 shards, all on one mesh. Each rank then updates its own rows, and makes the
    same calls as the others.
    """

    def __init__(
        self,
        parameters: Sequence[tuple[str, nn.Parameter]],
        *,
        learning_rate: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        if not parameters:
            raise ValueError("no parameter trains; name at least one part of the policy to train")
        self.updates = 0
        """Updates begun so far; while the count does not change, the weights do not either."""
        self.before_update: Callable[[], None] = lambda: None
        """Called before the weights change."""
        self.parameters = dict(parameters)
        self.masters: dict[str, Tensor] = {}
        for name, parameter in parameters:
            full = parameter.dtype in (torch.float32, torch.float64)
            self.masters[name] = parameter if full else parameter.detach().float()
        self._sharded = [name for name, master in self.masters.items() if is_sharded(master)]
        # AdamW sees plain tensors: operations on DTensors cost several times as much per parameter
        self._rows = self.masters | {name: local(self.masters[name].detach()) for name in self._sharded}
        matrices = [self._rows[name] for name, master in self.masters.items() if master.ndim >= 2]
        vectors = [self._rows[name] for name, master in self.masters.items() if master.ndim < 2]
        groups = [
            {"params": tensors, "weight_decay": decay}
            for tensors, decay in ((matrices, weight_decay), (vectors, 0.0))
            if tensors
        ]
        # one parameter at a time: foreach would hold a copy of all of them on the GPU during the step
        self._adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, foreach=False)

    def zero_grad(self) -> None:
        self._adamw.zero_grad(set_to_none=True)
        for tensor in (*self.parameters.values(), *self.masters.values()):
            tensor.grad = None

    def collect_gradients(self) -> None:
        """Call after each micro-batch's backward: moves low-precision gradients into the float32 sums."""
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            if master is parameter or parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

    def gradients(self) -> dict[str, Tensor]:
        """Gradients by name, of sharded parameters this rank's rows; parameters without a gradient are left out."""
        return {name: local(m.grad) for name, m in self.masters.items() if m.grad is not None}

    def gradient_norm(self) -> Tensor:
        """Joint L2 norm of all gradients, a scalar, the same on all ranks.

        A sharded parameter whose gradient this rank lacks and another one has gets a gradient of zero.
        """
        if not self._sharded:
            return nn.utils.get_total_norm(list(self.gradients().values()))
        squares = self._sum_of_sharded_squares()
        whole = [g for name, g in self.gradients().items() if not is_sharded(self.masters[name])]
        squares += nn.utils.get_total_norm(whole).to(squares.device).double().square()
        return squares.sqrt().to(self.masters[self._sharded[0]].dtype)

    def clip_gradients(self, max_norm: float, norm: Tensor) -> None:
        """Scale the gradients, whose joint norm is ``norm``, to a joint norm of at most ``max_norm``."""
        self._take_rows()
        nn.utils.clip_grads_with_norm_(list(self._rows.values()), max_norm, norm)

    def step(self, learning_rate: float) -> None:
        self.before_update()
        self.updates += 1
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._take_rows()
        self._adamw.step()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if self.masters[name] is not parameter:
                    local(parameter).copy_(self._rows[name])

    def _take_rows(self) -> None:
        """Let AdamW see the gradients of sharded parameters, and their values, which FSDP may have moved."""
        for name in self._sharded:
            master, rows = self.masters[name], self._rows[name]
            rows.data = local(master.detach())
            rows.grad = None if master.grad is None else local(master.grad)

    def _sum_of_sharded_squares(self) -> Tensor:
        """Sum of the squares of all sharded gradients, over all ranks."""
        first = self.masters[self._sharded[0]]
        assert is_sharded(first)
        present = torch.zeros(len(self._sharded) + 1, device=first.device, dtype=torch.float64)
        squares, present = present[:1], present[1:]
        for index, name in enumerate(self._sharded):
            gradient = self.masters[name].grad
            if gradient is not None:
                present[index] = 1.0
                squares += torch.linalg.vector_norm(local(gradient)).double().square()
        mesh = first.device_mesh
        for dimension, placement in enumerate(first.placements):
            group = mesh.get_group(dimension)
            if not placement.is_replicate():
                dist.all_reduce(squares, group=group)
            dist.all_reduce(present, group=group)
        for name, ranks in zip(self._sharded, present.tolist(), strict=True):
            master = self.masters[name]
            if ranks and master.grad is None:
                master.grad = as_sharded(torch.zeros_like(local(master.detach())), master)
        return squares[0]

    def weights(self) -> dict[str, Tensor]:
        """The trained weights by name, in full precision."""
        return {name: master.detach() for name, master in self.masters.items()}

    def state(self) -> dict[str, Tensor]:
        """AdamW's moments and step counts as ``<parameter>/<key>``; empty before the first step.

        Moments are sharded as their parameters are.
        """
        found = {}
        for name, master in self.masters.items():
            if (own := self._adamw.state.get(self._rows[name])) is None:
                continue
            for key in _STATE_KEYS:
                found[f"{name}/{key}"] = own[key] if key == "step" else as_sharded(own[key], master)
        return found

    def load(self, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        """Restore what ``weights`` and ``state`` returned, or its whole tensors, of which a rank takes its rows.

        Raises ValueError, before anything changes, if they do not fit.
        """
        self._check(weights, state)
        with torch.no_grad():
            for name, master in self.masters.items():
                rows = self._rows[name]
                local(master).copy_(rows_for(weights, name, master))
                if master is not self.parameters[name]:
                    local(self.parameters[name]).copy_(local(master))
                self._adamw.state.pop(rows, None)
                if f"{name}/step" in state:
                    moments = {
                        key: rows_for(state, f"{name}/{key}", master).to(rows.device, copy=True)
                        for key in _STATE_KEYS[1:]
                    }
                    step = state[f"{name}/step"].to("cpu", copy=True)
                    self._adamw.state[rows] = {"step": step, **moments}

    def _check(self, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        if set(weights) != set(self.masters):
            odd = sorted(set(weights) ^ set(self.masters))
            raise ValueError(f"the checkpoint trains other parameters than this run, first of them {odd[0]}")
        for name, master in self.masters.items():
            wanted = {name: (outline(weights, name), master.shape)}
            if f"{name}/step" in state:
                shapes = (torch.Size(), master.shape, master.shape)
                keys = [f"{name}/{key}" for key in _STATE_KEYS]
                if lacking := [key for key in keys if key not in state]:
                    raise ValueError(f"the checkpoint lacks {lacking[0]}")
                wanted |= {key: (outline(state, key), shape) for key, shape in zip(keys, shapes, strict=True)}
            for key, (found, shape) in wanted.items():
                if found.shape != shape:
                    raise ValueError(
                        f"the checkpoint has {key} with shape {tuple(found.shape)}, the policy with {tuple(shape)}"
                    )
                if not found.is_floating_point():
                    raise ValueError(f"the checkpoint has {key} as {found.dtype}")
