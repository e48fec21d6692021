"""The server's own key and certificate, made at the first start and kept; who may come in."""

import hmac
import os
import shlex
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_private_key,
    generate_self_signed_app_certificate,
)
from asyncua.crypto.permission_rules import User, UserRole
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.errors import InspectError
from edge.outputs.opcua_settings import OpcUaSettings

KEY, CERTIFICATE = "own.key.pem", "own.cert.der"
DAYS = 3650  # clients trust this very certificate by hand: a line must not stop over it every year


def own_identity(folder: Path) -> tuple[Path, Path, str]:
    """Key file (mode 600), certificate file, application URI; made where missing. Raises InspectError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = _own_key(folder / KEY)
        if not (folder / CERTIFICATE).exists():
            _write_private(folder / CERTIFICATE, _certificate(key).public_bytes(Encoding.DER))
        certificate = x509.load_der_x509_certificate((folder / CERTIFICATE).read_bytes())
        return folder / KEY, folder / CERTIFICATE, _checked(certificate, key)
    except (OSError, ValueError, TypeError) as error:
        hint = f"Check rights and space, or delete {KEY} and {CERTIFICATE} there: new ones are made."
        raise InspectError(f"no usable certificate: {error}", str(folder), hint) from error


def _own_key(path: Path) -> RSAPrivateKey:
    if not path.exists():
        _write_private(path, dump_private_key_as_pem(generate_private_key()))
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise InspectError(
            "others may read the server's key", str(path), f"chmod 600 {shlex.quote(str(path))}"
        )
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("the key is no RSA key")
    return key


def _write_private(path: Path, data: bytes) -> None:
    """Whole or not at all, and never readable for others, not even for a moment."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _certificate(key: RSAPrivateKey) -> x509.Certificate:
    host = socket.gethostname()
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(f"urn:{host}:edge-inspect"), x509.DNSName(host),
    ]  # fmt: skip
    use = [ExtendedKeyUsageOID.SERVER_AUTH]
    made: x509.Certificate = generate_self_signed_app_certificate(
        key, f"edge-inspect@{host}", {}, names, use, DAYS
    )
    return made


def _checked(certificate: x509.Certificate, key: RSAPrivateKey) -> str:
    """The application URI, which clients compare with the one that the server tells."""
    if certificate.public_key() != key.public_key():
        raise ValueError("key and certificate do not belong together")
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise ValueError(f"the certificate was valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("the certificate names no application URI") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if not uris:
        raise ValueError("the certificate names no application URI")
    return uris[0]


class Users:
    """One user with a password; with `security=none` everybody. Nobody may change the address space."""

    def __init__(self, settings: OpcUaSettings) -> None:
        self._settings = settings

    def get_user(
        self,
        iserver: Any,
        username: str | None = None,
        password: str | None = None,
        certificate: Any = None,
    ) -> User | None:
        """None refuses the session; asked for each one."""
        own = self._settings
        if not own.secure:
            return User(UserRole.User)
        told = hmac.compare_digest((username or "").encode(), own.user.encode())
        proven = hmac.compare_digest((password or "").encode(), own.password.encode())
        return User(UserRole.User, own.user) if told and proven else None
