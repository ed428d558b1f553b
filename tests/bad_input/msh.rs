//! Small meshes in the format MSH 2.2, for tests that spoil them.

use std::fmt::Write as _;

/// A mesh of the plane as its file has it. Numbers of nodes count from 1.
pub struct Msh {
    /// Physical names: dimension, tag, name.
    pub names: Vec<(usize, usize, &'static str)>,
    /// Coordinates.
    pub nodes: Vec<[f64; 3]>,
    /// Lines: number, tag, nodes.
    pub lines: Vec<(usize, usize, [usize; 2])>,
    /// Cells: number, Gmsh's type, tag, nodes.
    pub cells: Vec<(usize, usize, usize, Vec<usize>)>,
}

const TRIANGLE: usize = 2;
const QUADRILATERAL: usize = 3;

impl Msh {
    /// The unit square in 2 n^2 triangles: groups `left`, `right`, `body`, and, for an even n, `middle` at x = 1/2.
    pub fn square(n: usize) -> Msh {
        let mut mesh = Msh {
            names: vec![(1, 1, "left"), (1, 2, "right"), (1, 3, "middle"), (2, 10, "body")],
            nodes: Vec::new(),
            lines: Vec::new(),
            cells: Vec::new(),
        };
        mesh.add(n, 0.0, 10, &[(0, 1), (n, 2)]);
        if n & 1 == 0 {
            mesh.add_lines(n, 0, n / 2, 3);
        }
        mesh
    }

    /// [`Msh::square`], and one beside it that it does not touch: groups `far` (its right side) and `other`.
    pub fn two_squares(n: usize) -> Msh {
        let mut mesh = Msh::square(n);
        mesh.names.extend([(1, 4, "far"), (2, 11, "other")]);
        mesh.add(n, 2.0, 11, &[(n, 4)]);
        mesh
    }

    /// The unit square in n^2 quadrilaterals, with the groups of [`Msh::square`].
    pub fn quadrilaterals(n: usize) -> Msh {
        let mut mesh = Msh::square(n);
        let lines = mesh.lines.len();
        mesh.cells = (0..n * n)
            .map(|k| {
                let first = k / n * (n + 1) + k % n + 1;
                let nodes = vec![first, first + 1, first + n + 2, first + n + 1];
                (lines + k + 1, QUADRILATERAL, 10, nodes)
            })
            .collect();
        mesh
    }

    fn n_elements(&self) -> usize {
        self.lines.len() + self.cells.len()
    }

    /// Lines along the `column`-th column of nodes of the square whose nodes follow `before` others.
    fn add_lines(&mut self, n: usize, before: usize, column: usize, tag: usize) {
        for j in 0..n {
            let node = before + j * (n + 1) + column + 1;
            self.lines.push((self.n_elements() + 1, tag, [node, node + n + 1]));
        }
    }

    fn add(&mut self, n: usize, x: f64, tag: usize, sides: &[(usize, usize)]) {
        let before = self.nodes.len();
        for k in 0..(n + 1) * (n + 1) {
            let [i, j] = [k % (n + 1), k / (n + 1)].map(|i| i as f64 / n as f64);
            self.nodes.push([x + i, j, 0.0]);
        }
        for &(column, tag) in sides {
            self.add_lines(n, before, column, tag);
        }
        for k in 0..n * n {
            let a = before + k / n * (n + 1) + k % n + 1;
            let (b, c, d) = (a + 1, a + n + 2, a + n + 1);
            for nodes in [vec![a, b, c], vec![a, c, d]] {
                self.cells.push((self.n_elements() + 1, TRIANGLE, tag, nodes));
            }
        }
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = String::from("$MeshFormat\n2.2 0 8\n$EndMeshFormat\n");
        self.write(&mut text).expect("a string takes all");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "$PhysicalNames\n{}", self.names.len())?;
        for (dimension, tag, name) in &self.names {
            writeln!(out, "{dimension} {tag} \"{name}\"")?;
        }
        writeln!(out, "$EndPhysicalNames\n$Nodes\n{}", self.nodes.len())?;
        for (k, [x, y, z]) in self.nodes.iter().enumerate() {
            writeln!(out, "{} {x} {y} {z}", k + 1)?;
        }
        writeln!(out, "$EndNodes\n$Elements\n{}", self.n_elements())?;
        for (number, tag, [a, b]) in &self.lines {
            writeln!(out, "{number} 1 2 {tag} {tag} {a} {b}")?;
        }
        for (number, kind, tag, nodes) in &self.cells {
            let nodes: Vec<String> = nodes.iter().map(usize::to_string).collect();
            writeln!(out, "{number} {kind} 2 {tag} {tag} {}", nodes.join(" "))?;
        }
        writeln!(out, "$EndElements")
    }
}
