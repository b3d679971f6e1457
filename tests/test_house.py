"""The rooms of the package: imports that point one way, light starts, the command line, and the wheel."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import fields
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from comparisons import ROOT, run

import hf_radam
from hf_radam import cli
from hf_radam.experiments import command
from hf_radam.experiments.script_data import TASKS

# A module may import what stands in its own room or in a room before it; the longest name decides the room.
ORDER = (
    ("errors", "files", "rectification", "option_checks", "fit", "step_counts"),
    ("probe", "libraries", "low_bit"),
    ("update",),
    ("optimizer",),
    ("rectified",),
    ("experiments.baselines",),
    ("spec",),
    ("derived",),
    ("registry",),
    ("checkpoints",),
    ("training",),
    ("experiments.schema", "experiments.metrics", "experiments.recipes"),
    ("examples", "experiments.script_data"),
    ("experiments.comparison",),
    ("experiments.records", "experiments.environment", "experiments.folder"),
    ("experiments.results", "experiments.report.statistics"),
    ("experiments.runs",),
    ("experiments.report",),
    ("publishing",),
    ("experiments.command",),
    ("cli", "__main__", ""),
)
# Rooms further down that must not look into these, although they stand before them.
CLOSED = {
    "experiments.report": ("examples", "experiments.runs", "training.trainer"),
    "publishing": ("examples", "experiments.runs", "training.trainer"),
}
# Python lines of hf_radam and scripts; a commit may lower it, and none raises it.
MOST_LINES = 11_986


def test_the_house_grows_no_further() -> None:
    files = [path for folder in ("hf_radam", "scripts") for path in (ROOT / folder).rglob("*.py")]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= MOST_LINES


def test_a_name_of_a_file_says_which() -> None:
    names = [path.name for path in (ROOT / "hf_radam").rglob("*.py") if path.name != "__init__.py"]
    assert len(names) == len(set(names))


def room(module: str) -> str:
    names = [name for row in ORDER for name in row]
    fits = [name for name in names if name and (module == name or module.startswith(f"{name}."))]
    return max(fits, key=len, default="")


def imports(path: Path, module: str) -> set[str]:
    """What a file imports, in functions and for types as well: names below `hf_radam`, other packages by their own."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found.update({str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)})
    return found - {f"hf_radam.{module}"}


def tree(package: Path) -> dict[str, set[str]]:
    """Imports of each module of a package."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[module] = imports(path, module)
    return found


def violations(package: Path) -> list[str]:
    """Imports against the order."""
    rank = {name: index for index, row in enumerate(ORDER) for name in row}
    modules = tree(package)
    found = []
    for module, imported in modules.items():
        here = room(module)
        for target in sorted(imported):
            name = target.removeprefix("hf_radam.")
            if target.startswith("hf_radam.") and name in modules:
                shut = any(name == closed or name.startswith(f"{closed}.") for closed in CLOSED.get(here, ()))
                if rank[room(name)] > rank[here] or shut:
                    found.append(f"{module} imports {name}")
            elif (here in CLOSED and target.startswith("transformers.Trainer")) or (
                target.split(".")[0] == "vl_convert" and not module.startswith("experiments.report")
            ):
                found.append(f"{module} imports {target}")
    return found


def circles(package: Path) -> list[str]:
    """Modules that import themselves by way of others."""
    modules = tree(package)
    edges = {
        m: {t[9:] for t in found if t.startswith("hf_radam.") and t[9:] in modules} for m, found in modules.items()
    }
    found = []
    for module in modules:
        seen, waiting = set(), [*edges[module]]
        while waiting:
            if (target := waiting.pop()) not in seen:
                seen.add(target)
                waiting += edges[target]
        found += [module] * (module in seen)
    return sorted(found)


def test_imports_point_one_way() -> None:
    assert violations(ROOT / "hf_radam") == []


def test_imports_have_no_circle() -> None:
    assert circles(ROOT / "hf_radam") == []


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("rectification", "from hf_radam.optimizer import RAdam", "rectification imports optimizer"),
        ("experiments/report/x", "from hf_radam.experiments.runs import sweep", "experiments.runs.sweep"),
        ("publishing/x", "from transformers import Trainer", "publishing.x imports transformers.Trainer"),
        ("publishing/x", "import vl_convert", "publishing.x imports vl_convert"),
        ("experiments/report/x", "if True:\n    from hf_radam.training.trainer import T", "training.trainer"),
    ],
)
def test_an_import_against_the_order_is_found(tmp_path: Path, module: str, line: str, complaint: str) -> None:
    for name in (module, "optimizer", "experiments/runs/sweep", "training/trainer"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line if name == module else "")
    (found,) = violations(tmp_path)
    assert complaint in found


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "update.py").write_text("from hf_radam.fit import x")
    (tmp_path / "fit.py").write_text("import hf_radam.update")
    assert circles(tmp_path) == ["fit", "update"]


# What a package is called where its distribution is called otherwise.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "vl_convert": "vl-convert-python", "yaml": "pyyaml"}


def project() -> dict[str, Any]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")  # pytest brings tomli
    return toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_what_is_imported_is_required() -> None:
    """The package by itself needs what three distributions bring; a comparison, its report and its card one extra."""

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w.-]", name)[0].replace("-", "_") for name in requirements if "extra ==" not in name}

    def imported(files: Iterable[Path]) -> set[str]:
        found = set().union(*(imports(path, "") for path in files))
        packages = {name.split(".")[0] for name in found} - {"hf_radam", *sys.stdlib_module_names}
        return {DISTRIBUTIONS.get(name, name).replace("-", "_") for name in packages}

    files, halves = set((ROOT / "hf_radam").rglob("*.py")), ("examples", "experiments", "publishing")
    further = {path for half in halves for path in (ROOT / "hf_radam" / half).rglob("*.py")}
    required = names(project()["dependencies"])
    brought = required.union(*(names(requires(name) or []) for name in required))
    assert imported(files - further) <= brought
    assert imported(files) - brought == names(project()["optional-dependencies"]["compare"])


def test_the_lowest_versions_are_those_of_the_project() -> None:
    """`make test-lowest` reads them from the file: none is lost on the way."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    (script,) = re.findall(r"sed -n '(.*)' pyproject\.toml", recipe)
    found = run(["sed", "-n", script.replace("$$", "$"), ROOT / "pyproject.toml"]).stdout.split()
    assert {name.replace(">=", "==") for name in project()["dependencies"]} <= set(found)
    assert f"python{project()['requires-python'].removeprefix('>=')}" in recipe


