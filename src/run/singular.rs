//! Which motions or levels the conditions of a case leave free, body by body.
//!
//! A problem without enough essential conditions is singular. It is found before the solve, from small
//! matrices: each body (a connected part of the mesh) has a constant, or the rigid motions, as its
//! possible null space, and each prescribed DOF takes out what it feels of it.

use rayon::prelude::*;

use crate::assembly::Constraints;
use crate::mesh::Mesh;
use crate::space::Space;

/// The connected parts of a mesh.
pub struct Bodies {
    /// How many there are.
    pub n: usize,
    /// The part of this rank's mesh that each local node of a space belongs to.
    part: Vec<u32>,
    /// The body of each part.
    body: Vec<u32>,
}

impl Bodies {
    /// The body of a local node.
    pub fn of(&self, node: usize) -> usize {
        self.body[self.part[node] as usize] as usize
    }
}

/// A forest over the nodes in which every node's parent has a lesser number, but for roots.
struct Connected(Vec<u32>);

impl Connected {
    fn root(&mut self, mut v: u32) -> u32 {
        let parent = &mut self.0;
        while parent[v as usize] != v {
            parent[v as usize] = parent[parent[v as usize] as usize];
            v = parent[v as usize];
        }
        v
    }

    /// Nodes are of one tree from here on.
    #[inline]
    fn join(&mut self, nodes: &[u32]) {
        let parent = &mut self.0[..];
        let least = nodes.iter().fold(u32::MAX, |least, &v| least.min(parent[v as usize]));
        // Most often each of them hangs from one root or was not seen before: no branch tells the two apart.
        let plain = nodes.iter().fold(parent[least as usize] == least, |plain, &v| {
            let up = parent[v as usize];
            plain & ((up == least) | (up == v))
        });
        if plain {
            nodes.iter().for_each(|&v| parent[v as usize] = least);
        } else {
            self.unite(nodes);
        }
    }

    /// [`Connected::join`], for each of the cells whose nodes `table` lists.
    fn join_all<const N: usize>(&mut self, table: &[u32]) {
        table.as_chunks::<N>().0.iter().for_each(|nodes| self.join(nodes));
    }

    fn unite(&mut self, nodes: &[u32]) {
        let mut first = self.root(nodes[0]);
        for &v in &nodes[1..] {
            let other = self.root(v);
            self.0[first.max(other) as usize] = first.min(other);
            first = first.min(other);
            self.0[v as usize] = first;
        }
    }
}

/// Threads that look for connected parts, at most: each has a forest of its own, and all are joined.
const MOST_FORESTS: usize = 4;

/// Cells of a thread, at least.
const LEAST_CELLS: usize = 50_000;

/// The parts of this rank's mesh that cells connect: the first local node of each, and the part of each local node.
fn parts(mesh: &Mesh, space: &Space) -> (Vec<u32>, Vec<u32>) {
    let n_cells: usize = mesh.blocks.iter().map(|b| b.n_cells).sum();
    let n = (n_cells / LEAST_CELLS).min(rayon::current_num_threads()).clamp(1, MOST_FORESTS);
    let forest = |k: usize| {
        let mut forest = Connected((0..space.map.n_local() as u32).collect());
        for (b, block) in mesh.blocks.iter().enumerate() {
            let width = space.elements[b].n_nodes();
            let cells = k * block.n_cells / n..(k + 1) * block.n_cells / n;
            let table = &space.cell_to_node[b][cells.start * width..cells.end * width];
            // The number of nodes as a constant where large problems have it.
            match width {
                3 => forest.join_all::<3>(table),
                4 => forest.join_all::<4>(table),
                _ => table.chunks_exact(width).for_each(|nodes| forest.join(nodes)),
            }
        }
        forest
    };
    let mut forests = (0..n).into_par_iter().map(forest).collect::<Vec<_>>().into_iter();
    let mut all = forests.next().expect("one at least");
    for forest in forests {
        for (v, &up) in forest.0.iter().enumerate().filter(|(v, up)| **up != *v as u32) {
            all.join(&[v as u32, up]);
        }
    }
    // Roots are the least of their trees, whatever the order of joining.
    let mut parent = all.0;
    // Parents come before their children: theirs are numbers of parts already.
    let mut first = Vec::new();
    for v in 0..parent.len() {
        let up = parent[v] as usize;
        parent[v] = if up == v {
            first.push(v as u32);
            first.len() as u32 - 1
        } else {
            parent[up]
        };
    }
    (first, parent)
}

