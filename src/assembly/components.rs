//! Names of a quantity's values, in the order in which laws compute them.

use crate::law::Quantity;

/// One value of a quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its suffix: `x`, `xy`; empty for a scalar.
    pub name: String,
}

const AXES: [&str; 3] = ["x", "y", "z"];

/// The values of a quantity of a field with `c` components in `dim` dimensions.
pub fn components(quantity: Quantity, dim: usize, c: usize) -> Vec<Component> {
    let named = |names: Vec<String>| names.into_iter().map(|name| Component { name }).collect();
    match quantity {
        Quantity::Solution if c == 1 && dim > 0 => named(vec![String::new()]),
        Quantity::Solution => named(AXES[..c].iter().map(|a| a.to_string()).collect()),
        Quantity::Gradient if c == 1 => named(AXES[..dim].iter().map(|a| a.to_string()).collect()),
        Quantity::Gradient => {
            named(AXES[..c].iter().flat_map(|a| AXES[..dim].iter().map(move |b| format!("{a}{b}"))).collect())
        }
        Quantity::Flux => named(AXES[..dim].iter().map(|a| a.to_string()).collect()),
        Quantity::Strain | Quantity::Stress => {
            named(["xx", "yy", "zz", "xy", "yz", "xz"].iter().map(|s| s.to_string()).collect())
        }
        Quantity::VonMises => named(vec![String::new()]),
    }
}
