"""Refusals: what the server says instead of an answer, always in one form.

A message tells people what to change. It never holds a path of this machine or a trace of the code.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from fastapi.responses import JSONResponse

from glip.errors import ConfigError, DeviceError, GlipError, ImageError, PromptError

logger = logging.getLogger(__name__)


class Refusal(GlipError):
    """A request that is not answered, with the reason in the words of HTTP.

    Attributes:
        status: Of the answer.
        code: A word for programs.
        message: A sentence for people.
        picture: Which picture of the request is meant, counted from 0.
        retry_after: Seconds after which another try makes sense.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        picture: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.picture = picture
        self.retry_after = retry_after

    def response(self) -> JSONResponse:
        """`{"error": {"code", "message"}}`, and "picture" where one is meant."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.picture is not None:
            error["picture"] = self.picture
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"error": error}, self.status, headers)


def refusal_of(error: Exception) -> Refusal:
    """What a request is told of an error.

    Only errors about what the request itself holds are told in their own words; of all others the
    log has the whole story, and the request a neutral sentence.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ImageError):
        return Refusal(422, "bad_picture", str(error))
    if isinstance(error, PromptError):
        return Refusal(422, "bad_prompt", str(error))
    if isinstance(error, ConfigError):
        return Refusal(422, "bad_option", str(error))
    if isinstance(error, DeviceError):
        logger.error("the model failed: %s", error)
        return Refusal(503, "no_memory", "the model has too little memory for this", retry_after=10)
    logger.error("a request failed", exc_info=error)
    return Refusal(500, "internal", "the server failed on this request; its log says why")
