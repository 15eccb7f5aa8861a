"""The kernels as Triton's compiler reads them, without a GPU: `python compiled.py` prints its code.

The interpreter that other tests run knows nothing of types, and takes what the compiler refuses.
Only where TRITON_INTERPRET is not set.
"""

from __future__ import annotations

import sys

import triton.language as tl
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend

from glip.model.ops import kernels
from glip.model.ops.levels import CHUNK

KERNELS = ("_gather", "_gather_backward", "_chunk_sums", "_segment_moments", "_moments_backward")
INTS = "*i32"
"""Tables of places."""


def types(name: str, dtype: str, backward: bool) -> dict[str, object]:
    """What each argument of a kernel is: the type of a number or pointer, else a constant."""
    wide = "fp64" if dtype == "fp64" else "fp32"
    constants = {
        **{"TAPS": 9, "SIDE": 3, "LEVELS": 5, "BACKWARD": backward},
        **{"WIDE": tl.float64 if dtype == "fp64" else tl.float32, "ROWS": CHUNK},
        **{"OUTPUTS": kernels.OUTPUTS, "BLOCK": kernels.CHANNELS, "PARTIALS": kernels.PARTIALS},
    }
    pointers = {
        **dict.fromkeys(("table", "moves", "columns", "raw", "out", "grad_columns"), "*" + dtype),
        **dict.fromkeys(("grad_table", "moments", "weights", "slopes", "biases"), "*" + wide),
        **dict.fromkeys(("grid", "runs", "of_segments", "corners"), INTS),
        **dict.fromkeys(("shares", "corner_weights"), "*fp32"),
        **{"grad_moves": "*" + dtype, "partial": "*" + wide, "grad": "*" + wide},
        "grad_raw": "*" + (dtype if name == "_moments_backward" else wide),
    }
    if name == "_combine" and not backward:
        constants.update(grad_raw=None, partial=None)
    names = getattr(kernels, name).arg_names
    return {one: constants.get(one, pointers.get(one, "i32")) for one in names}


def code(name: str, dtype: str, backward: bool = False) -> str:
    """A kernel in the compiler's own language."""
    of = types(name, dtype, backward)
    is_type = {one: isinstance(kind, str) for one, kind in of.items()}
    source = ASTSource(
        getattr(kernels, name),
        {one: kind if is_type[one] else "constexpr" for one, kind in of.items()},
        {one: kind for one, kind in of.items() if not is_type[one]},
    )
    target = GPUTarget("cuda", 80, 32)
    backend = make_backend(target)
    options = backend.parse_options({"num_warps": kernels.WARPS})
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    functions = backend.get_codegen_implementation(options)
    return str(source.make_ir(target, options, functions, backend.get_module_map(), context))


if __name__ == "__main__":
    for dtype in sys.argv[1:]:
        for name in KERNELS:
            print(code(name, dtype))
        print(code("_combine", dtype))
        print(code("_combine", dtype, backward=True))
