//! `femdd plan`: what a case will take, on which ranks, and the batch script to run it; and what `femdd run` asks
//! of the model.
//!
//! Imports `study::plan`. Start at [`main`] for the command, at [`ranks_for`] and [`expected`] for `femdd run`.
//! Nothing here starts MPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use cluster::place::{self, Allocation, Place};
use cluster::words::grouped;
use serde_json::json;

use super::calibrate::machine_path;
use super::{check_exists, launch, units};
use crate::case::{self, Case, Level, MeshSource};
use crate::output::events::Event;
use crate::output::run_json::{self, RunReport};
use crate::run::performance;
use crate::run::{Kind, RunError};
use crate::study::machine::{self, Machine, Messages};
use crate::study::measure;
use crate::study::plan::model::SLOW_NETWORK;
use crate::study::plan::{
    self, Compared, Job, Layout, Plan, Prediction, Problem, Search, Setting, candidates_table, predict,
    problem_text, script,
};
use crate::study::stats::median;

/// The exit code of a check that found a prediction too far from what was measured.
const OFF: i32 = 5;

/// How far off a prediction may be.
const ALLOWED: f64 = 0.25;

const HELP: &str = "Examples:
  femdd bench calibrate                                  once on each kind of machine; a minute
  femdd plan cube.toml                                   on this machine
  femdd plan cube.toml --nodes 16 --cores-per-node 64 --memory-per-node 256GiB --time-target 10min
  femdd plan cube.toml --nodes 16 --script --submit      writes cube.sbatch and submits it
  mpirun -n 2 --map-by node femdd bench calibrate --rates --output network.json
  femdd plan cube.toml --nodes 16 --network network.json
  femdd plan cube.toml --nodes 16 --latency 2us --bandwidth 12GB/s
  femdd plan --check benches/peers/poisson*.toml         predicted beside measured, on 1 and 2 ranks

Exit codes: 2 if nothing fits the memory or the targets, 5 if --check finds a prediction over 25% off.";

/// What `femdd plan` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct PlanArgs {
    /// The case file; several with --check.
    #[arg(required = true)]
    cases: Vec<PathBuf>,
    /// Set a key of the case; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    sets: Vec<String>,
    /// Ranks, instead of the best number.
    #[arg(long, value_name = "N")]
    ranks: Option<usize>,
    /// Threads of each rank, instead of the best number.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Most nodes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    nodes: usize,
    /// Cores of a node, instead of this machine's.
    #[arg(long, value_name = "N")]
    cores_per_node: Option<usize>,
    /// Memory of a node, such as 192GiB, instead of this machine's.
    #[arg(long, value_name = "SIZE")]
    memory_per_node: Option<String>,
    /// The time it may take, such as 90s, 10min, 1.5h, 2d.
    #[arg(long, value_name = "TIME")]
    time_target: Option<String>,
    /// The core-hours it may take.
    #[arg(long, value_name = "CORE-HOURS")]
    cost_target: Option<f64>,
    /// The machine's figures, instead of ~/.cache/femdd/machine.json.
    #[arg(long, value_name = "FILE.json")]
    machine: Option<PathBuf>,
    /// Figures of messages between nodes, measured by `mpirun --map-by node femdd bench calibrate --rates`.
    #[arg(long, value_name = "FILE.json")]
    network: Option<PathBuf>,
    /// Latency of messages between nodes, with its unit, as 2us.
    #[arg(long, value_name = "TIME", value_parser = units::latency, allow_negative_numbers = true)]
    latency: Option<f64>,
    /// Rate of long messages between nodes, with its unit, as 12GB/s or 100Gbit/s.
    #[arg(long, value_name = "RATE", value_parser = units::bandwidth, allow_negative_numbers = true)]
    bandwidth: Option<f64>,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
    /// Write a batch script for the recommended layout: CASE.sbatch unless named.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    script: Option<Option<PathBuf>>,
    /// Submit the script by sbatch and print the job's number.
    #[arg(long)]
    submit: bool,
    /// Run the cases and set what they take beside the plan.
    #[arg(long)]
    check: bool,
    /// Runs of each case with --check.
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: usize,
}

fn wrong(message: impl Into<String>) -> RunError {
    RunError::new(Kind::Input, "command", message)
}

fn duration(text: &str) -> Result<f64, RunError> {
    case::seconds(text).ok_or_else(|| wrong(format!("`{text}` is no time: write 90s, 10min, 1.5h or 2d")))
}

