"""Writes polyscore.h, from the C ABI's Rust sources by cbindgen, and polyscore_dl.h, from the prototypes of polyscore.h.

usage: headers.py CBINDGEN FOLDER
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = ["mod", "error", "column", "model", "pool", "scorer"]

HEAD = """/*
 * polyscore without a link step: loads the library at run time.
 *
 * Include it anywhere; in exactly one source file define POLYSCORE_DL_IMPLEMENTATION first. POSIX: link with -ldl where
 * the C library needs it. Generated from polyscore.h by tests/abi/headers.py: `make headers`.
 *
 *     polyscore_api api;
 *     char message[256];
 *     if (polyscore_dl_open("libpolyscore.so.0", &api, message, sizeof message) != 0) { ... }
 *     api.model_open(path, NULL, &model, NULL);
 */
#ifndef POLYSCORE_DL_H
#define POLYSCORE_DL_H

#include "polyscore.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The functions of polyscore.h, without their prefix. */
typedef struct polyscore_api {
    /* What dlopen gave; never closed, since the library stays. */
    void *library;
"""

MIDDLE = """} polyscore_api;

/*
 * Loads the library at `path` (as dlopen finds it) and fills `api`. Returns 0; or -1 if it cannot be loaded, lacks a
 * function, or has another ABI version than this header, with a NUL-terminated reason in `message` (which may be NULL).
 * On failure `api` is not written. Any thread may call it, any number of times.
 */
int polyscore_dl_open(const char *path, polyscore_api *api, char *message, size_t capacity);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* POLYSCORE_DL_H */

#ifdef POLYSCORE_DL_IMPLEMENTATION
#ifndef POLYSCORE_DL_IMPLEMENTED
#define POLYSCORE_DL_IMPLEMENTED

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

int polyscore_dl_open(const char *path, polyscore_api *api, char *message, size_t capacity) {
    polyscore_api loaded;
    void *symbol;
    if (message != NULL && capacity > 0) message[0] = '\\0';
    memset(&loaded, 0, sizeof loaded);
    loaded.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (loaded.library == NULL) {
        const char *reason = dlerror();
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s", reason != NULL ? reason : path);
        return -1;
    }
"""

# A function pointer cannot be cast from `void *` in ISO C: its bytes are copied.
LOAD = """    symbol = dlsym(loaded.library, "{function}");
    if (symbol == NULL) {{
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no {function}", path);
        return -1;
    }}
    memcpy(&loaded.{member}, &symbol, sizeof symbol);
"""

TAIL = """    if (loaded.abi_version() != POLYSCORE_ABI_VERSION) {
        if (message != NULL && capacity > 0) {
            snprintf(message, capacity, "%s has ABI version %u, this program needs %u", path,
                     (unsigned)loaded.abi_version(), (unsigned)POLYSCORE_ABI_VERSION);
        }
        return -1;
    }
    *api = loaded;
    return 0;
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* POLYSCORE_DL_IMPLEMENTED */
#endif /* POLYSCORE_DL_IMPLEMENTATION */
"""


def prototypes(header: str) -> list[tuple[str, str, str]]:
    """Result type, name and parameters of every function."""
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    found = re.findall(r"^([a-z_][\w \n]*?[\s*]+)(polyscore_\w+)\(([^;{}]*)\);", code, flags=re.M)
    return [(" ".join(result.split()), name, " ".join(parameters.split())) for result, name, parameters in found]


def declarations(cbindgen: str) -> str:
    """polyscore.h. The sources are given as one file, so that only the ABI's own items are exported."""
    texts = [(ROOT / "src/capi" / f"{name}.rs").read_text(encoding="utf-8") for name in SOURCES]
    lines = [line for text in texts for line in text.splitlines() if not re.match(r"\s*(//!|#!\[|mod \w+;)", line)]
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "capi.rs")
        source.write_text("\n".join(lines), encoding="utf-8")
        command = [cbindgen, "--quiet", "--config", str(ROOT / "cbindgen.toml"), str(source)]
        header = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    header = re.sub(r"\n *\n # Safety\n(?: [^\n/]*\n)+", "\n", header)
    assert "Safety" not in header, "a safety section is left"
    return header


def loader(header: str) -> str:
    """polyscore_dl.h."""
    functions = prototypes(header)
    assert len(functions) > 10, "no prototypes were found"
    text = HEAD
    for result, name, parameters in functions:
        space = "" if result.endswith("*") else " "
        text += f"    {result}{space}(*{name.removeprefix('polyscore_')})({parameters});\n"
    text += MIDDLE
    for _, name, _ in functions:
        text += LOAD.format(function=name, member=name.removeprefix("polyscore_"))
    return text + TAIL


def main() -> None:
    cbindgen, folder = sys.argv[1:]
    header = declarations(cbindgen)
    pathlib.Path(folder, "polyscore.h").write_text(header, encoding="utf-8")
    pathlib.Path(folder, "polyscore_dl.h").write_text(loader(header), encoding="utf-8")


if __name__ == "__main__":
    main()
