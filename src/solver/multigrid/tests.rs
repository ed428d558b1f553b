//! What the preconditioner promises, on 1 to 4 ranks: each test starts itself again under `mpirun`.
//!
//! Start at `under_mpi`; `problems.rs` makes the matrices.

mod problems;

use std::time::Duration;

use cluster::{Comm, Halo, IndexMap};

use super::rows::Rows;
use super::{Assembled, Error, Input, Multigrid, Options, Transfer};
use crate::assembly::{Matrix, Pattern};
use problems::{Lattice, Operator, Problem, noise};

const LIMIT: Duration = Duration::from_secs(120);
const INSIDE: &str = "FEMDD_TEST_INSIDE";
const FIGURES: &str = "figures:";

/// Runs `body` on each of these numbers of ranks, with that many threads each; what it returned on rank 0.
fn under_mpi(test: &str, ranks: &[usize], threads: usize, body: fn(&Comm) -> Vec<u64>) -> Vec<Vec<u64>> {
    if std::env::var_os(INSIDE).is_some() {
        let session = cluster::init().expect("MPI starts");
        let comm = session.world();
        let figures = body(&comm);
        if comm.is_root() {
            println!("\n{FIGURES} {figures:?}");
        }
        return Vec::new();
    }
    let mut all = Vec::new();
    for &n in ranks {
        let mut command = testing::this_test(&format!("solver::multigrid::tests::{test}"), n);
        command.env(INSIDE, "1").env("RAYON_NUM_THREADS", threads.to_string());
        let ended = testing::finish(command, LIMIT);
        assert!(ended.succeeded(), "{test} on {n} ranks: {}", ended.text());
        let line = ended.stdout.lines().find_map(|line| line.strip_prefix(FIGURES)).expect("figures");
        let figures = line.trim().trim_matches(['[', ']']).split(", ").filter(|f| !f.is_empty());
        all.push(figures.map(|f| f.parse().expect("a number")).collect());
    }
    all
}

/// As [`under_mpi`] on 1 to 4 ranks, for bodies that return iterations: each within its window on every number
/// of ranks, and alike on all.
fn count_iterations(test: &str, most: &[u64], body: fn(&Comm) -> Vec<u64>) {
    let all = under_mpi(test, &[1, 2, 3, 4], 1, body);
    for figures in &all {
        assert_eq!(figures.len(), most.len());
        for (k, (found, most)) in figures.iter().zip(most).enumerate() {
            assert!(found <= most, "{test}, case {k}: {found} iterations, at most {most} expected: {all:?}");
            // Coefficients that jump by 1e6 leave single precision little, and the order of sums decides on the rest.
            assert!(found.abs_diff(all[0][k]) <= 2 + all[0][k] / 6, "{test}, case {k}: {all:?}");
        }
    }
}

fn multigrid(comm: &Comm, problem: &Problem, near_null: &[Vec<f64>], options: Options) -> Multigrid {
    let Problem { map, halo, .. } = problem;
    let (matrix, near_null) = (&problem.assembled(), near_null.to_vec());
    let input = Input { comm, map, halo, matrix, near_null, transfer: None, options };
    Multigrid::new(input).expect("levels")
}

fn dot(comm: &Comm, x: &[f64], y: &[f64]) -> f64 {
    comm.sum(x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>())
}