/// Finds the connected parts: local searches, then least labels pass between ranks until none changes.
/// Collective.
pub fn bodies(mesh: &Mesh, space: &Space) -> Bodies {
    let (first, part) = parts(mesh, space);
    let (n_owned, n_local) = (space.map.n_owned(), space.map.n_local());
    // The least global number of a part's nodes: owned ones are in global order, and come before ghosts.
    let mut label: Vec<u64> = first.iter().map(|&v| space.map.local_to_global(v)).collect();
    for (v, &p) in part.iter().enumerate().skip(n_owned) {
        label[p as usize] = label[p as usize].min(space.map.local_to_global(v as u32));
    }
    let mut labels = vec![0u64; if mesh.comm.size() > 1 { n_local } else { 0 }];
    while mesh.comm.size() > 1 {
        // Ghosts take their owner's label. The owner of a node has all cells around it, so that a label
        // that is less on another rank reaches it through the other nodes of those cells.
        labels.iter_mut().zip(&part).for_each(|(l, &p)| *l = label[p as usize]);
        space.halo.forward(&mut labels, 1);
        let mut changed = false;
        for (&owners, &p) in labels[n_owned..].iter().zip(&part[n_owned..]) {
            changed |= owners < label[p as usize];
            label[p as usize] = label[p as usize].min(owners);
        }
        if !mesh.comm.any(changed) {
            break;
        }
    }
    // Labels are few; every rank learns them all. Each is the number of a node that some rank owns.
    let mut mine = label.clone();
    mine.sort_unstable();
    mine.dedup();
    let (mut all, _) = mesh.comm.all_gather_varied(&mine);
    all.sort_unstable();
    all.dedup();
    let body = label.iter().map(|l| all.binary_search(l).map_or(0, |k| k as u32)).collect();
    Bodies { n: all.len(), part, body }
}

/// One of the rigid motions of a body in `dim` dimensions, translations, then rotations, at a point relative to `center`.
pub fn rigid_motion(dim: usize, k: usize, x: &[f64; 3], center: &[f64; 3]) -> [f64; 3] {
    let r = [x[0] - center[0], x[1] - center[1], x[2] - center[2]];
    if k < dim {
        let mut axis = [0.0; 3];
        axis[k] = 1.0;
        return axis;
    }
    // In the plane the one rotation is about z.
    match if dim == 2 { 2 } else { k - dim } {
        0 => [0.0, -r[2], r[1]],
        1 => [r[2], 0.0, -r[0]],
        _ => [-r[1], r[0], 0.0],
    }
}

/// Names of the rigid motions, in their order.
pub fn motion_names(dim: usize) -> &'static [&'static str] {
    match dim {
        1 => &["translation along x"],
        2 => &["translation along x", "translation along y", "rotation in the plane"],
        _ => &[
            "translation along x",
            "translation along y",
            "translation along z",
            "rotation about x",
            "rotation about y",
            "rotation about z",
        ],
    }
}

/// A body's free motions.
#[derive(Debug, Clone, PartialEq)]
pub struct Free {
    /// The body.
    pub body: usize,
    /// Each a combination of the rigid motions (about the body's centre, lengths scaled by its size).
    pub motions: Vec<Vec<f64>>,
}