ABSENT = {
    "help": ("cli(['--help'])", ["torch", "yaml"]),
    "help of a command": ("cli(['compare', '--help'])", ["torch", "yaml"]),
    "help of publish": ("cli(['publish', '--help'])", ["torch", "yaml"]),
    "configs": ("cli(['configs'])", ["torch", "yaml"]),
    "version": ("cli(['--version'])", ["torch", "yaml"]),
    "optimizers": ("cli(['optimizers'])", ["transformers", "accelerate", "torch._dynamo", "bitsandbytes", "torchao"]),
    "mistyped command": ("cli(['optimisers'])", ["torch", "yaml"]),
    "mistyped recipe": ("cli(['compare', '--recipes', 'radm'])", ["transformers", "accelerate", "torch._dynamo"]),
}


@pytest.mark.parametrize("case", ABSENT)
def test_starts_are_light(case: str) -> None:
    statement, absent = ABSENT[case]
    code = (
        "import sys, contextlib\n"
        "def cli(argv):\n    from hf_radam.cli import main\n"
        "    with contextlib.suppress(SystemExit):\n        main(argv)\n"
        f"{statement}\nprint('loaded', sorted(set({absent}) & set(sys.modules)))"
    )
    done = run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines()[-1] == "loaded []"


WRONG = {
    "abbreviation": (["compare", "--recipe", "adam"], "unrecognized arguments: --recipe (did you mean '--recipes'?)"),
    "command": (["comprae"], "invalid choice: 'comprae'"),
    "extra word": (["optimizers", "radam"], "unrecognized arguments: radam"),
    "recipe": (["compare", "--recipes", "radm"], "unknown recipe 'radm'; did you mean 'radam'?"),
    "config": (["compare", "grammer"], "no comparison 'grammer' (did you mean 'grammar'?)"),
    "config to print": (["configs", "grammer"], "no comparison 'grammer' (did you mean 'grammar'?)"),
    "file": (["compare", "nowhere.yaml"], "no such comparison file: nowhere.yaml"),
    "part of --set": (["compare", "--set", "trainin.adam_beta2=1"], "(did you mean 'training'?)"),
    "key of --set": (["compare", "--set", "training.adam_beta=0.9"], "did you mean 'adam_beta"),
    "field of --set": (["compare", "--set", "max_step=9"], "did you mean 'max_steps'?"),
    "type of --set": (["compare", "--set", "max_steps=many"], "max_steps must be a valid integer"),
    "no value": (["compare", "--set", "max_steps"], "--set takes KEY=VALUE"),
    "accelerate": (["compare", "--accelerate_config", "fsdp9"], "no Accelerate configuration 'fsdp9'"),
    "no results": (["report", "nowhere"], "no results in nowhere/"),
    "no checkpoint": (["checkpoint", "inspect", "nowhere"], "nowhere"),
    "advice": (["advise", "--max_steps", "0"], "max_steps"),
    "no script": (["run", "nowhere.py"], "nowhere.py"),
    "argument of a script": (["compare", "--script", "x.py", "--", "--seed", "3"], "--seed is set by the comparison"),
    "no script to compare": (
        ["compare", "--script", "nowhere.py", "--output_dir", "r"],
        "file not found: nowhere.py",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_one_line_and_code_2(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv, message = WRONG[case]
    try:
        code = cli.main(argv)
    except SystemExit as stop:  # argparse
        code = stop.code
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]


@pytest.mark.parametrize("words", [[], *([name] for name in ("compare", "publish", "advise", "optimizers", "configs"))])
def test_help_is_short(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        cli.main([*words, "--help"])
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= (50 if words == ["compare"] else 31)
    assert "None" not in text
    assert "(default" not in text
    options = [line for line in text.splitlines() if line.startswith("  --")]
    assert all("  " in line.strip() for line in options), "an option and what it does, on one line"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"hf_radam {hf_radam.__version__}\n"
    assert cli.main([]) == 0
    assert capsys.readouterr().out.startswith("usage: hf-radam")


@pytest.mark.parametrize("command", [["compare"], ["report", "x"], ["publish", "x", "--repo_id", "me/x"]])
def test_what_to_install_is_said_before_anything_is_done(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {DISTRIBUTIONS.get(name, name) for name in cli.COMPARE} == {
        re.split("[>=]", name)[0] for name in project()["optional-dependencies"]["compare"]
    }
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sacrebleu" else find(name))
    assert cli.main(command) == 2
    assert capsys.readouterr().err == "error: this command needs sacrebleu: pip install 'hf_radam[compare]'\n"


def test_lists_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["configs"], ["optimizers"], ["optimizers", "--all"]):
        assert cli.main(words) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_a_pipe_that_has_read_enough_is_no_error() -> None:
    listed = f"'{sys.executable}' -m hf_radam configs wmt16_en_de"
    done = run(["bash", "-c", f"({listed}; {listed}) | head -1"], cwd=ROOT)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: object) -> int:
        raise KeyError("ours")

    monkeypatch.setattr(command, "configs", broken)
    with pytest.raises(KeyError, match="ours"):
        cli.main(["configs"])


def test_a_full_disk_is_one_line_whoever_raises_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(options: object) -> int:
        raise Exception("No space left on device (os error 28)")  # as tokenizers do

    monkeypatch.setattr(command, "configs", full)
    assert cli.main(["configs"]) == 2
    assert capsys.readouterr().err.endswith("(os error 28); make room and run the same command again\n")


def test_a_terminal_without_utf_8_gets_a_sign_for_what_it_lacks() -> None:
    code = "import sys; from hf_radam.cli import main; c = main(['configs', 'grammar']); print('\\xb1'); sys.exit(c)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    assert run([sys.executable, "-c", code], env=environment).stdout.endswith("?\n")


def test_configurations_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["configs"]) == 0
    _, *listed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _ in listed] == sorted(path.stem for path in command.CONFIGS.glob("*.yaml"))
    assert cli.main(["configs", "grammar"]) == 0
    assert capsys.readouterr().out == (command.CONFIGS / "grammar.yaml").read_text()


