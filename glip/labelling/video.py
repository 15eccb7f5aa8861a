"""Every n-th frame of a video as a picture file, so that a video is labelled as a folder is.

The frames are what a detector is trained on later, so they are kept.
"""

from __future__ import annotations

import os
from pathlib import Path

from glip.images import save_image
from glip.progress import Counter, Progress
from glip.settings import within
from glip.video.reading import Clip


def extract_frames(
    video: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    every: int,
    progress: Progress | None = None,
) -> int:
    """Write frames 0, n, 2n, … as `000000000.jpg` and so on, turned as the video asks.

    A frame that is there already is not written again, and none is there half, so a run that was
    stopped goes on.

    Args:
        video: of any kind that PyAV reads; its first video stream counts.
        folder: made if it does not exist.
        every: n, from 1.
        progress: is told of each frame that is due.
    Returns:
        How many frames there are in the folder.
    Raises:
        ConfigError: `every` is below 1, or PyAV is not installed.
        DataError: no video, or a damaged one; what was decoded before is kept.
        ImageError: a frame cannot be written.
    """
    within("every", every, least=1, whole=True)
    count = 0
    counter = Counter(progress, "frames", unit="frame")
    with Clip(video) as clip:
        for frame in clip:
            if frame.number % every:
                continue
            count += 1
            target = Path(folder) / f"{frame.number:09d}.jpg"
            if not os.path.exists(target):
                save_image(frame.picture(), target)
            counter.add()
    return count