/// The free motions of every body that has any. Collective.
///
/// `linked` tells per body whether something beside essential conditions holds it (a reaction term, a
/// Robin condition): it then has none.
pub fn free_motions(
    mesh: &Mesh,
    space: &Space,
    bodies: &Bodies,
    constraints: &Constraints,
    x: &[[f64; 3]],
    vector: bool,
    periodic_axes: &[bool; 3],
) -> Vec<Free> {
    let dim = mesh.dim;
    let m = if vector { motion_names(dim).len() } else { 1 };
    let (low, high) = mesh.bounds();
    let center = [0, 1, 2].map(|d| 0.5 * (low[d] + high[d]));
    let size = (0..3).map(|d| high[d] - low[d]).fold(0.0, f64::max).max(1e-300);
    let mut gram = vec![0.0; bodies.n * m * m];
    for node in (0..space.map.n_owned()).filter(|&node| constraints.is_any_fixed(node)) {
        let body = bodies.of(node);
        if !vector && gram[body] > 0.0 {
            // One node holds a constant.
            continue;
        }
        for direction in constraints.directions(node) {
            // Six at most, the first for a scalar.
            let mut feel = [1.0; 6];
            if vector {
                for (k, feel) in feel[..m].iter_mut().enumerate() {
                    let v = rigid_motion(dim, k, &x[node], &center);
                    let s = if k < dim { 1.0 } else { 1.0 / size };
                    *feel = s * (0..3).map(|d| v[d] * direction[d]).sum::<f64>();
                }
            }
            for a in 0..m {
                for b in 0..m {
                    gram[body * m * m + a * m + b] += feel[a] * feel[b];
                }
            }
        }
    }
    mesh.comm.sum_slice(&mut gram);
    let mut free = Vec::new();
    for body in 0..bodies.n {
        let g = &mut gram[body * m * m..][..m * m];
        if vector {
            // A rotation is no motion of a periodic body: it is held by its images.
            for k in dim..m {
                let turns = if dim == 2 {
                    periodic_axes[0] || periodic_axes[1]
                } else {
                    (0..3).any(|d| d != k - dim && periodic_axes[d])
                };
                if turns {
                    g[k * m + k] += 1.0;
                }
            }
        }
        let motions = null_space(g, m);
        if !motions.is_empty() {
            free.push(Free { body, motions });
        }
    }
    free
}

/// An orthonormal basis of the null space of a small symmetric positive semidefinite matrix, by Jacobi's
/// eigenvalue iteration (Golub and Van Loan, Matrix Computations, section 8.5).
fn null_space(matrix: &[f64], m: usize) -> Vec<Vec<f64>> {
    let mut a = matrix.to_vec();
    let scale = (0..m).map(|k| a[k * m + k]).fold(0.0, f64::max);
    let mut v = vec![0.0; m * m];
    (0..m).for_each(|k| v[k * m + k] = 1.0);
    for _ in 0..50 {
        let mut off = 0.0;
        for p in 0..m {
            for q in p + 1..m {
                let apq = a[p * m + q];
                off += apq * apq;
                if apq == 0.0 {
                    continue;
                }
                let theta = (a[q * m + q] - a[p * m + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..m {
                    let (x, y) = (a[k * m + p], a[k * m + q]);
                    a[k * m + p] = c * x - s * y;
                    a[k * m + q] = s * x + c * y;
                }
                for k in 0..m {
                    let (x, y) = (a[p * m + k], a[q * m + k]);
                    a[p * m + k] = c * x - s * y;
                    a[q * m + k] = s * x + c * y;
                    let (x, y) = (v[k * m + p], v[k * m + q]);
                    v[k * m + p] = c * x - s * y;
                    v[k * m + q] = s * x + c * y;
                }
            }
        }
        if off <= 1e-30 * scale * scale {
            break;
        }
    }
    (0..m)
        .filter(|&k| a[k * m + k] <= 1e-10 * scale || scale == 0.0)
        .map(|k| (0..m).map(|row| v[row * m + k]).collect())
        .collect()
}

/// A free motion in words: the rigid motions that make it up.
pub fn describe(motion: &[f64], dim: usize) -> String {
    let largest = motion.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let names: Vec<&str> = motion
        .iter()
        .zip(motion_names(dim))
        .filter(|(part, _)| part.abs() > 0.1 * largest)
        .map(|(_, name)| *name)
        .collect();
    if names.len() == 1 { names[0].to_string() } else { format!("a combination of {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_spaces_of_small_matrices() {
        assert_eq!(null_space(&[0.0], 1), [[1.0]]);
        assert!(null_space(&[2.0], 1).is_empty());
        let g = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 4.0];
        let free = null_space(&g, 3);
        assert_eq!(free.len(), 1);
        assert!((free[0][0] + free[0][1]).abs() < 1e-14 && free[0][2].abs() < 1e-14);
    }

    #[test]
    fn motions_are_named() {
        assert_eq!(describe(&[0.0, 0.0, 1.0], 2), "rotation in the plane");
        assert_eq!(
            describe(&[1.0, 1.0, 0.0], 2),
            "a combination of translation along x, translation along y"
        );
    }
}
