"""The predictor prices a recipe from profile, shapes and workload: once it has these, it may open no file at all."""

import subprocess
import sys
from pathlib import Path

from edgeprune.artifacts import write_record
from edgeprune.intake.spec import read_spec
from edgeprune.profile.store import load_profile
from tests.tiny import write_tiny_llama

CODE = """
import sys
from pathlib import Path
from edgeprune.artifacts import read_record
from edgeprune.predict.cost import CostModel
from edgeprune.schema.budget import Workload
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
device = read_record(Path(sys.argv[1]), DeviceProfile)
spec = read_record(Path(sys.argv[2]), ModelSpec)
recipe = Recipe(model_hash=spec.model_hash, context_tokens=128, drop_blocks=(1,), table_kernel="int8_b32_a4")
def deny(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "subprocess.Popen", "socket.connect"):
        raise RuntimeError(f"the predictor reached for {arguments}")
sys.addaudithook(deny)
cost = CostModel(device, spec, Workload(context_tokens=128)).cost(recipe)
try:
    open(sys.argv[1])
except RuntimeError:
    sys.stdout.write(f"{cost.disk_bytes}")
"""


def test_a_price_needs_no_bundle(tmp_path: Path) -> None:
    write_record(tmp_path / "device.json", load_profile("raspberry-pi-5"))
    write_record(tmp_path / "model.json", read_spec(write_tiny_llama(tmp_path / "model")))
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "device.json"), str(tmp_path / "model.json")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
