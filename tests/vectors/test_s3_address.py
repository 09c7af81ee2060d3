"""How a bucket is addressed, and what errors tell of it."""

from __future__ import annotations

import pytest

from superorm import connect
from superorm.exc import ConfigurationError, UnsupportedError
from superorm.s3_address import S3Address

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAINTHEENVIRONMENT",
    "AWS_SECRET_ACCESS_KEY": "wJalr/in+the=environment",
    "AWS_SESSION_TOKEN": "token-in-the-environment",
    "AWS_DEFAULT_REGION": "eu-west-1",
}


@pytest.mark.parametrize(
    ("uri", "options", "environ", "expected"),
    [
        ("s3://bucket/x", {}, {}, {}),
        ("s3://bucket/x", {}, ENVIRONMENT, {"region": "eu-west-1"}),
        ("s3://bucket/x", {}, {**ENVIRONMENT, "AWS_REGION": "a"}, {"region": "a"}),
        ("s3://bucket/x?region=b", {}, ENVIRONMENT, {"region": "b"}),
        ("s3://bucket/x?region=b", {"REGION": "c"}, ENVIRONMENT, {"region": "c"}),
        ("s3://bucket/x", {"aws_region": "d"}, ENVIRONMENT, {"aws_region": "d", "region": "d"}),
        ("s3://bucket/x", {}, {"AWS_ENDPOINT_URL": "https://here"}, {"endpoint": "https://here"}),
        (
            "s3://bucket/x",
            {},
            {"AWS_ENDPOINT_URL": "https://here", "AWS_ENDPOINT_URL_S3": "http://there/"},
            {"endpoint": "http://there", "allow_http": "true"},
        ),
        ("s3://bucket/x?endpoint=https://a", {}, {"AWS_ENDPOINT_URL": "http://b"}, {"endpoint": "https://a"}),
        (
            "s3://bucket/x?endpoint=http%3A%2F%2Fa%3A90&allow_http=false",
            {"aws_access_key_id": "K"},
            {},
            {"endpoint": "http://a:90", "allow_http": "false", "aws_access_key_id": "K"},
        ),
        ("s3://bucket/x", {"aws_endpoint_url": "http://a"}, {}, {"endpoint": "http://a", "allow_http": "true"}),
    ],
)
def test_options(uri: str, options: dict[str, str], environ: dict[str, str], expected: dict[str, str]) -> None:
    """The caller's options win over the URL's, those over the environment; plain HTTP is allowed where it is meant."""
    address = S3Address.of(uri, options)
    assert "s3://bucket/x" == address.uri
    assert expected == address.options(environ)


def test_times_and_retries() -> None:
    """They are said as LanceDB takes them, which boto3 does not."""
    uri = "s3://bucket/x?timeout=1500ms&connect_timeout=2m&client_max_retries=0"
    address = S3Address.of(uri)
    assert {"timeout": "1500ms", "connect_timeout": "2m", "client_max_retries": "0"} == address.options({})
    assert (1.5, 120.0, 0) == (address.seconds("timeout"), address.seconds("connect_timeout"), address.retries)
    address = S3Address.of("s3://bucket/x")
    assert (None, None, None) == (address.seconds("timeout"), address.seconds("connect_timeout"), address.retries)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("timeout=30", "timeout is a time such as 500ms, 30s or 2m, not '30'"),
        ("timeout=0s", "not '0s'"),
        ("connect_timeout=1.5s", "connect_timeout is a time .*, not '1.5s'"),
        ("timeout=", "not ''"),
        ("client_max_retries=-1", "client_max_retries is a number, from 0 on, not '-1'"),
        ("client_max_retries=many", "not 'many'"),
    ],
)
def test_times_that_are_none(query: str, words: str) -> None:
    """They are refused before anything is opened."""
    with pytest.raises(ConfigurationError, match=words):
        connect("mongodb://localhost:1/x", artifact_store=f"s3://bucket/x?{query}")


@pytest.mark.parametrize(
    "words",
    [
        "<Error><Code>InvalidAccessKeyId</Code><Message>no</Message><AWSAccessKeyId>AKIAINTHEPROFILE</AWSAccessKeyId>",
        "<Error><AWSAccessKeyId>AKIAINTHEPROFILE</AWSAccessKeyId></Error>",
        "GET http://h/b?X-Amz-Credential=AKIAINTHEPROFILE%2F2026&X-Amz-Signature=c0ffee failed",
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIAINTHEPROFILE/2026, Signature=c0ffee",
        'uri: Some(http://u:c0ffee@h/b), message: "refused AKIAINTHEENVIRONMENT"',
        "it is AKIAINTHEENVIRONMENT, wJalr/in+the=environment, token-in-the-environment, given-secret and given-key",
        ("x" * 390) + "wJalr/in+the=environment" + "y" * 300,
    ],
)
def test_reasons(words: str) -> None:
    """No credential of the environment, of the options or of a request is in a reason."""
    address = S3Address.of("s3://bucket", {"aws_secret_access_key": "given-secret", "aws_access_key_id": "given-key"})
    reason = address.reason(ValueError(words), ENVIRONMENT)
    for secret in (*list(ENVIRONMENT.values())[:3], "given-secret", "given-key", "AKIAINTHEPROFILE", "c0ffee"):
        assert secret not in reason
    assert len(reason) < 420
    assert "given" not in repr(address)


def test_what_reasons_keep() -> None:
    """The store's code and message, or where nobody answered."""
    address = S3Address.of("s3://bucket")
    xml = '{ body: Some("<Error><Message>There is no such bucket</Message><Code>NoSuchBucket</Code></Error>") }'
    assert "NoSuchBucket: There is no such bucket" == address.reason(ValueError(xml), {})
    refused = 'method: GET, uri: Some(http://127.0.0.1:1/b?list-type=2), inner: Os { message: "Connection refused" }'
    assert "http://127.0.0.1:1/b: Connection refused" == address.reason(ValueError(refused), {})
    assert "it failed" == address.reason(RuntimeError("it failed, /root/src/io.rs:1506:92"), {})


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("s3://", ConfigurationError, "names no bucket"),
        ("lancedb://s3://u:topsecret@bucket", ConfigurationError, "no credentials"),
        ("lancedb://gs://bucket/x", UnsupportedError, "gs://"),
        ("s3://bucket/x", UnsupportedError, r"mongomock.*memory://"),
    ],
)
def test_connect_refuses_at_once(url: str, error: type[Exception], words: str) -> None:
    """Before anything is opened, without what is secret."""
    with pytest.raises(error, match=words) as caught:
        connect("mongomock://refused", vector_database=url)
    assert "topsecret" not in str(caught.value)
