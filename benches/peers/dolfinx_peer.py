#!/usr/bin/env python3
"""DOLFINx 0.5 on one of these problems, as fast as we can make it; prints one JSON line with the time of each
phase, the memory of all ranks, the iterations and the error.

    mpirun -n RANKS /usr/bin/python3 dolfinx_peer.py PROBLEM.json OUTPUT-FOLDER [-PETSC-OPTION VALUE...]

The problem is what `problem.Problem.to_json` writes. Kernels are compiled, and loaded once, on a tiny mesh
before the clock starts. Sources and further choices: docs/performance.md, "The peers".
"""

import json
import pathlib
import sys
import time

import numpy as np
import petsc4py

petsc4py.init(sys.argv[:1] + sys.argv[3:])

import dolfinx
import ufl
from dolfinx import fem, io, la, mesh
from dolfinx.fem import petsc as fem_petsc
from mpi4py import MPI
from petsc4py import PETSc

from problem import Problem, cache_folder, evaluate, peak_memory_mb

# BoomerAMG: one level of aggressive coarsening, interpolation truncated to 4 entries a row.
BOOMERAMG = {
    "pc_type": "hypre",
    "pc_hypre_type": "boomeramg",
    "pc_hypre_boomeramg_coarsen_type": "HMIS",
    "pc_hypre_boomeramg_interp_type": "ext+i",
    "pc_hypre_boomeramg_P_max": 4,
    "pc_hypre_boomeramg_agg_nl": 1,
}
# Smoothed aggregation with the rigid body modes, two Chebyshev steps with Jacobi on each level.
GAMG = {
    "pc_type": "gamg",
    "pc_gamg_type": "agg",
    "pc_gamg_threshold": 0.0,
    "pc_gamg_square_graph": 1,
    "pc_gamg_agg_nsmooths": 1,
    "pc_gamg_reuse_interpolation": True,
    "pc_gamg_esteig_ksp_type": "cg",
    "pc_gamg_esteig_ksp_max_it": 5,
    "mg_levels_ksp_type": "chebyshev",
    "mg_levels_ksp_max_it": 2,
    "mg_levels_pc_type": "jacobi",
}
JIT = {
    "cffi_extra_compile_args": ["-O3", "-march=native", "-g0"],
    "cache_dir": str(cache_folder() / "ffcx"),
    "timeout": 300,
}


class Clock:
    """Time by phase, each begun and ended by all ranks together."""

    def __init__(self, comm):
        self.comm = comm
        self.phases = {}

    def __call__(self, name):
        self.name = name
        return self

    def __enter__(self):
        self.comm.Barrier()
        self.began = time.perf_counter()

    def __exit__(self, *_):
        self.comm.Barrier()
        self.phases[self.name] = self.phases.get(self.name, 0.0) + time.perf_counter() - self.began


def make_mesh(comm, problem, cells):
    """A box, split as femdd splits it, or the mesh in a file. No ghost cells: nothing here needs any."""
    none = mesh.GhostMode.none
    if not cells:
        with io.XDMFFile(comm, problem.mesh_file, "r") as file:
            return file.read_mesh(ghost_mode=none, name="mesh")
    if problem.dim == 2:
        corners = [np.zeros(2), np.ones(2)]
        return mesh.create_rectangle(
            comm, corners, cells, mesh.CellType.triangle, ghost_mode=none, diagonal=mesh.DiagonalType.right
        )
    corners = [np.zeros(3), np.ones(3)]
    return mesh.create_box(comm, corners, cells, mesh.CellType.tetrahedron, ghost_mode=none)


def boundary_dofs(problem, domain, space, cells):
    """The (blocks of) DOFs on the constrained part of the boundary."""
    if not cells:
        # A surface that no formula describes.
        facet = domain.topology.dim - 1
        domain.topology.create_connectivity(facet, domain.topology.dim)
        return fem.locate_dofs_topological(space, facet, mesh.exterior_facet_indices(domain.topology))

    def on_boundary(x):
        found = np.zeros(x.shape[1], dtype=bool)
        for side in problem.clamped:
            found |= np.isclose(x["xyz".index(side[0])], float(side.endswith("max")))
        return found

    # By coordinates is faster than through facets (no facets need be made), with the same DOFs.
    return fem.locate_dofs_geometrical(space, on_boundary)


def rigid_body_modes(space):
    """The six rigid motions as an orthonormal null space."""
    index_map, size = space.dofmap.index_map, space.dofmap.index_map_bs
    vectors = [la.create_petsc_vector(index_map, size) for _ in range(6)]
    n = index_map.size_local
    x = space.tabulate_dof_coordinates()[:n]
    modes = np.zeros((6, n, 3))
    for k in range(3):
        modes[k, :, k] = 1.0
        i, j = (k + 1) % 3, (k + 2) % 3
        modes[3 + k, :, i] = -x[:, j]
        modes[3 + k, :, j] = x[:, i]
    for vector, mode in zip(vectors, modes):
        with vector.localForm() as local:
            local.array[: 3 * n] = mode.ravel()
    # Modified Gram-Schmidt; PETSc asks for orthonormal vectors.
    for i, vector in enumerate(vectors):
        for other in vectors[:i]:
            vector.axpy(-vector.dot(other), other)
        vector.normalize()
    return PETSc.NullSpace().create(vectors=vectors, comm=space.mesh.comm)


