"""Settings: from arguments, the environment and ``superorm.toml``, and the keys that sign stored code."""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import attrs
from attrs import frozen

from superorm.exc import ConfigurationError

__all__ = ["Settings", "config_dir", "data_dir", "hide_password", "load_settings", "signing_keys"]

Trust = Literal["signed", "all", "none"]

_FILE = "superorm.toml"
_PREFIX = "SUPERORM_"
_OTHERS = "SUPERORM_TEST_"
_TRUST = ("signed", "all", "none")
_SECRET_PARAMETERS = "[^=&?#]*(?:password|secret|token|signature|api_?key|access_?key|mechanismproperties)[^=&?#]*"


def hide_password(url: str) -> str:
    """The URL with ``***`` for its password and for parameters that hold secrets; it may be a malformed one."""
    # Up to the last @: an unescaped password may hold any character.
    hidden = re.sub(r"(://[^:]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(f"(?i)([?&]{_SECRET_PARAMETERS}=)[^&#]*", r"\1***", hidden)


def _hidden(value: str | None) -> str:
    return repr(None if value is None else hide_password(value))


def _url() -> Any:
    return attrs.field(default=None, repr=_hidden)


@frozen(kw_only=True)
class Settings:
    """What a DB is made of; None stands for what follows from the data backend."""

    data_backend: str | None = _url()
    mongod: str | None = None
    """The path of a mongod binary."""
    metadata: str | None = _url()
    artifact_store: str | None = _url()
    vector_database: str | None = _url()
    compute: str | None = _url()
    trust: Trust = "signed"
    """Which stored code may be loaded: ``signed`` with a known key, ``all``, ``none``."""
    signing_key: tuple[str, ...] = attrs.field(default=(), repr=lambda keys: "***" if keys else "()")
    """The first signs, all verify."""


_BY_NAME = {name: name for name in attrs.fields_dict(Settings)}
_BY_VARIABLE = {_PREFIX + name.upper(): name for name in _BY_NAME}


def load_settings(
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    /,
    **arguments: object,
) -> Settings:
    """Read the settings: arguments that are not None win over the environment, that over ``superorm.toml``.

    `environ` is ``os.environ`` by default, and `directory`, where the file is looked for, the working directory.
    An empty variable counts as none. Variables whose name starts with ``SUPERORM_TEST_`` are left to tests.
    Raises ConfigurationError for an unknown key, for a value of the wrong type, and for a file that is not TOML.
    """
    environ = os.environ if environ is None else environ
    file = (directory or Path.cwd()) / _FILE
    variables = {
        name: value
        for name, value in environ.items()
        if name.startswith(_PREFIX) and not name.startswith(_OTHERS) and value
    }
    given = {name: value for name, value in arguments.items() if value is not None}
    values = {
        **_checked(_read(file), str(file), _BY_NAME),
        **_checked(variables, "the environment", _BY_VARIABLE),
        **_checked(given, "the arguments", _BY_NAME),
    }
    return Settings(**values)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error


def _checked(values: Mapping[str, object], source: str, known: Mapping[str, str]) -> dict[str, Any]:
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        raise ConfigurationError(f"unknown setting {', '.join(unknown)} in {source}; known are {', '.join(known)}")
    return {known[name]: _value(known[name], value, f"{name} in {source}") for name, value in values.items()}


def _value(key: str, value: object, where: str) -> object:
    if key == "signing_key":
        return _keys(value, where)
    if isinstance(value, os.PathLike):
        value = os.fspath(cast("os.PathLike[str]", value))
    if not isinstance(value, str):
        raise ConfigurationError(f"{where} must be a string, not {type(value).__name__}")
    if key == "trust" and value not in _TRUST:
        raise ConfigurationError(f"{where} is {value!r}; it must be one of {', '.join(_TRUST)}")
    return value


def _keys(value: object, where: str) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in cast("list[object]", parts)):
        raise ConfigurationError(f"{where} must be a string, with commas between the keys, or a list of strings")
    keys = tuple(key for part in cast("list[str]", parts) if (key := part.strip()))
    if not keys:
        raise ConfigurationError(f"{where} holds no key")
    return keys


def data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where superorm keeps a user's data: ``$XDG_DATA_HOME/superorm``, most often ``~/.local/share/superorm``."""
    return _home(environ, "XDG_DATA_HOME", ".local/share")


def config_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where superorm keeps a user's own settings: ``$XDG_CONFIG_HOME/superorm``, most often ``~/.config/superorm``."""
    return _home(environ, "XDG_CONFIG_HOME", ".config")


def _home(environ: Mapping[str, str], variable: str, default: str) -> Path:
    given = Path(environ.get(variable, ""))
    if given.is_absolute():  # the standard has others ignored
        return given / "superorm"
    return Path(environ.get("HOME") or Path.home()) / default / "superorm"


def signing_keys(settings: Settings, environ: Mapping[str, str] = os.environ) -> tuple[bytes, ...]:
    """The keys for stored code, of which the first signs and all verify.

    Without configured ones it is the user's own, made at the first call and the same for all processes:
    ``signing.key`` in `config_dir`, of mode 0600; more keys to verify with may be added to the file, one a line.
    Raises ConfigurationError when others can read that file or change it, or when it cannot be made.
    """
    if settings.signing_key:
        return tuple(key.encode() for key in settings.signing_key)
    path = config_dir(environ) / "signing.key"
    try:
        if not path.exists():
            _make_key(path)
        text = _read_private(path)
    except OSError as error:
        raise ConfigurationError(f"the signing key {path} cannot be used: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"the signing key {path} cannot be used: it is not text") from None
    return tuple(key.encode() for key in _keys(text.split(), str(path)))


def _make_key(path: Path) -> None:
    """Make the file whole or not at all; where two do at once, both find the key of the first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=path.name, dir=path.parent)  # of mode 0600
    try:
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        os.unlink(draft)


def _read_private(path: Path) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="utf-8") as file:
        for place, status, forbidden in (
            (path, os.fstat(file.fileno()), 0o077),
            (path.parent, path.parent.stat(), 0o022),
        ):
            if status.st_uid != os.geteuid() or status.st_mode & forbidden:
                raise ConfigurationError(
                    f"other users can get at {place} (mode {stat.filemode(status.st_mode)}, user {status.st_uid}): "
                    f"if nobody has, run chmod go-rwx {place}; otherwise remove the key, and a new one will be made"
                )
        return file.read()
