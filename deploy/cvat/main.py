"""A CVAT function that asks a server: what nuclio runs for CVAT's automatic annotation.

It needs nothing but Python. GLIP_URL says where `glip serve` is, GLIP_API_KEY what it wants to be
shown; the names looked for are the labels in function.yaml, given once more in GLIP_CLASSES.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any


def init_context(context: Any) -> None:
    """Called once: what every question holds."""
    names = [name.strip() for name in os.environ["GLIP_CLASSES"].split(",")]
    context.user_data.question = {"classes": names}


def handler(context: Any, event: Any) -> Any:
    """Shapes for the picture that CVAT sends, in CVAT's form."""
    asked = event.body if isinstance(event.body, dict) else json.loads(event.body)
    question = {**context.user_data.question, "image": asked["image"]}
    if asked.get("threshold") is not None:
        question["threshold"] = float(asked["threshold"])
    status, answer = ask(question)
    if status == 200:
        answer = [
            {
                "confidence": str(one["score"]),
                "label": one["phrase"],
                "points": one["box"],
                "type": "rectangle",
            }
            for one in answer["detections"]
        ]
    body = json.dumps(answer)
    return context.Response(body=body, content_type="application/json", status_code=status)


def ask(question: dict[str, Any]) -> tuple[int, Any]:
    """Status and content of the server's answer."""
    headers = {"Content-Type": "application/json"}
    if os.environ.get("GLIP_API_KEY"):
        headers["X-API-Key"] = os.environ["GLIP_API_KEY"]
    url = os.environ["GLIP_URL"].rstrip("/") + "/v1/detect"
    request = urllib.request.Request(url, json.dumps(question).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")
