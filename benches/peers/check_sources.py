#!/usr/bin/env python3
"""Checks with sympy that each source in these cases is minus the Laplacian of the exact solution.

    PYTHON-WITH-SYMPY benches/peers/check_sources.py
"""

import pathlib
import re
import sys
import tomllib

import sympy


def read(text):
    """An expression of a case file for sympy."""
    chosen = {"where": lambda condition, a, b: sympy.Piecewise((a, condition), (b, True))}
    return sympy.sympify(re.sub(r"\bif\s*\(", "where(", text.replace("^", "**")), locals=chosen, rational=True)


PLACES = [tuple(sympy.Rational(n, 17) for n in place) for place in ((3, 5, 2), (-7, 11, 16), (-12, -9, 1), (13, 4, 9))]
wrong = []
for path in sorted(pathlib.Path(__file__).parent.glob("*.toml")):
    case = tomllib.loads(path.read_text())
    if "exact" not in case:
        continue
    exact, source = read(case["exact"]["value"]), read(case["physics"].get("source", "0"))
    axes = sympy.symbols("x y z")
    rest = source + sum(sympy.diff(exact, axis, 2) for axis in axes)
    # To 40 digits, at places on both sides of where a case chooses between two branches.
    largest = max(abs(rest.evalf(40, subs=dict(zip(axes, place)))) for place in PLACES)
    print(f"{path.stem}: {'right' if largest < 1e-30 else f'source + Laplacian = {largest}'}")
    if not largest < 1e-30:
        wrong.append(path.stem)
if wrong:
    sys.exit("wrong sources: " + ", ".join(wrong))
