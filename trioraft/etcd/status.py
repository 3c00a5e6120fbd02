"""Errors, with etcd's texts and codes. Clients compare the texts, so each must be exactly etcd's."""

import enum
from typing import Final, TypeAlias

import msgspec

from trioraft.errors import BatchError, LimitError, ProposalError, RefusedError, SessionEndedError


class Code(enum.IntEnum):
    """The codes of gRPC."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


# The status of HTTP that etcd's gateway gives with a code, and its name, which errors within a stream have too.
_HTTP: Final = {
    Code.CANCELLED: 408,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class ApiError(Exception):
    """An answer that is an error.

    Parameters
    ----------
    code : Code
        Its code.
    text : str
        Its text.
    """

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def http_status(self) -> int:
        """The status of HTTP that it has."""
        return _HTTP.get(self.code, 500)

    def encode(self) -> bytes:
        """Write it as the answer to a request."""
        return msgspec.json.encode({"error": self.text, "code": int(self.code), "message": self.text})

    def encode_in_stream(self) -> bytes:
        """Write it as the last message of a stream."""
        error = {
            "grpc_code": int(self.code),
            "http_code": self.http_status,
            "message": self.text,
            "http_status": REASONS[self.http_status],
        }
        return msgspec.json.encode({"error": error}) + b"\n"

    def without_code(self) -> "ApiError":
        """Return it as the services of locks and elections answer it, which lose the code."""
        return ApiError(Code.UNKNOWN, self.text)


_Known: TypeAlias = tuple[Code, str]
# Each is (code, text), to be raised as ApiError(*…).
EMPTY_KEY: Final[_Known] = (Code.INVALID_ARGUMENT, "etcdserver: key is not provided")
KEY_NOT_FOUND: Final[_Known] = (Code.INVALID_ARGUMENT, "etcdserver: key not found")
VALUE_PROVIDED: Final[_Known] = (Code.INVALID_ARGUMENT, "etcdserver: value is provided")
LEASE_PROVIDED: Final[_Known] = (Code.INVALID_ARGUMENT, "etcdserver: lease is provided")
TOO_MANY_OPERATIONS: Final[_Known] = (Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
DUPLICATE_KEY: Final[_Known] = (Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
TOO_LARGE: Final[_Known] = (Code.INVALID_ARGUMENT, "etcdserver: request is too large")
COMPACTED: Final[_Known] = (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION: Final[_Known] = (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
NO_SPACE: Final[_Known] = (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
LEASE_NOT_FOUND: Final[_Known] = (Code.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS: Final[_Known] = (Code.FAILED_PRECONDITION, "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE: Final[_Known] = (Code.OUT_OF_RANGE, "etcdserver: too large lease TTL")
MEMBER_NOT_FOUND: Final[_Known] = (Code.NOT_FOUND, "etcdserver: member not found")
MEMBER_NOT_LEARNER: Final[_Known] = (
    Code.FAILED_PRECONDITION,
    "etcdserver: can only promote a learner member",
)
BAD_URLS: Final[_Known] = (Code.INVALID_ARGUMENT, "etcdserver: given member URLs are invalid")
BAD_TRANSFEREE: Final[_Known] = (Code.FAILED_PRECONDITION, "etcdserver: bad leader transferee")
AUTH_NOT_ENABLED: Final[_Known] = (Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
USER_NOT_FOUND: Final[_Known] = (Code.FAILED_PRECONDITION, "etcdserver: user name not found")
ROLE_NOT_FOUND: Final[_Known] = (Code.FAILED_PRECONDITION, "etcdserver: role name not found")
NO_LEADER: Final[_Known] = (Code.UNAVAILABLE, "etcdserver: no leader")
TIMED_OUT: Final[_Known] = (Code.UNAVAILABLE, "etcdserver: request timed out")
STOPPED: Final[_Known] = (Code.UNAVAILABLE, "etcdserver: server stopped")
TOO_MANY_REQUESTS: Final[_Known] = (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests")


def of_proposal(error: ProposalError) -> ApiError:
    """Return the answer to a request whose command has no result.

    Parameters
    ----------
    error : ProposalError
        The reason why.

    Returns
    -------
    ApiError
        An error that says "not done" only where that is known; else that the request has timed out.
    """
    if isinstance(error, LimitError):
        return ApiError(*TOO_MANY_REQUESTS)
    if isinstance(error, RefusedError) and not isinstance(error, SessionEndedError | BatchError):
        return ApiError(Code.FAILED_PRECONDITION, f"etcdserver: {error}")
    return ApiError(*TIMED_OUT)
