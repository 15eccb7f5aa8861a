"""A folder for each kind of zero-shot detector that this transformers has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.zero_shot.tiny import MAKERS


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a `model_type`; read only."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        import transformers

        make, needed = MAKERS[kind]
        if not hasattr(transformers, needed):
            pytest.skip(f"transformers {transformers.__version__} has no {needed}")
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            make(made[kind])
        return made[kind]

    return folder