/// Conjugate gradients from zero to 1e-8: iterations. The right-hand side depends on places alone.
fn iterations(comm: &Comm, problem: &Problem, m: &mut Multigrid, null: bool) -> u64 {
    let block = problem.matrix.block;
    let n = problem.x.len() * block;
    let mut r: Vec<f64> = (0..n)
        .map(|k| {
            let x = problem.x[k / block];
            if problem.fixed[k] {
                0.0
            } else {
                1.0 + (7.0 * x[0] + 3.0 * x[1] + 5.0 * x[2] + k as f64 % 3.0).sin()
            }
        })
        .collect();
    let project = |r: &mut [f64]| {
        if null {
            let mean = comm.sum(r.iter().sum::<f64>()) / comm.sum(r.len() as u64) as f64;
            r.iter_mut().for_each(|r| *r -= mean);
        }
    };
    project(&mut r);
    let wanted = 1e-8 * dot(comm, &r, &r).sqrt();
    let mut x = vec![0.0; n];
    let mut z = vec![0.0; n];
    let mut p = vec![0.0; problem.map.n_local() * block];
    let mut q = vec![0.0; n];
    m.apply(&r, &mut z);
    project(&mut z);
    p[..n].copy_from_slice(&z);
    let mut rho = dot(comm, &r, &z);
    for k in 1..=200 {
        problem.product(&mut p, &mut q);
        let alpha = rho / dot(comm, &p[..n], &q);
        (0..n).for_each(|i| x[i] += alpha * p[i]);
        (0..n).for_each(|i| r[i] -= alpha * q[i]);
        if dot(comm, &r, &r).sqrt() <= wanted {
            return k;
        }
        m.apply(&r, &mut z);
        project(&mut z);
        let next = dot(comm, &r, &z);
        assert!(next > 0.0, "the preconditioner is not positive: {next}");
        let beta = next / rho;
        rho = next;
        (0..n).for_each(|i| p[i] = z[i] + beta * p[i]);
    }
    u64::MAX
}

const LAPLACE: Operator = Operator::Diffusion { k: &|_| [1.0; 3], c: 0.0 };

fn on_the_boundary(x: [f64; 3], _: usize) -> bool {
    x.iter().any(|&x| x == 0.0 || x == 1.0)
}

fn at_x_min(x: [f64; 3], _: usize) -> bool {
    x[0] == 0.0
}

fn nowhere(_: [f64; 3], _: usize) -> bool {
    false
}

/// Iterations with the default options.
fn solve(
    comm: &Comm,
    lattice: &Lattice,
    operator: &Operator,
    fixed: &dyn Fn([f64; 3], usize) -> bool,
) -> u64 {
    let problem = lattice.assemble(comm, operator, fixed);
    let modes = match operator {
        Operator::Elasticity { .. } => problem.rigid_motions(problem.matrix.block),
        Operator::Diffusion { .. } => Vec::new(),
    };
    let mut m = multigrid(comm, &problem, &modes, Options::default());
    let fixed = comm.sum(problem.fixed.iter().filter(|f| **f).count() as u64);
    let reaction = matches!(operator, Operator::Diffusion { c, .. } if *c != 0.0);
    iterations(comm, &problem, &mut m, fixed == 0 && !reaction)
}

#[test]
fn poisson_takes_few_iterations() {
    count_iterations("poisson_takes_few_iterations", &[15, 17, 17, 17, 16], |comm| {
        let flat = Lattice { jitter: 0.0, ..Lattice::cube(20) };
        let long = Lattice { n: [400, 1, 1], ..Lattice::cube(1) };
        vec![
            solve(comm, &flat, &LAPLACE, &on_the_boundary),
            solve(comm, &Lattice::cube(24), &LAPLACE, &on_the_boundary),
            solve(comm, &Lattice::cube(20), &LAPLACE, &at_x_min),
            solve(comm, &Lattice::square(90), &LAPLACE, &|x, _| on_the_boundary([x[0], x[1], 0.5], 0)),
            solve(comm, &long, &LAPLACE, &at_x_min),
        ]
    });
}

#[test]
fn elasticity_takes_few_iterations() {
    count_iterations("elasticity_takes_few_iterations", &[20, 20, 36, 23], |comm| {
        let steel = Operator::Elasticity { lambda: 0.3 / (1.3 * 0.4), mu: 1.0 / 2.6 };
        let beam = Lattice { n: [61, 5, 5], size: [15.0, 1.0, 1.0], jitter: 0.2 };
        let roller = |x: [f64; 3], c: usize| {
            (x[0] == 0.0 && c == 0) || (x[1] == 0.0 && c == 1) || (x[2] == 0.0 && c == 2)
        };
        vec![
            solve(comm, &Lattice::cube(12), &steel, &at_x_min),
            solve(comm, &Lattice::cube(12), &steel, &roller),
            solve(comm, &beam, &steel, &at_x_min),
            solve(comm, &Lattice::square(40), &steel, &at_x_min),
        ]
    });
}

