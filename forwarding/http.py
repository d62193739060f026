"""POST over a kept connection, and tell what the answer means."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlencode

import urllib3

from .delivery import Later, Refused

TIMEOUT = urllib3.Timeout(connect=10, read=60)  # seconds
AT_ONCE = (408, 429)  # beside 5xx and no answer at all, what is worth another try


class Poster:
    """Posts to one URL, with the key or secret before its @ left out."""

    def __init__(self, parts: SplitResult, options: Mapping[str, str]) -> None:
        if not parts.hostname:
            raise ValueError("it names no host")
        host = parts.netloc.rpartition("@")[2]
        scheme = parts.scheme.removeprefix("webhook+")
        self.url = parts._replace(scheme=scheme, netloc=host, query=urlencode(options), fragment="").geturl()
        # A PoolManager closes its connections only when nothing refers to its pools, not even a failure's traceback.
        self._pool = urllib3.connection_from_url(self.url, maxsize=8, timeout=TIMEOUT, retries=False)
        self._target = urllib3.util.parse_url(self.url).request_uri

    def post(self, body: bytes, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Return the answer if it is one of success or refusal; raise Later for all else."""
        try:
            answer = self._pool.request("POST", self._target, body=body, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise Later(f"{type(error).__name__}: {error}") from error
        if answer.status >= 500 or answer.status in AT_ONCE:
            raise Later(said(answer), _retry_after(answer), is_server_fault=answer.status >= 500)
        return answer

    def close(self) -> None:
        self._pool.close()


def refusal(answer: urllib3.BaseHTTPResponse) -> Refused:
    return Refused(str(answer.status), said(answer))


def said(answer: urllib3.BaseHTTPResponse) -> str:
    """Return a line of what the destination answered."""
    return f"{answer.status} {answer.data[:300].decode(errors='replace').strip()}"


def json_of(answer: urllib3.BaseHTTPResponse) -> Mapping[str, Any]:
    """Return the object that was answered, or an empty one."""
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _retry_after(answer: urllib3.BaseHTTPResponse) -> float | None:
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "")))
    except ValueError:
        return None
