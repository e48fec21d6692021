"""What an output's address is read for: is there a password in it, which host and port does it name?"""

from urllib.parse import parse_qsl, urlsplit

from edge.errors import InspectError
from edge.safe_uri import safe_uri

SECRET = {"password", "passwd", "pwd", "pw"}
LINES = ("serial", "tcp", "tcp-server")  # there `pass=` is the word of a pass
HINTS = {
    "mqtt": "Write it into a file and give username=NAME&password_file=FILE, or password_env=VARIABLE.",
    "opc-ua": "Write it into a file and give password_file=FILE.",
}


def check_address(uri: str) -> None:
    """Whoever writes a password into a URI finds it again in shell history and process list.

    Raises InspectError, which repeats neither it nor an address that cannot be read.
    """
    scheme = uri.partition(":")[0]
    if scheme == "jsonl":  # a file
        return
    try:
        typed = {name.lower() for name, _ in parse_qsl(urlsplit(uri).query, keep_blank_values=True)}
    except ValueError:  # its text would show the address
        hint = "Write scheme://host:port; an IPv6 address stands in brackets."
        raise InspectError("this address cannot be read", f"output {scheme}", hint) from None
    secret = SECRET if scheme in LINES else SECRET | {"pass"}
    before, shown = (text.partition("?")[0] for text in (uri, safe_uri(uri)))
    if before != shown or typed & secret:
        hint = HINTS.get(scheme.removesuffix("s"), "This output knows no password: take it away.")
        raise InspectError("a password does not belong into the address", f"output {scheme}", hint)


def host_and_port(uri: str, default: int | None, example: str) -> tuple[str, int]:
    """`default` where the address has no port; None: it needs one. Raises InspectError."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, default if parts.port is None else parts.port
    except ValueError as error:
        raise InspectError(str(error), uri, "Write host:port, the port from 0 to 65535.") from error
    if not host or port is None:
        missing = "no address or no port given" if default is None else "no address given"
        raise InspectError(missing, uri, f"Write for example {example}")
    return host, port