#[test]
fn hard_coefficients_do_not_break_it() {
    count_iterations("hard_coefficients_do_not_break_it", &[23, 27, 9, 17], |comm| {
        let jump = |x: [f64; 3]| {
            let inside = x.iter().all(|x| (0.3..0.7).contains(x));
            [if inside { 1e6 } else { 1.0 }; 3]
        };
        let boxes = Operator::Diffusion { k: &jump, c: 0.0 };
        let stretched = Operator::Diffusion { k: &|_| [1.0, 1.0, 100.0], c: 0.0 };
        let mass = Operator::Diffusion { k: &|_| [1e-6; 3], c: 1.0 };
        vec![
            solve(comm, &Lattice::cube(18), &boxes, &on_the_boundary),
            solve(comm, &Lattice::cube(18), &stretched, &on_the_boundary),
            solve(comm, &Lattice::cube(14), &mass, &nowhere),
            // Nothing prescribed: solved up to a constant.
            solve(comm, &Lattice::cube(18), &LAPLACE, &nowhere),
        ]
    });
}

#[test]
fn it_is_symmetric_and_scales() {
    under_mpi("it_is_symmetric_and_scales", &[1, 3], 1, |comm| {
        for degree in 1..=4 {
            let mut problem = Lattice::cube(12).assemble(comm, &LAPLACE, &at_x_min);
            let options = Options { degree, ..Options::default() };
            let mut m = multigrid(comm, &problem, &[], options.clone());
            let n = problem.x.len();
            let vector = |seed: u64| -> Vec<f64> {
                (0..n).map(|k| noise(seed + 3 * (problem.map.offset() + k as u64))).collect()
            };
            let (x, y) = (vector(1), vector(2));
            let (mut mx, mut my) = (vec![0.0; n], vec![0.0; n]);
            m.apply(&x, &mut mx);
            m.apply(&y, &mut my);
            let (xy, yx) = (dot(comm, &x, &my), dot(comm, &y, &mx));
            let size = (dot(comm, &x, &mx) * dot(comm, &y, &my)).sqrt();
            assert!((xy - yx).abs() < 1e-5 * size, "degree {degree}: {xy} and {yx} of {size}");
            // Units do not matter.
            let scale = (2.0f64).powi(-120);
            let tiny: Vec<f64> = x.iter().map(|x| x * scale).collect();
            m.apply(&tiny, &mut my);
            assert!(mx.iter().zip(&my).all(|(a, b)| a * scale == *b));
            problem.matrix.diag.iter_mut().chain(&mut problem.matrix.off).for_each(|v| *v *= scale);
            let mut small = multigrid(comm, &problem, &[], options);
            small.apply(&x, &mut my);
            let error = mx.iter().zip(&my).map(|(a, b)| (a - b * scale).abs()).fold(0.0, f64::max);
            let largest = mx.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            assert!(error <= 1e-4 * largest, "{error} of {largest}");
            m.apply(&vec![0.0; n], &mut my);
            assert!(my.iter().all(|y| *y == 0.0));
        }
        Vec::new()
    });
}

#[test]
fn threads_do_not_change_a_bit() {
    let test = "threads_do_not_change_a_bit";
    // The body has to know its threads, so each number starts its own.
    let run = |threads| {
        under_mpi(test, &[1, 2], threads, |comm| {
            let mut sums = vec![];
            let steel = Operator::Elasticity { lambda: 0.6, mu: 0.4 };
            for (lattice, operator) in [(Lattice::cube(36), LAPLACE), (Lattice::cube(16), steel)] {
                let problem = lattice.assemble(comm, &operator, &at_x_min);
                let mut m = multigrid(comm, &problem, &[], Options::default());
                let n = problem.fixed.len();
                let x: Vec<f64> = (0..n).map(|k| noise(problem.map.offset() + k as u64)).collect();
                let mut y = vec![0.0; n];
                m.apply(&x, &mut y);
                sums.push(y.iter().fold(0u64, |h, y| h.rotate_left(5) ^ y.to_bits()));
            }
            sums
        })
    };
    let one = run(1);
    if !one.is_empty() {
        assert_eq!(one, run(3));
    }
}

