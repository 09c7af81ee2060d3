"""Settings, secrets and keys."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from superorm.config import Settings, config_dir, data_dir, hide_password, load_settings, signing_keys
from superorm.exc import ConfigurationError


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose configuration directory is new."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def write(directory: Path, text: str) -> None:
    """Write superorm.toml."""
    (directory / "superorm.toml").write_text(text)


def test_nothing_is_set(tmp_path: Path) -> None:
    """Without settings everything follows from the data backend, and only signed code is loaded."""
    settings = load_settings({}, tmp_path)
    assert Settings() == settings
    assert (None, "signed", ()) == (settings.data_backend, settings.trust, settings.signing_key)


def test_arguments_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """Key by key, not source by source."""
    write(
        tmp_path, 'data_backend = "mongomock://file"\ncompute = "file"\ntrust = "none"\nmetadata = "mongomock://meta"'
    )
    environ = {"SUPERORM_DATA_BACKEND": "mongomock://environ", "SUPERORM_COMPUTE": "environ", "HOME": "/home/me"}
    settings = load_settings(environ, tmp_path, data_backend="mongomock://argument", trust=None)
    assert "mongomock://argument" == settings.data_backend
    assert "environ" == settings.compute
    assert "none" == settings.trust
    assert "mongomock://meta" == settings.metadata


def test_every_setting_from_every_source(tmp_path: Path) -> None:
    """What one source can set, each can."""
    values = {
        "data_backend": "mongomock://a",
        "mongod": "/usr/bin/mongod",
        "metadata": "mongomock://b",
        "artifact_store": "memory://",
        "vector_database": "memory://",
        "compute": "local",
        "trust": "all",
        "signing_key": "one,two",
    }
    environ = {f"SUPERORM_{name.upper()}": value for name, value in values.items()}
    write(tmp_path, "".join(f'{name} = "{value}"\n' for name, value in values.items()))
    expected = Settings(**{**values, "signing_key": ("one", "two")})
    assert expected == load_settings({}, tmp_path)
    assert expected == load_settings(environ, Path("/nowhere"))
    assert expected == load_settings({}, Path("/nowhere"), **values)


def test_the_process_itself_is_where_they_are_read_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory and os.environ as they are at the call."""
    write(tmp_path, 'metadata = "mongomock://file"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPERORM_COMPUTE", "local")
    settings = load_settings()
    assert ("mongomock://file", "local") == (settings.metadata, settings.compute)


def test_empty_variables_and_those_of_tests_are_passed_over(tmp_path: Path) -> None:
    """An empty variable sets nothing; SUPERORM_TEST_* is not ours."""
    assert Settings() == load_settings({"SUPERORM_COMPUTE": "", "SUPERORM_TEST_MONGODB": "mongodb://x"}, tmp_path)


def test_unknown_keys(tmp_path: Path) -> None:
    """The error names the key, where it stands, and all known ones."""
    with pytest.raises(ConfigurationError, match="unknown setting SUPERORM_DATABACKEND in the environment") as caught:
        load_settings({"SUPERORM_DATABACKEND": "mongomock://x"}, tmp_path)
    assert "SUPERORM_DATA_BACKEND, SUPERORM_MONGOD" in str(caught.value)
    with pytest.raises(
        ConfigurationError, match="unknown setting databackend in the arguments; known are data_backend"
    ):
        load_settings({}, tmp_path, databackend="mongomock://x")
    write(tmp_path, 'databackend = "mongomock://x"')
    with pytest.raises(
        ConfigurationError, match=r"unknown setting databackend in .*superorm.toml; known are data_backend"
    ):
        load_settings({}, tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("compute = 3", "compute in .*superorm.toml must be a string, not int"),
        ('trust = "some"', "trust in .*superorm.toml is 'some'; it must be one of signed, all, none"),
        ("signing_key = 3", "signing_key in .*superorm.toml must be a string"),
        ("signing_key = [3]", "signing_key in .*superorm.toml must be a string"),
        ('signing_key = " , "', "signing_key in .*superorm.toml holds no key"),
        ("compute = ", "superorm.toml is not valid TOML"),
        ("[compute]", "compute in .*superorm.toml must be a string, not dict"),
    ],
)
def test_wrong_values(tmp_path: Path, text: str, problem: str) -> None:
    """The error says what is wrong, and where."""
    write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=problem):
        load_settings({}, tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """It is an error, not a file that is missing."""
    (tmp_path / "superorm.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"superorm.toml cannot be read: Is a directory"):
        load_settings({}, tmp_path)


def test_secrets_never_show(tmp_path: Path) -> None:
    """Neither in the repr nor in an error."""
    url = "mongodb://me:hush@host/shop"
    settings = load_settings(
        {"SUPERORM_SIGNING_KEY": "hush1,hush2"}, tmp_path, data_backend=url, compute="dask://a:hush@b"
    )
    assert "hush" not in repr(settings)
    assert "mongodb://me:***@host/shop" in repr(settings)
    assert ("hush1", "hush2") == settings.signing_key
    with pytest.raises(ConfigurationError) as caught:
        load_settings({}, tmp_path, signing_key=b"hush")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("mongodb://localhost:27017/shop", "mongodb://localhost:27017/shop"),
        ("mongodb://a:1,b:2/shop?replicaSet=r", "mongodb://a:1,b:2/shop?replicaSet=r"),
        ("mongodb://me@host/shop", "mongodb://me@host/shop"),
        ("mongodb+srv://me:p%40ss@host/shop", "mongodb+srv://me:***@host/shop"),
        ("mongodb://me:p@s/s:w?rd@host:1/shop", "mongodb://me:***@host:1/shop"),
        ("mongodb://me@corp.com:p@host:1/shop", "mongodb://me@corp.com:***@host:1/shop"),
        ("s3://KEY:SECRET@bucket/prefix?region=eu", "s3://KEY:***@bucket/prefix?region=eu"),
        ("s3://bucket/p?secret_access_key=S&region=eu", "s3://bucket/p?secret_access_key=***&region=eu"),
        ("mongodb://h/?tlsCertificateKeyFilePassword=S", "mongodb://h/?tlsCertificateKeyFilePassword=***"),
        ("mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:S", "mongodb://h/?authMechanismProperties=***"),
        ("mongod://./data", "mongod://./data"),
        ("no url: me@host", "no url: me@host"),
        ("", ""),
    ],
)
def test_hide_password(url: str, hidden: str) -> None:
    """Passwords go, whatever characters are in them; the rest stays."""
    assert hidden == hide_password(url)


