"""The language of the server: what requests may hold, and what they are answered.

Answers are those of `glip predict --json`. A form (multipart/form-data) has the fields of the JSON
body, its pictures as files. Knows nothing about models.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from glip.choices import Aggregate
from glip.serve.options import Limits
from glip.serve.pictures import Picture
from glip.serve.refusals import Refusal
from glip.structures import Detections

FORM = "multipart/form-data"
PICTURES = ("image", "images")


class Named(BaseModel):
    """A picture with the name that its answer is to have."""

    model_config = ConfigDict(extra="forbid")
    data: str = Field(description="Base64, a data: URL, or an address where those are allowed.")
    name: str | None = Field(None, max_length=1000)


class Question(BaseModel):
    """What is the same for both ways of asking."""

    model_config = ConfigDict(extra="forbid")
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Detections score above this; by default the model's or the task's own."
    )
    nms: float = Field(0.6, ge=0, le=1, description="Of two that overlap more, the better stays.")
    max_detections: int = Field(100, ge=1, le=1000, description="For each picture.")
    aggregate: Aggregate | None = Field(
        None, description="How scores of tokens become a phrase's; by default as trained."
    )
    exclusive: bool = Field(False, description="One phrase for each thing.")
    annotated: bool = Field(
        False, description="Add the picture with boxes on it, a PNG as a data: URL."
    )


class DetectQuestion(Question):
    """What to look for; one of `prompt`, `classes` and `prompts`, or the classes of a task."""

    prompt: str | None = Field(None, description="Names with periods between them, or a sentence.")
    classes: list[str] | None = Field(
        None, description="Exact names; in a form with commas between them, or repeated."
    )
    prompts: list[str | list[str]] | None = Field(
        None, description="One for each picture: a text or a list of names."
    )
    task: str | None = Field(None, description="Name of a learned prompt of this server.")


class GroundQuestion(Question):
    """A sentence whose phrases are looked for."""

    caption: str
    phrases: list[str] | None = Field(
        None, description="Words of the caption; by default all its noun phrases."
    )


class Pictures(BaseModel):
    """One picture, which gives one answer, or several, which give a list."""

    image: str | Named | None = None
    images: list[str | Named] | None = None


class DetectBody(DetectQuestion, Pictures):
    """`POST /v1/detect` as JSON."""


class GroundBody(GroundQuestion, Pictures):
    """`POST /v1/ground` as JSON."""


class Found(BaseModel):
    """A detection."""

    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2; pixels.")
    score: float
    phrase: str
    span: tuple[int, int] = Field(description="Characters of the phrase in the prompt.")
    spans: list[tuple[int, int]] | None = Field(None, description="Of a phrase in pieces, all.")


class Answer(BaseModel):
    """What was found in a picture, as `glip predict --json` writes it."""

    image: str
    width: int
    height: int
    prompt: str
    detections: list[Found]
    annotated: str | None = Field(None, description="PNG as a data: URL, if asked for.")


class GroundedPhrase(BaseModel):
    """A phrase of a caption, and its detections."""

    phrase: str
    spans: list[tuple[int, int]]
    detections: list[int] = Field(description="Places in the list of detections.")


class GroundAnswer(Answer):
    """The same by phrase."""

    phrases: list[GroundedPhrase]


class ErrorDetail(BaseModel):
    """Why there is no answer."""

    code: str
    message: str
    picture: int | None = Field(None, description="Which picture is meant, from 0.")


class Error(BaseModel):
    """Every answer that is none has this form."""

    error: ErrorDetail


SCHEMAS = (DetectBody, GroundBody)

Q = TypeVar("Q", DetectQuestion, GroundQuestion)


class Asked(NamedTuple):
    """A request, understood as far as that goes without a model."""

    pictures: list[Picture]
    several: bool
    """Whether the answer is a list."""


async def read_request(request: Request, question: type[Q], limits: Limits) -> tuple[Asked, Q]:
    """Pictures and question of a request, JSON or form.

    Raises:
        Refusal: It is neither, or holds something else than it may.
    """
    pictures: Pictures | _Files
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        pictures, fields = _json_parts(await request.body())
    elif kind == FORM:
        # Text has the limit of a whole body: a picture may come as base64.
        async with request.form(max_files=100, max_fields=1000, max_part_size=2**62) as form:
            pictures, fields = await _form_parts(form)
    else:
        raise Refusal(
            415,
            "unknown_content",
            f"send application/json or {FORM}, not {kind[:60] or 'without a Content-Type'}",
        )
    asked = _pictures_of(pictures, limits)
    return asked, validated(question, fields)


def validated(model: type[Q], fields: Mapping[str, Any]) -> Q:
    """A checked question.

    Raises:
        Refusal: Names the first field that is wrong.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _wrong(error) from error


