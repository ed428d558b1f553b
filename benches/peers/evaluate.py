#!/usr/bin/env python3
"""Integrates the error of a solution file against the case's exact solution, by none of femdd's own code.

    PYTHON-WITH-VTK benches/peers/evaluate.py CASE.toml FOLDER [--field u] [--tolerance 0.01] [--degree-more 4]

FOLDER is what `femdd run` left: solution.hdf is read by VTK, and each cell's function is the one that VTK gives its
nodes (linear and Lagrange cells of any degree; curved ones too). u_h - u and its gradient are squared and integrated
with Gauss rules of the cell's degree and 4 more points a direction; the derivatives of u are found from the text of
the case's expression. A cell where that rule and one with two points less differ by more than a 1e-6th of the sum,
as at a re-entrant corner where the gradient is infinite, is cut into 2^d, and its parts again, until they agree.

Prints one JSON line: L2 and H1 (seminorm) errors, the measure of the domain, the part of the squared errors that the
last cuts still changed, and what run.json says. The exit code is 1 if these differ by more than the tolerance.
Needs the packages `vtk` and `numpy`, and Python 3.11. Start at `Integral`.
"""

import argparse
import ast
import itertools
import json
import math
import pathlib
import re
import sys
import tomllib

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.dont_write_bytecode = True

# Cells at a time: what of them is at the points of a rule fits into the caches.
BATCH_POINTS = 1 << 16
# A cell of more than this part of the squared error between two rules is cut, so many times at most.
CUT_ABOVE, CUTS = 1e-6, 64


class Dual:
    """A value and its derivatives along the axes, at many points: arrays (n) and (dim, n)."""

    def __init__(self, value, slope):
        self.value, self.slope = value, slope

    def map(self, value, derivative):
        return Dual(value, derivative * self.slope)


def power(a, b):
    value = a.value**b.value
    if not np.any(b.slope):
        return a.map(value, b.value * a.value ** (b.value - 1))
    return Dual(value, value * (b.slope * np.log(a.value) + b.value * a.slope / a.value))


def atan2(y, x):
    size = x.value**2 + y.value**2
    return Dual(np.arctan2(y.value, x.value), (x.value * y.slope - y.value * x.slope) / size)


def choose(condition, a, b):
    return Dual(np.where(condition.value, a.value, b.value), np.where(condition.value, a.slope, b.slope))


FUNCTIONS = {
    "sin": lambda a: a.map(np.sin(a.value), np.cos(a.value)),
    "cos": lambda a: a.map(np.cos(a.value), -np.sin(a.value)),
    "tan": lambda a: a.map(np.tan(a.value), 1 / np.cos(a.value) ** 2),
    "asin": lambda a: a.map(np.arcsin(a.value), 1 / np.sqrt(1 - a.value**2)),
    "acos": lambda a: a.map(np.arccos(a.value), -1 / np.sqrt(1 - a.value**2)),
    "atan": lambda a: a.map(np.arctan(a.value), 1 / (1 + a.value**2)),
    "sinh": lambda a: a.map(np.sinh(a.value), np.cosh(a.value)),
    "cosh": lambda a: a.map(np.cosh(a.value), np.sinh(a.value)),
    "tanh": lambda a: a.map(np.tanh(a.value), 1 / np.cosh(a.value) ** 2),
    "exp": lambda a: a.map(np.exp(a.value), np.exp(a.value)),
    "log": lambda a: a.map(np.log(a.value), 1 / a.value),
    "sqrt": lambda a: a.map(np.sqrt(a.value), 0.5 / np.sqrt(a.value)),
    "abs": lambda a: a.map(np.abs(a.value), np.sign(a.value)),
    "pow": power,
    "atan2": atan2,
    "where": choose,
    "min": lambda a, b: choose(Dual(a.value <= b.value, 0.0), a, b),
    "max": lambda a, b: choose(Dual(a.value >= b.value, 0.0), a, b),
}
BINARY = {
    ast.Add: lambda a, b: Dual(a.value + b.value, a.slope + b.slope),
    ast.Sub: lambda a, b: Dual(a.value - b.value, a.slope - b.slope),
    ast.Mult: lambda a, b: Dual(a.value * b.value, a.slope * b.value + a.value * b.slope),
    ast.Div: lambda a, b: Dual(a.value / b.value, (a.slope * b.value - a.value * b.slope) / b.value**2),
    ast.Pow: power,
}
COMPARE = {ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
           ast.Eq: np.equal, ast.NotEq: np.not_equal}


