"""The service ``etcdserverpb.Auth``: the answers of an etcd whose authentication is switched off."""

from collections.abc import Awaitable, Callable
from typing import Final

from trioraft.etcd import messages as api
from trioraft.etcd import status
from trioraft.etcd.host import Host
from trioraft.etcd.status import ApiError, Code

_NO_USERS: Final = (
    "etcdserver: trioraft has no users and roles; use TLS client certificates (CLIENT_TRUSTED_CA_FILE) to say who may"
    " ask"
)


class Auth:
    """The methods.

    Parameters
    ----------
    host : Host
        The node.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    async def auth_status(self, asked: api.EmptyRequest) -> api.AuthStatusResponse:
        """Tell that requests are not authenticated by names."""
        return api.AuthStatusResponse(self._host.header(), auth_revision=1)

    async def authenticate(self, asked: api.AuthenticateRequest) -> api.AuthenticateResponse:
        """Refuse to give a token, which nothing asks for."""
        raise ApiError(*status.AUTH_NOT_ENABLED)

    async def _done(self, asked: api.EmptyRequest) -> api.HeaderResponse:
        return api.HeaderResponse(self._host.header())

    async def _refuse(self, asked: api.EmptyRequest) -> api.HeaderResponse:
        raise ApiError(Code.UNIMPLEMENTED, _NO_USERS)

    async def _no_user(self, asked: api.EmptyRequest) -> api.HeaderResponse:
        raise ApiError(*status.USER_NOT_FOUND)

    async def _no_role(self, asked: api.EmptyRequest) -> api.HeaderResponse:
        raise ApiError(*status.ROLE_NOT_FOUND)

    def __getattr__(self, name: str) -> Callable[[api.EmptyRequest], Awaitable[api.HeaderResponse]]:
        if name in {"auth_disable", "user_list", "role_list"}:
            return self._done
        if name in {"auth_enable", "user_add", "role_add"}:
            return self._refuse
        if name.startswith("user_"):
            return self._no_user
        if name.startswith("role_"):
            return self._no_role
        raise AttributeError(name)