/// Many bodies that do not touch each other, and nodes that touch nothing: on each rank `bodies` chains of
/// `length` nodes, the first of each held, and as many single nodes.
fn islands(comm: &Comm, bodies: usize, length: usize) -> Problem {
    let n = bodies * (length + 1);
    let map = IndexMap::new(comm, n, Vec::new(), Vec::new());
    let halo = Halo::new(comm, &map);
    let mut pattern =
        Pattern { n_rows: n, diag_ptr: vec![0], diag_col: vec![], off_ptr: vec![0; n + 1], off_col: vec![] };
    let mut diag = Vec::new();
    for node in 0..n {
        let at = node % (length + 1);
        for (there, column, value) in [
            (at > 1 && at < length, node.wrapping_sub(1), -1.0),
            (true, node, if at == 0 || at + 1 >= length { 1.0 } else { 2.0 }),
            (at > 0 && at + 1 < length, node + 1, -1.0),
        ] {
            if there {
                pattern.diag_col.push(column as u32);
                diag.push(value);
            }
        }
        pattern.diag_ptr.push(pattern.diag_col.len());
    }
    let x = (0..n).map(|k| [k as f64, 0.0, 0.0]).collect();
    let matrix = Matrix { block: 1, diag, off: Vec::new() };
    Problem { map, halo, pattern, matrix, x, fixed: vec![false; n] }
}

#[test]
fn thousands_of_bodies_are_no_trouble() {
    count_iterations("thousands_of_bodies_are_no_trouble", &[25, 12], |comm| {
        [(3000, 12), (3000, 2)]
            .map(|(bodies, length)| {
                let problem = islands(comm, bodies, length);
                let mut m = multigrid(comm, &problem, &[], Options::default());
                iterations(comm, &problem, &mut m, false)
            })
            .to_vec()
    });
}

#[test]
fn many_ranks_with_little_to_do() {
    // Three nodes a rank, and ranks with none at all.
    let all = under_mpi("many_ranks_with_little_to_do", &[8], 1, |comm| {
        let steel = Operator::Elasticity { lambda: 0.6, mu: 0.4 };
        let few = Lattice { n: [24, 1, 1], ..Lattice::cube(1) };
        let none = Lattice { n: [3, 1, 1], ..Lattice::cube(1) };
        let plate = Lattice { n: [24, 24, 1], ..Lattice::cube(1) };
        vec![
            solve(comm, &few, &LAPLACE, &at_x_min),
            solve(comm, &none, &LAPLACE, &at_x_min),
            solve(comm, &plate, &steel, &at_x_min),
            solve(comm, &Lattice::cube(11), &steel, &at_x_min),
        ]
    });
    let Some(all) = all.first() else { return };
    assert!(all[0] <= 3 && all[1] <= 2 && all[2] <= 22 && all[3] <= 22, "{all:?}");
}

#[test]
fn a_given_prolongation_is_used() {
    count_iterations("a_given_prolongation_is_used", &[20], |comm| {
        // Every second node of a chain, linear in between: bricks along one axis number nodes by place.
        let lattice = Lattice { n: [3601, 1, 1], size: [1.0; 3], jitter: 0.0 };
        let problem = lattice.assemble(comm, &LAPLACE, &at_x_min);
        let (low, n) = (problem.map.offset(), problem.map.n_owned() as u64);
        let (first, end) = (low.div_ceil(2), (low + n).div_ceil(2));
        let neighbours = |node: u64| {
            if node.is_multiple_of(2) {
                vec![(node / 2, 1.0)]
            } else {
                vec![(node / 2, 0.5), (node / 2 + 1, 0.5)]
            }
        };
        let ranges: Vec<u64> = comm.all_gather(end);
        let mut ghosts: Vec<u64> = (low..low + n)
            .flat_map(|node| neighbours(node).into_iter().map(|n| n.0))
            .filter(|c| !(first..end).contains(c))
            .collect();
        ghosts.sort_unstable();
        ghosts.dedup();
        let owners = ghosts.iter().map(|g| ranges.partition_point(|end| end <= g) as u32).collect();
        let map = IndexMap::new(comm, (end - first) as usize, ghosts, owners);
        let halo = Halo::new(comm, &map);
        let (mut ptr, mut col, mut val) = (vec![0], vec![], vec![]);
        for node in low..low + n {
            // Node 0 is prescribed, and so is coarse node 0.
            for (coarse, weight) in neighbours(node).into_iter().filter(|(c, _)| *c > 0) {
                col.push(map.global_to_local(coarse).expect("owned or ghost"));
                val.push(weight);
            }
            ptr.push(col.len() as u32);
        }
        let Problem { map: nodes, halo: moves, .. } = &problem;
        let transfer = Transfer { map, halo, block: 1, ptr, col, val, near_null: Vec::new(), matrix: None };
        let input = Input {
            comm,
            map: nodes,
            halo: moves,
            matrix: &problem.assembled(),
            near_null: Vec::new(),
            transfer: Some(transfer),
            options: Options::default(),
        };
        let mut m = Multigrid::new(input).expect("levels");
        assert_eq!(m.summary().levels[1].unknowns, 1801);
        vec![iterations(comm, &problem, &mut m, false)]
    });
}

