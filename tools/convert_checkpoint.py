"""Official weights to a safetensors file of ours: `glip convert` as a script.

python tools/convert_checkpoint.py glip_tiny_model_o365_goldg_cc_sbu.pth glip_tiny.safetensors
"""

import sys

from glip.cli.main import run_alone

if __name__ == "__main__":
    sys.exit(run_alone("convert"))
