"""Who may import whom: read from the source with `ast`, so that a breach fails before it spreads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fibermodels"

BASE = {
    "checks",
    "component",
    "config",
    "core",
    "display",
    "former",
    "distances",
    "files",
    "filters",
    "noise",
    "pictures",
}
BASE |= {"proper_scores", "spaces", "trainable"}
COMMANDS = {"commands", "programs"}
ALLOWED = {
    "former": set(),
    "config": {"former"},
    "commands": {"config"},
    "programs": set(),
    "help": set(),
    "cli": {"config", "help", "programs"},  # a command is imported when it runs
    "__main__": {"cli"},
    "completion": {"applications", "catalogue", "cli", "commands"},  # it lists what the commands say of themselves
    "catalogue": {"commands", "config", "programs"},
    "distances": set(),
    "files": set(),
    "filters": set(),
    "noise": set(),
    "pictures": set(),
    "proper_scores": set(),
    "checks": set(),
    "component": {"checks", "config", "files"},
    "spaces": {"checks", "component"},
    "core": {"checks", "component", "config", "noise", "spaces"},
    "trainable": {"component", "core", "spaces"},
    "display": {"pictures"},
    "nn": {"checks", "component"},  # the networks that objectives train are described like all else
    "data": BASE | {"nn"},
    "subjects": BASE | {"nn"},
    "latents": BASE | {"nn"},
    "diffusion": BASE | {"nn", "latents"},  # a pipeline brings its autoencoder
    "metrics": BASE | {"nn"},
    "suites": BASE | {"nn", "data", "subjects", "latents", "diffusion", "metrics"},
    "models": BASE | {"nn", "latents", "diffusion"},
    "guidance": BASE | {"nn", "latents", "diffusion"},
    "applications": BASE | {"guidance"},
    "training": BASE | COMMANDS | {"nn", "data", "subjects", "latents", "diffusion", "metrics", "models", "guidance"},
    "api": BASE
    | COMMANDS
    | {"nn", "data", "subjects", "latents", "diffusion", "models", "guidance"}
    | {"applications", "training", "evaluation"},
    "evaluation": BASE
    | COMMANDS
    | {"nn", "data", "subjects", "latents", "diffusion", "metrics", "models", "guidance", "applications", "training"},
}
"""What each room may import of ours, besides itself."""

ADAPTERS = {
    "lightning": {"training", "data", "suites", "evaluation", "api"},
    "FrEIA": {"nn/freia.py"},
    "timm": {"subjects/timm.py"},
    "transformers": {"subjects/transformers.py", "diffusion/prompts.py"},
    "huggingface_hub": {"training/hub.py"},
    "diffusers": {
        "nn/unet.py",
        "nn/controlnet.py",
        "diffusion/pipelines.py",
        "latents/diffusers.py",
    },
}
"""Libraries that only these rooms or files may import."""

LAZY = {"FrEIA", "timm", "diffusers", "transformers", "huggingface_hub"}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    """Absolute module names that a tree imports, those in functions included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what they import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            files = {name for name in names if (ROOT / (name.replace(".", "/") + ".py")).is_file()}
            found |= files if files == names or node.module == "fibermodels" else files | {node.module or ""}
    return found


class Lazy(ast.NodeTransformer):
    """Removes functions and methods, whose imports run when they are called."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None


def our_rooms(path: Path) -> set[str]:
    modules = {name for name in imports(ast.parse(path.read_text())) if name.startswith("fibermodels.")}
    return {name.split(".")[1] for name in modules} - {room(path)}


def test_every_room_is_known():
    rooms = {room(path) for path in files()} - {"__init__"}
    assert rooms <= set(ALLOWED), f"add to ALLOWED, and say why in the house: {rooms - set(ALLOWED)}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_what_its_room_may(path):
    if room(path) == "__init__":
        return
    breach = our_rooms(path) - ALLOWED[room(path)]
    assert not breach, f"{path.relative_to(ROOT)} must not import {sorted(breach)}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_only_in_their_adapters(path):
    tree = ast.parse(path.read_text())
    own = str(path.relative_to(PACKAGE))
    for library, homes in ADAPTERS.items():
        used = any(name.split(".")[0] == library for name in imports(tree))
        assert not used or own in homes or room(path) in homes, f"{own} must not import {library}"
    eager = {name.split(".")[0] for name in imports(Lazy().visit(tree))} & LAZY
    assert not eager, f"{own} imports {eager} at the top; adapters import lazily"


def test_no_room_knows_a_suite():
    """Suites are named by configs, scripts and tests; models, training and evaluation take any of them."""
    for path in files():
        assert room(path) == "suites" or "suites" not in our_rooms(path), path.relative_to(ROOT)


def test_no_cycles_between_files():
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files()
    }
    graph = {
        name: {other for other in imports(ast.parse(path.read_text())) if other in modules and other != name}
        for name, path in modules.items()
        if name != "fibermodels"
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, "import cycle: " + " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_nothing_imports_a_script():
    scripts = {path.stem for path in ROOT.glob("*.py")}
    for path in files():
        roots = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
        assert not roots & scripts, f"{path} imports a script"


def test_the_package_itself_is_light():
    heavy = "{'torch', 'lightning', 'diffusers', 'timm', 'FrEIA', 'matplotlib', 'sklearn'}"
    code = f"import sys, fibermodels; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_core_loads_no_framework():
    code = "import sys, fibermodels.core, fibermodels.models; print('lightning' in sys.modules, 'FrEIA' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "False False"
