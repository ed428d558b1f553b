//! The table: what rebalancing costs and leaves on meshes that are refined step by step, beside METIS from
//! scratch with the names of its parts exchanged.

use cluster::Comm;
use partition::{Fallback, Method, Reference, StealOptions, rebalance};

use crate::tree::{ABRUPT, SCENES, Scene};

const STEPS: usize = 6;

/// What happened to a scene over its steps.
#[derive(Default)]
struct Row {
    triggered: usize,
    fallbacks: usize,
    /// Steps in which METIS was asked, and its answer perhaps not taken.
    asked: usize,
    vertices: u64,
    before: f64,
    after: f64,
    rounds: u64,
    claims: u64,
    /// Steps in which ranks stole: what moved, the flow, and METIS's moves in the same steps.
    moved: u64,
    flow: f64,
    metis_moved: u64,
    /// What has to leave its rank in the same steps, however loads are evened out to the target.
    least: f64,
    most_of_flow: f64,
    worst_cut: f64,
    bytes: u64,
}

/// Bytes that move with a leaf.
const BYTES: u32 = 200;

fn run(comm: &Comm, scene: &Scene, base: u32) -> Row {
    let options = StealOptions { dimensions: scene.dimensions as u32, ..StealOptions::default() };
    let metis = StealOptions { method: Method::Metis, trigger: 0.0, ..options.clone() };
    let (mut tree, weights) = scene.step(base, 0);
    let mut owner: Vec<u32> = vec![0; tree.leaves.len()];
    for (k, o) in owner.iter_mut().enumerate() {
        *o = (k * comm.size() / weights.len()) as u32;
    }
    let (graph, mine) = tree.graph(comm, &owner, &weights);
    let first = rebalance(comm, &graph, &[], None, None, &metis).expect("a partition");
    owner = tree.collect(comm, &mine, &first.owner);
    let mut reference: Option<Reference> = first.reference;

    let mut row = Row::default();
    for step in 1..=STEPS {
        let (next, weights) = scene.step(base, step);
        owner = next.inherit(&tree, &owner);
        if scene.empties && step % 2 == 1 {
            let (gone, size) = ((step / 2 % comm.size()) as u32, comm.size() as u32);
            owner.iter_mut().filter(|o| **o == gone).for_each(|o| *o = (gone + 1) % size);
        }
        tree = next;
        row.vertices = tree.leaves.len() as u64;
        let (graph, mine) = tree.graph(comm, &owner, &weights);
        let bytes = vec![BYTES; mine.len()];
        let made = rebalance(comm, &graph, &bytes, reference, None, &options).expect("new owners");
        let report = &made.report;
        if report.method != Method::None {
            let scratch = rebalance(comm, &graph, &bytes, None, None, &metis).expect("a partition").report;
            let cut = report.edge_cut_after as f64 / scratch.edge_cut_after as f64;
            let of_flow = report.moved_weight as f64 / report.flow_l1.max(1.0);
            row.triggered += 1;
            row.before = row.before.max(report.imbalance_before);
            row.after = row.after.max(report.imbalance_after);
            row.worst_cut = row.worst_cut.max(cut);
            let what = format!("{} on {} ranks, step {step}: {report:?}", scene.name, comm.size());
            assert!(report.imbalance_after <= 1.03 + report.vertex_share + 1e-9, "{what}");
            assert!(cut <= 1.25, "{what}: METIS cuts {}", scratch.edge_cut_after);
            assert!(
                report.moved_weight <= scratch.moved_weight,
                "{what}: METIS moves {}",
                scratch.moved_weight
            );
            if report.method == Method::Steal {
                assert!(of_flow <= 1.2, "{what}");
                row.rounds = row.rounds.max(report.rounds);
                row.claims += report.claims;
                row.flow += report.flow_l1;
                row.most_of_flow = row.most_of_flow.max(of_flow);
            } else {
                let doubted = matches!(report.fallback, Some(Fallback::Cut | Fallback::Flow));
                assert!(doubted, "{what}");
                row.fallbacks += 1;
            }
            row.asked += usize::from(report.fallback.is_some());
            row.moved += report.moved_weight;
            row.metis_moved += scratch.moved_weight;
            row.least += least_to_move(comm.size(), &owner, &weights, options.target);
            row.bytes += report.moved_bytes;
        }
        reference = made.reference;
        owner = tree.collect(comm, &mine, &made.owner);
    }
    row
}

/// The weight above `target` times the mean on all ranks: whatever the method, so much moves at least.
fn least_to_move(size: usize, owner: &[u32], weights: &[i32], target: f64) -> f64 {
    let mut loads = vec![0.0; size];
    owner.iter().zip(weights).for_each(|(&o, &w)| loads[o as usize] += f64::from(w));
    let most = target * loads.iter().sum::<f64>() / size as f64;
    loads.iter().map(|load| (load - most).max(0.0)).sum()
}

/// Scenes that change step by step: ranks steal nearly always, and move less than half of what METIS would.
pub fn table(comm: &Comm) {
    let [moved, metis, steps, fallbacks] = print(comm, &SCENES);
    assert!(steps >= 20, "{steps} steps were uneven");
    let often = if comm.size() < 64 { 6 } else { 4 };
    assert!(often * fallbacks <= steps, "METIS's parts were taken in {fallbacks} of {steps} steps");
    assert!(2 * moved <= metis, "{moved} moved, METIS moves {metis}");
}

/// Scenes in which most of the weight is somewhere else at once, so that most of what METIS moves has to move.
pub fn table_of_abrupt_changes(comm: &Comm) {
    let [moved, metis, steps, _] = print(comm, &ABRUPT);
    assert!(steps >= 20, "{steps} steps were uneven");
    assert!(moved <= metis, "{moved} moved, METIS moves {metis}");
}

/// Every scene, with assertions on each step; printed by rank 0. What moved, what METIS moves, steps, METIS taken.
fn print(comm: &Comm, scenes: &[Scene]) -> [u64; 4] {
    if comm.is_root() {
        println!(
            "| scene | ranks | cells | rebalanced | METIS asked, taken | before | after | rounds | claims | moved / flow | moved / METIS's | least / METIS's | cut / METIS's | MB |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    }
    let mut totals = [0; 4];
    for scene in scenes {
        let base = match (scene.dimensions, comm.size()) {
            (2, 0..8) => 40,
            (2, 8..32) => 56,
            (2, _) => 80,
            (_, 0..8) => 12,
            (_, 8..32) => 16,
            _ => 20,
        };
        let row = run(comm, scene, base);
        if comm.is_root() {
            println!(
                "| {} | {} | {} | {} of {STEPS} | {}, {} | {:.2} | {:.3} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} |",
                scene.name,
                comm.size(),
                row.vertices,
                row.triggered,
                row.asked,
                row.fallbacks,
                row.before,
                row.after,
                row.rounds,
                row.claims,
                row.most_of_flow,
                row.moved as f64 / row.metis_moved.max(1) as f64,
                row.least / row.metis_moved.max(1) as f64,
                row.worst_cut,
                row.bytes as f64 / 1e6
            );
        }
        let (moved, metis) = (row.moved as f64, row.metis_moved as f64);
        assert!(
            moved <= row.least + scene.beyond * (metis - row.least),
            "{} on {} ranks: {moved} moved of METIS's {metis}, {} have to",
            scene.name,
            comm.size(),
            row.least
        );
        let of_row = [row.moved, row.metis_moved, row.triggered as u64, row.fallbacks as u64];
        totals.iter_mut().zip(of_row).for_each(|(sum, x)| *sum += x);
    }
    totals
}
