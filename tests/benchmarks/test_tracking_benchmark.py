"""Made-up clips have the tracks that they are said to have."""

from dataclasses import replace

import numpy as np
from PIL import Image
from tracking import LEAST_VISIBLE, Thing, associated, made_clip, of_clips, seen_badly


def test_boxes_are_where_the_pictures_are_and_hidden_things_do_not_count():
    clip = made_clip(0, 3)
    red, blue = (Image.new("RGB", (100, 80), colour) for colour in ("red", "blue"))
    still = np.tile([[50, 60]], (3, 1))
    over = np.array([[50 + 30, 60], [50 + 10, 60], [-90, 60]])  # covers 70 %, 90 %, leaves
    clip = replace(clip, things=(Thing("cat", red, still), Thing("cup", blue, over)))
    truth = clip.truth()
    assert [list(boxes.names) for boxes, _ in truth] == [["cat", "cup"], ["cup"], ["cat"]]
    assert all((shares >= LEAST_VISIBLE).all() for _, shares in truth)
    np.testing.assert_array_equal(truth[0][0].boxes, [[50, 60, 150, 140], [80, 60, 180, 140]])
    frame = next(clip.pictures())
    assert frame.getpixel((79, 61)) == (255, 0, 0) and frame.getpixel((80, 61)) == (0, 0, 255)


def test_a_seed_is_one_clip_and_worse_boxes_are_worse_tracks():
    clip, same, other = made_clip(1, 60), made_clip(1, 60), made_clip(2, 60)
    first = [list(one.pictures())[30].tobytes() for one in (clip, same, other)]
    assert first[0] == first[1] != first[2]
    truth = [boxes for boxes, _ in clip.truth()]
    assert of_clips([(truth, truth)]).hota == 1
    measured = of_clips([(truth, associated(seen_badly(clip, 1), 1))])
    assert 0.3 < measured.hota < 1 and 0.3 < measured.mota < 1
