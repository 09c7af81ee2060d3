"""Models in a bucket that a URL names."""

from __future__ import annotations

import functools
import operator

import pytest

from superorm import CorruptArtifactError, Model, connect
from tests.vectors.s3_server import CREDENTIALS, S3Server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """As boto3 takes them from the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.upper(), value)


def test_a_model(s3: S3Server) -> None:
    """It is stored as one object, loaded by another DB, and not loaded once a byte of it is another one."""
    bucket, client = s3.bucket(), s3.client()
    url = f"{s3.url(bucket, 'models')}&region=us-east-1"
    for again in (False, True):
        with connect(f"mongomock://{bucket}", artifact_store=url, trust="all") as db:
            assert CREDENTIALS["aws_secret_access_key"] not in repr(db)
            if not again:
                db.add(Model("plus", functools.partial(operator.add, 1)))
            assert [3] == db.load("model", "plus").predict([2])
    (stored,) = client.list_objects_v2(Bucket=bucket)["Contents"]
    data = client.get_object(Bucket=bucket, Key=stored["Key"])["Body"].read()
    client.put_object(Bucket=bucket, Key=stored["Key"], Body=data[:-1] + bytes([data[-1] ^ 1]))
    with connect(f"mongomock://{bucket}", artifact_store=url, trust="all") as db:
        with pytest.raises(CorruptArtifactError, match=f"s3://{bucket}/models"):
            db.load("model", "plus")
        assert not db.check().ok
    client.close()