fn size(text: &str) -> Result<f64, RunError> {
    let has_unit = text.trim().ends_with(char::is_alphabetic);
    let bytes = place::parse_bytes(text).filter(|_| has_unit);
    bytes.map(|n| n as f64).ok_or_else(|| wrong(format!("`{text}` is no size: write 192GiB or 200GB")))
}

/// The memory that a job may take here.
fn memory_here() -> f64 {
    match Place::find().memory.on_host() {
        0 => 4.0 * (1u64 << 30) as f64,
        bytes => bytes as f64,
    }
}

/// Does what the command line says; the exit code.
pub fn main(args: &PlanArgs) -> i32 {
    if cluster::under_launcher() {
        if launch::local_rank() == 0 {
            eprintln!("error: femdd plan needs no ranks: start it without mpirun or srun");
        }
        return 2;
    }
    let done = if args.check { check(args) } else { one(args).map(|()| 0) };
    done.unwrap_or_else(|error| {
        eprint!("{}", error.text());
        error.kind.exit_code()
    })
}

/// Figures of the machine, with the costs of phases.
fn calibrated(path: Option<&Path>) -> Result<Machine, RunError> {
    let path = machine_path(path)?;
    let machine = Machine::read(&path)?;
    if machine.costs.is_none() {
        let message = format!(
            "{} has no costs of phases: femdd bench calibrate (without --rates) measures them in a minute",
            path.display()
        );
        return Err(RunError::new(Kind::Environment, "plan", message));
    }
    Ok(machine)
}

/// Messages between nodes, and where the figures come from.
fn network(args: &PlanArgs, machine: &Machine) -> Result<(Messages, String), RunError> {
    let mut from =
        "taken for those of a slow network: measure them (--network) or give --latency and --bandwidth";
    let mut messages = SLOW_NETWORK;
    let measured = match &args.network {
        Some(path) => Some(Machine::read(path)?),
        None => (machine.nodes > 1).then(|| machine.clone()),
    };
    if let Some(measured) = measured {
        messages = measured.messages.ok_or_else(|| wrong("--network: measured on one rank, no messages"))?;
        from = if measured.nodes > 1 { "measured between nodes" } else { "measured within one node" };
    }
    if let Some(latency) = args.latency {
        (messages.latency, messages.allreduce) = (latency, 2.0 * latency);
    }
    if let Some(bandwidth) = args.bandwidth {
        messages.bandwidth = bandwidth;
    }
    if args.latency.is_some() || args.bandwidth.is_some() {
        from = "given";
    }
    Ok((messages, from.to_owned()))
}

fn load(path: &Path, sets: &[String]) -> Result<Case, RunError> {
    check_exists(path)?;
    let case = Case::load(path, sets)?;
    performance::check(&case)?;
    Ok(case)
}

fn one(args: &PlanArgs) -> Result<(), RunError> {
    let [path] = args.cases.as_slice() else { return Err(wrong("one case at a time, or --check")) };
    if [args.ranks, args.threads, Some(args.nodes), args.cores_per_node].contains(&Some(0)) {
        return Err(wrong("--ranks, --threads, --nodes and --cores-per-node need at least 1"));
    }
    if args.cost_target.is_some_and(|hours| hours.is_nan() || hours <= 0.0) {
        return Err(wrong("--cost-target is a positive number of core-hours"));
    }
    let search = Search {
        nodes: args.nodes,
        cores_per_node: args.cores_per_node.unwrap_or_else(launch::physical_cores),
        memory_per_node: args.memory_per_node.as_deref().map_or_else(|| Ok(memory_here()), size)?,
        ranks: args.ranks,
        threads: args.threads,
        time_target: args.time_target.as_deref().map(duration).transpose()?,
        cost_target: args.cost_target,
    };
    let case = load(path, &args.sets)?;
    let problem = Problem::of(&case)?;
    if !args.json {
        print!("{}", problem_text(&case.name, &problem));
    }
    let machine = calibrated(args.machine.as_deref())?;
    let costs = machine.costs.as_ref().expect("checked when it was read");
    let (messages, from) = network(args, &machine)?;
    let setting = Setting { machine: &machine, costs, network: messages };
    let plan = search.run(&problem, &setting)?;
    if args.json {
        print!("{}", as_json(&case, &problem, &machine, &messages, &from, &plan));
    } else {
        print!("{}", candidates_table(&plan));
        if machine.ranks < search.cores_per_node {
            println!(
                "  measured with {} ranks, planned for {} cores a node: calibrate on such a node for better figures",
                machine.ranks, search.cores_per_node
            );
        }
        if args.nodes > 1 {
            println!(
                "  between nodes {:.1} microseconds and {:.2} GB/s: {from}",
                1e6 * messages.latency,
                1e-9 * messages.bandwidth
            );
        }
    }
    if args.script.is_some() || args.submit {
        let path = match &args.script {
            Some(Some(path)) => path.clone(),
            _ => PathBuf::from(format!("{}.sbatch", script::word(&case.name))),
        };
        write_script(args, &case, &plan, &path)?;
        if !args.json {
            println!("wrote {}", path.display());
        }
        if args.submit {
            let job = submit(&path)?;
            if args.json { eprintln!("submitted job {job}") } else { println!("submitted job {job}") }
        }
    }
    Ok(())
}

