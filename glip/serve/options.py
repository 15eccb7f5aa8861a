"""What a server can be told: where it listens, what it answers, and what it refuses.

Imports nothing heavy: the command line shows these defaults before anything is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from glip.choices import DType
from glip.errors import ConfigError
from glip.settings import within

GPU_BATCH = 8
TASK_NAME = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True)
class Limits:
    """How much a request may ask for; what exceeds one of them is refused with its name.

    Raises:
        ConfigError: A limit below one.
    """

    max_bytes: int = 20 * 1024 * 1024
    """Of the body of a request, and of a picture that is fetched."""
    max_pixels: int = 50_000_000
    """Of a picture, width times height, checked before it is decoded."""
    max_pictures: int = 16
    """In one request."""
    max_names: int = 300
    """Phrases of one prompt."""
    max_letters: int = 20_000
    """Of one prompt, names and text."""
    seconds: float = 60.0
    """For a request, from its first byte to its answer."""
    queue: int = 64
    """Pictures that are read, wait or are looked at; with more, new requests are turned away."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            within(name, value, least=1, whole=name != "seconds")


@dataclass(frozen=True)
class LabelStudio:
    """The Label Studio whose pictures may be fetched, though its address may be a private one.

    Raises:
        ConfigError: The address is none.
    """

    url: str
    """Such as http://label-studio:8080."""
    key: str | None = field(default=None, repr=False)
    """Access token of a user there, old style or new."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # brackets that hold no address, a port that is none
            known = False
        if not known:
            raise ConfigError(
                f"Label Studio's address is like http://label-studio:8080, got {self.url!r}"
            )


@dataclass(frozen=True)
class ServeOptions:
    """A server: its model, its address, its limits, and whom it answers.

    Raises:
        ConfigError: A value out of range.
    """

    weights: str | None = None
    """As for `glip.load`."""
    devices: tuple[str, ...] = ()
    """Taken in turn by the processes; by default whatever `glip.load` takes."""
    dtype: DType = "float32"
    tasks: Mapping[str, str] = field(default_factory=dict)
    """Learned prompts for these weights: the name that requests ask for, and the file."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes any that is free."""
    processes: int = 1
    """Each with a model of its own, behind one port."""
    batch_size: int | None = None
    """Most pictures of one size that go through the model together if they wait at the same time;
    by default `GPU_BATCH`, and 1 on processors, where company slows each of them."""
    readers: int = 2
    """Threads of each process that decode and resize."""
    limits: Limits = Limits()
    api_key: str | None = field(default=None, repr=False)
    """Without it nothing but the page, /health and /ready is answered."""
    origins: tuple[str, ...] = ()
    """Web sites whose scripts may use the server (CORS); by default none but its own page."""
    urls: bool = False
    """Whether pictures may be given as addresses; never private ones."""
    label_studio: LabelStudio | None = None
    access_log: bool = False
    """Whether each request leaves a line on stdout; `/metrics` counts them in any case."""

    def __post_init__(self) -> None:
        for name in ("processes", "batch_size", "readers"):
            if getattr(self, name) is not None:
                within(name, getattr(self, name), least=1, whole=True)
        within("port", self.port, least=0, most=65535)
        for name in self.tasks:
            if not TASK_NAME.fullmatch(name):
                raise ConfigError(
                    f"task name {name!r}: use up to 64 letters, digits, dots, dashes, underscores"
                )
        if self.api_key is not None and not self.api_key.strip():
            raise ConfigError("the API key is empty")
        for origin in self.origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
                raise ConfigError(
                    f"an origin is like https://example.org, without a path, got {origin!r}"
                )

    def device_of(self, process: int) -> str | None:
        """Where the model of a process is; None leaves it to `glip.load`."""
        return self.devices[process % len(self.devices)] if self.devices else None

    def batch_size_on(self, device: str) -> int:
        """Most pictures that go through a model together there."""
        return self.batch_size or (1 if device.startswith("cpu") else GPU_BATCH)
