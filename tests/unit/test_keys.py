"""The installation's secrets: given, or made once and kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from pydantic import SecretStr

from b2bua.config import DatabaseSettings, ServerSettings, Settings, WebSettings
from b2bua.keys import KeysUnavailable, is_argon2id, open_keys, open_sealer, read_control_token
from b2bua.sealing import SecretsLocked

CHEAP = PasswordHasher(time_cost=1, memory_cost=64).hash("given by the settings")


def settings(directory: Path, **web: SecretStr) -> Settings:
    return Settings(server=ServerSettings(data_dir=directory), web=WebSettings(**web))


def test_what_is_not_given_is_made_once_and_stays(tmp_path: Path) -> None:
    first, second = open_keys(settings(tmp_path)), open_keys(settings(tmp_path))
    assert (first.link, first.session, first.control_token) == (second.link, second.session, second.control_token)
    assert first.operator_password == second.operator_password
    assert len({first.link, first.session, first.control_token.encode(), first.operator_password.encode()}) == 4
    assert PasswordHasher().verify(second.operator_hash, first.operator_password)


def test_another_directory_has_other_keys(tmp_path: Path) -> None:
    one, other = open_keys(settings(tmp_path / "one")), open_keys(settings(tmp_path / "other"))
    assert one.link != other.link
    assert one.operator_password != other.operator_password
    assert one.control_token != other.control_token


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    open_keys(settings(tmp_path))
    kept = tmp_path / "keys"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in kept.iterdir()} == dict.fromkeys(
        ("link", "session", "control", "operator-password"), 0o600)


def test_given_secrets_are_used_and_not_written(tmp_path: Path) -> None:
    keys = open_keys(settings(tmp_path, link_key=SecretStr("a key of links"), operator_password=SecretStr(CHEAP)))
    assert keys.link == b"a key of links"
    assert keys.operator_password == ""
    assert keys.operator_hash == CHEAP
    assert {file.name for file in (tmp_path / "keys").iterdir()} == {"session", "control"}


def test_a_plain_password_is_hashed(tmp_path: Path) -> None:
    keys = open_keys(settings(tmp_path, operator_password=SecretStr("plain but long enough")))
    assert keys.operator_hash.startswith("$argon2id$")
    assert PasswordHasher().verify(keys.operator_hash, "plain but long enough")


def test_another_password_ends_all_sessions(tmp_path: Path) -> None:
    before = open_keys(settings(tmp_path, operator_password=SecretStr("the old password")))
    after = open_keys(settings(tmp_path, operator_password=SecretStr("the new password")))
    assert before.session != after.session


def test_keys_do_not_show_themselves(tmp_path: Path) -> None:
    assert repr(open_keys(settings(tmp_path))) == "Keys()"


def test_the_command_line_finds_its_token(tmp_path: Path) -> None:
    assert read_control_token(tmp_path) is None
    keys = open_keys(settings(tmp_path))
    assert read_control_token(tmp_path) == keys.control_token


@pytest.mark.parametrize(("text", "is_hash"), [
    (CHEAP, True), ("$argon2id$nonsense", False), ("$argon2i$v=19$m=64,t=1,p=4$YQ$YQ", False), ("plain", False),
    ("", False)], ids=["hash", "nonsense", "another algorithm", "password", "nothing"])
def test_a_hash_is_told_from_a_password(text: str, is_hash: bool) -> None:
    assert is_argon2id(text) is is_hash


def test_a_directory_that_cannot_be_made_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeysUnavailable, match=r"^Cannot keep secrets in .*file/keys/link: .*set server\.data_dir\.$"):
        open_keys(settings(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_not_writable_is_said_in_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(KeysUnavailable, match="Permission denied"):
        open_keys(settings(tmp_path))


def test_an_empty_file_is_not_a_key(tmp_path: Path) -> None:
    open_keys(settings(tmp_path))
    (tmp_path / "keys" / "session").write_text("\n")
    with pytest.raises(KeysUnavailable, match="session is empty; delete it"):
        open_keys(settings(tmp_path))


def test_nothing_is_left_beside_the_keys_and_what_is_there_wins(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "link").write_text("restored from a backup\n")
    assert open_keys(settings(tmp_path)).link == b"restored from a backup"
    assert not [file for file in (tmp_path / "keys").iterdir() if file.name.startswith(".")]


def test_the_key_of_the_database_is_made_once_or_given(tmp_path: Path) -> None:
    first, again = open_sealer(settings(tmp_path)), open_sealer(settings(tmp_path))
    assert again.open(first.seal("secret", "place"), "place") == "secret"
    assert (tmp_path / "keys" / "database").stat().st_mode & 0o077 == 0
    given = DatabaseSettings(secret_keys=(SecretStr("a key of the tests, which is long enough"),))
    elsewhere = open_sealer(Settings(server=ServerSettings(data_dir=tmp_path / "other"), database=given))
    assert not (tmp_path / "other").exists()
    with pytest.raises(SecretsLocked):
        elsewhere.open(first.seal("secret", "place"), "place")
