"""Where does a request come from?"""

from functools import cached_property
from ipaddress import ip_address, ip_network

KEPT_BITS = {4: 24, 6: 48}  # of an address that is truncated


class Requester:
    """The client, seen through as many proxies as are trusted."""

    def __init__(self, environ, settings):
        self._environ = environ
        self._settings = settings
        self.is_page = "HTTP_ORIGIN" in environ

    @cached_property
    def address(self):
        """The client's address, as much of it as the settings let be kept, or None."""
        if self._settings.ip_policy == "drop":
            return None
        try:
            address = ip_address(self._given())
        except ValueError:  # a unix socket has none
            return None
        address = getattr(address, "ipv4_mapped", None) or address
        if self._settings.ip_policy == "truncate":
            address = ip_network(f"{address}/{KEPT_BITS[address.version]}", strict=False).network_address
        return str(address)

    def _given(self):
        """Each proxy adds, on the right, whom it was called by; what is left of the trusted ones anybody can write."""
        trusted = self._settings.trusted_proxies
        hops = self._environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        if trusted and len(hops) >= trusted:
            return hops[-trusted].strip()
        return self._environ.get("REMOTE_ADDR", "")
