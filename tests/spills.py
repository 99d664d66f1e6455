"""Looks for spilled registers in the main loops of the kernels, in the library as it is built for release.

usage: python3 tests/spills.py target/release/libpolyscore.so

A main loop is an innermost loop with at least eight vector multiply-adds, or of AMX the innermost one that has any (in it are loops
that finish sums). A vector register that goes to or comes from the stack in one of them is a spill: the tile is too large for its
set. Exit code 1 if there is another than the known ones, or if a set has fewer main loops than it should.
"""

import re
import subprocess
import sys

MULTIPLY = re.compile(r"\s(vfn?madd\d+ps|vpdpbusds?|vpdpwssds?|vdpbf16ps|vpmaddwd|tdp\w+)\s")
TILE = re.compile(r"\stdp\w+\s")
STACK = re.compile(r"\sv(?:mov\w+|broadcast\w+)\s.*(?:%[xyz]mm\d+.*\(%rsp\)|\(%rsp\).*%[xyz]mm\d+)")
JUMP = re.compile(r"\sj\w+\s+(?:0x)?([0-9a-f]+)")
ALWAYS = re.compile(r"\sjmp\s+(?:0x)?([0-9a-f]+)")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
KERNEL = re.compile(r"polyscore::kernels::(avx2|avx512|amx)::.*::(dense|pairs|generated|multiply)$")
# Innermost loops that a set has at least: fewer, and this looks for the wrong thing.
FEWEST = {"avx2": 10, "avx512": 10, "amx": 2}
MULTIPLIES = 8
# One row of bf16 by four panels, in both functions that have it: it waits for weights, and its halves are widened in registers.
KNOWN = {"avx2": 2}


def functions(path):
    """Name and instructions, as (address, text), of each dense kernel."""
    command = ["objdump", "-d", "-C", "--no-show-raw-insn", path]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    name, lines = None, []
    for line in listing.splitlines():
        if head := FUNCTION.match(line):
            if name:
                yield name, lines
            found = KERNEL.search(head[1].split("[clone")[0].strip())
            name, lines = (f"{found[1]} {found[2]}" if found else None), []
        elif name and ":" in line:
            address, text = line.split(":", 1)
            lines.append((int(address, 16), " " + text.strip() + " "))
    if name:
        yield name, lines


def has_tiles(lines):
    return any(TILE.search(text) for _, text in lines)


def innermost(lines):
    """The loops that have no other one inside, or none with tiles if they have such, as slices of the instructions.

    Code that is always left again between a jump back and its target is no loop: the compiler puts what runs rarely behind the rest.
    """
    places = {address: place for place, (address, _) in enumerate(lines)}
    jumps = ((place, JUMP.search(text)) for place, (_, text) in enumerate(lines))
    loops = [(places[start], place) for place, jump in jumps
             if jump and (start := int(jump[1], 16)) in places and places[start] <= place]
    for first, last in loops:
        is_left = any((jump := ALWAYS.search(text)) and not lines[first][0] <= int(jump[1], 16) <= lines[last][0]
                      for _, text in lines[first : last + 1])
        inside = [(a, b) for a, b in loops if (a, b) != (first, last) and first <= a and b <= last]
        if has_tiles(lines[first : last + 1]):
            inside = [(a, b) for a, b in inside if has_tiles(lines[a : b + 1])]
        if not is_left and not inside:
            yield lines[first : last + 1]


def main(path):
    found, spilling, spilled = dict.fromkeys(FEWEST, 0), dict.fromkeys(FEWEST, 0), []
    for name, lines in functions(path):
        for loop in innermost(lines):
            texts = [text for _, text in loop]
            multiplies = sum(bool(MULTIPLY.search(text)) for text in texts)
            if multiplies < MULTIPLIES and not has_tiles(loop):
                continue
            found[name.split()[0]] += 1
            spills = [text.strip() for text in texts if STACK.search(text)]
            if spills:
                spilling[name.split()[0]] += 1
                spilled.append(f"{name}: loop at {loop[0][0]:#x}, {multiplies} multiply-adds, {len(spills)} spills: {spills[0]}")
    print(f"main loops: {', '.join(f'{name} {count}' for name, count in found.items())}; {len(spilled)} with spills")
    if spilling == dict.fromkeys(FEWEST, 0) | KNOWN:
        spilled = []
    missing = [f"{name}: {found[name]} main loops, {fewest} are known" for name, fewest in FEWEST.items() if found[name] < fewest]
    for line in spilled + missing:
        print(line, file=sys.stderr)
    return 1 if spilled or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
