"""Who an HTTP client is: ``Proxy-Authorization`` (RFC 9110 §11.7.2), judged once for each value."""

from __future__ import annotations

from tunnelkit.egress.users import Users
from tunnelkit.wire.http_proxy import basic_credentials

__all__ = ["HttpLogin"]


class HttpLogin:
    """The credentials of one connection. ``users`` None: nobody has to say who it is."""

    __slots__ = ("_good", "_users", "user")

    def __init__(self, users: Users | None) -> None:
        self.user = ""
        """Who it is; empty as long as that was not said, or does not matter."""
        self._users = users
        self._good = b""

    def known(self, authorization: bytes) -> bool | None:
        """Whether ``authorization`` is good; None: ask :meth:`check`."""
        if self._users is None or (authorization and authorization == self._good):
            return True
        credentials = basic_credentials(authorization)
        if credentials is None:
            return False
        return self._take(authorization, credentials[0], self._users.check_now(*credentials))

    async def check(self, authorization: bytes) -> bool:
        """Whether ``authorization`` is good, for which a hash has to be computed."""
        credentials = basic_credentials(authorization)
        assert self._users is not None
        assert credentials is not None
        return bool(self._take(authorization, credentials[0], await self._users.check(*credentials)))

    def _take(self, authorization: bytes, user: str, known: bool | None) -> bool | None:
        if known:
            self._good, self.user = authorization, user
        return known