#[test]
fn what_cannot_be_done_is_said() {
    under_mpi("what_cannot_be_done_is_said", &[1, 2], 1, |comm| {
        let mut problem = Lattice::cube(4).assemble(comm, &LAPLACE, &at_x_min);
        let attempt = |problem: &Problem, near_null: &[Vec<f64>]| {
            let Problem { map, halo, .. } = problem;
            let options = Options::default();
            let (matrix, near_null) = (&problem.assembled(), near_null.to_vec());
            let input = Input { comm, map, halo, matrix, near_null, transfer: None, options };
            Multigrid::new(input).err()
        };
        let n = problem.x.len();
        assert!(matches!(attempt(&problem, &[vec![1.0; n + 1]]), Some(Error::Length { .. })));
        let two = [vec![1.0; n], vec![1.0; n]];
        assert_eq!(attempt(&problem, &two), Some(Error::Blocks { block: 1, modes: 2 }));
        assert_eq!(attempt(&problem, &[]), None);
        // On one rank alone.
        if comm.rank() == comm.size() - 1 {
            *problem.entry(0, 0, 0, 0) = -1.0;
        }
        assert_eq!(attempt(&problem, &[]), Some(Error::Diagonal));
        Vec::new()
    });
}

/// What is dropped is round-off of zero, what is kept is as it was, and so are the columns that a level shares.
#[test]
fn round_off_of_zero_is_dropped() {
    under_mpi("round_off_of_zero_is_dropped", &[1, 3], 1, |comm| {
        let steel = Operator::Elasticity { lambda: 0.6, mu: 0.4 };
        for operator in [LAPLACE, steel] {
            let mut problem = Lattice::cube(7).assemble(comm, &operator, &at_x_min);
            let block = problem.matrix.block;
            let n_all = problem.pattern.diag_col.len() + problem.pattern.off_col.len();
            let whole = problem.assembled();
            // Every third coupling with another node becomes noise, far below the diagonal.
            let (mut n_noise, mut kept) = (0, Vec::new());
            for row in 0..problem.pattern.n_rows {
                let p = &problem.pattern;
                let owned = p.diag_col[p.diag_ptr[row]..p.diag_ptr[row + 1]].to_vec();
                let ghosts = p.off_col[p.off_ptr[row]..p.off_ptr[row + 1]].to_vec();
                for column in owned.into_iter().chain(ghosts) {
                    let is_noise = column as usize != row && (column as usize + row).is_multiple_of(3);
                    let mut sum = 0.0;
                    for (a, b) in (0..block).flat_map(|a| (0..block).map(move |b| (a, b))) {
                        let entry = problem.entry(row, column, a, b);
                        if is_noise {
                            *entry = 1e-19;
                        }
                        sum += entry.abs();
                    }
                    if is_noise || sum == 0.0 {
                        n_noise += 1;
                    } else {
                        kept.push((row, column));
                    }
                }
            }
            let lean = problem.assembled();
            assert!(n_noise > n_all / 10 && whole.n_entries() > lean.n_entries());
            assert_eq!(lean.n_entries(), n_all - n_noise);
            let mut found = Vec::new();
            let visit = |matrix: &Assembled, row: usize| {
                let mut all: Vec<(u32, Vec<f64>)> = Vec::new();
                match block {
                    1 => Rows::<1>::visit(matrix, row, |c, v| all.push((c, v.as_flattened().to_vec()))),
                    _ => Rows::<3>::visit(matrix, row, |c, v| all.push((c, v.as_flattened().to_vec()))),
                }
                all
            };
            for row in 0..lean.n_rows() {
                let before = visit(&whole, row);
                assert!(lean.owned_columns(row).iter().chain(lean.ghost_columns(row)).is_sorted());
                for (column, values) in visit(&lean, row) {
                    let same = before.iter().find(|(c, _)| *c == column).expect("was there");
                    assert_eq!(same.1, values, "row {row}, column {column}");
                    found.push((row, column));
                }
            }
            assert_eq!(found, kept);
        }
        Vec::new()
    });
}

