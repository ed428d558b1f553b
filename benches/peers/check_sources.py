#!/usr/bin/env python3
"""Checks with sympy that each source in these cases is minus the Laplacian of the exact solution.

    PYTHON-WITH-SYMPY benches/peers/check_sources.py
"""

import pathlib
import sys
import tomllib

import sympy

wrong = []
for path in sorted(pathlib.Path(__file__).parent.glob("*.toml")):
    case = tomllib.loads(path.read_text())
    if "exact" not in case:
        continue
    exact, source = (sympy.sympify(text.replace("^", "**")) for text in (case["exact"]["value"], case["physics"]["source"]))
    rest = sympy.simplify(source + sum(sympy.diff(exact, axis, 2) for axis in sympy.symbols("x y z")))
    print(f"{path.stem}: {'right' if rest == 0 else f'source + Laplacian = {rest}'}")
    if rest != 0:
        wrong.append(path.stem)
if wrong:
    sys.exit("wrong sources: " + ", ".join(wrong))
