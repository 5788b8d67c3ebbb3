"""The rules of the source tree: imports go one way, nothing global is changed."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "skdeepgmm").rglob("*.py"))
BACKEND = sorted((ROOT / "skdeepgmm" / "_torch_backend").rglob("*.py"))

GLOBAL_SETTERS = {
    "torch.manual_seed",
    "torch.random.manual_seed",
    "torch.seed",
    "torch.set_rng_state",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.set_default_dtype",
    "torch.set_default_device",
    "torch.set_default_tensor_type",
    "torch.set_num_threads",
    "torch.set_num_interop_threads",
    "torch.set_grad_enabled",
    "torch.use_deterministic_algorithms",
    "torch.set_float32_matmul_precision",
    "np.seterr",
    "random.seed",
    "warnings.simplefilter",
    "warnings.filterwarnings",
}
# Generator objects; everything else in np.random is the global generator.
RANDOM_OBJECTS = {"Generator", "RandomState", "SeedSequence", "default_rng"}
BACKEND_IMPORTS = {"torch", "numpy", "skdeepgmm"} | set(sys.stdlib_module_names)


def _relative(path):
    return str(path.relative_to(ROOT))


def _tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def _dotted(node):
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        prefix = _dotted(node.value)
        return f"{prefix}.{node.attr}" if prefix else None
    return None


def global_calls(tree):
    """Return the (line, name) of calls that change or draw from global state."""
    found = []
    for node in ast.walk(tree):
        name = _dotted(node.func) if isinstance(node, ast.Call) else None
        if name is None:
            continue
        parts = name.split(".")
        legacy = parts[:2] in (["np", "random"], ["numpy", "random"])
        if name in GLOBAL_SETTERS or (legacy and parts[2] not in RANDOM_OBJECTS):
            found.append((node.lineno, name))
    return found


def top_level_packages(tree):
    """Return the first names of every absolute import, wherever it stands."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_the_search_for_global_calls_finds_them():
    bad = "torch.manual_seed(0)\nnp.random.normal(3)\ntorch.set_num_threads(1)"
    good = "torch.Generator().manual_seed(0)\nnp.random.default_rng(0).normal()"
    assert len(global_calls(ast.parse(bad))) == 3
    assert global_calls(ast.parse(good)) == []


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_no_call_changes_global_state(path):
    calls = global_calls(_tree(path))
    if path.name == "demo.py":  # a program, not a library
        calls = [(line, name) for line, name in calls if "warnings" not in name]
    assert [
        (line, name)
        for line, name in calls
        if not (_in_catch_warnings(path, line) or _is_restored(path, line))
    ] == []


def _is_restored(path, line):
    """Return whether ``line`` is in the one place that may set, and sets back."""
    if path.parts[-2:] != ("_torch_backend", "device.py"):
        return False
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Try) and node.lineno <= line <= node.end_lineno:
            return "torch.set_num_threads(previous)" in map(ast.unparse, node.finalbody)
    return False


def _in_catch_warnings(path, line):
    """Return whether ``line`` is inside ``with warnings.catch_warnings():``."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.With) and node.lineno <= line <= node.end_lineno:
            managers = (ast.unparse(item.context_expr) for item in node.items)
            if any("catch_warnings" in manager for manager in managers):
                return True
    return False


@pytest.mark.parametrize("path", BACKEND, ids=_relative)
def test_backend_imports_only_torch_numpy_and_standard_library(path):
    assert top_level_packages(_tree(path)) <= BACKEND_IMPORTS


def check_contracts(folder):
    """Run import-linter with the contracts of setup.cfg on the package in a folder."""
    program = (
        "import sys; from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(config_filename='setup.cfg', no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


def test_import_contracts_hold():
    result = check_contracts(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


VIOLATIONS = {
    "estimators/mixture/_em_fit.py": "import torch",
    "estimators/denoising/_prior.py": "import skdeepgmm.estimators.mixture._base",
    "_torch_backend/deep_conv/network.py": "import skdeepgmm._torch_backend.mixture.em",
}


def test_import_contracts_see_violations(tmp_path):
    shutil.copytree(
        ROOT / "skdeepgmm",
        tmp_path / "skdeepgmm",
        ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"),
    )
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    for name, line in VIOLATIONS.items():
        with (tmp_path / "skdeepgmm" / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    result = check_contracts(tmp_path)
    assert result.returncode == 1
    assert "3 broken" in result.stdout, result.stdout


def test_private_helpers_of_scikit_learn_are_imported_in_one_file():
    private = ("sklearn.utils._param_validation", "sklearn.mixture._base")
    users = [
        _relative(path)
        for path in SOURCES
        if any(f"from {name}" in path.read_text(encoding="utf-8") for name in private)
    ]
    assert len(users) <= 1, users