fn as_json(
    case: &Case,
    problem: &Problem,
    machine: &Machine,
    network: &Messages,
    from: &str,
    plan: &Plan,
) -> String {
    let cells: Vec<_> = problem
        .counts
        .cells()
        .iter()
        .map(|(shape, n)| json!({ "shape": shape.name(), "cells": n }))
        .collect();
    let value = json!({
        "case": case.name,
        "problem": {
            "dimension": problem.counts.dim,
            "cells": cells,
            "vertices": problem.counts.vertices,
            "degree": problem.degree,
            "components": problem.components,
            "dofs": problem.dofs(),
            "nonzeros": problem.nonzeros(),
            "method": problem.method,
            "notes": problem.notes,
        },
        "machine": { "processor": machine.processor, "ranks": machine.ranks },
        "network": { "latency": network.latency, "bandwidth": network.bandwidth, "allreduce": network.allreduce, "from": from },
        "candidates": plan.candidates,
        "recommended": plan.recommended,
        "because": plan.because,
    });
    serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
}

fn write_script(args: &PlanArgs, case: &Case, plan: &Plan, path: &Path) -> Result<(), RunError> {
    let chosen = &plan.candidates[plan.recommended].prediction;
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| wrong(format!("{}: a script needs names that are UTF-8", path.display())))
    };
    let program =
        std::env::current_exe().map_err(|e| RunError::new(Kind::Environment, "plan", e.to_string()))?;
    let absolute = std::path::absolute(&args.cases[0]).unwrap_or_else(|_| args.cases[0].clone());
    let mut arguments = Vec::new();
    for set in &args.sets {
        arguments.extend(["--set".to_owned(), set.clone()]);
    }
    let job = Job {
        name: case.name.clone(),
        program: text(&program)?,
        case: text(&absolute)?,
        arguments,
        layout: chosen.layout,
        memory_node: chosen.memory_node,
        seconds: chosen.total,
        uncertainty: chosen.uncertainty,
        restarts: case.output.checkpoint.is_some(),
    };
    Ok(run_json::write_file_atomic(path, job.script().as_bytes())?)
}

/// Hands the script to sbatch; the job's number.
fn submit(path: &Path) -> Result<String, RunError> {
    let fail = |message: String| RunError::new(Kind::Environment, "sbatch", message);
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let done = Command::new("sbatch").arg("--parsable").arg(&absolute).output().map_err(|e| {
        fail(format!(
            "sbatch cannot be started ({e}): submit {} where SLURM is, or run it by hand",
            path.display()
        ))
    })?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(fail(format!("sbatch refused {}: {}", path.display(), said.trim())));
    }
    // JOB or JOB;CLUSTER.
    let said = String::from_utf8_lossy(&done.stdout);
    Ok(said.trim().split(';').next().unwrap_or_default().to_owned())
}

