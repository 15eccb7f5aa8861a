"""The models that have a name: how large they are, where they come from, where they are here.

Quick to import, so that a name which stands for nothing is said at once. Knows nothing about what
is in a file.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from glip.errors import CheckpointError
from glip.files import read_json

DEFAULT_MODEL = "glip_nano"
METADATA = "glip"
"""Under which our config stands in the header of a safetensors file, and in a folder of
transformers, where it is the type of the model as well."""
FOLDER_CONFIG = "config.json"
"""Of a folder of transformers."""
HUB_REPOSITORY = "GLIPModel/GLIP"
REACH_SECONDS = 3.0
"""To connect to the Hub before it counts as out of reach."""
_PACKAGED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Released:
    """What is known of a model by its name."""

    parameters: int
    official: str | None
    """The authors' file; None for a model of this package."""


RELEASED = {
    "glip_tiny_a": Released(151_409_966, "glip_a_tiny_o365.pth"),
    "glip_tiny_b": Released(231_759_662, "glip_tiny_model_o365.pth"),
    "glip_tiny_c": Released(231_759_662, "glip_tiny_model_o365_goldg.pth"),
    "glip_tiny": Released(231_759_662, "glip_tiny_model_o365_goldg_cc_sbu.pth"),
    "glip_large": Released(430_401_824, "glip_large_model.pth"),
    "glip_nano": Released(28_985_428, None),
}
"""By name, as `glip.model.presets.PRESETS` has their architectures."""


def weights_folder() -> Path:
    """Where named weights are looked for: `$GLIP_HOME`, or `~/.cache/glip`."""
    return Path(os.environ.get("GLIP_HOME") or Path.home() / ".cache" / "glip")


def find(source: str | os.PathLike[str] | None = None) -> Path:
    """The file of a name or path.

    A path is taken as it is. The name of a model is looked for in the working folder, in
    `weights_folder()`, in the package, and then on the Hugging Face Hub.

    Args:
        source: A path, of a file or of a folder of transformers with a GLIP in it (`glip.hf`); the
            name of a model; or None for the model that ships with the package.
    Raises:
        CheckpointError: Nothing there; the message says which file to put where.
    """
    name = os.fsdecode(source) if source is not None else DEFAULT_MODEL
    if not name:
        raise CheckpointError("the name of a model is empty; leave it out for the small one")
    path = Path(os.path.expanduser(name))
    if os.path.isfile(path) or is_transformers_folder(path):
        return path
    if name not in RELEASED:  # a folder may well be called like a model
        if os.path.isdir(path):  # Path would not bear a name that is too long
            raise CheckpointError(f"{path} is a folder; give the weights file inside it")
        raise CheckpointError(
            f"there is no weights file '{name}', and no model of that name; "
            f"models: {', '.join(RELEASED)}"
        )
    if (here := local_file(name)) is not None:
        return here
    if (official := RELEASED[name].official) is None:
        others = [other for other, released in RELEASED.items() if released.official]
        raise CheckpointError(
            f"this installation has no weights of {name} yet: put {name}.safetensors into "
            f"{weights_folder()}, or name another model or file ({', '.join(others)})"
        )
    return _download(name, official)


def local_file(name: str) -> Path | None:
    """The weights of a named model on this machine, the Hub's own cache aside; None if none are."""
    official = RELEASED[name].official
    files = [f"{name}.safetensors", f"{name}.pth", *([official] if official else [])]
    places = [folder / file for folder in (Path(), weights_folder(), _PACKAGED) for file in files]
    return next((place for place in places if os.path.isfile(place)), None)


def source_of(name: str) -> str:
    """Where the weights of a named model come from."""
    official = RELEASED[name].official
    return "this package" if official is None else f"{HUB_REPOSITORY}: {official}"


def _download(name: str, file: str) -> Path:
    """A released checkpoint from the Hub, with a progress bar, or from the Hub's own cache."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(HUB_REPOSITORY, file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        reach_hub()  # where there is no connection, the client tries for half a minute
        return Path(hf_hub_download(HUB_REPOSITORY, file))
    except Exception as error:  # the client raises a different family with each transport it uses
        raise CheckpointError(
            f"could not download {file} for {name} from {HUB_REPOSITORY} on the Hugging Face Hub "
            f"({type(error).__name__}). Fetch that file on a machine with a connection and put it "
            f"into {weights_folder()} or the working folder"
        ) from error


def reach_hub() -> None:
    """Connect to the Hub and leave; a proxy is asked nothing.

    Raises:
        OSError: There is no way to it.
    """
    from huggingface_hub.constants import ENDPOINT

    if getproxies():
        return
    address = urlsplit(ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    socket.create_connection((address.hostname or "", port), timeout=REACH_SECONDS).close()


def is_transformers_folder(path: Path) -> bool:
    """Whether it is a folder of transformers with a GLIP in it."""
    try:
        content = read_json(path / FOLDER_CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("model_type") == METADATA
