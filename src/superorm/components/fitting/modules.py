# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Training of torch modules: a plain loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.modules import loss as losses
from torch.utils.data import DataLoader

from superorm.components.fitting.samples import Samples, Values
from superorm.components.trainer import Trainer
from superorm.exc import ConfigurationError, TrainingError

if TYPE_CHECKING:
    from superorm.components.fitting.objects import Course

__all__ = ["check_module", "train"]

_LOSSES: dict[str, Any] = {name: getattr(losses, name) for name in losses.__all__}
_OPTIMIZERS: dict[str, Any] = {
    name: cls
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
}


def check_module(what: str, module: Any, trainer: Trainer) -> None:
    """Raise `ConfigurationError` for what the loop cannot train, or a name that torch does not have."""
    if trainer.loss is None:
        raise ConfigurationError(f'{what}: its trainer needs a loss= for a torch module, such as "CrossEntropyLoss"')
    if trainer.target is None:
        raise ConfigurationError(f"{what}: its trainer needs a target= for a torch module, which the loss compares")
    for which, name, there in (
        ("loss", trainer.loss, _LOSSES),
        ("optimizer", trainer.optimizer, _OPTIMIZERS),
    ):
        if isinstance(name, str) and name not in there:
            raise ConfigurationError(f"{what}: torch has no {which} {name!r}, but {', '.join(sorted(there))}")
    if trainer.device is not None:
        try:
            torch.empty(0, device=trainer.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigurationError(f"{what}: its trainer's device {trainer.device!r} is not here: {error}") from error
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigurationError(f"{what}: its module has no parameters that can be trained")


def train(module: Any, trainer: Trainer, samples: Samples, validation: Samples | None, course: Course) -> None:
    """Train the module in place; it ends where it was, in eval mode.

    Raises `TrainingError` for a loss that is no single finite number, and where it is stopped.
    """
    home = next(module.parameters()).device
    device = torch.device(trainer.device or home)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(trainer.seed)
        module.to(device)
        _Loop(module, trainer, device, course).run(samples, validation)
    module.to(home)
    module.eval()


class _Loop:
    def __init__(self, module: Any, trainer: Trainer, device: torch.device, course: Course) -> None:
        self.module = module
        self.trainer = trainer
        self.device = device
        self.dtype = next((one.dtype for one in module.parameters() if one.is_floating_point()), torch.float32)
        self.course = course
        loss, optimizer = trainer.loss, trainer.optimizer
        self.loss: Any = _LOSSES[loss]() if isinstance(loss, str) else loss
        if isinstance(self.loss, torch.nn.Module):
            self.loss = self.loss.to(device)
        if isinstance(optimizer, str):
            self.optimizer: Any = _OPTIMIZERS[optimizer](module.parameters(), lr=float(trainer.learning_rate))
        else:
            self.optimizer = optimizer(module.parameters())
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            kind = type(self.optimizer).__name__
            raise TrainingError(f"{course.what}: its trainer's optimizer gave a {kind}, not a torch optimizer")

    def run(self, samples: Samples, validation: Samples | None) -> None:
        generator = torch.Generator().manual_seed(self.trainer.seed)
        batches = self._batches(samples, shuffle=True, generator=generator)
        checks = None if validation is None else self._batches(validation)
        epochs, patience = self.trainer.epochs, self.trainer.patience
        best, best_epoch, best_state = math.inf, 0, None
        for epoch in range(1, epochs + 1):
            line = f"epoch {epoch} of {epochs}: loss {self._epoch(batches, epoch):.6g}"
            if checks is not None:
                checked = self._finite(self._loss_over(checks), f"over the validation documents after epoch {epoch}")
                line += f", over the validation documents {checked:.6g}"
                if patience is not None and checked < best:
                    best, best_epoch, best_state = checked, epoch, copy.deepcopy(self.module.state_dict())
            self.course.log(line)
            if patience is not None and epoch - best_epoch >= patience:
                break
        if best_state is not None:
            self.module.load_state_dict(best_state)
            self.course.log(f"the weights are those of epoch {best_epoch}")

    def _epoch(self, batches: DataLoader[Any], epoch: int) -> float:
        """One pass over all; the mean loss of a document."""
        self.module.train()
        total, count = 0.0, 0
        for step, (inputs, targets) in enumerate(batches, 1):
            if self.course.stopped():
                raise TrainingError(f"the training of {self.course.what} was stopped in epoch {epoch}")
            total += self._step(inputs, targets, epoch) * len(targets)
            count += len(targets)
            if self.course.progress is not None:
                done = (epoch - 1) * len(batches) + step
                self.course.progress(done, self.trainer.epochs * len(batches), f"training {self.course.what}")
        return total / count

    def _step(self, inputs: Any, targets: torch.Tensor, epoch: int) -> float:
        """Train with one batch; its loss before that."""
        seen: list[float] = []

        def closure() -> Any:
            """The loss and its gradients; some optimizers, such as LBFGS, ask for them several times in a step."""
            self.optimizer.zero_grad()
            loss = self._loss(self.module(inputs), targets)
            seen.append(self._finite(float(loss.detach()), f"in epoch {epoch}"))
            loss.backward()
            return loss

        self.optimizer.step(closure)
        return seen[0]

    def _finite(self, loss: float, where: str) -> float:
        if not math.isfinite(loss):
            raise TrainingError(
                f"{self.course.what}: the loss is {loss} {where}: look for values in the documents that are not "
                "finite, or give a smaller learning_rate"
            )
        return loss

    def _loss_over(self, batches: Iterable[Any]) -> float:
        """The mean loss of a document, without training."""
        self.module.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for inputs, targets in batches:
                total += float(self._loss(self.module(inputs), targets)) * len(targets)
                count += len(targets)
        return total / count

    def _loss(self, outputs: Any, targets: Any) -> Any:
        """The loss; targets of as many numbers as the outputs take their shape and type."""
        same = isinstance(outputs, torch.Tensor) and outputs.numel() == targets.numel()
        loss = self.loss(outputs, targets.reshape(outputs.shape).to(outputs.dtype) if same else targets)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            shape = f"a tensor of the shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else _name(loss)
            raise TrainingError(f"{self.course.what}: its trainer's loss gave {shape}, not a tensor with one number")
        return loss

    def _batches(
        self, samples: Samples, *, shuffle: bool = False, generator: torch.Generator | None = None
    ) -> DataLoader[Any]:
        targets = samples.targets
        if not isinstance(targets, np.ndarray):
            raise TrainingError(
                f"{self.course.what}: the targets {self.trainer.target!r} are not numbers, or not of one shape; "
                "torch modules are trained with numbers, such as the positions of labels"
            )

        def collate(positions: list[int]) -> tuple[Any, torch.Tensor]:
            return self._tensor(samples.inputs, positions), self._tensor(targets, positions)

        positions: Any = range(len(samples))
        return DataLoader(
            positions,
            batch_size=self.trainer.batch_size,
            shuffle=shuffle,
            generator=generator,
            collate_fn=collate,
        )

    def _tensor(self, values: Values, positions: list[int]) -> Any:
        """These values as a tensor, of the module's type where they are fractions; a list where they are no array."""
        if not isinstance(values, np.ndarray):
            return [values[position] for position in positions]
        tensor = torch.from_numpy(values[positions])
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)


def _name(value: object) -> str:
    return f"a {type(value).__name__}"
