//! Tests of the expressions as a whole: grammar, messages, derivatives, batches.

use proptest::prelude::*;

use super::*;

fn scope() -> Scope {
    let parameters = [("load".to_string(), 2.5e6), ("height".to_string(), 0.5)];
    Scope { parameters: parameters.into_iter().collect() }
}

fn parse(text: &str) -> Expr {
    Expr::parse(text, &scope()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn value(text: &str) -> f64 {
    parse(text).eval_point([2.0, 3.0, 5.0], 7.0)
}

fn failure(text: &str) -> (String, String, String) {
    let e = Expr::parse(text, &scope()).expect_err(text);
    (e.message, text[e.start..e.end].to_string(), e.help.unwrap_or_default())
}

#[test]
fn grammar() {
    for (text, expected) in [
        ("1 + 2*3", 7.0),
        ("-x^2", -4.0),
        ("2^3^2", 512.0),
        ("2^-1", 0.5),
        ("(-x)^2", 4.0),
        ("6/3/2", 1.0),
        ("1 - 2 - 3", -4.0),
        ("+x - -y", 5.0),
        ("1e-3 + .5 + 2.", 2.501),
        ("2.e2", 200.0),
        ("if(x < y, z, t)", 5.0),
        ("if(x >= y, z, t)", 7.0),
        ("if(x == 2 and not y != 3 or z > 100, 1, 0)", 1.0),
        ("if(not (x < 1 or x > 3), 1, 0)", 1.0),
        ("min(x, y, 1)", 1.0),
        ("max(x, y, z, 1)", 5.0),
        ("abs(-y)", 3.0),
        ("sqrt(16) + pow(x, 3)", 12.0),
        ("load * height", 1.25e6),
        ("log(e) + cos(pi)", 0.0),
        ("log10(1000)", 3.0),
        ("atan2(1, 1)*4 - pi", 0.0),
        ("sign(-3) + floor(2.5) + ceil(2.5) + mod(7, 4)", 7.0),
        ("x^33", 2f64.powi(33)),
        ("x^-3", 0.125),
        ("x^0.5 - sqrt(x)", 0.0),
    ] {
        let got = value(text);
        assert!((got - expected).abs() <= 1e-15 * expected.abs().max(1.0), "{text}: {got}");
    }
}

#[test]
fn folds_and_simplifies() {
    assert_eq!(parse("2*load").as_constant(), Some(5e6));
    assert_eq!(parse("0*x + 3").as_constant(), Some(3.0));
    assert_eq!(parse("x - x").as_constant(), Some(0.0));
    assert_eq!(parse("if(1 < 2, 4, x)").as_constant(), Some(4.0));
    assert_eq!(parse("x*1 + 0").n_operations(), 0);
    assert!(!parse("x + 0*y").depends_on(Var::Y));
    assert!(parse("x + y*t").depends_on(Var::T));
    assert_eq!(parse("-0.0").as_constant(), Some(0.0));
    assert_eq!(parse("x + y"), parse("y+x"));
    assert_ne!(parse("x - y"), parse("y - x"));
}

#[test]
fn common_subexpressions_are_computed_once() {
    // Three sines in the text, one in the tape: sin, square, product, sum.
    assert_eq!(parse("sin(pi*x)^2 + sin(x*pi)*sin(pi*x)").n_operations(), 4);
}

#[test]
fn messages() {
    for (text, message, span, help) in [
        ("", "the expression is empty", "", ""),
        ("x +", "the expression ends where a number, a name or `(` should follow", "", ""),
        ("2 x", "expected an operator, found `x`", "x", "write `*` between factors"),
        ("2(x+1)", "expected an operator, found `(`", "(", "write `*` between factors"),
        ("x(y+1)", "`x` is not a function", "x", "write `*` between factors"),
        ("sin(x", "this `(` is never closed", "(", ""),
        ("x)", "expected an operator, found `)`", ")", "there is no `(` for this `)`"),
        ("lod*2", "there is no variable or parameter `lod`", "lod", "did you mean `load`?"),
        ("1 + sqr(x)", "there is no function `sqr`", "sqr", "did you mean `sqrt`?"),
        ("atan2(x)", "`atan2` takes two arguments, not 1", "atan2(x)", ""),
        ("sin()", "`sin` takes one argument, not 0", "sin()", ""),
        ("min(x)", "`min` takes two arguments or more, not 1", "min(x)", ""),
        ("sin", "`sin` is a function and needs its arguments in parentheses", "sin", ""),
        (
            "1 + (x < 2)",
            "`(x < 2)` is true or false where a number is needed",
            "(x < 2)",
            "choose between numbers with `if(condition, a, b)`",
        ),
        (
            "if(x, 1, 2)",
            "`x` is a number where true or false is needed",
            "x",
            "write a comparison, as in `x < 1`",
        ),
        (
            "if(x < 1 and y, 1, 2)",
            "`y` is a number where true or false is needed",
            "y",
            "write a comparison, as in `x < 1`",
        ),
        ("if(1 < x < 2, 1, 2)", "comparisons cannot be chained", "<", "write `a < b and b < c`"),
        (
            "x < 1",
            "`x < 1` is true or false where a number is needed",
            "x < 1",
            "choose between numbers with `if(condition, a, b)`",
        ),
        ("if(x = 1, 1, 2)", "expected an operator, `,` or `)`, found `=`", "=", "write `==` to compare"),
        ("x ** 2", "`**` is not an operator here", "**", "write `^` for a power"),
        ("x && y", "`&&` has no meaning in an expression", "&&", "write `and`"),
        ("2 § 3", "`§` has no meaning in an expression", "§", ""),
        ("1e999", "`1e999` is too large for a number", "1e999", ""),
        (
            "[1, 2]",
            "`[` has no meaning in an expression",
            "[",
            "a vector is an array in the file, `[a, b, c]`, of one expression each",
        ),
    ] {
        assert_eq!(failure(text), (message.into(), span.into(), help.into()), "{text}");
    }
    let (message, span, help) = failure("1 + qqqqq");
    assert_eq!((message.as_str(), span.as_str()), ("there is no variable or parameter `qqqqq`", "qqqqq"));
    assert!(help.contains("height, load, x, y, z, t, pi, e"), "{help}");
}

#[test]
fn deep_nesting_is_an_error_not_an_overflow() {
    for text in [
        "(".repeat(100_000),
        "-".repeat(100_000),
        "2^".repeat(100_000),
        "not ".repeat(100_000),
        "sin(".repeat(100_000),
    ] {
        assert_eq!(failure(&text).0, "the expression is nested too deeply");
    }
    let long = vec!["x"; 100_000].join("+sin(x)*");
    assert!(Expr::parse(&long, &scope()).is_ok());
}

#[test]
fn derivatives_in_closed_form() {
    let d = |text: &str| parse(text).derivative(Var::X);
    assert_eq!(d("3").as_constant(), Some(0.0));
    assert_eq!(d("y*t").as_constant(), Some(0.0));
    assert_eq!(d("3*x + y").as_constant(), Some(3.0));
    assert_eq!(d("x^2"), parse("2*x"));
    assert_eq!(d("x^3"), parse("3*x^2"));
    assert_eq!(d("sin(2*x)"), parse("2*cos(2*x)"));
    assert_eq!(d("exp(x)*y"), parse("exp(x)*y"));
    assert_eq!(d("if(x < y, x^2, 4*x)"), parse("if(x < y, 2*x, 4)"));
    assert_eq!(d("sign(x) + floor(x)").as_constant(), Some(0.0));
    // A fixed exponent does not bring in a logarithm: zero is a fine base.
    assert_eq!(d("x^1.5").eval_point([0.0; 3], 0.0), 0.0);
    let second = parse("sin(pi*x)*sin(pi*y)").derivative(Var::X).derivative(Var::X);
    let point = [0.3, 0.7, 0.0];
    let exact = -std::f64::consts::PI.powi(2) * parse("sin(pi*x)*sin(pi*y)").eval_point(point, 0.0);
    assert!((second.eval_point(point, 0.0) - exact).abs() < 1e-12);
}

#[test]
fn repeated_derivatives_stay_small() {
    let mut u = parse("sin(pi*x)*exp(x*y)*cos(x + y)");
    for _ in 0..6 {
        u = u.derivative(Var::X);
    }
    assert!(u.n_operations() < 2000, "{}", u.n_operations());
}

#[test]
fn nan_is_not_swallowed() {
    for text in ["min(sqrt(-x), 1)", "max(1, sqrt(-x))", "min(1, log(-x))", "sign(sqrt(-x))", "abs(sqrt(-x))"]
    {
        assert!(value(text).is_nan(), "{text}");
    }
    assert_eq!(value("if(x < 0, sqrt(-x), 1)"), 1.0);
}

#[test]
fn missing_coordinates_are_zero() {
    let mut out = [0.0; 3];
    let points = Points { x: &[1.0, 2.0, 3.0], t: 4.0, ..Points::default() };
    parse("x + 10*y + z + t").eval(&points, &mut out, &mut Scratch::new());
    assert_eq!(out, [5.0, 6.0, 7.0]);
    parse("t").eval(&points, &mut out, &mut Scratch::new());
    assert_eq!(out, [4.0; 3]);
    Expr::constant(2.0).eval(&Points::default(), &mut out, &mut Scratch::new());
    assert_eq!(out, [2.0; 3]);
}

#[test]
fn sets() {
    let texts = ["sin(x)", "2.5", "cos(x)", "t", "y", "sin(x)", "x^2 + sin(x)"];
    let set = ExprSet::new(&texts.map(parse));
    assert_eq!(set.len(), 7);
    // Sine and cosine once, square, sum.
    assert_eq!(set.n_operations(), 4);
    let points = Points { x: &[0.0, 0.5], y: &[1.0, 2.0], t: 3.0, ..Points::default() };
    let mut out = [f64::NAN; 14];
    set.eval(&points, &mut out, &mut Scratch::new());
    let (s, c) = (0.5f64.sin(), 0.5f64.cos());
    let exact = [0.0, s, 2.5, 2.5, 1.0, c, 3.0, 3.0, 1.0, 2.0, 0.0, s, 0.0, 0.25 + s];
    for (got, exact) in out.iter().zip(exact) {
        assert!((got - exact).abs() <= 2e-16, "{out:?}");
    }
    let none = ExprSet::new(&[]);
    assert!(none.is_empty());
    none.eval(&points, &mut [], &mut Scratch::new());
}

#[test]
#[should_panic(expected = "outputs and values differ in number")]
fn a_set_wants_room_for_whole_points() {
    let set = ExprSet::new(&[parse("1"), parse("2")]);
    set.eval(&Points::default(), &mut [0.0; 3], &mut Scratch::new());
}

/// A block where some arguments are beyond what the straight-line forms hold for.
#[test]
fn strange_neighbours_do_not_matter() {
    let mut x: Vec<f64> = (0..200).map(|i| f64::from(i) * 0.1).collect();
    x[3] = f64::NAN;
    x[17] = 1e300;
    x[150] = f64::NEG_INFINITY;
    x[199] = -1e-310;
    let mut out = vec![0.0; x.len()];
    for text in
        ["sin(x)", "sin(x) + cos(x)", "exp(x)", "log(x)", "x^1.7", "2^x", "atan2(1, x)", "tanh(x)", "x^-13"]
    {
        let f = parse(text);
        f.eval(&Points { x: &x, ..Points::default() }, &mut out, &mut Scratch::new());
        for (&x, &got) in x.iter().zip(&out) {
            let single = f.eval_point([x, 0.0, 0.0], 0.0);
            assert!(got.to_bits() == single.to_bits() || (got.is_nan() && single.is_nan()), "{text} at {x}");
            assert_eq!(got.is_nan(), f_is_nan(text, x), "{text} at {x}: {got}");
        }
    }
}

fn f_is_nan(text: &str, x: f64) -> bool {
    match text {
        "sin(x)" | "sin(x) + cos(x)" => !x.is_finite(),
        "log(x)" => x.is_nan() || x < 0.0,
        "x^1.7" => x.powf(1.7).is_nan(),
        _ => x.is_nan(),
    }
}

#[test]
fn combinations() {
    let (a, b) = (parse("x + 1"), parse("y"));
    assert_eq!(a.add(&b), parse("x + 1 + y"));
    assert_eq!(a.sub(&a).as_constant(), Some(0.0));
    assert_eq!(a.mul(&b).eval_point([2.0, 3.0, 0.0], 0.0), 9.0);
    assert_eq!(a.mul(&b).text(), "(x + 1) * (y)");
}

#[test]
fn numbers_read_back() {
    for c in [0.1, 1e-12, 2.5e6, 210e9, -1.0 / 3.0, f64::MIN_POSITIVE, 123456.789] {
        let text = Expr::constant(c).text().to_string();
        assert_eq!(Expr::parse(&text, &Scope::default()).map(|e| e.as_constant()), Ok(Some(c)), "{text}");
    }
}

/// Random texts whose values and slopes are tame for |x| < 2, so that differences can check them.
fn tame() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("x".to_string()),
        Just("y".to_string()),
        Just("z".to_string()),
        Just("t".to_string()),
        Just("height".to_string()),
        (-20i32..20).prop_map(|n| format!("({})", f64::from(n) / 8.0)),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let one = prop_oneof![
            inner.clone().prop_map(|a| format!("sin({a})")),
            inner.clone().prop_map(|a| format!("cos({a})")),
            inner.clone().prop_map(|a| format!("tanh({a})")),
            inner.clone().prop_map(|a| format!("atan({a})")),
            inner.clone().prop_map(|a| format!("exp(sin({a}))")),
            inner.clone().prop_map(|a| format!("sinh(cos({a}))")),
            inner.clone().prop_map(|a| format!("cosh(sin({a}))")),
            inner.clone().prop_map(|a| format!("tan(sin({a})/2)")),
            inner.clone().prop_map(|a| format!("asin(sin({a})/2)")),
            inner.clone().prop_map(|a| format!("acos(cos({a})/2)")),
            inner.clone().prop_map(|a| format!("sqrt(2 + sin({a}))")),
            inner.clone().prop_map(|a| format!("log(2 + cos({a}))")),
            inner.clone().prop_map(|a| format!("log10(2 + cos({a}))")),
            inner.clone().prop_map(|a| format!("abs({a})")),
            inner.clone().prop_map(|a| format!("-{a}")),
            inner.clone().prop_map(|a| format!("tanh({a})^3")),
            inner.clone().prop_map(|a| format!("(2 + tanh({a}))^(-2)")),
            inner.clone().prop_map(|a| format!("(2 + tanh({a}))^1.7")),
        ];
        let two = (inner.clone(), inner.clone(), 0..9usize).prop_map(|(a, b, f)| match f {
            0 => format!("({a} + {b})"),
            1 => format!("({a} - {b})"),
            2 => format!("tanh({a})*tanh({b})"),
            3 => format!("{a}/(2 + sin({b}))"),
            4 => format!("min({a}, {b})"),
            5 => format!("max({a}, {b})"),
            6 => format!("atan2(2 + sin({a}), {b})"),
            7 => format!("(2 + sin({a}))^tanh({b})"),
            _ => format!("mod({a}, 2 + tanh({b}))"),
        });
        let choose = (inner.clone(), inner.clone(), inner)
            .prop_map(|(a, b, c)| format!("if({a} < {b} or {c} >= 1, {b}, {c})"));
        prop_oneof![3 => one, 3 => two, 1 => choose]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Derivative against differences at two steps. Where the two differences disagree, a kink is
    /// near and nothing can be said.
    #[test]
    fn derivative_matches_differences(text in tame(), at in prop::array::uniform3(-1.5..1.5f64), t in 0.0..1.0f64, v in 0..4usize) {
        let f = parse(&text);
        let v = [Var::X, Var::Y, Var::Z, Var::T][v];
        let shifted = |h: f64| {
            let (mut at, mut t) = (at, t);
            match v { Var::T => t += h, _ => at[v as usize] += h }
            f.eval_point(at, t)
        };
        let difference = |h: f64| (shifted(h) - shifted(-h)) / (2.0 * h);
        let (coarse, fine) = (difference(2e-5), difference(1e-5));
        let size = 1.0 + fine.abs() + f.eval_point(at, t).abs();
        if fine.is_finite() && (coarse - fine).abs() < 1e-6 * size {
            let exact = f.derivative(v).eval_point(at, t);
            prop_assert!((exact - fine).abs() < 1e-4 * size, "{} at {:?}, {}: {} and {}", text, at, t, exact, fine);
        }
    }

    /// Batches of any length give bitwise what single points give, and reuse of scratch is harmless.
    #[test]
    fn batch_matches_points(text in tame(), other in tame(), n in 0..300usize) {
        let coordinate = |k: usize| -> Vec<f64> { (0..n).map(|i| ((i * (k + 3)) as f64 * 0.37).sin()).collect() };
        let (x, y, z) = (coordinate(0), coordinate(1), coordinate(2));
        let points = Points { x: &x, y: &y, z: &z, t: 0.3 };
        let mut scratch = Scratch::new();
        let mut out = vec![f64::NAN; n];
        for text in [&other, &text] {
            let f = parse(text);
            f.eval(&points, &mut out, &mut scratch);
            for i in 0..n {
                let single = f.eval_point([x[i], y[i], z[i]], 0.3);
                prop_assert!(single.to_bits() == out[i].to_bits(), "{} at {}: {} and {}", text, i, single, out[i]);
            }
        }
    }

    /// A set gives bitwise what its members give apart, whatever they share and in whatever order.
    #[test]
    fn set_matches_members(first in tame(), second in tame(), n in 0..300usize, order in 0..3usize) {
        let coordinate = |k: usize| -> Vec<f64> { (0..n).map(|i| ((i * (k + 3)) as f64 * 0.37).sin()).collect() };
        let (x, y, z) = (coordinate(0), coordinate(1), coordinate(2));
        let points = Points { x: &x, y: &y, z: &z, t: 0.3 };
        let (f, g) = (parse(&first), parse(&second));
        let mut members = vec![f.derivative(Var::X), f.clone(), g.derivative(Var::Y), g.mul(&f), f.derivative(Var::T), f];
        members.rotate_left(order);
        let set = ExprSet::new(&members);
        prop_assert!(set.n_operations() <= members.iter().map(Expr::n_operations).sum());
        let mut scratch = Scratch::new();
        let mut together = vec![f64::NAN; n * set.len()];
        set.eval(&points, &mut together, &mut scratch);
        let mut apart = vec![f64::NAN; n];
        for (k, member) in members.iter().enumerate() {
            member.eval(&points, &mut apart, &mut scratch);
            for i in 0..n {
                let (a, b) = (apart[i], together[k * n + i]);
                prop_assert!(a.to_bits() == b.to_bits(), "{} at {}: {} and {}", member, i, a, b);
            }
        }
    }

    /// Any text gives an expression or an error with a span inside the text.
    #[test]
    fn no_text_panics(text in "[-+*/^(),.<>=! a-z0-9é§]{0,40}") {
        if let Err(e) = Expr::parse(&text, &scope()) {
            prop_assert!(e.start <= e.end && e.end <= text.len());
            prop_assert!(text.is_char_boundary(e.start) && text.is_char_boundary(e.end));
        }
    }
}