class Expression:
    """An expression of a case file: its value and gradient at points. Nothing is executed but what stands above."""

    def __init__(self, text, parameters, dim):
        self.tree = ast.parse(re.sub(r"\bif\s*\(", "where(", str(text).replace("^", "**")), mode="eval").body
        self.dim = dim
        self.parameters = {}
        for name in {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)} & parameters.keys():
            others = {key: text for key, text in parameters.items() if key != name}
            self.parameters[name] = Expression(parameters[name], others, dim).at(np.zeros((dim, 1)))[0]

    def at(self, x):
        """Values (n) and gradients (dim, n) at the columns of `x`."""
        still = np.zeros((self.dim, 1))
        names = {name: Dual(value, still) for name, value in self.parameters.items()}
        names |= {"pi": Dual(math.pi, still), "e": Dual(math.e, still)}
        names |= {name: Dual(0.0, still) for name in "xyzt"}
        for k, name in zip(range(self.dim), "xyz"):
            names[name] = Dual(x[k], np.eye(self.dim)[:, k : k + 1])

        def value(node):
            match node:
                case ast.Constant(value=int() | float() as number):
                    return Dual(float(number), still)
                case ast.Name(id=name) if name in names:
                    return names[name]
                case ast.UnaryOp(op=ast.USub(), operand=operand):
                    a = value(operand)
                    return Dual(-a.value, -a.slope)
                case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                    return value(operand)
                case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                    return BINARY[type(op)](value(left), value(right))
                case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARE:
                    return Dual(COMPARE[type(op)](value(left).value, value(right).value), still)
                case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if name in FUNCTIONS:
                    return FUNCTIONS[name](*map(value, parts))
            raise ValueError(f"`{ast.unparse(node)}` is not known here")

        # Away from where a branch is taken it may be infinite.
        with np.errstate(divide="ignore", invalid="ignore"):
            found = value(self.tree)
        n = x.shape[1]
        return np.broadcast_to(found.value, (n,)), np.broadcast_to(found.slope, (self.dim, n))


class Kind:
    """Cells of one VTK type and number of nodes: their shape functions, from the places that VTK gives their nodes."""

    SIMPLICES = {3: 1, 5: 2, 10: 3, 68: 1, 69: 2, 71: 3}
    TENSORS = {9: 2, 12: 3, 70: 2, 72: 3}

    def __init__(self, vtk_type, n_nodes):
        from vtkmodules.vtkCommonDataModel import vtkGenericCell

        if vtk_type not in self.SIMPLICES | self.TENSORS:
            raise ValueError(f"VTK's cells of type {vtk_type} are not known here")
        self.simplex = vtk_type in self.SIMPLICES
        self.dim = (self.SIMPLICES | self.TENSORS)[vtk_type]
        generic = vtkGenericCell()
        generic.SetCellType(vtk_type)
        cell = generic.GetRepresentativeCell()
        cell.GetPoints().SetNumberOfPoints(n_nodes)
        cell.GetPointIds().SetNumberOfIds(n_nodes)
        if hasattr(cell, "SetUniformOrderFromNumPoints"):
            cell.SetUniformOrderFromNumPoints(n_nodes)
        elif hasattr(cell, "Initialize"):
            cell.Initialize()
        self.nodes = np.array(cell.GetParametricCoords()).reshape(-1, 3)[:, : self.dim]
        self.degree = next(k for k in range(1, 20) if len(self.exponents(k)) >= n_nodes)
        self.powers = self.exponents(self.degree)
        if not len(self.powers) == len(self.nodes) == n_nodes:
            raise ValueError(f"a cell of type {vtk_type} has {n_nodes} points")
        self.coefficients = np.linalg.inv(self.monomials(self.nodes))
        # VTK's own functions are the same.
        place, values = [0.2, 0.3, 0.1], [0.0] * n_nodes
        cell.InterpolateFunctions(place, values)
        if not np.allclose(self.tabulate(np.array([place[: self.dim]]))[0][0], values, atol=1e-9):
            raise ValueError(f"VTK has other functions on cells of type {vtk_type}")

    def exponents(self, degree):
        every = itertools.product(range(degree + 1), repeat=self.dim)
        return np.array([p for p in every if not self.simplex or sum(p) <= degree])

    def monomials(self, points):
        return np.prod(points[:, None, :] ** self.powers[None], axis=2)

    def tabulate(self, points):
        """Values (points, nodes) and derivatives (dim, points, nodes) of the nodes' functions."""
        slopes = []
        for k in range(self.dim):
            lower = self.powers.copy()
            lower[:, k] = np.maximum(lower[:, k] - 1, 0)
            slopes.append((self.powers[:, k] * np.prod(points[:, None, :] ** lower[None], axis=2)) @ self.coefficients)
        return self.monomials(points) @ self.coefficients, np.array(slopes)

    def rule(self, n):
        """Gauss points, on simplices with a side collapsed (Duffy): points (n, dim) and weights."""
        x, w = np.polynomial.legendre.leggauss(n)
        x, w = (x + 1) / 2, w / 2
        points = np.array(list(itertools.product(x, repeat=self.dim)))
        weights = np.prod(list(itertools.product(w, repeat=self.dim)), axis=1)
        if self.simplex:
            for k in range(1, self.dim):
                left = 1 - points[:, k]
                points[:, :k] *= left[:, None]
                weights = weights * left**k
        return points, weights

    def parts(self):
        """The children of the reference cell: origin and matrix of each."""
        if not self.simplex:
            corners = itertools.product((0.0, 0.5), repeat=self.dim)
            return [(np.array(c), 0.5 * np.eye(self.dim)) for c in corners]
        v = np.vstack([np.zeros(self.dim), np.eye(self.dim)])
        mid = lambda i, j: (v[i] + v[j]) / 2
        children = [[mid(i, j) for j in range(self.dim + 1)] for i in range(self.dim + 1)]
        if self.dim == 2:
            children.append([mid(0, 1), mid(1, 2), mid(0, 2)])
        elif self.dim == 3:
            # The octahedron in the middle, about the diagonal between edges (0, 2) and (1, 3).
            a, b = mid(0, 2), mid(1, 3)
            ring = [mid(0, 1), mid(1, 2), mid(2, 3), mid(0, 3)]
            children += [[a, b, ring[k], ring[(k + 1) % 4]] for k in range(4)]
        return [(np.array(c[0]), np.array(c[1:]).T - np.array(c[0])[:, None]) for c in children]


