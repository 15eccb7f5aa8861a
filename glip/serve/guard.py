"""The gate in front of all routes: who may ask, how much, for how long; and what is counted.

Whatever goes wrong behind it, an answer leaves in the form of `glip.serve.refusals`, without a
trace of the code in it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import time
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glip.serve.metrics import Metrics
from glip.serve.options import Limits
from glip.serve.refusals import Refusal, refusal_of

SECURE = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": (
        b"default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        b"object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
}
"""Headers of every answer: no outside address is ever loaded by a page of ours."""


class Guard:
    """ASGI middleware around the routes."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        metrics: Metrics,
        api_key: str | None,
        is_open: Callable[[str], bool],
        is_known: Callable[[str], bool],
    ) -> None:
        """Around an application.

        Args:
            app: What is guarded.
            limits: Of bytes and seconds.
            metrics: Gets the counts.
            api_key: What requests must show, if anything.
            is_open: Whether a path is answered without the key.
            is_known: Whether a path is one of ours and may be counted by its name.
        """
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._key = api_key
        self._is_open = is_open
        self._is_known = is_known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        deadline = start + self._limits.seconds
        scope.setdefault("state", {})["deadline"] = deadline
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                extra = [(key, value) for key, value in SECURE.items() if key not in present]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            try:
                self._check(scope)
                await self._app(scope, self._limited(receive, deadline), watched)
            except ClientDisconnect:
                status = status or 499  # nobody is there to be told
            except Exception as error:
                if status:  # too late to say it
                    raise
                await refusal_of(error).response()(scope, receive, watched)
        finally:
            route = scope["path"] if self._is_known(scope["path"]) else "other"
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - start)

    def _check(self, scope: Scope) -> None:
        """Refuse what can be refused before the body is read."""
        headers = Headers(scope=scope)
        if self._key is not None and not self._is_open(scope["path"]):
            shown = shown_key(headers)
            if shown is None or not hmac.compare_digest(shown.encode(), self._key.encode()):
                raise Refusal(
                    401,
                    "no_key" if shown is None else "wrong_key",
                    "send the API key of this server, as Authorization: Bearer KEY",
                )
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._limits.max_bytes:
            raise self._too_large()

    def _limited(self, receive: Receive, deadline: float) -> Callable[[], Awaitable[Message]]:
        """`receive` that ends where a body becomes too large or comes too slowly."""
        count = 0
        complete = False

        async def limited() -> Message:
            nonlocal count, complete
            if complete:  # from here on it tells when the other side goes away
                return await receive()
            left = deadline - time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except asyncio.TimeoutError as error:
                raise Refusal(408, "slow_upload", "the request did not arrive in time") from error
            if message["type"] == "http.request":
                count += len(message.get("body", b""))
                complete = not message.get("more_body", False)
            if count > self._limits.max_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            "too_many_bytes",
            f"the request is larger than the {self._limits.max_bytes:,} bytes this server takes",
        )


def shown_key(headers: Headers) -> str | None:
    """The key of a request: a bearer token, X-API-Key, or the password of basic authentication."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":  # Label Studio knows no other
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return headers.get("x-api-key")