def test_data_flags_are_fields_of_tasks() -> None:
    ours = [importlib.import_module(module).ARGUMENTS[0] for module in TASKS.values() if module]
    assert set(command.DATA_FLAGS) <= {field.name for data in ours for field in fields(data)}


def test_the_wheel_is_the_whole_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed beside the environment's torch, in an empty folder: the quickstart, cell by cell with fewer updates."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "wheels"]
    run([*build, ROOT], cwd=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    held = {str(path.relative_to(ROOT)) for path in (ROOT / "hf_radam").rglob("*") if path.is_file()}
    held = {name for name in held if "__pycache__" not in name}
    archive = zipfile.ZipFile(wheel)
    assert held <= set(archive.namelist())
    (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    assert not re.search(r'\]\((?!https:)|(src|srcset)="(?!https:)', metadata)  # an index page has no files
    site, folder = tmp_path / "site", tmp_path / "empty"
    folder.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel]
    run(install, cwd=tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("PATH", f"{site / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    cells = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text("utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    command = re.compile(r"^!((?:.*\\\n)*.*)", re.MULTILINE)
    code = command.sub(lambda line: f"subprocess.run({line[1]!r}, shell=True, check=True)", code)
    assert code.count("subprocess.run") == 3
    code = code.replace("max_steps=250", "max_steps=25").replace("100 --set eval_steps=50", "2 --set eval_steps=2")
    exec(code, {"subprocess": subprocess})
    assert len([*Path("runs/quickstart/records").glob("*.json")]) == 3
    code = "import sys, hf_radam.cli; print(hf_radam.__file__); sys.exit(hf_radam.cli.main(sys.argv[1:]))"
    publish = ["publish", "runs/quickstart", "--repo_id", "me/tiny", "--dry_run"]
    said = run([sys.executable, "-c", code, *publish]).stdout
    assert said.startswith(str(site))
    assert "nothing was uploaded" in said
    assert Path("runs/quickstart/hub/model/README.md").is_file()


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "configs", interrupted)
    assert cli.main(["configs"]) == 130
    assert capsys.readouterr().err.startswith("interrupted")
