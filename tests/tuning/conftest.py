"""Tuning is tested with the data and the model that training is tested with."""

from tests.training.conftest import calm_file, squares

__all__ = ["calm_file", "squares"]
