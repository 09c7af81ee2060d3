"""superorm: typed documents, vectors and models on MongoDB, with the manners of SQLAlchemy 2.0."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from superorm.artifacts import fields as _fields  # noqa: F401  # pyright: ignore[reportUnusedImport]
from superorm.compile import printing as _printing  # noqa: F401  # pyright: ignore[reportUnusedImport]
from superorm.components.base import Component
from superorm.components.dataset import Dataset
from superorm.components.listener import Listener
from superorm.components.metric import Metric
from superorm.components.model import Model
from superorm.components.records import ComponentRecord
from superorm.components.trainer import Trainer
from superorm.components.vector_index import VectorIndex
from superorm.connect import build_datalayer, connect, connect_async, superduper
from superorm.exc import (
    ArtifactError,
    ArtifactNotFoundError,
    ArtifactSavingError,
    BackendError,
    ComponentError,
    ComponentInUseError,
    ComponentNotFoundError,
    ConfigurationError,
    CorruptArtifactError,
    DuplicateKeyError,
    MappingError,
    MongodError,
    MultipleResultsFound,
    NoResultFound,
    NotLoadedError,
    PendingRollbackError,
    PredictionError,
    SessionError,
    StaleDocumentError,
    StatementError,
    SuperormError,
    TrainingError,
    UnsupportedError,
    UntrustedArtifactError,
    ValidationError,
    VectorError,
    WriteError,
)
from superorm.expr.assignments import Assignment
from superorm.expr.functions import func
from superorm.expr.nodes import Expr, Field, Predicate, case, column, score
from superorm.expr.options import load_only, undefer
from superorm.expr.outputs import outputs
from superorm.expr.relations import Load, joinedload, selectinload
from superorm.expr.rows import graph_lookup, window
from superorm.expr.sources import aliased
from superorm.expr.statements import Select, select
from superorm.expr.writes import Delete, Insert, Update, delete, insert, update
from superorm.schema.document import Document, Embedded
from superorm.schema.fields import Mapped, artifact, field, utcnow, vector
from superorm.schema.indexes import Index
from superorm.schema.registry import Registry
from superorm.schema.relationships import relationship
from superorm.schema.types.registered import register_type
from superorm.unitofwork.events import listens_for, remove_listener
from superorm.unitofwork.result import Result, Row, ScalarResult, Written

if TYPE_CHECKING:
    from superorm._async.db import AsyncDB
    from superorm._async.session import AsyncSession
    from superorm._async.sessionmaker import async_sessionmaker
    from superorm._sync.db import DB
    from superorm._sync.session import Session
    from superorm._sync.sessionmaker import sessionmaker
    from superorm.artifacts._async.directory import AsyncDirectoryArtifactStore
    from superorm.artifacts._async.gridfs import AsyncMongoArtifactStore
    from superorm.artifacts._async.s3 import AsyncS3ArtifactStore
    from superorm.artifacts._sync.directory import DirectoryArtifactStore
    from superorm.artifacts._sync.gridfs import MongoArtifactStore
    from superorm.artifacts._sync.s3 import S3ArtifactStore
    from superorm.backends._async.mongodb import AsyncMongoDatabackend, AsyncMongoMetaDataStore
    from superorm.backends._sync.mongodb import MongoDatabackend, MongoMetaDataStore
    from superorm.protocols.reports import CheckReport, CreateReport, Explanation, GcReport
    from superorm.vectors._async.atlas import AsyncAtlasVectorIndex
    from superorm.vectors._async.lancedb import AsyncLanceVectorIndex
    from superorm.vectors._async.memory import AsyncMemoryVectorIndex
    from superorm.vectors._sync.atlas import AtlasVectorIndex
    from superorm.vectors._sync.lancedb import LanceVectorIndex
    from superorm.vectors._sync.memory import MemoryVectorIndex

    Datalayer = DB

_MODULES = {
    "AsyncAtlasVectorIndex": "superorm.vectors._async.atlas",
    "AsyncDB": "superorm._async.db",
    "AsyncDirectoryArtifactStore": "superorm.artifacts._async.directory",
    "AsyncLanceVectorIndex": "superorm.vectors._async.lancedb",
    "AsyncMemoryVectorIndex": "superorm.vectors._async.memory",
    "AsyncMongoArtifactStore": "superorm.artifacts._async.gridfs",
    "AsyncMongoDatabackend": "superorm.backends._async.mongodb",
    "AsyncMongoMetaDataStore": "superorm.backends._async.mongodb",
    "AsyncS3ArtifactStore": "superorm.artifacts._async.s3",
    "AsyncSession": "superorm._async.session",
    "AtlasVectorIndex": "superorm.vectors._sync.atlas",
    "CheckReport": "superorm.protocols.reports",
    "CreateReport": "superorm.protocols.reports",
    "DB": "superorm._sync.db",
    "Datalayer": "superorm._sync.db",
    "DirectoryArtifactStore": "superorm.artifacts._sync.directory",
    "Explanation": "superorm.protocols.reports",
    "GcReport": "superorm.protocols.reports",
    "LanceVectorIndex": "superorm.vectors._sync.lancedb",
    "MemoryVectorIndex": "superorm.vectors._sync.memory",
    "MongoArtifactStore": "superorm.artifacts._sync.gridfs",
    "MongoDatabackend": "superorm.backends._sync.mongodb",
    "MongoMetaDataStore": "superorm.backends._sync.mongodb",
    "S3ArtifactStore": "superorm.artifacts._sync.s3",
    "Session": "superorm._sync.session",
    "async_sessionmaker": "superorm._async.sessionmaker",
    "sessionmaker": "superorm._sync.sessionmaker",
}
"""Where the names are that are imported when they are first asked for: a program uses one half of them, or none."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'superorm' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name]), "DB" if name == "Datalayer" else name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "DB",
    "ArtifactError",
    "ArtifactNotFoundError",
    "ArtifactSavingError",
    "Assignment",
    "AsyncAtlasVectorIndex",
    "AsyncDB",
    "AsyncDirectoryArtifactStore",
    "AsyncLanceVectorIndex",
    "AsyncMemoryVectorIndex",
    "AsyncMongoArtifactStore",
    "AsyncMongoDatabackend",
    "AsyncMongoMetaDataStore",
    "AsyncS3ArtifactStore",
    "AsyncSession",
    "AtlasVectorIndex",
    "BackendError",
    "CheckReport",
    "Component",
    "ComponentError",
    "ComponentInUseError",
    "ComponentNotFoundError",
    "ComponentRecord",
    "ConfigurationError",
    "CorruptArtifactError",
    "CreateReport",
    "Datalayer",
    "Dataset",
    "Delete",
    "DirectoryArtifactStore",
    "Document",
    "DuplicateKeyError",
    "Embedded",
    "Explanation",
    "Expr",
    "Field",
    "GcReport",
    "Index",
    "Insert",
    "LanceVectorIndex",
    "Listener",
    "Load",
    "Mapped",
    "MappingError",
    "MemoryVectorIndex",
    "Metric",
    "Model",
    "MongoArtifactStore",
    "MongoDatabackend",
    "MongoMetaDataStore",
    "MongodError",
    "MultipleResultsFound",
    "NoResultFound",
    "NotLoadedError",
    "ObjectId",
    "PendingRollbackError",
    "Predicate",
    "PredictionError",
    "Registry",
    "Result",
    "Row",
    "S3ArtifactStore",
    "ScalarResult",
    "Select",
    "Session",
    "SessionError",
    "StaleDocumentError",
    "StatementError",
    "SuperormError",
    "Trainer",
    "TrainingError",
    "UnsupportedError",
    "UntrustedArtifactError",
    "Update",
    "ValidationError",
    "VectorError",
    "VectorIndex",
    "WriteError",
    "Written",
    "aliased",
    "artifact",
    "async_sessionmaker",
    "build_datalayer",
    "case",
    "column",
    "connect",
    "connect_async",
    "delete",
    "field",
    "func",
    "graph_lookup",
    "insert",
    "joinedload",
    "listens_for",
    "load_only",
    "outputs",
    "register_type",
    "relationship",
    "remove_listener",
    "score",
    "select",
    "selectinload",
    "sessionmaker",
    "superduper",
    "undefer",
    "update",
    "utcnow",
    "vector",
    "window",
]
