"""What to adapt to what, and how: the options of tuning and the rates of each mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glip.choices import TuneMode
from glip.data.faults import MAX_BAD
from glip.errors import ConfigError
from glip.settings import one_of, within
from glip.training.run_config import SEEDS

MEASURED_LAST = ("retention", "retention_images", "interpolate")
"""Options that a run which has not ended may still change."""


@dataclass(frozen=True)
class Rates:
    """What the optimizer is told for a way of tuning."""

    lr: float
    text_lr: float
    weight_decay: float

    def at(self, lr: float) -> Rates:
        """The same at another rate; the text encoder's follows in proportion."""
        return Rates(lr, self.text_lr * lr / self.lr, self.weight_decay)


# official (reference G.4), but for "head" and "lora", which are ours.
RATES: Mapping[TuneMode, Rates] = {
    "full": Rates(1e-4, 1e-5, 0.05),
    "head": Rates(1e-4, 1e-5, 0.05),
    "linear_probe": Rates(1e-4, 1e-5, 0.05),
    "prompt": Rates(0.05, 0.05, 0.25),
    "language": Rates(1e-5, 1e-5, 1e-4),
    "lora": Rates(5e-4, 5e-4, 0.0),
}
GRID = (0.3, 1.0, 3.0)
"""Times the rate of a mode, for a search that is not told which rates to try."""


@dataclass(frozen=True)
class TuneOptions:
    """What to adapt to what, and how."""

    data: str
    """Annotation file, or folder with `train` and `val` parts."""
    mode: TuneMode = "prompt"
    weights: str | None = None
    """Of the base model; None for the one that ships with the package."""
    prompt: str | None = None
    """For mode "prompt": a file of words to start from, as `glip prompts` writes it; by default the
    names of the classes."""
    val: str | None = None
    """To choose the best weights on; by default the `val` part of `data`, if it has one."""
    images: str | None = None
    """Folder or tar; by default beside the annotations."""
    max_bad: float = MAX_BAD
    """Share of entries that cannot be used and may be left out."""
    shots: int | None = None
    """Pictures of each class; None for all."""
    seed: int = 0
    """Of the shots and of the run."""
    lr: tuple[float, ...] = ()
    """Rates to try, the best is kept; by default the one of the mode."""
    search_lr: bool = False
    """Try 0.3, 1 and 3 times the rate of the mode."""
    steps: int | None = None
    epochs: float | None = None
    """Length: one of the two, or neither for a length that follows from the data."""
    batch_size: int = 4
    evaluations: int = 10
    """On the way, of which the best decides; on a CPU they can take longer than the training."""
    cache: bool = True
    """Compute what is not trained once for each picture. Off, sizes of pictures vary as well."""
    retention: str | None = None
    """A detection set that is not tuned on, to see what is left of the open vocabulary."""
    retention_images: str | None = None
    replay: str | None = None
    """Data of the base model to train on beside the task's."""
    replay_images: str | None = None
    replay_share: float = 0.5
    """Of the training pictures, how many are replayed."""
    interpolate: tuple[float, ...] = ()
    """Shares of the tuned weights between base (0) and tuned (1) to measure as well."""
    limit: int | None = None
    """Only the first pictures of each evaluation, for a quick look."""
    keep_weights: bool = True
    """Off, only numbers stay (learned prompts always do, being small)."""

    def __post_init__(self) -> None:
        for name in ("evaluations", "batch_size", "steps", "limit"):
            within(name, getattr(self, name), least=1)
        within("shots", self.shots, least=1, way_out="leave it out for all")
        within("epochs", self.epochs, above=0)
        within("replay_share", self.replay_share, above=0, below=1)
        within("seed", self.seed, least=0, below=SEEDS)
        for rate in self.lr:
            within("learning rates", rate, above=0)
        for share in self.interpolate:
            within("interpolate: shares", share, least=0, most=1)
        self._check_mode()

    def _check_mode(self) -> None:
        one_of("mode", self.mode, TuneMode)
        if self.lr and self.search_lr:
            raise ConfigError(f"give rates ({self.lr}) or let them be searched, not both")
        if self.prompt is not None and self.mode != "prompt":
            raise ConfigError(f"a prompt to start from is for the mode prompt, not {self.mode}")
        if self.replay is not None and self.mode == "prompt":
            raise ConfigError(
                "prompt tuning leaves the model as it is, so there is nothing to replay for; "
                "leave --replay out"
            )

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates to try."""
        usual = RATES[self.mode].lr
        if self.search_lr:
            return tuple(usual * factor for factor in GRID)
        return self.lr or (usual,)