class Integral:
    """What is integrated over the cells of one kind: 1, (u_h - u)^2 and |grad u_h - grad u|^2, a row a cell."""

    def __init__(self, kind, exact, places, values):
        """`places` (cells, nodes, dim) and `values` (cells, nodes) of the nodes."""
        self.kind, self.exact, self.n_cells = kind, exact, len(values)
        self.places = np.ascontiguousarray(places.swapaxes(0, 1))
        self.values = np.ascontiguousarray(values.T)

    def over(self, cells, n, origin=None, matrix=None):
        """With `n` points a direction over these cells, or over the part of each that `origin` (cells, dim) and
        `matrix` (cells, dim, dim) map the reference cell to."""
        points, weights = self.kind.rule(n)
        whole = self.kind.tabulate(points) if origin is None else None
        each = max(1, BATCH_POINTS // len(points))
        found = [np.zeros((0, 3))]
        for first in range(0, len(cells), each):
            some = slice(first, first + each)
            here = cells[some]
            if origin is None:
                found.append(self.sums(here, *whole, np.broadcast_to(weights, (len(here), len(weights)))))
                continue
            at = origin[some][:, None] + np.einsum("cij,pj->cpi", matrix[some], points)
            scale = np.abs(np.linalg.det(matrix[some]))[:, None] * weights
            shape, slopes = self.kind.tabulate(at.reshape(-1, self.kind.dim))
            shape = shape.reshape(len(here), len(points), -1)
            slopes = slopes.reshape(self.kind.dim, len(here), len(points), -1)
            found.append(self.sums(here, shape, slopes, scale))
        return np.concatenate(found)

    def sums(self, cells, shape, slopes, weights):
        """`shape` (points, nodes) and `slopes` (dim, points, nodes) are the same for all cells, or have an axis of
        cells before that of points. `weights` (cells, points)."""
        places, values = self.places[:, cells], self.values[:, cells]
        dim = self.kind.dim

        def at_points(basis, nodal):
            """Values at (point, cell) of a function with these nodal values (node, cell)."""
            if basis.ndim == 2:
                return basis @ nodal
            return np.einsum("cpk,kc->pc", basis, nodal)

        x = np.array([at_points(shape, places[..., i]) for i in range(dim)])
        # jacobian[j][i]: the derivative of coordinate i along the reference axis j.
        jacobian = [[at_points(slopes[j], places[..., i]) for i in range(dim)] for j in range(dim)]
        along = [at_points(slopes[j], values) for j in range(dim)]
        cofactors = cofactors_of(jacobian)
        determinant = sum(jacobian[0][i] * cofactors[0][i] for i in range(dim))
        weights = weights.T * np.abs(determinant)
        error = at_points(shape, values)
        u, grad = self.exact.at(x.reshape(dim, -1))
        error = error - u.reshape(error.shape)
        square = 0.0
        for i in range(dim):
            slope = sum(cofactors[j][i] * along[j] for j in range(dim)) / determinant
            square = square + (slope - grad[i].reshape(slope.shape)) ** 2
        return np.stack([weights.sum(0), (weights * error**2).sum(0), (weights * square).sum(0)], axis=1)


def cofactors_of(m):
    """Of a matrix of arrays of one to three rows: the transposed inverse times the determinant."""
    match len(m):
        case 1:
            return [[np.ones_like(m[0][0])]]
        case 2:
            return [[m[1][1], -m[1][0]], [-m[0][1], m[0][0]]]
    minor = lambda r, s, c, d: m[r][c] * m[s][d] - m[r][d] * m[s][c]
    return [[minor((j + 1) % 3, (j + 2) % 3, (i + 1) % 3, (i + 2) % 3) for i in range(3)] for j in range(3)]


def integrate(integrals, more):
    """The sums over all cells, and what the last cuts still changed."""
    first = []
    for integral in integrals:
        n = integral.kind.degree + more
        cells = np.arange(integral.n_cells)
        first.append((integral.over(cells, n), integral.over(cells, n - 2)))
    total = sum(fine.sum(0) for fine, _ in first)
    limit, changed = CUT_ABOVE * total[1:], np.zeros(2)
    for integral, (fine, coarse) in zip(integrals, first):
        n, dim = integral.kind.degree + more, integral.kind.dim
        children = integral.kind.parts()
        difference = np.abs(fine - coarse)[:, 1:]
        cells = np.flatnonzero(~(difference <= limit).all(1))
        changed += np.delete(difference, cells, axis=0).sum(0)
        known = fine[cells]
        origin, matrix = np.zeros((len(cells), dim)), np.broadcast_to(np.eye(dim), (len(cells), dim, dim))
        for _ in range(CUTS):
            if len(cells) == 0:
                break
            inner = np.concatenate([origin + np.einsum("cij,j->ci", matrix, at) for at, _ in children])
            smaller = np.concatenate([matrix @ m for _, m in children])
            again = np.tile(cells, len(children))
            parts = integral.over(again, n, inner, smaller)
            sums = parts.reshape(len(children), len(cells), 3).sum(0)
            total += (sums - known).sum(0)
            difference = np.abs(sums - known)[:, 1:]
            keep = ~(difference <= limit).all(1)
            changed += difference[~keep].sum(0)
            pick = np.tile(keep, len(children))
            cells, known, origin, matrix = again[pick], parts[pick], inner[pick], smaller[pick]
        if len(cells):
            changed += np.abs(known[:, 1:]).sum(0)
    return total, changed


def integrals_of(file, field, exact):
    """One `Integral` for each kind of cell in each part of the file."""
    import read_vtkhdf
    from vtkmodules.util.numpy_support import vtk_to_numpy

    found = []
    for part in read_vtkhdf.read(str(file))[1]:
        if part is None or part.GetNumberOfCells() == 0:
            continue
        array = part.GetPointData().GetArray(field)
        if array is None or array.GetNumberOfComponents() != 1:
            raise ValueError(f"{file} has no scalar {field} at its points")
        points, values = vtk_to_numpy(part.GetPoints().GetData()), vtk_to_numpy(array)
        types = np.array([part.GetCellType(k) for k in range(part.GetNumberOfCells())])
        offsets = vtk_to_numpy(part.GetCells().GetOffsetsArray())
        corners = vtk_to_numpy(part.GetCells().GetConnectivityArray())
        sizes = np.diff(offsets)
        for vtk_type, size in sorted(set(zip(types.tolist(), sizes.tolist()))):
            kind = Kind(vtk_type, size)
            chosen = np.flatnonzero((types == vtk_type) & (sizes == size))
            nodes = corners[offsets[chosen][:, None] + np.arange(size)]
            found.append(Integral(kind, exact, points[nodes][..., : kind.dim], values[nodes]))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--field", default="u")
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--degree-more", type=int, default=4, help="points a direction beyond the degree (default 4)")
    given = parser.parse_args()
    case = tomllib.loads(given.case.read_text())
    report = json.loads((given.folder / "run.json").read_text())
    exact = Expression(case["exact"]["value"], case.get("parameters", {}), report["mesh"]["dimension"])
    integrals = integrals_of(given.folder / "solution.hdf", given.field, exact)
    total, changed = integrate(integrals, given.degree_more)
    cells = sum(integral.n_cells for integral in integrals)
    mine = {"l2": math.sqrt(total[1]), "h1": math.sqrt(total[2])}
    wrong = [] if cells == report["mesh"]["cells"] else [f"{cells} cells in the file, {report['mesh']['cells']} in run.json"]
    for norm, value in mine.items():
        other = report["errors"][norm]
        # Round-off is all there is to compare where the solution is exact.
        if not abs(value - other) <= given.tolerance * max(value, other) + 1e-12:
            wrong.append(f"{norm}: {value:.6e} here, {other:.6e} in run.json")
    print(json.dumps({
        "cells": cells, "measure": float(total[0]), **mine,
        "last_cuts": {"l2": float(changed[0] / total[1]), "h1": float(changed[1] / total[2])},
        "reported": report["errors"], "wrong": wrong,
    }))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
