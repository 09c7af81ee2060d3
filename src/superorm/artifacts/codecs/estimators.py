"""The codec for scikit-learn's estimators."""

from __future__ import annotations

import json
import sys
from typing import Any

from attrs import frozen

from superorm.artifacts.codecs.base import is_a
from superorm.artifacts.codecs.pickled import CloudpickleCodec
from superorm.exc import ArtifactError, ArtifactSavingError

__all__ = ["EstimatorCodec"]

_PICKLE = CloudpickleCodec()


@frozen
class EstimatorCodec:
    """Estimators and pipelines of scikit-learn: a line of JSON that names its version, and a pickle.

    Decoding runs code.
    """

    name: str = "sklearn"
    version: int = 1
    carries_code: bool = True

    def takes(self, value: Any) -> bool:
        """Whether it is an estimator, of a class of the user's own too."""
        return is_a(value, "sklearn.base", "BaseEstimator")

    def encode(self, value: Any) -> bytes:
        """The estimator. Raises ``ArtifactSavingError`` for anything else, and for what cannot be pickled."""
        if not self.takes(value):
            raise ArtifactSavingError(f"the codec sklearn stores estimators, not {type(value).__qualname__}")
        return json.dumps({"sklearn": sys.modules["sklearn"].__version__}).encode() + b"\n" + _PICKLE.encode(value)

    def decode(self, data: bytes) -> Any:
        """The estimator. The bytes must be trusted. scikit-learn warns where another version of it made them.

        Raises ``ArtifactError``, which names both versions, where it cannot be made here.
        """
        import sklearn  # pyright: ignore[reportMissingTypeStubs]

        line, _, pickled = data.partition(b"\n")
        made = json.loads(line)["sklearn"]
        try:
            return _PICKLE.decode(pickled)
        except Exception as error:
            here = sklearn.__version__
            raise ArtifactError(f"{error} (made with scikit-learn {made}; here is {here})") from error
