"""A URI without its password. Pure."""

import re
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

_SECRET_WORDS = frozenset({"password", "passwd", "pass", "pwd", "pw", "token", "secret", "key", "auth"})

_PIPELINE_SECRET = re.compile(r"((?:\b|-)(?:pw|password|passphrase)\s*=\s*)(\"[^\"]*\"|[^\s!]+)")


def safe_uri(uri: str) -> str:
    """The URI as it may stand in logs, verdicts and errors: no password, also none in the query.

    Passwords with an unescaped "/", "?", "#" or "@" are taken out as well, and a pipeline's.
    """
    if scheme_of(uri) == "gst":
        uri = _PIPELINE_SECRET.sub(r"\1***", uri)
    if not scheme_of(uri) or "//" not in uri:
        return uri
    head, _, rest = uri.partition("//")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    broken = re.search(r":(?!\d*$)", authority.rpartition("@")[2]) and "@" in rest and "[" not in authority
    end = rest.rindex("@") if broken else authority.rfind("@")
    if end >= 0:
        rest = rest[:end].partition(":")[0] + rest[end:]
    return _without_query_secrets(f"{head}//{rest}")


def _without_query_secrets(uri: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError:  # nobody can read it; who opens it says so
        return uri.partition("?")[0]
    query = parse_qsl(parts.query, keep_blank_values=True)
    if not any(name.lower() in _SECRET_WORDS for name, _ in query):
        return uri
    kept = [(name, "***" if name.lower() in _SECRET_WORDS else value) for name, value in query]
    return parts._replace(query=urlencode(kept, safe="*", quote_via=quote_plus)).geturl()


def scheme_of(uri: str) -> str:
    """The word before the colon; one letter is a Windows drive, not a scheme."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", uri)
    return found.group(1).lower() if found else ""
