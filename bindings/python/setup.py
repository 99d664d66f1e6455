"""Builds the engine with cargo and puts it into the package; the rest is in pyproject.toml."""

import json
import pathlib
import shutil
import subprocess

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

ROOT = pathlib.Path(__file__).resolve().parents[2]


class BuildWithEngine(build_py):
    def run(self):
        super().run()
        manifest = ROOT / "Cargo.toml"
        if not manifest.exists():
            raise SystemExit(f"polyscore: the engine's sources are not at {ROOT}: install from a checkout")
        # With the features of the command line: Cargo keeps one library, and would compile it anew for other features.
        command = ["cargo", "build", "--release", "--locked", "--lib", "--features", "cli", "--manifest-path", str(manifest)]
        subprocess.run(command, check=True)
        metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--manifest-path", str(manifest)]
        answer = subprocess.run(metadata, check=True, capture_output=True, text=True).stdout
        library = pathlib.Path(json.loads(answer)["target_directory"], "release", "libpolyscore.so")
        target = pathlib.Path(self.build_lib, "polyscore", "libpolyscore.so")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library, target)


class BinaryDistribution(Distribution):
    """The wheel holds a library of this platform."""

    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": BuildWithEngine}, distclass=BinaryDistribution)
