//! Fully symmetric quadrature rules on the triangle and the tetrahedron with positive weights and interior
//! points, as symmetry orbits.
//!
//! Imports nothing. Read by quadrature.rs, whose tests verify every rule on every monomial to 1e-14.
//!
//! The orbit structures are those of F. D. Witherden and P. E. Vincent, On the identification of symmetric
//! quadrature rules for finite element methods, Comput. Math. Appl. 69 (2015), and of P. Keast, Moderate-degree
//! tetrahedral quadrature formulas, Comput. Methods Appl. Mech. Eng. 55 (1986); the digits were found anew by
//! least squares on the moments of the invariant polynomials and polished in 40 digits.

/// All points that permuting barycentric coordinates makes of one. The first number of each is the weight of
/// one point relative to the cell's measure, the others are barycentric coordinates.
#[derive(Clone, Copy, Debug)]
pub(super) enum Orbit {
    /// The barycentre.
    Center(f64),
    /// Triangle, 3 points: (1 - 2a, a, a).
    S21(f64, f64),
    /// Triangle, 6 points: (a, b, 1 - a - b).
    S111(f64, f64, f64),
    /// Tetrahedron, 4 points: (1 - 3a, a, a, a).
    S31(f64, f64),
    /// Tetrahedron, 6 points: (a, a, 1/2 - a, 1/2 - a).
    S22(f64, f64),
    /// Tetrahedron, 12 points: (a, a, b, 1 - 2a - b).
    S211(f64, f64, f64),
}

use Orbit::*;

impl Orbit {
    /// Weight of each of the points.
    pub fn weight(self) -> f64 {
        match self {
            Center(w) | S21(w, _) | S111(w, _, _) | S31(w, _) | S22(w, _) | S211(w, _, _) => w,
        }
    }

    /// Appends the orbit's points in the reference simplex of dimension `dim`.
    pub fn expand(self, dim: usize, points: &mut Vec<[f64; 3]>) {
        let center = 1.0 / (dim + 1) as f64;
        let b = match self {
            Center(_) => [center; 4],
            S21(_, a) => [a, a, 1.0 - 2.0 * a, 0.0],
            S111(_, a, b) => [a, b, 1.0 - a - b, 0.0],
            S31(_, a) => [a, a, a, 1.0 - 3.0 * a],
            S22(_, a) => [a, a, 0.5 - a, 0.5 - a],
            S211(_, a, b) => [a, a, b, 1.0 - 2.0 * a - b],
        };
        // Distinct permutations of the dim + 1 coordinates; the first is implied by the others.
        let first = points.len();
        let n = dim + 1;
        let mut order = [0usize; 4];
        for code in 0..n.pow(n as u32) {
            let mut rest = code;
            for slot in order.iter_mut().take(n) {
                *slot = rest % n;
                rest /= n;
            }
            if (1..n).any(|i| order[..i].contains(&order[i])) {
                continue;
            }
            let mut point = [0.0; 3];
            for (axis, c) in point.iter_mut().enumerate().take(dim) {
                *c = b[order[axis + 1]];
            }
            if !points[first..].contains(&point) {
                points.push(point);
            }
        }
    }
}

/// (degree, orbits), by ascending degree.
pub(super) static TRIANGLE_RULES: &[(usize, &[Orbit])] = &[
    // 1 point
    (1, &[Center(1.0)]),
    // 3 points
    (2, &[S21(0.3333333333333333, 0.16666666666666666)]),
    // 6 points
    (4, &[S21(0.22338158967801147, 0.4459484909159649), S21(0.10995174365532187, 0.09157621350977074)]),
    // 7 points
    (
        5,
        &[
            Center(0.225),
            S21(0.12593918054482714, 0.10128650732345634),
            S21(0.1323941527885062, 0.4701420641051151),
        ],
    ),
    // 12 points
    (
        6,
        &[
            S21(0.17133312415298102, 0.21942998254978296),
            S21(0.08073108959303098, 0.48013796411221504),
            S111(0.040634559793660666, 0.019371724361240787, 0.14161901592396817),
        ],
    ),
    // 15 points
    (
        7,
        &[
            S21(0.07406904692690157, 0.18672719251964787),
            S21(0.04634171081589911, 0.060446224497220376),
            S21(0.1026524436976264, 0.4118881453500469),
            S111(0.05513506594645313, 0.03182824718370563, 0.31292454597316866),
        ],
    ),
    // 16 points
    (
        8,
        &[
            Center(0.14431560767778717),
            S21(0.10321737053471824, 0.1705693077517602),
            S21(0.03245849762319808, 0.05054722831703098),
            S21(0.09509163426728462, 0.4592925882927232),
            S111(0.027230314174434993, 0.7284923929554042, 0.008394777409957605),
        ],
    ),
    // 19 points
    (
        9,
        &[
            Center(0.09713579628279884),
            S21(0.07782754100477428, 0.43708959149293664),
            S21(0.03133470022713907, 0.4896825191987376),
            S21(0.02557767565869803, 0.04472951339445271),
            S21(0.07964773892721025, 0.18820353561903272),
            S111(0.043283539377289376, 0.036838412054736286, 0.2219629891607657),
        ],
    ),
    // 25 points
    (
        10,
        &[
            Center(0.08321973698645015),
            S21(0.05265194946824459, 0.16291311787409476),
            S21(0.01095128834026841, 0.028503500288387836),
            S111(0.05627727971081118, 0.33669587527823164, 0.516492619327838),
            S111(0.03539494779153839, 0.60732977850085, 0.029307604504579473),
            S111(0.029322864095652237, 0.15330305516956136, 0.03368569868061029),
        ],
    ),
];

/// (degree, orbits), by ascending degree.
pub(super) static TETRAHEDRON_RULES: &[(usize, &[Orbit])] = &[
    // 1 point
    (1, &[Center(1.0)]),
    // 4 points
    (2, &[S31(0.25, 0.1381966011250105)]),
    // 8 points
    (3, &[S31(0.08188084455120266, 0.08941167927415086), S31(0.16811915544879732, 0.3276396084053842)]),
    // 14 points
    (
        5,
        &[
            S31(0.07349304311636196, 0.09273525031089122),
            S31(0.11268792571801585, 0.3108859192633006),
            S22(0.042546020777081466, 0.04550370412564965),
        ],
    ),
    // 24 points
    (
        6,
        &[
            S31(0.010077211055320643, 0.04067395853461135),
            S31(0.055357181543654724, 0.3223378901422755),
            S31(0.039922750258167494, 0.21460287125915203),
            S211(0.048214285714285716, 0.06366100187501753, 0.2696723314583158),
        ],
    ),
    // 35 points
    (
        7,
        &[
            Center(0.09548528946413085),
            S31(0.04232958120996703, 0.3157011497782028),
            S22(0.03189692783285758, 0.44951017740160365),
            S211(0.03720713072833462, 0.18883383102600104, 0.047160700360997884),
            S211(0.008110770829903342, 0.021265472541483248, 0.8108302410985485),
        ],
    ),
    // 46 points
    (
        8,
        &[
            S31(0.008690367818387352, 0.04468779815465099),
            S31(0.029946112949235097, 0.11482061978353468),
            S31(0.04753899525810893, 0.18693556365120886),
            S31(0.04362800279288226, 0.3137843095319404),
            S22(0.03692455576873526, 0.06554405358944335),
            S211(0.014444954147869317, 0.20388304011272432, 0.5873224145321233),
            S211(0.007158275028225172, 0.021240096815225793, 0.714518508138631),
        ],
    ),
];
