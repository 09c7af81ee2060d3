"""Every error that superorm raises.

.. code-block:: text

    SuperormError
    ├── ConfigurationError          a URL, setting or part that cannot work
    │   └── MongodError             the private mongod did not start or has gone
    ├── UnsupportedError            a backend, or this release, cannot do what was asked
    ├── MappingError                a document class is declared wrongly
    ├── StatementError              a query is put together wrongly
    ├── ValidationError             a value does not fit its field
    ├── VectorError                 a vector of the wrong shape, or not finite
    ├── PredictionError             a model failed, or gave the wrong number of outputs
    ├── TrainingError               a model could not be trained
    ├── DuplicateKeyError           the key, or a unique index's key, exists already
    ├── StaleDocumentError          the document changed underneath
    ├── WriteError                  the server refused a write for another reason
    ├── BackendError                the server cannot be reached, or cannot answer now
    ├── NoResultFound               a query that must find something found nothing
    ├── MultipleResultsFound        a query that must find one thing found more
    ├── NotLoadedError              an attribute that was not loaded
    ├── SessionError                a session was used in a state that does not allow it
    │   └── PendingRollbackError    a write failed; call ``rollback()`` first
    ├── ArtifactError
    │   ├── ArtifactSavingError     an object cannot be turned into bytes, or not stored
    │   ├── ArtifactNotFoundError   the store has no such blob
    │   ├── CorruptArtifactError    the bytes are not those that were stored
    │   └── UntrustedArtifactError  the blob carries code and no valid signature
    └── ComponentError
        ├── ComponentNotFoundError  no component of that kind, name and version
        └── ComponentInUseError     something still needs the component
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "ArtifactError",
    "ArtifactNotFoundError",
    "ArtifactSavingError",
    "BackendError",
    "ComponentError",
    "ComponentInUseError",
    "ComponentNotFoundError",
    "ConfigurationError",
    "CorruptArtifactError",
    "DuplicateKeyError",
    "MappingError",
    "MongodError",
    "MultipleResultsFound",
    "NoResultFound",
    "NotLoadedError",
    "PendingRollbackError",
    "PredictionError",
    "SessionError",
    "StaleDocumentError",
    "StatementError",
    "SuperormError",
    "TrainingError",
    "UnsupportedError",
    "UntrustedArtifactError",
    "ValidationError",
    "VectorError",
    "WriteError",
]


class SuperormError(Exception):
    """The base of every error of superorm.

    `code` is stable and names the error's page in the documentation.
    `document_class`, `key` and `field` say where, as far as it is known; so does `component`.
    """

    code: ClassVar[str] = "superorm"

    def __init__(
        self,
        message: str,
        *,
        document_class: type | None = None,
        key: Any = None,
        field: str | None = None,
        component: str | None = None,
    ) -> None:
        super().__init__(message)
        self.document_class = document_class
        self.key = key
        self.field = field
        self.component = component


class ConfigurationError(SuperormError):
    """A URL, a setting or one of a DB's parts cannot work as given."""

    code = "configuration"


class MongodError(ConfigurationError):
    """The private mongod did not start, or has gone; the message ends with its own last log lines."""

    code = "mongod"


class UnsupportedError(SuperormError):
    """The backend, or this release of superorm, cannot do what was asked; the message names both."""

    code = "unsupported"


class MappingError(SuperormError):
    """A document class is declared wrongly."""

    code = "mapping"


class StatementError(SuperormError):
    """A statement is put together wrongly."""

    code = "statement"


class ValidationError(SuperormError):
    """A value does not fit its field: in an object at flush, or in a document as it is read."""

    code = "validation"


class VectorError(SuperormError):
    """A vector has the wrong number of dimensions, or is not finite."""

    code = "vector"


class PredictionError(SuperormError):
    """A model raised, or did not give one output for each input.

    `position` is that of the input at fault, where it is known.
    """

    code = "prediction"

    def __init__(self, message: str, *, position: int | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.position = position


class TrainingError(SuperormError):
    """A model could not be trained: on these documents, or because its own code failed."""

    code = "training"


class DuplicateKeyError(SuperormError):
    """A document with this key, or this value of a unique index, exists already."""

    code = "duplicate-key"


class StaleDocumentError(SuperormError):
    """The document was changed or deleted underneath."""

    code = "stale-document"


class WriteError(SuperormError):
    """The server refused a write; `__cause__` or the message carries its own words."""

    code = "write"


class BackendError(SuperormError):
    """The server cannot be reached, or cannot or may not answer now; `__cause__` is the driver's own error."""

    code = "backend"


class NoResultFound(SuperormError):
    """A result was required and there is none."""

    code = "no-result"


class MultipleResultsFound(SuperormError):
    """One result was required and there are more."""

    code = "multiple-results"


class NotLoadedError(SuperormError):
    """The attribute was not loaded with its document."""

    code = "not-loaded"


class SessionError(SuperormError):
    """A session was used in a state that does not allow it."""

    code = "session"


class PendingRollbackError(SessionError):
    """An earlier flush, statement that writes, or query in a transaction failed; roll the session back first."""

    code = "pending-rollback"


class ArtifactError(SuperormError):
    """The base of the errors about artifacts."""

    code = "artifact"


class ArtifactSavingError(ArtifactError):
    """An object cannot be turned into bytes, or the bytes cannot be stored."""

    code = "artifact-saving"


class ArtifactNotFoundError(ArtifactError):
    """The artifact store has no such blob."""

    code = "artifact-not-found"


class CorruptArtifactError(ArtifactError):
    """The bytes read are not those that were stored."""

    code = "corrupt-artifact"


class UntrustedArtifactError(ArtifactError):
    """The blob carries code, and its signature is missing, wrong or by an unknown key."""

    code = "untrusted-artifact"


class ComponentError(SuperormError):
    """The base of the errors about components."""

    code = "component"


class ComponentNotFoundError(ComponentError):
    """There is no component of that kind, name and version."""

    code = "component-not-found"


class ComponentInUseError(ComponentError):
    """Something still needs the component."""

    code = "component-in-use"
