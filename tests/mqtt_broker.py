"""A real MQTT broker in a process of its own, to be killed and started again: mosquitto, or amqtt from PyPI.

As a program it is the amqtt broker: python mqtt_broker.py PORT [PASSWORDS CA CERT KEY]
"""

import asyncio
import datetime
import ipaddress
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from peers import free_port, until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
KINDS = ("mosquitto", "amqtt")
BEST = "mosquitto" if MOSQUITTO else "amqtt"
USER, PASSWORD = "station7", "opensesame"


@dataclass
class Broker:
    """Starts when entered. `secure`: TLS with a certificate of `authority`, and only USER with PASSWORD."""

    folder: Path
    kind: str = BEST
    authority: "Authority | None" = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Broker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        command = self._mosquitto() if self.kind == "mosquitto" else self._amqtt()
        log = (self.folder / f"{self.kind}.log").open("ab")
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        assert until(self._answers, timeout_s=30), "the broker did not start"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            assert self.process is not None and self.process.poll() is None, "the broker has ended"
            return False
        return True

    def _mosquitto(self) -> list[str]:
        assert MOSQUITTO is not None
        lines = [
            f"listener {self.port} 127.0.0.1",
            "user root",
            f"allow_anonymous {self.authority is None}".lower(),
        ]
        if self.authority is not None:
            passwords = self.folder / "passwords"
            passwords.write_text(f"{USER}:{PASSWORD}\n")
            subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
            a = self.authority
            lines += [
                f"password_file {passwords}",
                f"cafile {a.ca}",
                f"certfile {a.cert}",
                f"keyfile {a.key}",
            ]
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        return [MOSQUITTO, "-c", str(config)]

    def _amqtt(self) -> list[str]:
        words = [sys.executable, __file__, str(self.port)]
        if self.authority is not None:
            a = self.authority
            words += [str(self.folder / "passwords"), str(a.ca), str(a.cert), str(a.key)]
        return words


class Listener:
    """Somebody else on the broker: hears all, may say something. Use as a context manager."""

    def __init__(self, port: int, topic: str = "#") -> None:
        self.heard: list[paho.MQTTMessage] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self._client.on_message = lambda client, userdata, message: self.heard.append(message)
        self._ready: list[int] = []
        self._client.on_subscribe = lambda *args: self._ready.append(1)
        self._client.on_connect = lambda *args: self._client.subscribe(topic, 1)
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> "Listener":
        self._client.loop_start()
        assert until(lambda: bool(self._ready))
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def on(self, topic: str) -> list[bytes]:
        """What was said on a topic, oldest first."""
        return [m.payload for m in self.heard if m.topic == topic]

    def json_on(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.on(topic)]

    def say(self, topic: str, payload: bytes | str, qos: int = 1, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos, retain).wait_for_publish(5)

    def hears(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        return until(condition, timeout_s)


@dataclass(frozen=True)
class Authority:
    """A certificate authority made for one test, and what it signed for 127.0.0.1."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def make(cls, folder: Path, name: str = "ca") -> "Authority":
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        def certificate(subject: str, key: Any, signer: Any, is_ca: bool) -> bytes:
            now = datetime.datetime.now(datetime.UTC)
            builder = (
                x509.CertificateBuilder()
                .subject_name(named(subject))
                .issuer_name(named(name))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(days=1))
                .not_valid_after(now + datetime.timedelta(days=1))
                .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            )
            if not is_ca:
                address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
                builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
            return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

        ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        files = cls(folder / f"{name}.pem", folder / f"{name}-broker.pem", folder / f"{name}-broker.key")
        files.ca.write_bytes(certificate(name, ca_key, ca_key, True))
        files.cert.write_bytes(certificate("broker", key, ca_key, False))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        return files


async def serve(port: int, passwords: str = "", ca: str = "", cert: str = "", key: str = "") -> None:
    """The amqtt broker, until it is killed."""
    from amqtt.broker import Broker as Amqtt
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    listener: dict[str, Any] = {"type": "tcp", "bind": f"127.0.0.1:{port}"}
    plugin: dict[str, Any] = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    if passwords:
        listener |= {"ssl": True, "cafile": ca, "certfile": cert, "keyfile": key}
        Path(passwords).write_text(f"{USER}:{PasswordHash((Argon2Hasher(),)).hash(PASSWORD)}\n")
        plugin = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": passwords}}
    await Amqtt({"listeners": {"default": listener}, "plugins": plugin}).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:]))
