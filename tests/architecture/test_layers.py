"""The import rules of the architecture: who may import whom, checked on every import statement, deferred ones too."""

import ast
from pathlib import Path

import pytest

import edgeprune

PACKAGE = Path(edgeprune.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

BELOW = {"errors", "units", "schema", "__init__"}
FOUNDATION = BELOW | {
    "runtime",
    "shapes",
    "artifacts",
    "rounding",
    "sharing",
    "value_heads",
    "chat_template",
    "loaders",
}
ALLOWED = {
    "errors": {"errors"},
    "units": {"errors", "units"},
    "schema": BELOW,
    "runtime": FOUNDATION,
    "shapes": FOUNDATION,
    "artifacts": FOUNDATION,
    "rounding": FOUNDATION,
    "sharing": FOUNDATION,
    "value_heads": FOUNDATION,
    "chat_template": FOUNDATION,
    "loaders": FOUNDATION,
    "profile": FOUNDATION | {"profile"},
    "predict": FOUNDATION | {"predict"},
    "search": FOUNDATION | {"search"},
    "validate": FOUNDATION | {"validate"},
    "report": FOUNDATION | {"report"},
    "generate": FOUNDATION | {"generate"},
    "demo": FOUNDATION | {"demo"},
    "intake": FOUNDATION | {"intake"},
    "calibrate": FOUNDATION | {"intake", "calibrate"},
    "compress": FOUNDATION | {"intake", "calibrate", "compress"},
    "export": FOUNDATION | {"intake", "calibrate", "compress", "export"},
    "jobs": FOUNDATION | {"generate", "api", "pipeline", "jobs"},
    "cli": BELOW | {"artifacts", "cli", "api", "jobs", "tui"},
    "tui": BELOW | {"artifacts", "shapes", "runtime", "jobs", "tui", "profile", "demo"},
}
"""Room -> rooms it may import; `pipeline` and `api` order the stages and may import all but the front doors."""

ORDERS_STAGES = {"demo/ship.py"}
"""A script that orders stages as `pipeline` does; nothing imports it."""


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module]
            if node.module == "edgeprune":
                names = [f"edgeprune.{alias.name}" for alias in node.names if (PACKAGE / alias.name).is_dir()]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("edgeprune.")}
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_what_its_room_may(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__", "api"):
        return
    orders_stages = room == "pipeline" or path.relative_to(PACKAGE).as_posix() in ORDERS_STAGES
    forbidden = imported_rooms(path) & {"cli", "tui"} if orders_stages else imported_rooms(path) - ALLOWED[room]
    assert not forbidden, f"{room} imports {sorted(forbidden)}"


TUI_DOORS = {
    "edgeprune.profile": "edgeprune.profile.store",  # profiles by name; measuring one is a job
    "edgeprune.demo": "edgeprune.demo.paths",  # where the shipped texts lie
    "edgeprune.runtime": "edgeprune.runtime.meters",  # the live meters
}


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) == "tui"], ids=lambda path: path.name)
def test_the_app_works_through_jobs(path: Path) -> None:
    """The app knows jobs and records; of the rooms below it opens one module each, and never a stage's work."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for room, door in TUI_DOORS.items():
                assert not node.module.startswith(room) or node.module == door


TEXTUAL_FREE = ("sourced", "view_state", "messages", "reduce", "draft", "canvas", "terminal", "plot_data", "feed",
                "run_reader", "shelf", "device_plots", "run_plots", "heat", "sources")  # fmt: skip


def test_the_state_of_the_app_needs_no_screen() -> None:
    for name in TEXTUAL_FREE:
        tree = ast.parse((PACKAGE / "tui" / f"{name}.py").read_text(encoding="utf-8"))
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert not [module for module in modules if module.split(".")[0] in ("textual", "rich")], name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_onnxruntime_and_psutil_have_one_door(path: Path) -> None:
    if room_of(path) in ("runtime", "export"):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not [name for name in names if name.split(".")[0] in ("onnxruntime", "psutil")]


def test_one_file_imports_mobius() -> None:
    users = [path.name for path in MODULES if "import mobius" in path.read_text() or "from mobius" in path.read_text()]
    assert len(users) == 1, users