def _json_parts(body: bytes) -> tuple[Pictures, dict[str, Any]]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad_json", "the body is not valid JSON") from error
    if not isinstance(content, dict):
        raise Refusal(400, "bad_json", "the body must be a JSON object")
    pictures = {key: content.pop(key) for key in PICTURES if key in content}
    try:
        return Pictures.model_validate(pictures), content
    except ValidationError as error:
        raise _wrong(error) from error


class _Files(NamedTuple):
    """As `Pictures`, of a form."""

    image: Picture | None
    images: list[Picture] | None


async def _form_parts(form: FormData) -> tuple[_Files, dict[str, Any]]:
    fields: dict[str, Any] = {}
    pictures: dict[str, list[Picture]] = {key: [] for key in PICTURES}
    for key in dict.fromkeys(form):
        values = form.getlist(key)
        if key in PICTURES:
            pictures[key] = [await _form_picture(value) for value in values]
            continue
        if any(isinstance(value, UploadFile) for value in values):
            raise Refusal(
                422,
                "bad_option",
                f"{key[:60]} is a file; pictures are sent as image or images, the rest as text",
            )
        fields[key] = _form_value(key, [str(value) for value in values])
    if len(pictures["image"]) > 1:
        raise Refusal(422, "bad_option", "image is one picture; send several as images")
    image = pictures["image"][0] if pictures["image"] else None
    return _Files(image, pictures["images"] or None), fields


def _form_value(key: str, values: list[str]) -> object:
    if key in ("classes", "phrases"):
        return [name.strip() for value in values for name in value.split(",")]
    if key == "prompts":
        return values
    return values[0] if len(values) == 1 else values


async def _form_picture(value: UploadFile | str) -> Picture:
    if isinstance(value, UploadFile):
        return Picture(await value.read(), (value.filename or "")[:1000])
    return Picture(value, "")


def _pictures_of(pictures: Pictures | _Files, limits: Limits) -> Asked:
    if (pictures.image is None) == (pictures.images is None):
        raise Refusal(422, "bad_option", "send one picture as image, or a list of them as images")
    several = pictures.images is not None
    given: Sequence[str | Named | Picture | None] = pictures.images or [pictures.image]
    if several and not pictures.images:
        raise Refusal(422, "bad_option", "images is an empty list")
    if len(given) > limits.max_pictures:
        raise Refusal(
            413,
            "too_many_pictures",
            f"{len(given)} pictures in one request; this server takes {limits.max_pictures}",
        )
    named = [
        Picture(one.content, one.name or f"image {number}")
        for number, one in enumerate(map(_picture, given))
    ]
    return Asked(named, several)


def _picture(given: str | Named | Picture | None) -> Picture:
    """A picture, its name empty if it was given none."""
    assert given is not None
    if isinstance(given, Picture):
        return given
    return Picture(given, "") if isinstance(given, str) else Picture(given.data, given.name or "")


def _wrong(error: ValidationError) -> Refusal:
    """The first thing that is wrong, without repeating what was sent: it may be a picture."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    first = max(faults, key=lambda fault: len(fault["loc"]))  # deepest: of the kind that was meant
    place = ".".join(str(part)[:60] for part in first["loc"] if not _is_type(part))
    what = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] == "extra_forbidden":
        what = "no such field"
    if first["type"] == "missing":
        what = "is missing"
    return Refusal(422, "bad_option", f"{place}: {what}")


def _is_type(part: int | str) -> bool:
    """Whether a part of a place is one of the kinds a value may have, not a field."""
    return part in ("str", "Named") or (isinstance(part, str) and "[" in part)


def answer(name: str, found: Detections) -> dict[str, Any]:
    """What was found in a picture, see `Answer`."""
    return {"image": name, **found.to_dict()}


def by_phrase(found: Detections) -> list[dict[str, Any]]:
    """The phrases of the prompt in order, with the places of their detections."""
    rows = found.phrase_ids.tolist()
    return [
        {
            "phrase": found.prompt.names[row],
            "spans": [list(span) for span in spans],
            "detections": [place for place, own in enumerate(rows) if own == row],
        }
        for row, spans in enumerate(found.prompt.phrases)
    ]


def png(picture: Image.Image) -> bytes:
    """A picture as the content of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def data_url(content: bytes) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
