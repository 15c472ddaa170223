"""Where secrets are read from, and which files are refused."""

import os
from pathlib import Path

import pytest

from controller.desired.schema.model import SecretRef
from controller.errors import PermanentError
from controller.guest_access.secrets import FileSecrets


def _refused(ref: SecretRef, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(PermanentError) as refused:
        FileSecrets(environment or {}).read(ref)
    assert refused.value.reason == "SecretUnavailable"
    return str(refused.value)


def test_a_file_is_read_without_its_last_newline(tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_text("one\ntwo\n")
    assert FileSecrets({}).read(SecretRef(file=str(file))) == "one\ntwo"


def test_a_credential_is_read_from_systemds_directory(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr3t")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert FileSecrets(environment).read(SecretRef(credential="token")) == "s3cr3t"
    assert "LoadCredential" in _refused(SecretRef(credential="other"), environment)
    assert "LoadCredential=token" in _refused(SecretRef(credential="token"))


def test_what_others_may_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("x")
    file.chmod(0o664)
    assert f"chmod go-w {file}" in _refused(SecretRef(file=str(file)))


def test_what_is_no_small_text_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    assert "No such file" in _refused(SecretRef(file=str(file)))
    assert "not a regular file" in _refused(SecretRef(file=str(tmp_path)))
    os.mkfifo(file)
    assert "not a regular file" in _refused(SecretRef(file=str(file)))
    file.unlink()
    file.write_bytes(b"s3cr3t\xff")
    file.chmod(0o600)
    message = _refused(SecretRef(file=str(file)))
    assert "UTF-8" in message
    assert "s3cr3t" not in message
    file.write_bytes(b"x" * 70_000)
    assert "larger than" in _refused(SecretRef(file=str(file)))
