"""The recipe's numbers, bit for bit as recorded with the golden cases."""

import hashlib
import math

import numpy as np
import pytest
from parity.recipe import (
    image,
    is_computed,
    law,
    parameter,
    sample_indices,
    seed,
    stream,
    tensor,
    units,
)

BIAS = "rpn.head.bias_lang"
PATCH = "backbone.body.patch_embed.proj.weight"


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_seeds() -> None:
    assert seed(BIAS) == 15090782913408508463
    assert seed(PATCH) == 11109296830347961952
    assert seed("b", salt="a") == seed("ab")


def test_stream_is_splitmix64() -> None:
    # The first outputs of splitmix64 from seed 0, as published with the generator.
    assert [hex(n) for n in stream(0, 0, 2)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]
    assert stream(7, 3, 2).tolist() == stream(7, 0, 5)[3:].tolist()


def test_units_are_nearly_normal_and_do_not_depend_on_how_many_are_asked_for() -> None:
    values = units(123, 200_000)
    assert abs(values.mean()) < 0.01 and abs(values.std() - 1) < 0.01
    assert np.abs(values).max() < 3.47
    assert np.array_equal(units(123, 10), values[:10])


def test_parameters_are_the_recorded_ones() -> None:
    values = parameter(BIAS, (768,))
    assert values.dtype == np.float32
    assert values[:2].tolist() == [0.3646937310695648, -0.40104684233665466]
    assert digest(values) == "d9ad898b548567578817a268676178abfa4c4388fbf1071230cbb4965da3550d"
    patch = parameter(PATCH, (96, 3, 4, 4))
    assert patch.flatten()[:2].tolist() == [-0.20147705078125, 0.0294189453125]
    assert digest(patch) == "c2fb79dbff5735925f550f14e75e3bc78af763f0e44d41807c79444f8a516ee8"


def test_salt_makes_another_parameter() -> None:
    assert parameter(BIAS, (768,), "s/")[:2].tolist() == [0.42405328154563904, 0.15718646347522736]


def test_image_is_the_recorded_one() -> None:
    picture = image("check", 40, 56)
    assert picture.shape == (3, 40, 56)
    assert float(picture.sum(dtype=np.float64)) == pytest.approx(-1036.3217656906745, abs=1e-9)
    assert digest(picture) == "4d8da214fe050db11ae78d185e7b9967b7301a4f824f25b89721c4f8b3e8a4f0"


def test_sampled_places_are_the_recorded_ones() -> None:
    assert sample_indices("check", 100_000, 4).tolist() == [25048, 92025, 63355, 70631]


@pytest.mark.parametrize(
    ("key", "shape", "expected"),
    [
        ("rpn.head.bias0", (1,), (-4.0, 0.0)),
        ("rpn.head.log_scale", (1,), (0.3, 0.05)),
        ("rpn.head.dyhead_tower.0.b_attn.gamma_v", (256,), (0.5, 0.1)),
        ("rpn.head.scales.0.scale", (1,), (1.0, 0.1)),
        ("a.relative_position_bias_table", (169, 3), (0.0, 0.5)),
        ("a.word_embeddings.weight", (30522, 768), (0.0, 0.5)),
        ("a.position_embeddings.weight", (512, 768), (0.0, 0.2)),
        ("a.attention.self.query.weight", (768, 768), (0.0, 2 / math.sqrt(768))),
        ("a.attention.output.dense.weight", (768, 768), (0.0, 0.3 / math.sqrt(768))),
        ("a.output.dense.weight", (768, 3072), (0.0, 0.4 / math.sqrt(3072))),
        ("rpn.head.bbox_pred.weight", (4, 256, 1, 1), (0.0, 3 / 16)),
        ("a.conv.weight", (4, 16, 3, 3), (0.0, 1 / 12)),
        ("a.DyConv.0.bn.weight", (256,), (1.5, 0.2)),
        ("a.norm.weight", (256,), (1.0, 0.1)),
        ("a.norm.bias", (256,), (0.0, 0.05)),
    ],
)
def test_law_of_a_parameter(
    key: str, shape: tuple[int, ...], expected: tuple[float, float]
) -> None:
    assert law(key, shape) == expected


def test_tensor_is_mean_and_deviation_of_units() -> None:
    plain, other = tensor("x", (2, 3)), tensor("x", (6,), mean=2.0, std=0.5)
    np.testing.assert_allclose(plain.flatten() / 2 + 2, other, rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.attn.relative_position_index", True),
        ("a.embeddings.position_ids", True),
        ("rpn.anchor_generator.cell_anchors.0", True),
        ("a.relative_position_bias_table", False),
    ],
)
def test_computed_entries_have_no_law(key: str, expected: bool) -> None:
    assert is_computed(key) is expected
