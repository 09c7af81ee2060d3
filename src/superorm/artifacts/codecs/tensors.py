# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Codecs for torch: states and whole modules, their tensors as safetensors, which can be mapped."""

from __future__ import annotations

import base64
import io
import json
import pickle
from collections import OrderedDict
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from attrs import frozen

from superorm.artifacts.codecs.base import is_a
from superorm.exc import ArtifactSavingError

__all__ = ["ModuleCodec", "StateCodec"]

_SKELETON = "superorm.module"
"""The entry of the file's metadata with the module's pickle, in base 64."""
_HEAD_BYTES = 90_000_000
"""What a pickle may take there: safetensors reads headers of less than 100 MB."""


def _torch() -> Any:
    return import_module("torch")


def _head(first: bytes) -> int:
    """The size of the header of a safetensors file, its own size of eight bytes included."""
    return 8 + int.from_bytes(first[:8], "little")


@frozen
class StateCodec:
    """What ``module.state_dict()`` gives: a dict of tensors, as a plain safetensors file. It comes back on the CPU."""

    name: str = "safetensors"
    version: int = 1
    carries_code: bool = False

    def takes(self, value: Any) -> bool:
        """Whether it is a dict from names to dense tensors or parameters."""
        return (
            value.__class__ in (dict, OrderedDict)
            and bool(value)
            and all(key.__class__ is str and _is_tensor(item) for key, item in value.items())
        )

    def encode(self, value: Any) -> bytes:
        """The tensors; those that share memory are stored each. Raises ``ArtifactSavingError`` for anything else."""
        if not self.takes(value):
            raise ArtifactSavingError(
                f"the codec safetensors stores dicts from names to dense tensors, not {type(value).__qualname__}"
            )
        seen: set[int] = set()
        tensors: dict[str, Any] = {}
        for key, tensor in value.items():
            plain = tensor.detach().cpu().contiguous().resolve_conj().resolve_neg()
            memory = plain.untyped_storage().data_ptr()
            tensors[key] = plain.clone() if memory in seen else plain
            seen.add(memory)
        return _saved(tensors, None)

    def decode(self, data: bytes) -> dict[str, Any]:
        """The tensors."""
        return cast("dict[str, Any]", import_module("safetensors.torch").load(data))

    def head(self, first: bytes) -> int:
        """The size of the header."""
        return _head(first)

    def decode_file(self, head: bytes, path: Path) -> dict[str, Any]:
        """The tensors, which are parts of the mapped file: what is written to them is not written there."""
        return cast("dict[str, Any]", import_module("safetensors.torch").load_file(path))


@frozen
class ModuleCodec:
    """Whole torch modules: a safetensors file of the weights, under their names where they have one,
    with a pickle of all else, the classes of scripts too, in its metadata. Decoding runs code.

    They come back on the CPU.
    """

    name: str = "torch-module"
    version: int = 1
    carries_code: bool = True

    def takes(self, value: Any) -> bool:
        """Whether it is a module, of a class of the user's own too."""
        return is_a(value, "torch.nn", "Module")

    def encode(self, value: Any) -> bytes:
        """The module. Raises ``ArtifactSavingError`` for anything else, and for what cannot be pickled."""
        if not self.takes(value):
            raise ArtifactSavingError(f"the codec torch-module stores torch modules, not {type(value).__qualname__}")
        torch = _torch()
        tensors: dict[str, Any] = {}
        storages: dict[int, tuple[str, Any]] = {}
        named = {
            tensor.untyped_storage().data_ptr(): (name, tensor.detach())
            for name, tensor in reversed(value.state_dict().items())
            if _is_tensor(tensor) and tensor.is_contiguous() and tensor.nbytes == tensor.untyped_storage().nbytes()
        }

        class Pickler(import_module("cloudpickle").Pickler):  # type: ignore[misc]
            def persistent_id(self, obj: object) -> object:
                if not isinstance(obj, torch.storage.TypedStorage):
                    return None
                storage = cast("Any", obj)._untyped_storage
                address = storage.data_ptr() or id(storage)
                if address not in storages:
                    whole = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
                    name, tensor = named.get(address) or (f"superorm.storage.{len(storages)}", whole)
                    storages[address] = name, storage  # kept, so that no other gets its address
                    tensors[name] = tensor.cpu()
                return storages[address][0], cast("Any", obj).dtype

        file = io.BytesIO()
        try:
            Pickler(file, protocol=5).dump(value)
        except Exception as error:
            what = f"a module {type(value).__qualname__}"
            raise ArtifactSavingError(f"{what} cannot be pickled: {type(error).__name__}: {error}") from error
        skeleton = base64.b64encode(file.getvalue()).decode()
        if len(skeleton) > _HEAD_BYTES:
            raise ArtifactSavingError(
                f"a module {type(value).__qualname__} has {file.tell():,} bytes beside its tensors, which is too much: "
                'choose codec="cloudpickle"'
            )
        return _saved(tensors, {_SKELETON: skeleton})

    def decode(self, data: bytes) -> Any:
        """The module. The bytes must be trusted."""
        return _module(data[: _head(data)], import_module("safetensors.torch").load(data))

    def head(self, first: bytes) -> int:
        """The size of the header, which has the pickle."""
        return _head(first)

    def decode_file(self, head: bytes, path: Path) -> Any:
        """The module, whose weights are parts of the mapped file: what is written to them is not written there."""
        return _module(head, import_module("safetensors.torch").load_file(path))


def _is_tensor(value: Any) -> bool:
    """Whether it is a tensor of safetensors' kind, or a parameter of it."""
    if not is_a(value, "torch", "Tensor") or type(value).__name__ not in ("Tensor", "Parameter"):
        return False
    torch = _torch()
    return bool(value.layout is torch.strided and not value.is_quantized and value.device.type != "meta")


def _saved(tensors: dict[str, Any], metadata: dict[str, str] | None) -> bytes:
    try:
        data: bytes = import_module("safetensors.torch").save(tensors, metadata)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ArtifactSavingError(f"safetensors cannot store these tensors: {error}") from error
    return data


def _module(head: bytes, tensors: dict[str, Any]) -> Any:
    torch = _torch()

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Any:
            name, dtype = pid
            tensor = tensors[name]
            storage = tensor.untyped_storage()
            start = tensor.storage_offset() * tensor.element_size()
            if (start, tensor.nbytes) != (0, storage.nbytes()):
                storage = storage[start : start + tensor.nbytes]
            return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)

    skeleton = base64.b64decode(json.loads(head[8:])["__metadata__"][_SKELETON])
    return Unpickler(io.BytesIO(skeleton)).load()
