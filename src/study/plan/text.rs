//! Plans as a person reads them.
//!
//! Imports its siblings. Start at [`problem_text`] and [`candidates_table`].

use cluster::words::{self, about_seconds, grouped};

use super::choose::Plan;
use super::model::Prediction;
use super::problem::{Input, Problem};
use crate::run::mesh_files::FileForm;

/// The size of a case.
pub fn problem_text(name: &str, problem: &Problem) -> String {
    let cells: Vec<String> = problem
        .counts
        .cells()
        .iter()
        .map(|(shape, n)| format!("{} {}", grouped(*n), shape.plural_name()))
        .collect();
    let input = match &problem.input {
        Input::Box => "a generated box".to_owned(),
        Input::File { bytes, form, kept } => {
            let form = match form {
                FileForm::Text => "Gmsh text, which one rank reads".to_owned(),
                FileForm::Binary => "binary Gmsh".to_owned(),
                FileForm::Stored(parts) => format!("a mesh of femdd in {parts} parts"),
            };
            let kept: Vec<String> = kept.iter().map(usize::to_string).collect();
            let kept = match kept.is_empty() {
                true => String::new(),
                false => format!(", partition kept for {} ranks", kept.join(", ")),
            };
            format!("a file of {} ({form}{kept})", words::bytes(*bytes))
        }
    };
    let mut text = format!(
        "{name}: {}, {} vertices from {input}\n  {} DOFs of degree {}, {} nonzeros, {}\n",
        cells.join(", "),
        grouped(problem.counts.vertices),
        grouped(problem.dofs()),
        problem.degree,
        grouped(problem.nonzeros()),
        problem.method,
    );
    if let Some(growth) = problem.growth {
        let end = growth.max_dofs.map_or("no limit of unknowns".into(), |n| format!("{} DOFs", grouped(n)));
        text += &format!(
            "  adaptive: meshes {:.1} times as large step by step, to {end} or {} steps\n",
            growth.factor, growth.max_steps
        );
    }
    for note in &problem.notes {
        text += &format!("  {note}\n");
    }
    text
}

fn phases_line(prediction: &Prediction) -> String {
    let shown: Vec<String> = prediction
        .phases
        .iter()
        .filter(|phase| phase.seconds >= 0.005 * prediction.total)
        .map(|phase| format!("{} {}", phase.name, about_seconds(phase.seconds)))
        .collect();
    shown.join(", ")
}

/// The candidates and the one to take.
pub fn candidates_table(plan: &Plan) -> String {
    let mut text = format!(
        "{:>6} {:>6} {:>7}  {:>10} {:>10}  {:>9} {:>9} {:>9} {:>9}  {:>10} {:>6}\n",
        "nodes",
        "ranks",
        "threads",
        "GiB/rank",
        "GiB/node",
        "assemble",
        "pc_setup",
        "solve",
        "total",
        "core-h",
        "eff."
    );
    const GIB: f64 = (1u64 << 30) as f64;
    for (k, candidate) in plan.candidates.iter().enumerate() {
        let p = &candidate.prediction;
        let mark = match (k == plan.recommended, candidate.fits) {
            (true, _) => "  <- recommended",
            (false, false) => "  does not fit",
            _ => "",
        };
        text += &format!(
            "{:>6} {:>6} {:>7}  {:>10.2} {:>10.2}  {:>9} {:>9} {:>9} {:>9}  {:>10.4} {:>5.0}%{mark}\n",
            p.layout.nodes,
            p.layout.ranks,
            p.layout.threads,
            p.memory_rank / GIB,
            p.memory_node / GIB,
            about_seconds(p.seconds("assemble")),
            about_seconds(p.seconds("pc_setup")),
            about_seconds(p.seconds("solve")),
            about_seconds(p.total),
            candidate.core_hours,
            100.0 * candidate.efficiency,
        );
    }
    let best = &plan.candidates[plan.recommended].prediction;
    text += &format!(
        "recommended: {} ranks of {} threads on {} nodes: {}\n  {}\n  between {} and {}, {:.0} iterations, {} solves\n",
        best.layout.ranks,
        best.layout.threads,
        best.layout.nodes,
        plan.because,
        phases_line(best),
        about_seconds(best.total / best.uncertainty),
        about_seconds(best.total * best.uncertainty),
        best.iterations,
        best.solves,
    );
    text
}
