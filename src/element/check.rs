//! The contract any element must keep, for tests here and elsewhere.
//!
//! Imports [`Lagrange`] and [`Quadrature`]. Start at [`check_element`].

use super::{Lagrange, Quadrature};

/// Checks that shape function i is 1 at node i and 0 at the others, that they sum to 1 and reproduce the
/// coordinates, that gradients and Hessians agree with finite differences, that interiors of sub-entities
/// partition the nodes, and that functions vanish on facets that do not hold their node.
///
/// # Errors
/// What failed, where, and by how much.
pub fn check_element(element: &Lagrange) -> Result<(), String> {
    let (shape, n) = (element.shape(), element.n_nodes());
    let dim = shape.dim();
    let close = |a: f64, b: f64, tolerance: f64, what: &dyn Fn() -> String| {
        if (a - b).abs() <= tolerance {
            Ok(())
        } else {
            Err(format!("{shape} of degree {}: {}: {a:e} is not {b:e}", element.degree(), what()))
        }
    };
    let at_nodes = element.tabulate(element.nodes(), 0);
    for k in 0..n {
        for (i, &v) in at_nodes.values_at(k).iter().enumerate() {
            close(v, f64::from(u8::from(i == k)), 1e-12, &|| format!("function {i} at node {k}"))?;
        }
    }
    let points = Quadrature::new(shape, 6).map_err(|e| e.to_string())?.points;
    let table = element.tabulate(&points, 2);
    let step = 1e-6;
    for (q, &x) in points.iter().enumerate() {
        close(table.values_at(q).iter().sum(), 1.0, 1e-12, &|| format!("partition of unity at {x:?}"))?;
        for a in 0..dim {
            let image: f64 =
                table.values_at(q).iter().zip(element.nodes()).map(|(v, node)| v * node[a]).sum();
            close(image, x[a], 1e-12, &|| format!("coordinate {a} at {x:?}"))?;
            let (mut forward, mut backward) = (x, x);
            forward[a] += step;
            backward[a] -= step;
            let moved = element.tabulate(&[forward, backward], 1);
            for i in 0..n {
                let difference = (moved.values_at(0)[i] - moved.values_at(1)[i]) / (2.0 * step);
                let gradient = table.gradients_at(q)[i * dim + a];
                close(gradient, difference, 1e-6, &|| format!("derivative {a} of function {i} at {x:?}"))?;
                for b in 0..dim {
                    let g = |side: usize| moved.gradients_at(side)[i * dim + b];
                    let hessian = table.hessians_at(q)[(i * dim + b) * dim + a];
                    let difference = (g(0) - g(1)) / (2.0 * step);
                    close(hessian, difference, 1e-5, &|| {
                        format!("derivative {b},{a} of function {i} at {x:?}")
                    })?;
                }
            }
        }
    }
    let mut seen = vec![0usize; n];
    for d in 0..=dim {
        for i in 0..shape.n_entities(d) {
            for &node in element.entity_nodes(d, i) {
                seen[usize::from(node)] += 1;
            }
        }
    }
    if seen.iter().any(|&count| count != 1) {
        return Err(format!(
            "{shape} of degree {}: entity interiors do not partition the nodes",
            element.degree()
        ));
    }
    for facet in 0..shape.n_facets() {
        let on = element.closure_nodes(dim - 1, facet);
        let rule = Quadrature::new(shape.facet_shape(facet), 4).map_err(|e| e.to_string())?;
        let traces: Vec<[f64; 3]> = rule.points.iter().map(|&p| shape.facet_point(facet, p)).collect();
        let table = element.tabulate(&traces, 0);
        for q in 0..table.n_points {
            for (i, &v) in table.values_at(q).iter().enumerate() {
                if !on.contains(&(i as u16)) {
                    close(v, 0.0, 1e-12, &|| format!("function {i} on facet {facet}"))?;
                }
            }
        }
    }
    Ok(())
}
