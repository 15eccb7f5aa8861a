"""Numbers of one server, apart from those of others in the same process."""

from __future__ import annotations

import pytest

from glip.serve.metrics import Metrics

pytestmark = pytest.mark.whole


def test_each_server_counts_for_itself() -> None:
    one, other = Metrics(), Metrics()
    one.batch_done(3, 0.5)
    one.batch_done(1, 0.25)
    one.inside.inc(2)
    text = one.text().decode()
    assert "glip_pictures_total 4.0" in text
    assert "glip_model_seconds_total 0.75" in text
    assert 'glip_batch_pictures_bucket{le="2.0"} 1.0' in text
    assert "glip_batch_pictures_count 2.0" in text
    assert "glip_queue_pictures 2.0" in text
    assert "glip_pictures_total 0.0" in other.text().decode()
