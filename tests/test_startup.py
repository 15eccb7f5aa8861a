"""What the first prediction of a process imports: nothing that takes longer than itself."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.whole

HEAVY = ("torch._dynamo", "torchvision", "timm", "transformers", "triton.language", "scipy")


def modules_after(code: str) -> set[str]:
    """Names of the modules in a fresh interpreter that has run something."""
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_first_prediction_imports_no_large_package_but_torch() -> None:
    loaded = modules_after(
        "import glip, torch\n"
        "glip.load(device='cpu').predict(torch.zeros(3, 64, 64), ['cat'], threshold=0.1)"
    )
    assert "torch" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_what_is_nowhere_is_said_before_torch_is_imported() -> None:
    loaded = modules_after(
        "import glip\n"
        "for name in ('glip_unknown', 'none.safetensors', 'nobody/nothing'):\n"
        "    try:\n"
        "        glip.load(name)\n"
        "    except glip.GlipError:\n"
        "        pass\n"
        "assert len(glip.models()) == 6"
    )
    assert loaded.isdisjoint({"torch", *HEAVY})


def test_importing_glip_imports_nothing_heavy() -> None:
    assert modules_after("import glip; dir(glip)").isdisjoint({"torch", "numpy", "PIL", *HEAVY})