/// Runs cases on 1 and 2 ranks, or as many as are asked for, and compares.
fn check(args: &PlanArgs) -> Result<i32, RunError> {
    let machine = calibrated(args.machine.as_deref())?;
    let costs = machine.costs.as_ref().expect("checked when it was read");
    let setting = Setting { machine: &machine, costs, network: SLOW_NETWORK };
    let program =
        std::env::current_exe().map_err(|e| RunError::new(Kind::Environment, "plan", e.to_string()))?;
    if args.repeat == 0 {
        return Err(wrong("--repeat needs at least 1"));
    }
    let mut rows = Vec::new();
    for path in &args.cases {
        for ranks in args.ranks.map_or_else(|| vec![1, 2], |n| vec![n]) {
            let case = load(path, &args.sets)?;
            let threads = args.threads.unwrap_or(1);
            // Before the run, which may leave a partition behind.
            let predicted = predict(&Problem::of(&case)?, &setting, Layout { nodes: 1, ranks, threads });
            let runs = measure::Plan {
                case: path.clone(),
                sets: args.sets.clone(),
                ranks: Some(ranks),
                threads: Some(threads),
                repeat: args.repeat,
                warmup: 0,
            };
            let measured = measure::measure(&program, &runs)?;
            println!("{}: {} DOFs, {ranks} ranks x {threads} threads", case.name, grouped(measured.dofs));
            println!("  {:12} {:>11} {:>10} {:>7}", "phase", "predicted s", "measured s", "ratio");
            let mut names: Vec<&str> = measured.phases().collect();
            names.extend(
                predicted.phases.iter().map(|p| p.name.as_str()).filter(|n| !["start", "other"].contains(n)),
            );
            let mut seen = Vec::new();
            for name in names {
                if !seen.contains(&name) {
                    seen.push(name);
                    print_row(name, predicted.seconds(name), median(&measured.seconds(name)).max(0.0));
                }
            }
            let walls: Vec<f64> = measured.runs.iter().map(|run| run.wall).collect();
            let in_phases: f64 = measured.phases().map(|name| median(&measured.seconds(name))).sum();
            let around = predicted.seconds("start") + predicted.seconds("other");
            print_row("start, other", around, (median(&walls) - in_phases).max(0.0));
            print_row("total", predicted.total, median(&walls));
            print_row("iterations", predicted.iterations, measured.iterations as f64);
            let memory = predicted.memory_rank * ranks as f64 / (1u64 << 20) as f64;
            print_row("MiB in all", memory, measured.memory_mb);
            rows.push((case.name, ranks, predicted.total / median(&walls)));
        }
    }
    let off = rows.iter().filter(|row| (row.2 - 1.0).abs() > ALLOWED).count();
    println!("predicted over measured:");
    for (name, ranks, ratio) in &rows {
        let mark = if (ratio - 1.0).abs() > ALLOWED { "  OFF" } else { "" };
        println!("  {name:24} {ranks:3} ranks {ratio:6.2}{mark}");
    }
    println!("{} of {} within {:.0}%", rows.len() - off, rows.len(), 100.0 * ALLOWED);
    Ok(if off == 0 { 0 } else { OFF })
}

fn print_row(name: &str, predicted: f64, measured: f64) {
    let ratio = if measured > 0.0 { format!("{:7.2}", predicted / measured) } else { format!("{:>7}", "-") };
    println!("  {name:12} {predicted:11.3} {measured:10.3} {ratio}");
}

/// Bytes of a text file up to which it is read twice to know its size beforehand.
const READ_TWICE: u64 = 1 << 20;

/// The size of a case, if that takes no time to find out.
fn quick_size(case: &Case) -> Option<Problem> {
    if let MeshSource::File(path) = &case.mesh.source {
        let text = !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("h5"));
        if text && std::fs::metadata(path).map_or(0, |m| m.len()) > READ_TWICE {
            return None;
        }
    }
    Problem::of(case).ok()
}

/// The ranks to start when the user does not say, and why: as many as a batch job has tasks, one where the level asks for nothing else, the fastest by
/// the model where the machine is calibrated, and one for so many unknowns otherwise.
pub fn ranks_for(case: &Case) -> (usize, Event) {
    let cores = launch::physical_cores();
    let level = performance::level_name(case.performance.level);
    let event = |ranks: usize, because: &str| {
        (ranks, Event::new("ranks", ranks, because).input("cores", cores).input("level", level))
    };
    if let Some(job) = Allocation::of_job() {
        return event(job.tasks, "the tasks of the batch job");
    }
    if !performance::scales(&case.performance) {
        return event(1, "autoscale is off");
    }
    let by_model = matches!(case.performance.level, Level::Auto | Level::Aggressive)
        || case.performance.autoscale == Some(true);
    let known = if by_model {
        machine::stored()
            .filter(|machine| machine.costs.is_some())
            .and_then(|machine| Some((machine, quick_size(case)?)))
    } else {
        None
    };
    if let Some((machine, problem)) = known {
        let costs = machine.costs.as_ref().expect("checked when it was read");
        let setting = Setting { machine: &machine, costs, network: SLOW_NETWORK };
        let time = |ranks: usize| {
            let threads = case.performance.threads.unwrap_or((cores / ranks).max(1));
            predict(&problem, &setting, Layout { nodes: 1, ranks, threads }).total
        };
        let mut tried: Vec<(usize, f64)> =
            (0..).map(|k| 1 << k).take_while(|&n| n < cores).map(|n| (n, time(n))).collect();
        tried.push((cores, time(cores)));
        if let Some(&(ranks, seconds)) = tried.iter().min_by(|a, b| a.1.total_cmp(&b.1)) {
            let (ranks, event) = event(ranks, "the fastest by the performance model");
            let by_ranks: serde_json::Map<String, serde_json::Value> =
                tried.iter().map(|(n, s)| (n.to_string(), json!(s))).collect();
            let event =
                event.input("dofs", problem.dofs()).input("predicted", seconds).input("by_ranks", by_ranks);
            return (ranks, event);
        }
    }
    event(launch::choose_ranks(case), "one rank for every 20,000 unknowns, as far as cores go")
}