def forms(problem, domain, space):
    """The bilinear and the linear form, with fixed quadrature degrees: those that ufl would choose for such
    sources are far higher and slower than the discretisation needs."""
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    if problem.law == "elasticity":
        young, nu = problem.young, problem.poisson_ratio
        mu, lam = young / (2 * (1 + nu)), young * nu / ((1 + nu) * (1 - 2 * nu))

        def strain(w):
            return ufl.sym(ufl.grad(w))

        stress = 2 * mu * strain(u) + lam * ufl.div(u) * ufl.Identity(3)
        force = fem.Constant(domain, np.array(problem.source, dtype=float))
        return ufl.inner(stress, strain(v)) * ufl.dx, ufl.inner(force, v) * ufl.dx
    source = evaluate(problem.source, ufl.SpatialCoordinate(domain), ufl)
    dx = ufl.dx(metadata={"quadrature_degree": 2 * problem.degree})
    return ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx, source * v * dx


def functionals(problem, domain, solution):
    """The squared error, or the components' integrals where no exact solution is known."""
    if problem.exact:
        exact = evaluate(problem.exact, ufl.SpatialCoordinate(domain), ufl)
        return [(solution - exact) ** 2 * ufl.dx(metadata={"quadrature_degree": 2 * problem.degree + 4})]
    return [part * ufl.dx for part in ufl.split(solution)]


def set_options(problem, ksp):
    """The preconditioner's options; those of the command line win."""
    options = PETSc.Options()
    chosen = dict(GAMG if problem.law == "elasticity" else BOOMERAMG)
    if problem.law != "elasticity":
        chosen["pc_hypre_boomeramg_strong_threshold"] = 0.25 if problem.dim == 2 else 0.5
    for key, value in chosen.items():
        if not options.hasName(key):
            options[key] = value
    ksp.setFromOptions()


def solve(comm, problem, cells, folder):
    """Mesh to error norm on a box of `cells`, or the problem's file if there are none."""
    clock = Clock(comm)
    with clock("mesh"):
        domain = make_mesh(comm, problem, cells)
    with clock("space"):
        element = ("Lagrange", problem.degree)
        vector = problem.law == "elasticity"
        space = fem.VectorFunctionSpace(domain, element) if vector else fem.FunctionSpace(domain, element)
    # Not on the clock: what Python and ufl do with a form before its compiled kernel is found.
    solution = fem.Function(space)
    solution.name = "u"
    bilinear, linear = (fem.form(f, jit_params=JIT) for f in forms(problem, domain, space))
    wanted = [fem.form(f, jit_params=JIT) for f in functionals(problem, domain, solution)]
    with clock("bc"):
        dofs = boundary_dofs(problem, domain, space, cells)
        boundary = fem.Function(space)
        if not vector:
            x = space.tabulate_dof_coordinates()[dofs].T
            boundary.x.array[dofs] = evaluate(problem.value, x, np)
        condition = fem.dirichletbc(boundary, dofs)
    with clock("sparsity"):
        matrix = fem_petsc.create_matrix(bilinear)
    with clock("matrix"):
        fem_petsc.assemble_matrix(matrix, bilinear, [condition])
        matrix.assemble()
        matrix.setOption(PETSc.Mat.Option.SPD, True)
    with clock("rhs"):
        rhs = fem_petsc.assemble_vector(linear)
        fem_petsc.apply_lifting(rhs, [bilinear], [[condition]])
        rhs.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        fem_petsc.set_bc(rhs, [condition])
    with clock("pc"):
        if vector:
            matrix.setNearNullSpace(rigid_body_modes(space))
        ksp = PETSc.KSP().create(comm)
        ksp.setOperators(matrix)
        ksp.setType("cg")
        ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
        set_options(problem, ksp)
        ksp.setUp()
    with clock("solve"):
        # The tolerance is relative to the free rows: the boundary's values start as they are, and the
        # residual there is zero.
        fem_petsc.set_bc(solution.vector, [condition])
        residual = rhs.duplicate()
        matrix.mult(solution.vector, residual)
        residual.aypx(-1.0, rhs)
        start = residual.norm()
        ksp.setTolerances(rtol=1e-50, atol=problem.tolerance * start, max_it=1000)
        ksp.setInitialGuessNonzero(True)
        ksp.solve(rhs, solution.vector)
        solution.x.scatter_forward()
    matrix.mult(solution.vector, residual)
    residual.aypx(-1.0, rhs)
    reached = residual.norm() / start
    with clock("output"):
        with io.XDMFFile(comm, str(folder / "solution.xdmf"), "w") as file:
            file.write_mesh(domain)
            file.write_function(solution)
    with clock("error"):
        integrals = [float(comm.allreduce(fem.assemble_scalar(f))) for f in wanted]
    values = {"error_l2": float(np.sqrt(integrals[0]))} if problem.exact else {"integral_u": integrals}
    return {
        "program": "DOLFINx",
        "version": dolfinx.__version__,
        "ranks": comm.size,
        "cells": int(domain.topology.index_map(domain.topology.dim).size_global),
        "dofs": int(space.dofmap.index_map.size_global * space.dofmap.index_map_bs),
        "method": "cg+" + ksp.getPC().getType(),
        "phases": clock.phases,
        "iterations": ksp.getIterationNumber(),
        "converged": ksp.getConvergedReason() > 0,
        "relative_residual": reached,
        **values,
    }


def main():
    comm = MPI.COMM_WORLD
    problem = Problem.from_json(pathlib.Path(sys.argv[1]).read_text())
    folder = pathlib.Path(sys.argv[2])
    if comm.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
    comm.Barrier()
    # The same forms on a tiny mesh: compiles them, or loads them from the cache.
    solve(comm, problem, [3] * problem.dim, folder)
    before = peak_memory_mb()
    result = solve(comm, problem, problem.cells, folder)
    result["memory_mb"] = comm.allreduce(peak_memory_mb())
    result["memory_before_mb"] = comm.allreduce(before)
    if comm.rank == 0:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