def test_directories_follow_the_standard() -> None:
    """XDG variables where they are absolute, else the usual places in the home directory."""
    environ = {"HOME": "/home/me", "XDG_CONFIG_HOME": "/conf", "XDG_DATA_HOME": "relative"}
    assert Path("/conf/superorm") == config_dir(environ)
    assert Path("/home/me/.local/share/superorm") == data_dir(environ)
    assert Path("/home/me/.config/superorm") == config_dir({"HOME": "/home/me"})
    assert Path("/data/superorm") == data_dir({"XDG_DATA_HOME": "/data"})


def test_configured_keys_are_used_as_they_are(home: dict[str, str]) -> None:
    """The order is kept, and no key is made."""
    assert (b"new", b"old") == signing_keys(Settings(signing_key=("new", "old")), home)
    assert not config_dir(home).exists()


def test_a_key_is_made_for_the_user_once(home: dict[str, str]) -> None:
    """It has 256 random bits, stays the same, and only the user can read it."""
    (key,) = signing_keys(Settings(), home)
    assert 64 == len(key)
    assert (key,) == signing_keys(Settings(), home)
    path = config_dir(home) / "signing.key"
    assert key.decode() + "\n" == path.read_text()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)
    assert ["signing.key"] == os.listdir(path.parent)


def test_processes_that_make_it_at_once_get_the_same(home: dict[str, str]) -> None:
    """Of four processes that start at one moment all use one key."""
    code = (
        "import sys; from superorm.config import Settings, signing_keys; print(flush=True); sys.stdin.read(1);"
        "print(*signing_keys(Settings()))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **home},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"!")
        process.stdin.flush()
    keys = {process.communicate()[0] for process in processes}
    assert 1 == len(keys)
    assert f"{signing_keys(Settings(), home)[0]!r}\n".encode() in keys
    assert ["signing.key"] == os.listdir(config_dir(home))


def test_more_keys_to_verify_with(home: dict[str, str]) -> None:
    """A colleague's key is added to the file on a line of its own."""
    (own,) = signing_keys(Settings(), home)
    with (config_dir(home) / "signing.key").open("a") as file:
        file.write("colleague\n")
    assert (own, b"colleague") == signing_keys(Settings(), home)


@pytest.mark.parametrize(("place", "mode"), [("signing.key", 0o640), ("signing.key", 0o604), (".", 0o777)])
def test_a_key_that_others_can_get_at_is_refused(home: dict[str, str], place: str, mode: int) -> None:
    """Whether they can read it, or put another one in its place."""
    signing_keys(Settings(), home)
    path = config_dir(home) / place
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"other users can get at .* run chmod go-rwx"):
        signing_keys(Settings(), home)
    path.chmod(0o700)
    assert 1 == len(signing_keys(Settings(), home))


def test_a_key_file_that_is_a_link(home: dict[str, str], tmp_path: Path) -> None:
    """Links are not followed."""
    signing_keys(Settings(), home)
    path = config_dir(home) / "signing.key"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"signing.key cannot be used"):
        signing_keys(Settings(), home)


@pytest.mark.parametrize(("content", "problem"), [(b"", "holds no key"), (b"\xff\xfe", "it is not text")])
def test_a_key_file_without_a_key(home: dict[str, str], content: bytes, problem: str) -> None:
    """A damaged file is an error; it is not replaced."""
    signing_keys(Settings(), home)
    (config_dir(home) / "signing.key").write_bytes(content)
    with pytest.raises(ConfigurationError, match=problem):
        signing_keys(Settings(), home)


def test_a_configuration_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """The error names the key's path."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file/superorm/signing.key cannot be used: Not a directory"):
        signing_keys(Settings(), {"XDG_CONFIG_HOME": str(tmp_path / "file")})
