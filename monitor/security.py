"""Headers that keep the pages to themselves."""

from typing import Final

from quart import Response

# Names and alerts come from the network. Even if the page showed one as markup, nothing in it could run or load.
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def add_security_headers(response: Response) -> Response:
    """Add the headers to a response.

    Parameters
    ----------
    response : quart.Response
        Any response of the monitor.

    Returns
    -------
    quart.Response
        The same response.
    """
    for name, value in SECURITY_HEADERS.items():
        response.headers[name] = value
    return response
