"""What the URI may ask for, and the files that let the server in: no server is started here."""

import hashlib
import stat
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from cryptography import x509

from edge.errors import InspectError
from edge.outputs import output_opener
from edge.outputs.opcua.security import Users, own_identity
from edge.outputs.opcua_settings import PASSWORD, opcua_settings

NODESET_SHA256 = "3e67454155a9618e0981aa8b3ee248f7a9ee216f9f915b53eb26a69533c0cc62"


def test_the_nodeset_is_the_foundations_own_byte_for_byte() -> None:
    data = (files("edge.outputs.opcua") / "Opc.Ua.MachineVision.NodeSet2.xml").read_bytes()
    assert hashlib.sha256(data).hexdigest() == NODESET_SHA256
    assert b"OPC Foundation MIT License 1.00" in data[:2000]
    notice = (Path(__file__).parents[1] / "NOTICE").read_text("utf-8")
    assert "OPC Foundation" in notice and "asyncua" in notice


def a_password(folder: Path, text: str = "secret\n", mode: int = 0o600) -> Path:
    path = folder / "password"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_password_from_a_file_or_from_the_environment(tmp_path: Path) -> None:
    uri = f"opc-ua://0.0.0.0?user=plc&password_file={a_password(tmp_path)}"
    settings = opcua_settings(uri, {})
    assert (settings.host, settings.port, settings.user, settings.password) == (
        "0.0.0.0",
        4840,
        "plc",
        "secret",
    )
    assert settings.secure and "secret" not in repr(settings)
    given = opcua_settings("opc-ua://[::1]:4841", {PASSWORD: "other", "XDG_CONFIG_HOME": "/etc/x"})
    assert (given.host, given.port, given.user, given.password) == ("::1", 4841, "line", "other")
    assert given.certificates == Path("/etc/x/edge-inspect/opcua")


BAD = {
    "opc-ua://0.0.0.0": "has no password",
    "opc-ua://?user=a": "no address",
    "opc-ua://0.0.0.0:99999": "out of range",
    "opc-ua://plc@0.0.0.0": "before the @",
    "opc-ua://plc:topsecret@0.0.0.0?nonsense=1": "password does not belong",
    "opc-ua://0.0.0.0?security=off": "security=off is not usable",
    "opc-ua://0.0.0.0?security=none&user=plc": "security=none with a password",
    "opc-ua://0.0.0.0?password_file=/nowhere/at/all": "cannot read the password",
    "opc-ua://0.0.0.0?password=topsecret": "password does not belong",
    "opc-ua://0.0.0.0?handshake=bits": "handshake=bits is not usable",
}


@pytest.mark.parametrize(("uri", "told"), BAD.items())
def test_what_cannot_be_used_is_said_before_the_start(
    uri: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    with pytest.raises(InspectError, match=told) as caught:
        output_opener(uri)
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "mode", "told"), [("\n", 0o600, "no password"), ("x", 0o644, "others may read")]
)
def test_a_password_file_must_hold_one_and_be_private(
    tmp_path: Path, text: str, mode: int, told: str
) -> None:
    with pytest.raises(InspectError, match=told):
        opcua_settings(f"opc-ua://0.0.0.0?password_file={a_password(tmp_path, text, mode)}", {})


def test_only_the_user_with_the_password_comes_in(tmp_path: Path) -> None:
    users = Users(opcua_settings(f"opc-ua://0.0.0.0?user=plc&password_file={a_password(tmp_path)}", {}))
    assert users.get_user(None, "plc", "secret") is not None
    for name, password in (
        ("plc", "wrong"),
        ("admin", "secret"),
        ("plc", None),
        (None, "secret"),
        (None, None),
    ):
        assert users.get_user(None, name, password) is None
    assert Users(opcua_settings("opc-ua://0.0.0.0?security=none", {})).get_user(None) is not None


def test_key_and_certificate_are_made_once_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    key, certificate, uri = own_identity(folder)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = key.read_bytes(), certificate.read_bytes()
    assert own_identity(folder) == (key, certificate, uri)
    assert (key.read_bytes(), certificate.read_bytes()) == before
    made = x509.load_der_x509_certificate(before[1])
    assert uri.startswith("urn:") and uri.endswith(":edge-inspect")
    assert made.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3600)
    certificate.unlink()
    assert own_identity(folder)[2] == uri and key.read_bytes() == before[0]


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    key, _, _ = own_identity(tmp_path)
    key.chmod(0o640)
    with pytest.raises(InspectError, match=r"others may read.*chmod 600"):
        own_identity(tmp_path)


def test_files_that_do_not_belong_together_are_not_used(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    key, _, _ = own_identity(mine)
    foreign, _, _ = own_identity(other)
    key.write_bytes(foreign.read_bytes())
    with pytest.raises(InspectError, match="do not belong together"):
        own_identity(mine)
    key.write_bytes(b"half a k")
    with pytest.raises(InspectError, match=r"no usable certificate.*new ones are made"):
        own_identity(mine)
