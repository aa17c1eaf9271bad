"""AdamW over named parameters, exact for low-precision weights, with state addressed by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

_STATE_KEYS = ("step", "exp_avg", "exp_avg_sq")


class NamedAdamW:
    """AdamW whose updates are not lost in low precision.

    A bf16 weight has 8 significant bits: an update of 1e-6 to a weight of 0.02 is rounded away. Parameters that are
    not float32 or float64 therefore have a float32 master copy, which is updated and cast back, and their gradients
    are summed over micro-batches in float32. Weight decay applies to matrices, not to biases and norms.
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
        matrices = [master for master in self.masters.values() if master.ndim >= 2]
        vectors = [master for master in self.masters.values() if master.ndim < 2]
        groups = [
            {"params": tensors, "weight_decay": decay}
            for tensors, decay in ((matrices, weight_decay), (vectors, 0.0))
            if tensors
        ]
        # one parameter at a time: foreach would hold a copy of all of them on the GPU during the step
        self._adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, foreach=False)

    def zero_grad(self) -> None:
        self._adamw.zero_grad(set_to_none=True)
        for parameter in self.parameters.values():
            parameter.grad = None

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
        """Gradients by name; parameters without a gradient are left out."""
        return {name: m.grad for name, m in self.masters.items() if m.grad is not None}

    def gradient_norm(self) -> Tensor:
        """Joint L2 norm of all gradients, a scalar."""
        return nn.utils.get_total_norm(list(self.gradients().values()))

    def clip_gradients(self, max_norm: float, norm: Tensor) -> None:
        """Scale the gradients, whose joint norm is ``norm``, to a joint norm of at most ``max_norm``."""
        nn.utils.clip_grads_with_norm_(list(self.masters.values()), max_norm, norm)

    def step(self, learning_rate: float) -> None:
        self.before_update()
        self.updates += 1
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if self.masters[name] is not parameter:
                    parameter.copy_(self.masters[name])

    def weights(self) -> dict[str, Tensor]:
        """The trained weights by name, in full precision."""
        return {name: master.detach() for name, master in self.masters.items()}

    def state(self) -> dict[str, Tensor]:
        """AdamW's moments and step counts as ``<parameter>/<key>``; empty before the first step."""
        return {
            f"{name}/{key}": self._adamw.state[master][key]
            for name, master in self.masters.items()
            if master in self._adamw.state
            for key in _STATE_KEYS
        }

    def load(self, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        """Restore what ``weights`` and ``state`` returned; ValueError, before anything changes, if they do not fit."""
        self._check(weights, state)
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(weights[name])
                if master is not self.parameters[name]:
                    self.parameters[name].copy_(master)
                if f"{name}/step" in state:
                    self._adamw.state[master] = {
                        key: state[f"{name}/{key}"].to("cpu" if key == "step" else master.device, copy=True)
                        for key in _STATE_KEYS
                    }

    def _check(self, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        if set(weights) != set(self.masters):
            odd = sorted(set(weights) ^ set(self.masters))
            raise ValueError(f"the checkpoint trains other parameters than this run, first of them {odd[0]}")
        for name, master in self.masters.items():
            wanted = {name: (weights[name], master.shape)}
            if f"{name}/step" in state:
                shapes = (torch.Size(), master.shape, master.shape)
                keys = [f"{name}/{key}" for key in _STATE_KEYS]
                if lacking := [key for key in keys if key not in state]:
                    raise ValueError(f"the checkpoint lacks {lacking[0]}")
                wanted |= {key: (state[key], shape) for key, shape in zip(keys, shapes, strict=True)}
            for key, (found, shape) in wanted.items():
                if found.shape != shape:
                    raise ValueError(
                        f"the checkpoint has {key} with shape {tuple(found.shape)}, the policy with {tuple(shape)}"
                    )
                if not found.is_floating_point():
                    raise ValueError(f"the checkpoint has {key} as {found.dtype}")
