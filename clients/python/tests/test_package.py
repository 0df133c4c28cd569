"""What is published: both archives are built, and the library is installed from them as a user would have it."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]

PROGRAM = """
import importlib.metadata, pathlib, sys
sys.path.insert(0, sys.argv[1])
import tidings_client
assert pathlib.Path(tidings_client.__file__).is_relative_to(sys.argv[1]), tidings_client.__file__
missing = [name for name in tidings_client.__all__ if not hasattr(tidings_client, name)]
assert not missing, missing
tidings_client.connect("wss://gateway.example", token="a.b.c", position="0:17@log")
print(importlib.metadata.version("tidings-client"))
"""


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder), cwd=PROJECT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source archive alone: so that is whole."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=sdist)
    (archive,) = folder.glob("*.whl")
    return archive


def install(wheel: Path, folder: Path) -> None:
    """With what this environment has, and without a network."""
    options = ["--no-deps", "--no-index", "--target", str(folder), str(wheel)]
    if find_spec("pip") is not None:
        run(sys.executable, "-m", "pip", "install", "-q", "--no-cache-dir", *options, cwd=folder.parent)
    elif uv := shutil.which("uv"):
        run(uv, "pip", "install", "-q", "--offline", "--python", sys.executable, *options, cwd=folder.parent)
    else:  # a wheel without scripts and compiled parts is installed by being unpacked
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)


def test_the_wheel_is_installed_and_imported_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install(wheel, target)
    # -I: nothing of this folder, of PYTHONPATH or of the user is seen; websockets comes from the environment.
    version = run(sys.executable, "-I", "-c", PROGRAM, str(target), cwd=tmp_path).strip()
    assert f"-{version}-" in wheel.name
    assert (target / "tidings_client" / "py.typed").is_file(), "type checkers would ignore its types"
    assert not (target / "tests").exists()


def test_the_source_archive_has_what_its_readers_need(sdist: Path) -> None:
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "tests/gateway.py", "src/tidings_client/py.typed"):
        assert (sdist / name).is_file(), name


def test_the_page_of_the_package_has_no_dead_links(wheel: Path) -> None:
    """It is shown by a package index, where paths of this repository lead nowhere."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata.get_all("Requires-Dist") == ["websockets>=15"]
    page = metadata.get_payload()
    assert isinstance(page, str)
    assert page.startswith("# tidings-client")
    assert [link for link in re.findall(r"\]\(([^)]*)\)", page) if not link.startswith(("https://", "#"))] == []
