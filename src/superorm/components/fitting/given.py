# pyright: reportMissingTypeStubs=false
"""A torch module together with the callables that train it, as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["Given"]


class Given(torch.nn.Module):
    """Itself a module, so that it is stored as those are: the same content gives the same bytes."""

    def __init__(self, object: torch.nn.Module, callables: Mapping[str, Any]) -> None:
        super().__init__()
        self.object = object
        self.callables = dict(callables)
