# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Calling torch modules: collating, evaluating, and taking their outputs apart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch

from superorm.components.predicting.calls import Call, Placing, outputs_of
from superorm.exc import ConfigurationError
from superorm.expr.narrow import is_list, is_mapping, is_tuple

__all__ = ["module_call"]

Place: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

_NUMBERS = (bool, int, float, complex, np.ndarray, np.generic)


def module_call(what: str, module: Any, method: Any, batched: bool, placing: Placing) -> Call:
    """What calls the module, or its `method`, in eval mode and without gradients.

    A method is given the batch as it is. Raises `ConfigurationError` for a device or dtype that torch does not have.
    """
    device, dtype = _device(what, placing.device), _dtype(what, placing.dtype)

    def call(batch: list[Any]) -> Sequence[Any]:
        if device is not None or dtype is not None:
            _move(what, module, device, dtype)
        with _evaluating(module), torch.inference_mode():
            if method is not None:
                found = method(batch) if batched else [method(item) for item in batch]
                return _parts(found, len(batch)) if batched else [_plain(one) for one in found]
            place = _placed_as(module)
            if batched:
                return _parts(_called(module, collated(batch, place)), len(batch))
            return [_plain(_called(module, _single(item, place))) for item in batch]

    return call


def collated(items: Sequence[Any], place: Place) -> Any:
    """One batch of many items: tensors, arrays, numbers and lists of numbers are stacked, dicts and tuples by part.

    Anything else, such as texts, stays a list. Raises `ValueError` and `RuntimeError` where shapes differ.
    """
    first = items[0]
    if isinstance(first, torch.Tensor):
        return place(torch.stack([*items]))
    if is_mapping(first):
        if any(item.keys() != first.keys() for item in items):
            raise ValueError("the dicts of a batch have different keys")
        return {key: collated([item[key] for item in items], place) for key in first}
    if is_tuple(first):
        return tuple(collated(column, place) for column in zip(*items, strict=True))
    if isinstance(first, _NUMBERS) or _is_numbers(first):
        return place(torch.from_numpy(np.array([np.asarray(item) for item in items])))
    return list(items)


def _single(item: Any, place: Place) -> Any:
    """One item as a module takes it that takes no batches."""
    if isinstance(item, torch.Tensor):
        return place(item)
    if isinstance(item, np.ndarray) or _is_numbers(item):
        array: np.ndarray[Any, Any] = np.array(cast("Any", item))
        return place(torch.from_numpy(array))
    return item


def _is_numbers(value: Any) -> bool:
    """Whether it is a list of numbers, or of such lists."""
    return is_list(value) and bool(value) and all(isinstance(one, _NUMBERS) or _is_numbers(one) for one in value)


def _called(module: Any, inputs: Any) -> Any:
    if is_mapping(inputs):
        return module(**inputs)
    if is_tuple(inputs):
        return module(*inputs)
    return module(inputs)


def _parts(outputs: Any, count: int) -> Sequence[Any]:
    """The outputs of a batch of so many items, one by one."""
    if isinstance(outputs, torch.Tensor):
        array = _array(outputs)
        if array.ndim == 0:
            raise TypeError("the module gave one number for the whole batch; batched=False calls it for each item")
        return outputs_of(array)
    if is_mapping(outputs):
        return [dict(zip(outputs, values, strict=True)) for values in _columns(outputs.values(), count)]
    if is_tuple(outputs):
        return _columns(outputs, count)
    return [_plain(one) for one in outputs_of(outputs)]


def _columns(outputs: Any, count: int) -> list[tuple[Any, ...]]:
    return list(zip(*(_parts(one, count) for one in outputs), strict=True))


def _plain(output: Any) -> Any:
    """The output of one item, with arrays in the place of tensors."""
    if isinstance(output, torch.Tensor):
        return _array(output)[()]
    if is_mapping(output):
        return {key: _plain(one) for key, one in output.items()}
    if is_tuple(output):
        return tuple(map(_plain, output))
    if is_list(output):
        return [*map(_plain, output)]
    return output


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    plain = tensor.detach().cpu()
    return (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()


def _placed_as(module: Any) -> Place:
    """Puts tensors where the module's are; fractions get the module's type."""
    tensors = [*module.parameters(), *module.buffers()]
    device = tensors[0].device if tensors else None
    dtype = next((one.dtype for one in tensors if one.is_floating_point()), None)
    return lambda tensor: tensor.to(device, dtype if tensor.is_floating_point() else None)


# Where it computes


def _device(what: str, name: Any) -> torch.device | None:
    try:
        return None if name is None else torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(f"{what}: torch has no device {name!r}: {error}") from error


def _dtype(what: str, name: object) -> torch.dtype | None:
    if name is None:
        return None
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigurationError(f'{what}: dtype is a name such as "float32" or "bfloat16", not {name!r}')
    return found


def _move(what: str, module: Any, device: torch.device | None, dtype: torch.dtype | None) -> None:
    """Move the module itself. Raises `ConfigurationError` for a device that this machine does not have."""
    try:
        module.to(device=device, dtype=dtype)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigurationError(f"{what}: it cannot be moved to {device}: {error}") from error


# In eval mode while anybody predicts

_lock = threading.Lock()
_users: WeakKeyDictionary[Any, tuple[int, list[Any]]] = WeakKeyDictionary()
"""How many predict with a module, and which of its parts were in training mode before."""


@contextmanager
def _evaluating(module: Any) -> Generator[None]:
    """The module in eval mode; the last one to leave puts it back as the first one found it."""
    with _lock:
        count, training = _users.get(module, (0, []))
        if count == 0:
            training = [part for part in module.modules() if part.training]
            module.eval()
        _users[module] = count + 1, training
    try:
        yield
    finally:
        with _lock:
            count, training = _users[module]
            if count == 1:
                del _users[module]
                for part in training:
                    part.training = True
            else:
                _users[module] = count - 1, training