/// How the ranks' own process learns why there are so many: it is started by another that chose.
const CHOSEN: &str = "FEMDD_RANKS_CHOSEN";

/// Keeps a choice of ranks for the processes that this one will start.
pub fn keep(event: &Event) {
    let text = serde_json::to_string(event).unwrap_or_default();
    // SAFETY: called by the only thread of a process that is about to start mpirun.
    unsafe { std::env::set_var(CHOSEN, text) };
}

/// Why there are so many ranks.
pub fn ranks_event(ranks: usize, asked: Option<usize>) -> Event {
    let kept: Option<Event> = std::env::var(CHOSEN).ok().and_then(|text| serde_json::from_str(&text).ok());
    match kept.filter(|event| event.choice == ranks.to_string()) {
        Some(event) => event,
        None if asked.is_some() => Event::new("ranks", ranks, "asked for by --ranks"),
        None if cluster::under_launcher() => Event::new("ranks", ranks, "started by the launcher"),
        None => Event::new("ranks", ranks, "a process by itself"),
    }
}

/// Why there are so many threads.
pub fn threads_event(threads: usize, asked: Option<usize>, case: &Case, on_node: usize) -> Event {
    let cores = launch::physical_cores();
    let because = match (asked, case.performance.threads) {
        (Some(_), _) => "asked for by --threads",
        (None, Some(_)) => "the case says so",
        (None, None) if !performance::scales(&case.performance) => "autoscale is off",
        (None, None) => "the cores that the node's ranks leave each",
    };
    Event::new("threads", threads, because).input("cores", cores).input("ranks_on_node", on_node)
}

/// What a run will take, where costs of phases are known of this machine and the size of the case is known at once.
/// One rank calls this.
pub fn expected(
    case: &Case,
    machine: &Machine,
    ranks: usize,
    threads: usize,
    nodes: usize,
) -> Option<Prediction> {
    // The size is looked up only where it is of use.
    machine.costs.as_ref()?;
    on_machine(machine, &quick_size(case)?, ranks, threads, nodes)
}

fn on_machine(
    machine: &Machine,
    problem: &Problem,
    ranks: usize,
    threads: usize,
    nodes: usize,
) -> Option<Prediction> {
    let costs = machine.costs.as_ref()?;
    let setting = Setting { machine, costs, network: SLOW_NETWORK };
    Some(predict(problem, &setting, Layout { nodes, ranks, threads }))
}

/// The event that says what was predicted.
pub fn plan_event(expected: &Prediction) -> Event {
    Event::new(
        "plan",
        format!("{:.3} s", expected.total),
        "predicted by the performance model before the run",
    )
    .input("seconds", expected.total)
    .input("uncertainty", expected.uncertainty)
    .input("iterations", expected.iterations)
    .input("memory_rank_bytes", expected.memory_rank)
    .input("dofs", expected.dofs)
}

/// Adds what was predicted and what was measured to a report; a table for the terminal. One rank calls this.
pub fn conclude(
    case: &Case,
    machine: &Machine,
    expected: Option<Prediction>,
    report: &mut RunReport,
    nodes: usize,
) -> Option<String> {
    let predicted = expected.or_else(|| {
        let problem = Problem::of_run(case, report).filter(|_| case.adapt.is_none())?;
        on_machine(machine, &problem, report.ranks, report.threads, nodes)
    })?;
    let compared: Compared = plan::compare(&predicted, report);
    report.extra.insert("plan".to_owned(), serde_json::to_value(&compared).ok()?);
    Some(compared.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        let time = |text: &str| duration(text).ok();
        assert_eq!(time("90s"), Some(90.0));
        assert_eq!(time("10min"), Some(600.0));
        assert_eq!(time("1.5h"), Some(5400.0));
        assert_eq!(time("2 d"), Some(172_800.0));
        assert!(
            time("soon").is_none() && time("-1s").is_none() && time("0s").is_none() && time("1e9y").is_none()
        );
        assert_eq!(size("192GiB").ok(), Some(192.0 * 1073741824.0));
        assert_eq!(size("200 GB").ok(), Some(2e11));
        assert!(size("192").is_err() && size("GiB").is_err());
    }
}