/// A chain of some tasks' rows on each rank, whose nodes also couple to the next but one: in two rows of three by
/// round-off alone.
fn long_chain(comm: &Comm) -> (IndexMap, Pattern, Matrix) {
    let n = 9 * 4096 + 13;
    let (first, n_global) = ((comm.rank() * n) as i64, (comm.size() * n) as i64);
    let beyond = [first - 1, first + n as i64, first + n as i64 + 1];
    let ghosts: Vec<u64> =
        beyond.into_iter().filter(|g| (0..n_global).contains(g)).map(|g| g as u64).collect();
    let owners = ghosts.iter().map(|g| (*g as usize / n) as u32).collect();
    let (mut diag_ptr, mut off_ptr) = (vec![0], vec![0]);
    let (mut diag_col, mut off_col, mut diag, mut off) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in first..first + n as i64 {
        let far = if row % 3 == 0 { -0.25 } else { 1e-18 };
        for (column, value) in [(row - 1, -1.0), (row, 2.5), (row + 1, -1.0), (row + 2, far)] {
            if (first..first + n as i64).contains(&column) {
                diag_col.push((column - first) as u32);
                diag.push(value);
            } else if let Ok(ghost) = ghosts.binary_search(&(column as u64)) {
                off_col.push((n + ghost) as u32);
                off.push(value);
            }
        }
        diag_ptr.push(diag_col.len());
        off_ptr.push(off_col.len());
    }
    let map = IndexMap::from_parts(n, first as u64, n_global as u64, ghosts, owners);
    (map, Pattern { n_rows: n, diag_ptr, diag_col, off_ptr, off_col }, Matrix { block: 1, diag, off })
}

#[test]
fn round_off_is_dropped_however_many_threads() {
    under_mpi("round_off_is_dropped_however_many_threads", &[1, 2], 1, |comm| {
        for threads in [1, 3] {
            let (map, mut pattern, matrix) = long_chain(comm);
            let mut expected: Vec<Vec<(u32, f64)>> = Vec::new();
            for row in 0..pattern.n_rows {
                let owned = pattern.diag_ptr[row]..pattern.diag_ptr[row + 1];
                let ghosts = pattern.off_ptr[row]..pattern.off_ptr[row + 1];
                let owned = pattern.diag_col[owned.clone()].iter().copied().zip(matrix.diag[owned].to_vec());
                let ghosts = pattern.off_col[ghosts.clone()].iter().copied().zip(matrix.off[ghosts].to_vec());
                expected.push(owned.chain(ghosts).filter(|entry| entry.1.abs() > 1e-15).collect());
            }
            let halo = Halo::new(comm, &map);
            let make = || Assembled::new(&mut pattern, matrix, &halo, map.n_local());
            let assembled = if threads == 1 {
                make()
            } else {
                // MPI is called by the thread that started it: it takes part in the pool.
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build();
                pool.expect("threads").install(make)
            };
            for (row, expected) in expected.iter().enumerate() {
                let mut found = Vec::new();
                Rows::<1>::visit(&assembled, row, |column, value| found.push((column, value[0][0])));
                assert_eq!(&found, expected, "row {row}, {threads} threads");
            }
            let left: usize = expected.iter().map(Vec::len).sum();
            assert_eq!(assembled.n_entries(), left);
        }
        Vec::new()
    });
}
