"""The server of its own tests, to be asked odd things."""

from tests.serve.conftest import client, make_client, photo, served, task

__all__ = ["client", "make_client", "photo", "served", "task"]
