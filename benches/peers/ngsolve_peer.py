#!/usr/bin/env python3
"""NGSolve on one of the Poisson problems, with threads, as fast as we can make it; prints one JSON line with the
time of each phase, the memory, the iterations and the error.

    PYTHON-WITH-NGSOLVE ngsolve_peer.py PROBLEM.json OUTPUT-FOLDER THREADS

The problem is what `problem.Problem.to_json` writes. The mesh is handed to Netgen as arrays, which takes a tenth of the
time of ngsolve.meshes. The preconditioner is NGSolve's own: `h1amg` at degree 1, above it `bddc` with `h1amg` as
its coarse solver.
"""

import json
import math
import pathlib
import sys
import time

import netgen.meshing
import ngsolve as ngs

from box_mesh import Box
from problem import Problem, evaluate, peak_memory_mb


class Clock:
    """Time by phase."""

    def __init__(self):
        self.phases = {}

    def __call__(self, name):
        self.name = name
        return self

    def __enter__(self):
        self.began = time.perf_counter()

    def __exit__(self, *_):
        self.phases[self.name] = self.phases.get(self.name, 0.0) + time.perf_counter() - self.began


def make_mesh(cells):
    """The unit box: its nodes, cells and boundary facets, all given to Netgen as arrays."""
    box = Box(cells)
    made = netgen.meshing.Mesh(dim=box.dim)
    made.AddPoints(box.points())
    made.Add(netgen.meshing.FaceDescriptor(surfnr=1, domin=1, bc=1))
    made.SetMaterial(1, "box")
    made.AddElements(dim=box.dim, index=1, data=box.simplices(), base=0)
    for _, facets in box.sides():
        made.AddElements(dim=box.dim - 1, index=1, data=facets, base=0)
    made.SetBCName(0, "boundary")
    return ngs.Mesh(made)


def conjugate_gradients(matrix, preconditioner, free, solution, rhs, tolerance):
    """CG that stops on the norm of the true residual of the free rows, relative to that at the start. Returns the
    iterations and what was reached."""
    r, z, p, q = (rhs.CreateVector() for _ in range(4))
    r.data = rhs - matrix * solution
    free.Project(r)
    start = ngs.Norm(r)
    z.data = preconditioner * r
    p.data = z
    rz = ngs.InnerProduct(r, z)
    for iteration in range(1, 1001):
        q.data = matrix * p
        free.Project(q)
        step = rz / ngs.InnerProduct(p, q)
        solution.data += step * p
        r.data -= step * q
        if ngs.Norm(r) <= tolerance * start:
            break
        z.data = preconditioner * r
        rz, before = ngs.InnerProduct(r, z), rz
        p.data = z + rz / before * p
    r.data = rhs - matrix * solution
    free.Project(r)
    return iteration, ngs.Norm(r) / start


def solve(problem, cells, folder):
    """Mesh to error norm on a box of `cells`."""
    clock = Clock()
    with clock("mesh"):
        domain = make_mesh(cells)
    coordinates = (ngs.x, ngs.y, ngs.z)
    with clock("space"):
        space = ngs.H1(domain, order=problem.degree, dirichlet="boundary")
        solution = ngs.GridFunction(space)
    u, v = space.TnT()
    with clock("bc"):
        solution.Set(ngs.CF(evaluate(problem.value, coordinates, ngs)), ngs.BND, dual=True)
    bilinear = ngs.BilinearForm(ngs.grad(u) * ngs.grad(v) * ngs.dx, symmetric=True)
    kind = "h1amg" if problem.degree == 1 else "bddc"
    preconditioner = ngs.Preconditioner(bilinear, kind, **({} if problem.degree == 1 else {"coarsetype": "h1amg"}))
    # The preconditioner is set up in Assemble: once more without it tells how long the matrix takes.
    plain = ngs.BilinearForm(ngs.grad(u) * ngs.grad(v) * ngs.dx, symmetric=True)
    began = time.perf_counter()
    plain.Assemble()
    matrix_seconds = time.perf_counter() - began
    del plain
    with clock("pc"):
        bilinear.Assemble()
    clock.phases["matrix"] = min(matrix_seconds, clock.phases["pc"])
    clock.phases["pc"] -= clock.phases["matrix"]
    with clock("rhs"):
        source = evaluate(problem.source, coordinates, ngs)
        rhs = ngs.LinearForm(source * v * ngs.dx).Assemble()
    with clock("solve"):
        free = ngs.Projector(space.FreeDofs(), True)
        iterations, reached = conjugate_gradients(
            bilinear.mat, preconditioner.mat, free, solution.vec, rhs.vec, problem.tolerance
        )
    # Before the output, whose copy of the mesh is not the solver's.
    with clock("error"):
        difference = solution - evaluate(problem.exact, coordinates, ngs)
        error = math.sqrt(ngs.Integrate(difference * difference, domain, order=2 * problem.degree + 4))
    with clock("output"):
        ngs.VTKOutput(domain, coefs=[solution], names=["u"], filename=str(folder / "solution")).Do()
    return {
        "program": "NGSolve",
        "version": ngs.__version__,
        "cells": domain.ne,
        "dofs": space.ndof,
        "method": f"cg+{kind}",
        "phases": clock.phases,
        "iterations": iterations,
        "converged": reached <= problem.tolerance * (1 + 1e-6),
        "relative_residual": reached,
        "error_l2": error,
    }


def main():
    problem = Problem.from_json(pathlib.Path(sys.argv[1]).read_text())
    folder, threads = pathlib.Path(sys.argv[2]), int(sys.argv[3])
    ngs.ngsglobals.msg_level = 0
    ngs.SetNumThreads(threads)
    with ngs.TaskManager():
        solve(problem, [3] * problem.dim, folder)
        result = solve(problem, problem.cells, folder)
    result |= {"threads": threads, "memory_mb": peak_memory_mb()}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
