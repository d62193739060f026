"""Find the address and the scheme that a request comes from."""

from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Any

from config import Config

KEPT_BITS = {4: 24, 6: 48}  # of a truncated address, by IP version


class Client:
    """The client of a request, behind the trusted proxies."""

    def __init__(self, environ: dict[str, Any], settings: Config) -> None:
        self._environ = environ
        self._settings = settings
        self.is_page = "HTTP_ORIGIN" in environ

    @property
    def scheme(self) -> str:
        """How the client sent the request, `https` or `http`. Trusted proxies say so in X-Forwarded-Proto."""
        own = str(self._environ["wsgi.url_scheme"])
        trusted = self._settings.trusted_proxies
        given = self._environ.get("HTTP_X_FORWARDED_PROTO", "").lower().replace(",", " ").split()
        # Proxies either append their own or pass on the one that they got, so there may be fewer than proxies.
        scheme = given[-trusted:][0] if trusted and given else own
        return scheme if scheme in ("http", "https") else own

    @cached_property
    def address(self) -> str | None:
        """The client's address, as far as the settings allow to keep it, or None."""
        if self._settings.ip_policy == "drop":
            return None
        try:
            address = ip_address(self._read_address())
        except ValueError:  # a unix socket has no address
            return None
        address = getattr(address, "ipv4_mapped", None) or address
        if self._settings.ip_policy == "truncate":
            address = ip_network(f"{address}/{KEPT_BITS[address.version]}", strict=False).network_address
        return str(address)

    def _read_address(self) -> str:
        # Each proxy appends its caller's address on the right. Entries left of the trusted proxies can be forged.
        trusted = self._settings.trusted_proxies
        hops = self._environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        if trusted and len(hops) >= trusted:
            hop = str(hops[-trusted]).strip(' \t"')
            # Some proxies write 1.2.3.4:5678, [2001:db8::1] or "[2001:db8::1]:5678".
            if hop.startswith("["):
                return hop[1:].partition("]")[0]
            return hop.partition(":")[0] if hop.count(":") == 1 else hop
        return str(self._environ.get("REMOTE_ADDR", ""))
