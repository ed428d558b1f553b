//! Against the standard library, bit by bit where the two must agree, by units elsewhere.

use super::*;

/// Distance in units in the last place of the exact value.
fn ulps(got: f64, exact: f64) -> f64 {
    if got == exact || (got.is_nan() && exact.is_nan()) {
        return 0.0;
    }
    let unit = f64::from_bits(exact.abs().to_bits() + 1) - exact.abs();
    (got - exact).abs() / unit
}

/// Uniform samples of an interval and the neighbourhood of its ends and of zero.
fn dense(low: f64, high: f64) -> Vec<f64> {
    let n = 200_003;
    let mut samples: Vec<f64> = (0..=n).map(|i| low + (high - low) * f64::from(i) / f64::from(n)).collect();
    for k in 0..300 {
        let tiny = 2f64.powi(-k);
        samples.extend([low * tiny, high * tiny, low + (high - low) * tiny]);
    }
    samples
}

/// Worst error over the samples, through the blocks.
fn worst<F: Lanes>(samples: &[f64]) -> (f64, f64) {
    let mut out = vec![0.0; samples.len()];
    F::block(samples, &mut out);
    let mut worst = (0.0, 0.0);
    for (&x, &y) in samples.iter().zip(&out) {
        assert_eq!(F::value(x).to_bits(), y.to_bits(), "block and value differ at {x:e}");
        let error = ulps(y, F::exact(x));
        if error > worst.0 {
            worst = (error, x);
        }
    }
    worst
}

fn check<F: Lanes>(name: &str, intervals: &[(f64, f64)]) {
    for &(low, high) in intervals {
        let (error, x) = worst::<F>(&dense(low, high));
        println!("{name} on {low:e}..{high:e}: {error} ulp at {x:e}");
        assert!(error <= 2.0, "{name}: {error} ulp at {x:e}");
    }
    let special = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        f64::MIN_POSITIVE,
        f64::MIN_POSITIVE / 8.0,
        -f64::MIN_POSITIVE / 8.0,
        f64::MAX,
        f64::MIN,
        709.5,
        -740.0,
        -750.0,
        1e5,
        1e15,
        1e22,
        -1.0,
    ];
    let mut out = [0.0; 17];
    F::block(&special, &mut out);
    for (&x, &y) in special.iter().zip(&out) {
        let exact = F::exact(x);
        assert!(ulps(y, exact) <= 2.0, "{name}({x:e}) = {y:e}, not {exact:e}");
        assert!(y.is_nan() || y.is_sign_negative() == exact.is_sign_negative(), "{name}({x:e}) = {y:e}");
    }
}

#[test]
fn within_two_units_of_the_standard_library() {
    check::<Exp>("exp", &[(-1.0, 1.0), (-40.0, 40.0), (-750.0, 720.0)]);
    check::<Log>("log", &[(0.5, 2.0), (1e-3, 100.0), (0.999, 1.001), (1e-310, 1e300)]);
    check::<Sin>("sin", &[(-1.0, 1.0), (-20.0, 20.0), (-1e5, 1e5), (1e5, 1e9)]);
    check::<Cos>("cos", &[(-1.0, 1.0), (-20.0, 20.0), (-1e5, 1e5), (1e5, 1e9)]);
    check::<Tan>("tan", &[(-1.0, 1.0), (-20.0, 20.0), (-1e5, 1e5), (1e5, 1e9)]);
    check::<Sinh>("sinh", &[(-1.5, 1.5), (-40.0, 40.0), (-720.0, 720.0)]);
    check::<Cosh>("cosh", &[(-1.5, 1.5), (-40.0, 40.0), (-720.0, 720.0)]);
    check::<Tanh>("tanh", &[(-1.0, 1.0), (-25.0, 25.0), (-1e4, 1e4)]);
    check::<Atan>("atan", &[(-1.0, 1.0), (-5.0, 5.0), (-1e4, 1e4), (-1e300, 1e300)]);
}

/// Where a sine or a cosine vanishes, the reduction cancels all it can.
#[test]
fn multiples_of_a_quarter_turn() {
    let near = |k: i32| f64::from(k) * std::f64::consts::FRAC_PI_2;
    let step = |x: f64, d: i64| f64::from_bits(x.to_bits().saturating_add_signed(d));
    let samples: Vec<f64> = (-63_000..63_000).flat_map(|k| [-1, 0, 1].map(|d| step(near(k), d))).collect();
    let (error, x) = worst::<Sin>(&samples);
    assert!(error <= 2.0, "sin: {error} ulp at {x:e}");
    let (error, x) = worst::<Cos>(&samples);
    assert!(error <= 2.0, "cos: {error} ulp at {x:e}");
    let (mut sin, mut cos) = (vec![0.0; samples.len()], vec![0.0; samples.len()]);
    sin_cos_block(&samples, &mut sin, &mut cos);
    for (i, &x) in samples.iter().enumerate() {
        assert_eq!((sin[i].to_bits(), cos[i].to_bits()), (Sin::value(x).to_bits(), Cos::value(x).to_bits()));
    }
}
fn check_pair<F: Pair>(name: &str, first: (f64, f64), second: (f64, f64)) {
    let n = 700;
    let at = |(low, high): (f64, f64), i: i32| low + (high - low) * f64::from(i) / f64::from(n);
    let mut worst = (0.0, 0.0, 0.0);
    for i in 0..=n {
        for j in 0..=n {
            let (a, b) = (at(first, i), at(second, j));
            let error = ulps(F::value(a, b), F::exact(a, b));
            if error > worst.0 {
                worst = (error, a, b);
            }
        }
    }
    println!("{name}: {worst:?}");
    assert!(worst.0 <= 2.0, "{name}: {worst:?}");
}

#[test]
fn pairs_within_two_units() {
    check_pair::<Pow>("pow", (0.0, 3.0), (-5.0, 5.0));
    check_pair::<Pow>("pow near 1", (0.99, 1.01), (-7e4, 7e4));
    check_pair::<Pow>("pow of the large", (1e-3, 1e6), (-52.0, 52.0));
    check_pair::<Pow>("pow, all exponents", (1e-320, 1e300), (-1.1, 1.1));
    check_pair::<Pow>("pow below zero", (-3.0, 0.0), (-5.0, 5.0));
    check_pair::<Atan2>("atan2", (-3.0, 3.0), (-2.0, 2.0));
    check_pair::<Atan2>("atan2, flat", (-1e-9, 1e-9), (-2.0, 2.0));
    let special =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1.0, -1.0, 1e-320, 1e308, 2.5, -3.0];
    for a in special {
        for b in special {
            for (got, exact) in [(Pow::value(a, b), a.powf(b)), (Atan2::value(a, b), a.atan2(b))] {
                assert!(ulps(got, exact) <= 2.0, "{a:e}, {b:e}: {got:e}, not {exact:e}");
                assert!(got.is_nan() || got.is_sign_negative() == exact.is_sign_negative(), "{a:e}, {b:e}");
            }
        }
    }
}
