"""Where a bucket is and how it is reached, and errors without what is secret of that. Nothing here does I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from attrs import field, frozen

from superorm.exc import ConfigurationError

__all__ = ["S3Address"]

_TIMES = ("connect_timeout", "timeout")
_RETRIES = "client_max_retries"
_IN_URL = ("endpoint", "region", "allow_http", "virtual_hosted_style_request", *_TIMES, _RETRIES)
"""What a URL may say after a question mark."""
_TIME = re.compile(r"([1-9]\d*)(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_ENDPOINT = ("endpoint", "aws_endpoint", "endpoint_url", "aws_endpoint_url")
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGION = ("region", "aws_region", "default_region", "aws_default_region")
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_SECRET_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SECRET = re.compile("(?i)key|secret|token|password")
_SIGNED = re.compile(r"(?i)\b(credential|signature|x-amz-[a-z-]+|awsaccesskeyid)(=|: ?|>)[^&,\s<]+")
_USER = re.compile(r"//[^/\s]*@")
_LENGTH = 400


@frozen
class S3Address:
    """A prefix of a bucket of Amazon S3, or of a store that speaks its protocol."""

    uri: str
    """``s3://bucket/prefix``, without a slash at its end."""
    given: Mapping[str, str] = field(repr=False)
    """LanceDB's storage options, of the URL and of the caller."""

    @classmethod
    def of(cls, uri: str, options: Mapping[str, str] | None = None) -> S3Address:
        """Of ``s3://bucket/prefix?endpoint=...``; the caller's options win. Raises ``ConfigurationError``."""
        rest, _, query = uri.partition("://")[2].partition("?")
        if "@" in rest:
            raise ConfigurationError(
                "an s3:// URL holds no credentials; these come from the environment (AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY), or from LanceVectorIndex(..., storage_options=...) or "
                "S3ArtifactStore(..., client=...)"
            )
        rest = rest.rstrip("/")
        bucket = rest.partition("/")[0]
        if not bucket:
            raise ConfigurationError(f"s3://{rest} names no bucket; write s3://bucket/prefix")
        if not re.fullmatch(r"[A-Za-z0-9._-]{3,255}", bucket):
            raise ConfigurationError(
                f"s3://{rest}: {bucket!r} is no name for a bucket: that has 3 to 63 characters, which are lower-case "
                "letters, digits, dots and hyphens"
            )
        if re.search(r"[\0#]|//", rest):
            raise ConfigurationError(f"s3://{rest}: a prefix has no empty part, and no # or NUL in it")
        said = dict(parse_qsl(query, keep_blank_values=True))
        if unknown := sorted(said.keys() - set(_IN_URL)):
            raise ConfigurationError(
                f"s3://{rest}: a URL may say {', '.join(_IN_URL)}, and not {', '.join(unknown)}; "
                "that is for the environment, or for LanceVectorIndex(..., storage_options=...) or "
                "S3ArtifactStore(..., client=...)"
            )
        for name in _TIMES:
            if name in said and not _TIME.fullmatch(said[name]):
                raise ConfigurationError(f"s3://{rest}: {name} is a time such as 500ms, 30s or 2m, not {said[name]!r}")
        if _RETRIES in said and not said[_RETRIES].isdecimal():
            raise ConfigurationError(f"s3://{rest}: {_RETRIES} is a number, from 0 on, not {said[_RETRIES]!r}")
        return cls(f"s3://{rest}", {**said, **{name.lower(): str(value) for name, value in (options or {}).items()}})

    def endpoint(self, environ: Mapping[str, str]) -> str | None:
        """The URL of the store; None: that of Amazon."""
        found = _first(self.given, _ENDPOINT) or _first(environ, _ENDPOINT_VARIABLES)
        return None if found is None else found.rstrip("/")

    def region(self, environ: Mapping[str, str]) -> str | None:
        """Where the bucket is; None: what else the client knows of says so."""
        return _first(self.given, _REGION) or _first(environ, _REGION_VARIABLES)

    def seconds(self, name: str) -> float | None:
        """How long ``connect_timeout`` or ``timeout`` are, where that was said."""
        found = _TIME.fullmatch(self.given.get(name, ""))
        return None if found is None else int(found[1]) * _SECONDS[found[2]]

    @property
    def retries(self) -> int | None:
        """How often a call is repeated at most, where that was said."""
        said = self.given.get(_RETRIES)
        return None if said is None else int(said)

    @property
    def bucket(self) -> str:
        return self.uri.removeprefix("s3://").partition("/")[0]

    @property
    def prefix(self) -> str:
        """Without slashes around it."""
        return self.uri.removeprefix("s3://").partition("/")[2]

    def options(self, environ: Mapping[str, str]) -> dict[str, str]:
        """LanceDB's storage options, with what boto3 too would take from the environment."""
        found = dict(self.given)
        endpoint, region = self.endpoint(environ), self.region(environ)
        if endpoint is not None:
            for name in _ENDPOINT:
                found.pop(name, None)
            found["endpoint"] = endpoint
            if endpoint.startswith("http://") and not environ.get("AWS_ALLOW_HTTP"):
                found.setdefault("allow_http", "true")
        if region is not None:
            found.setdefault("region", region)
        return found

    def reason(self, error: Exception, environ: Mapping[str, str]) -> str:
        """What an error of the store says, without credentials."""
        text = str(error)
        code, message = (re.search(f"<{name}>([^<]*)</{name}>", text) for name in ("Code", "Message"))
        system = re.search(r"uri: Some\(([^)?]*).*message: \"([^\"]*)\"", text, re.DOTALL)
        if code is not None:
            text = code[1] if message is None else f"{code[1]}: {message[1]}"
        elif system is not None:
            text = f"{system[1]}: {system[2]}"
        else:
            text = re.split(r", location: Location|, /\S+\.rs:\d", text)[0]
        for secret in self._secrets(environ):
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])", "***", text)
        text = _USER.sub("//***@", _SIGNED.sub(r"\1\2***", text))
        return text if len(text) <= _LENGTH else f"{text[: _LENGTH // 2]} ... {text[-_LENGTH // 2 :]}"

    def _secrets(self, environ: Mapping[str, str]) -> Iterable[str]:
        given = [value for name, value in self.given.items() if _SECRET.search(name)]
        held = [environ.get(name, "") for name in _SECRET_VARIABLES]
        return sorted({value for value in (*given, *held) if value}, key=len, reverse=True)


def _first(values: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((values[name] for name in names if values.get(name)), None)
