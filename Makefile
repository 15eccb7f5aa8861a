# Everything here runs with the interpreter of the active environment.
.PHONY: check fast test slow notebooks margins lint types docs

check: lint types test docs

lint:
	ruff check .
	ruff format --check .

types:
	mypy

fast: # under a minute: what to run after every change
	python -m pytest -m "not slow and not whole and not learned and not ray and not clients and not browser and not export"

test: # everything but what takes minutes, a cluster or other people's programs
	python -m pytest

slow:
	python -m pytest -m slow

notebooks: # those of examples/ in a kernel, from copies, so that nothing is left beside them
	folder=$$(mktemp -d) && cp examples/*.ipynb $$folder && \
	  HF_HUB_OFFLINE=1 python -m pytest --nbmake --nbmake-timeout=600 -p no:cacheprovider --durations=0 $$folder

margins: # how far what is learned stays from its bounds, with other seeds and on other processors
	for cpu in default avx2 ""; do \
	  ATEN_CPU_CAPABILITY=$$cpu ONEDNN_MAX_CPU_ISA=$$( [ "$$cpu" = avx2 ] && echo AVX2 || echo DEFAULT ) \
	    python -m pytest -m learned --seeds 5; \
	done

docs:
	mkdocs build --strict
