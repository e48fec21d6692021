"""What every output's address is looked at for before it is shown anywhere."""

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
