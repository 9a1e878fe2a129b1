"""House rules that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "gradscope").rglob("*.py"))
TOP_LEVEL = {"pyproject.toml", "README.md", "gradscope", "tests", "sample_checkpoints", "Makefile"}


def functions(path: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_short_and_only_the_command_line_prints(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 250
    assert all((node.end_lineno or 0) - node.lineno < 41 for node in functions(path))
    if path.parent.name != "cli":
        assert not re.search(r"(?<![\w.])print\(|sys\.stdout|sys\.exit", text.replace("sys.exit(main", ""))


def raises_ours(node: ast.FunctionDef) -> bool:
    names = {
        raised.exc.func.id
        for raised in ast.walk(node)
        if isinstance(raised, ast.Raise)
        and isinstance(raised.exc, ast.Call)
        and isinstance(raised.exc.func, ast.Name)
    }
    return bool(names & {"UsageError", "UnreadableFile", "NothingReadable"})


def test_public_functions_that_raise_say_so() -> None:
    silent = [
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in SOURCES
        if path.parent.name != "cli"  # a command's docstring is its help
        for node in functions(path)
        if not node.name.startswith("_")
        and raises_ours(node)
        and "Raises:" not in (ast.get_docstring(node) or "")
    ]
    assert silent == []


def test_no_vague_module_names() -> None:
    vague = {"utils", "common", "helpers", "base", "core"}
    assert not vague & {path.stem for path in SOURCES} | vague & {path.parent.name for path in SOURCES}


def test_top_level_is_as_agreed() -> None:
    tracked = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert tracked - {"build", "dist"} <= TOP_LEVEL


RUNS_CODE = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "marshal.loads", "runpy.run_path"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle.loads", "dill.loads", "shelve.open"),
    *("cloudpickle.load", "cloudpickle.loads", "joblib.load", "pd.read_pickle", "pandas.read_pickle"),
    *("torch.load", "torch.jit.load", "torch.export.load", "torch.hub.load", "np.load", "numpy.load"),
    *("yaml.load", "yaml.unsafe_load", "zipfile.ZipFile", "tarfile.open", "shutil.unpack_archive"),
}
"""Calls that run, import, inflate or write what a file says; all but the last after consent only."""


def test_no_loader_that_could_run_a_file_is_called_without_consent() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {ast.unparse(node.func)}"
        for path in SOURCES
        if path.parent.name != "trusted"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in RUNS_CODE
    }
    assert found == set()
