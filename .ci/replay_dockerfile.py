"""Replays the steps of each Dockerfile stage in a clean virtual environment, where no docker daemon is at hand.

COPY copies from the checkout into a temporary folder, RUN runs with the environment's programs first on PATH, a stage
`FROM <earlier stage>` continues in that stage's folder and environment. Usage: replay_dockerfile.py [Dockerfile].
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def main(dockerfile: Path) -> int:
    checkout = dockerfile.resolve().parent
    with tempfile.TemporaryDirectory() as scratch:
        stages: dict[str, Path] = {}
        root = Path(scratch)
        lines = [line for line in dockerfile.read_text().splitlines() if line and not line.startswith("#")]
        for line in lines:
            keyword, _, rest = line.partition(" ")
            if keyword == "FROM":
                words = shlex.split(rest)
                name = words[2] if len(words) == 3 else f"stage{len(stages)}"
                root = stages.get(words[0], Path(scratch) / name)
                stages[name] = root
                if not root.exists():
                    root.mkdir()
                    subprocess.run([sys.executable, "-m", "venv", str(root / "venv")], check=True)
                    (root / "app").mkdir()
                sys.stdout.write(f"== {line}\n")
            elif keyword == "COPY":
                *sources, target = shlex.split(rest)
                copy(checkout, sources, root / "app" / target)
            elif keyword == "RUN":
                sys.stdout.write(f"-- {line}\n")
                sys.stdout.flush()
                environment = os.environ | {"PATH": f"{root / 'venv' / 'bin'}:{os.environ['PATH']}"}
                environment.pop("PYTHONPATH", None)
                code = subprocess.run(["sh", "-c", rest], cwd=root / "app", env=environment).returncode
                if code:
                    sys.stdout.write(f"failed with {code}: {line}\n")
                    return code
            elif keyword not in ("WORKDIR", "ENTRYPOINT", "CMD"):
                sys.stdout.write(f"cannot replay: {line}\n")
                return 1
    return 0


def copy(checkout: Path, sources: list[str], target: Path) -> None:
    for source in sources:
        origin = checkout / source
        if origin.is_dir():
            shutil.copytree(origin, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, target / origin.name)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "Dockerfile")))
