# Everything here runs with the interpreter of the active environment.
.PHONY: check test slow lint types

check: lint types test

lint:
	ruff check .
	ruff format --check .

types:
	mypy

test:
	python -m pytest

slow:
	python -m pytest -m slow
