"""Executes the code blocks of README.md: sh, c, cpp, java and python. The rust blocks run as doctests of the crate.

Run from the root of the repository, after `make build`, `make java` and `make python`.
"""

import pathlib
import re
import subprocess
import sys

OUT = pathlib.Path("build/readme")
LIBRARY = pathlib.Path("target/release").resolve()
LINK = ["-I", "include", "-L", str(LIBRARY), f"-Wl,-rpath,{LIBRARY}"]
CLASSES = "bindings/java/target/classes"


def commands(language: str, source: pathlib.Path) -> list[list[str]]:
    """How a block of a language is compiled and run."""
    program = str(OUT / source.stem)
    strict = ["-Wall", "-Wextra", "-Werror"]
    return {
        "sh": [["bash", "-euo", "pipefail", str(source)]],
        "c": [["gcc", "-std=c11", *strict, str(source), "-o", program, *LINK, "-lpolyscore"], [program]],
        "cpp": [["g++", "-std=c++17", *strict, str(source), "-o", program, *LINK, "-lpolyscore"], [program]],
        "java": [["java", "-cp", CLASSES, str(source)]],
        "python": [[sys.executable, str(source)]],
    }[language]


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    link = LIBRARY / "libpolyscore.so.0"
    if not link.exists():
        link.symlink_to("libpolyscore.so")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", pathlib.Path("README.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    seen, failed = set(), 0
    for number, (language, code) in enumerate(blocks):
        if language in ("rust", "text"):
            continue
        seen.add(language)
        source = OUT / f"block{number}.{ {'python': 'py'}.get(language, language) }"
        source.write_text(code, encoding="utf-8")
        for command in commands(language, source):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                failed += 1
                print(f"README block {number} ({language}): {command} ended with {done.returncode}\n{done.stdout}{done.stderr}")
                break
        else:
            if not done.stdout.strip():
                failed += 1
                print(f"README block {number} ({language}): printed nothing")
    missing = {"sh", "c", "cpp", "java", "python"} - seen
    if missing:
        failed += 1
        print(f"README has no block of {', '.join(sorted(missing))}")
    print(f"{len(seen)} passed, {failed} failed" if failed == 0 else f"0 passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
