"""Medians, spreads and tables of what the runner measured. Standard library only. Start at `summary`."""

import statistics

# A column of the table, and the phases of femdd and of its peers that it adds up.
COLUMNS = {
    "mesh": ("mesh", "partition"),
    "space": ("space",),
    "assemble": ("pattern", "assemble", "bc", "sparsity", "matrix", "rhs"),
    "pc set-up": ("pc_setup", "pc"),
    "solve": ("solve",),
    "output, errors": ("output", "error"),
}

# As COLUMNS, of an adaptive loop: sums over its steps.
LOOP_COLUMNS = {
    "mesh": ("mesh", "partition"),
    "space": ("space",),
    "assemble": COLUMNS["assemble"],
    "pc set-up": COLUMNS["pc set-up"],
    "solve": ("solve",),
    "estimate": ("estimate",),
    "mark, refine": ("mark", "refine"),
    "rebalance": ("rebalance",),
    "output, errors": ("output", "error"),
}


def columns_of(run):
    """The seconds of one run by column. What lies outside of phases (start and end of the program) and in
    phases that no column has is `other`."""
    columns = LOOP_COLUMNS if "steps" in run else COLUMNS
    known = {name: sum(run["phases"].get(phase, 0.0) for phase in phases) for name, phases in columns.items()}
    known["other"] = round(run["total"] - sum(known.values()), 9) + 0.0
    return known


def summary(runs):
    """The medians of the runs of one program on one problem; `spread` is (largest - least) / median total."""
    totals = [run["total"] for run in runs]
    columns = [columns_of(run) for run in runs]
    phases = dict.fromkeys(phase for run in runs for phase in run["phases"])
    middle = statistics.median(totals)
    return {
        "columns": {name: statistics.median(column[name] for column in columns) for name in columns[0]},
        "phases": {phase: statistics.median(run["phases"].get(phase, 0.0) for run in runs) for phase in phases},
        "total": middle,
        "spread": (max(totals) - min(totals)) / middle,
        "memory_mb": statistics.median(run["memory_mb"] for run in runs),
        **{key: runs[-1].get(key) for key in ("iterations", "error_l2", "error_h1", "integral_u", "method", "cells", "dofs")},
        "n_steps": len(runs[-1]["steps"]) if "steps" in runs[-1] else None,
    }


def rows(programs):
    """A header and one row a program; `programs` maps its name to its summary, the first is compared with."""
    first = next(iter(programs.values()))
    # What stands behind the times, and where in the summary.
    if first["n_steps"] is None:
        results = {"iterations": ("iterations", "d"), "memory": None, "L2 error": ("error_l2", ".4e")}
    else:
        results = {
            "steps": ("n_steps", "d"), "unknowns": ("dofs", ",d"), "memory": None, "H1 error": ("error_h1", ".3e"),
        }
    table = [["seconds", *first["columns"], "total", "spread", "ratio", *results]]
    for name, figures in programs.items():
        row = [name, *(f"{seconds:.2f}" for seconds in figures["columns"].values())]
        row += [f"{figures['total']:.2f}", f"{100 * figures['spread']:.0f} %", f"{figures['total'] / first['total']:.2f}"]
        for place in results.values():
            if place is None:
                row.append(f"{figures['memory_mb'] / 1024:.2f} GiB")
            else:
                value = figures[place[0]]
                row.append("-" if value is None else format(value, place[1]))
        table.append(row)
    return table


def render(table, markdown):
    """The table as text, aligned for a terminal or in Markdown."""
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in table]
        return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) if k == 0 else cell.rjust(width) for k, (cell, width) in enumerate(zip(row, widths)))
        for row in table
    )
