"""The problems with an adaptive loop: how long until the H1 error is small enough.

Each program refines as it likes best, so meshes and unknowns differ; what is compared is the time to the same error.
Standard library only. Start at `LOOPS`; `run` does the rest.
"""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import tomllib

from problem import cache_folder

HERE = pathlib.Path(__file__).resolve().parent

# femdd's own evaluator must find the errors that femdd reports, to this.
SAME_EVALUATED = 0.01


@dataclasses.dataclass
class Loop:
    """A case file of this folder with `[adapt]`, the error to reach, and what deal.II is told to reach it."""

    name: str
    target: float
    dealii: list
    dim: int = 2
    degree: int = 1
    max_dofs: int = 0
    tolerance: float = 1e-8

    def read(self, scale):
        """With the case's keys, for meshes with `scale` times as many cells along each axis in the end."""
        case = tomllib.loads((HERE / f"{self.name}.toml").read_text())
        degree = case["space"]["degree"]
        return dataclasses.replace(
            self,
            degree=degree,
            target=self.target * scale**-degree,
            max_dofs=round(case["adapt"]["max_dofs"] * scale**self.dim),
            tolerance=float(case.get("solver", {}).get("tolerance", 1e-8)),
        )


# deal.II's settings: those that took the least work in unknowns summed over the loop, and whose last step lands
# just below the error. Where Kelly's jumps alone serve badly, at degree 2, its residuals inside of cells are added.
LOOPS = {
    loop.name: loop
    for loop in (
        Loop("lshape-p1", 7.0e-4, ["problem=l-shape", "refine=0.8", "transfer=false"]),
        Loop("lshape-p2", 4.1e-6, ["problem=l-shape", "refine=0.8", "residual=0.1", "start=1"]),
        Loop(
            "front-p2", 1.55e-2, ["problem=front", "marking=number", "refine=0.25", "residual=0.1", "start=3"], dim=3
        ),
    )
}


def femdd_run(loop, program, ranks, threads, settings, execute, limit, evaluate):
    """One run of femdd; its solution is integrated by `evaluate.py` with the Python `evaluate`, if there is one."""
    folder = cache_folder() / "runs" / f"{loop.name}-femdd-{ranks}x{threads}"
    shutil.rmtree(folder, ignore_errors=True)
    case = HERE / f"{loop.name}.toml"
    command = [program, "run", case, "--ranks", ranks, "--output", folder]
    for text in [f"performance.threads={threads}", f"adapt.max_dofs={loop.max_dofs}", *settings]:
        command += ["--set", text]
    _, seconds = execute(command, limit)
    report = json.loads((folder / "run.json").read_text())
    evaluated = None
    if evaluate:
        script = [evaluate, HERE / "evaluate.py", case, folder, "--tolerance", SAME_EVALUATED]
        done = subprocess.run([str(part) for part in script], capture_output=True, text=True)
        lines = done.stdout.strip().splitlines()
        evaluated = json.loads(lines[-1]) if lines else {"wrong": [done.stderr.strip()[-300:]]}
    shutil.rmtree(folder, ignore_errors=True)
    solver = report["solver"]
    return {
        "program": "femdd", "version": report["femdd"], "ranks": ranks, "threads": threads,
        "cells": report["mesh"]["cells"], "dofs": report["dofs"], "method": solver["method"],
        "phases": {name: times["max"] for name, times in report["phases"].items()},
        "total": seconds, "wall_in_program": report["wall"], "memory_mb": report["memory_mb"]["sum"],
        "iterations": solver["iterations"], "converged": solver["converged"],
        "relative_residual": solver["relative_residual"],
        "error_l2": report["errors"]["l2"], "error_h1": report["errors"]["h1"],
        "steps": report["adapt"]["steps"], "evaluated": evaluated,
    }


def dealii_run(loop, program, ranks, execute, limit):
    """One run of dealii_peer.cc."""
    folder = cache_folder() / "runs" / f"{loop.name}-dealii"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = [*loop.dealii, f"degree={loop.degree}", f"target={loop.target!r}", f"tolerance={loop.tolerance!r}"]
    out, _ = execute(["mpirun", "-n", ranks, program, *settings, f"output={folder}"], limit)
    shutil.rmtree(folder, ignore_errors=True)
    run = json.loads(out.strip().splitlines()[-1])
    return run | {"total": sum(run["phases"].values())}


def wrong(loop, runs):
    """What is wrong with these runs: errors or tolerances that were missed, reports that do not hold."""
    found = []
    for name, list_ in runs.items():
        for run in list_:
            if not run["error_h1"] <= loop.target:
                found.append(f"{name} ends at an H1 error of {run['error_h1']:.3e}, asked for {loop.target:.3e}")
            if not run["converged"] or not run["relative_residual"] <= loop.tolerance * (1 + 1e-6):
                found.append(f"{name} stopped at a relative residual of {run['relative_residual']:.2e}")
            if run.get("evaluated"):
                found += [f"{name}, evaluated: {line}" for line in run["evaluated"]["wrong"]]
    return list(dict.fromkeys(found))
