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


def columns_of(run):
    """The seconds of one run by column. What lies outside of phases (start and end of the program) and in
    phases that no column has is `other`."""
    known = {name: sum(run["phases"].get(phase, 0.0) for phase in phases) for name, phases in COLUMNS.items()}
    known["other"] = run["total"] - sum(known.values())
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
        **{key: runs[-1].get(key) for key in ("iterations", "error_l2", "integral_u", "method", "cells", "dofs")},
    }


def rows(programs):
    """A header and one row a program; `programs` maps its name to its summary, the first is compared with."""
    first = next(iter(programs.values()))
    header = ["seconds", *COLUMNS, "other", "total", "spread", "ratio", "iterations", "memory", "L2 error"]
    table = [header]
    for name, figures in programs.items():
        error = figures["error_l2"]
        table.append(
            [
                name,
                *(f"{figures['columns'][column]:.2f}" for column in [*COLUMNS, "other"]),
                f"{figures['total']:.2f}",
                f"{100 * figures['spread']:.0f} %",
                f"{figures['total'] / first['total']:.2f}",
                str(figures["iterations"]),
                f"{figures['memory_mb'] / 1024:.2f} GiB",
                "-" if error is None else f"{error:.4e}",
            ]
        )
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
