//! From text to graph: a lexer and a parser by recursive descent, with types checked on the way.
//!
//! May import: `graph`, `names`. Loosest first:
//!
//! ```text
//! or:      and ("or" and)*
//! and:     not ("and" not)*
//! not:     "not" not | compare
//! compare: sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)?
//! sum:     product (("+" | "-") product)*
//! product: unary (("*" | "/") unary)*
//! unary:   ("-" | "+") unary | power
//! power:   atom ("^" unary)?
//! atom:    number | name | name "(" or ("," or)* ")" | "(" or ")"
//! ```

use super::graph::{Binary, Builder, Id, Unary};
use super::names::{self, CONSTANTS, FUNCTIONS, Function, VARIABLES, WORDS};
use super::{ParseError, Scope, Var};

/// Parentheses and signs nested deeper than this are refused: the parser would exhaust its stack.
const MAX_DEPTH: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Truth,
}

/// A parsed part: its node, its kind, its bytes.
#[derive(Debug, Clone, Copy)]
struct Part {
    id: Id,
    kind: Kind,
    start: usize,
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token {
    Number(f64),
    Name,
    Symbol(&'static str),
    End,
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 15] = ["<=", ">=", "==", "!=", "+", "-", "*", "/", "^", "(", ")", ",", "<", ">", "="];

struct Parser<'a> {
    text: &'a str,
    scope: &'a Scope,
    builder: &'a mut Builder,
    /// The token at hand and its bytes.
    token: Token,
    start: usize,
    end: usize,
    /// One past the last token taken.
    last_end: usize,
    depth: usize,
}

/// Parses `text` into `builder`; the root is a number.
pub(super) fn parse(text: &str, scope: &Scope, builder: &mut Builder) -> Result<Id, ParseError> {
    let mut parser =
        Parser { text, scope, builder, token: Token::End, start: 0, end: 0, last_end: 0, depth: 0 };
    parser.advance()?;
    if parser.token == Token::End {
        return Err(error("the expression is empty".into(), 0, text.len(), None));
    }
    let part = parser.or()?;
    if parser.token != Token::End {
        return Err(parser.unexpected("an operator"));
    }
    Ok(parser.number(part)?.id)
}

fn error(message: String, start: usize, end: usize, help: Option<String>) -> ParseError {
    ParseError { message, start, end, help }
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<(), ParseError> {
        self.last_end = self.end;
        let bytes = self.text.as_bytes();
        let mut i = self.end;
        while i < bytes.len() && bytes[i].is_ascii_whitespace() {
            i += 1;
        }
        self.start = i;
        self.end = i;
        let Some(first) = self.text[i..].chars().next() else {
            self.token = Token::End;
            return Ok(());
        };
        if first.is_ascii_digit() || (first == '.' && bytes.get(i + 1).is_some_and(u8::is_ascii_digit)) {
            return self.lex_number();
        }
        if first.is_alphabetic() || first == '_' {
            let rest = &self.text[i..];
            let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.end = i + len;
            self.token = Token::Name;
            return Ok(());
        }
        let rest = &self.text[i..];
        if rest.starts_with("**") {
            return Err(error(
                "`**` is not an operator here".into(),
                i,
                i + 2,
                Some("write `^` for a power".into()),
            ));
        }
        if let Some(symbol) = SYMBOLS.iter().find(|s| s.as_bytes()[0] == bytes[i] && rest.starts_with(**s)) {
            self.end = i + symbol.len();
            self.token = Token::Symbol(symbol);
            return Ok(());
        }
        let (len, help) = match first {
            '&' if rest.starts_with("&&") => (2, Some("write `and`")),
            '|' if rest.starts_with("||") => (2, Some("write `or`")),
            '&' => (1, Some("write `and`")),
            '|' => (1, Some("write `or`, or `abs(..)` for an absolute value")),
            '!' => (1, Some("write `not`")),
            '[' | ']' => (1, Some("a vector is an array in the file, `[a, b, c]`, of one expression each")),
            '%' => (1, Some("write `mod(a, b)`")),
            '×' | '·' => (first.len_utf8(), Some("write `*`")),
            '−' | '–' => (first.len_utf8(), Some("this is a dash; write the minus sign `-`")),
            _ => (first.len_utf8(), None),
        };
        let what = &rest[..len];
        Err(error(format!("`{what}` has no meaning in an expression"), i, i + len, help.map(Into::into)))
    }

    fn lex_number(&mut self) -> Result<(), ParseError> {
        let bytes = self.text.as_bytes();
        let digits = |mut i: usize| {
            while i < bytes.len() && bytes[i].is_ascii_digit() {
                i += 1;
            }
            i
        };
        let mut i = digits(self.start);
        if bytes.get(i) == Some(&b'.') {
            i = digits(i + 1);
        }
        if matches!(bytes.get(i), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(i + 1), Some(b'+' | b'-')));
            let first = i + 1 + sign;
            // `2e` or `2e + x` is not a number with an exponent; the caller says what is missing.
            if bytes.get(first).is_some_and(u8::is_ascii_digit) {
                i = digits(first);
            }
        }
        self.end = i;
        let text = &self.text[self.start..i];
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => {
                self.token = Token::Number(value);
                Ok(())
            }
            _ => Err(error(format!("`{text}` is too large for a number"), self.start, i, None)),
        }
    }

    fn here(&self) -> &str {
        &self.text[self.start..self.end]
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.token, Token::Symbol(s) if s == symbol)
    }

    fn is_word(&self, word: &str) -> bool {
        self.token == Token::Name && self.here() == word
    }

    /// The error for a token that cannot stand here.
    fn unexpected(&self, expected: &str) -> ParseError {
        let help = match self.token {
            Token::Symbol("=") => Some("write `==` to compare".to_string()),
            Token::Symbol("(") if self.last_end == self.start => {
                Some("write `*` between factors".to_string())
            }
            Token::Name | Token::Number(_) | Token::Symbol("(") if expected == "an operator" => {
                Some("write `*` between factors".to_string())
            }
            Token::Symbol(")") if expected == "an operator" => {
                Some("there is no `(` for this `)`".to_string())
            }
            _ => None,
        };
        let message = match self.token {
            Token::End => format!("the expression ends where {expected} should follow"),
            _ => format!("expected {expected}, found `{}`", self.here()),
        };
        error(message, self.start, self.end, help)
    }

    fn number(&self, part: Part) -> Result<Part, ParseError> {
        match part.kind {
            Kind::Number => Ok(part),
            Kind::Truth => Err(error(
                format!("`{}` is true or false where a number is needed", &self.text[part.start..part.end]),
                part.start,
                part.end,
                Some("choose between numbers with `if(condition, a, b)`".into()),
            )),
        }
    }

    fn truth(&self, part: Part) -> Result<Part, ParseError> {
        match part.kind {
            Kind::Truth => Ok(part),
            Kind::Number => Err(error(
                format!("`{}` is a number where true or false is needed", &self.text[part.start..part.end]),
                part.start,
                part.end,
                Some("write a comparison, as in `x < 1`".into()),
            )),
        }
    }

    fn join(&self, id: Id, kind: Kind, start: usize) -> Part {
        Part { id, kind, start, end: self.last_end }
    }

    fn deeper(&mut self) -> Result<(), ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(error("the expression is nested too deeply".into(), self.start, self.end, None));
        }
        Ok(())
    }

    fn or(&mut self) -> Result<Part, ParseError> {
        let mut a = self.and()?;
        while self.is_word("or") {
            self.advance()?;
            let left = self.truth(a)?;
            let right = self.and()?;
            let right = self.truth(right)?;
            let id = self.builder.binary(Binary::Or, left.id, right.id);
            a = self.join(id, Kind::Truth, a.start);
        }
        Ok(a)
    }

    fn and(&mut self) -> Result<Part, ParseError> {
        let mut a = self.not()?;
        while self.is_word("and") {
            self.advance()?;
            let left = self.truth(a)?;
            let right = self.not()?;
            let right = self.truth(right)?;
            let id = self.builder.binary(Binary::And, left.id, right.id);
            a = self.join(id, Kind::Truth, a.start);
        }
        Ok(a)
    }

    fn not(&mut self) -> Result<Part, ParseError> {
        if !self.is_word("not") {
            return self.compare();
        }
        let start = self.start;
        self.deeper()?;
        self.advance()?;
        let a = self.not()?;
        let a = self.truth(a)?;
        self.depth -= 1;
        let id = self.builder.unary(Unary::Not, a.id);
        Ok(self.join(id, Kind::Truth, start))
    }

    fn comparison(&self) -> Option<(Binary, bool)> {
        let Token::Symbol(symbol) = self.token else { return None };
        Some(match symbol {
            "<" => (Binary::Less, false),
            "<=" => (Binary::LessEqual, false),
            ">" => (Binary::Less, true),
            ">=" => (Binary::LessEqual, true),
            "==" => (Binary::Equal, false),
            "!=" => (Binary::NotEqual, false),
            _ => return None,
        })
    }

    fn compare(&mut self) -> Result<Part, ParseError> {
        let a = self.sum()?;
        let Some((f, swap)) = self.comparison() else { return Ok(a) };
        self.advance()?;
        let left = self.number(a)?;
        let right = self.sum()?;
        let right = self.number(right)?;
        if self.comparison().is_some() {
            return Err(error(
                "comparisons cannot be chained".into(),
                self.start,
                self.end,
                Some("write `a < b and b < c`".into()),
            ));
        }
        let (p, q) = if swap { (right.id, left.id) } else { (left.id, right.id) };
        let id = self.builder.binary(f, p, q);
        Ok(self.join(id, Kind::Truth, a.start))
    }

    fn sum(&mut self) -> Result<Part, ParseError> {
        let mut a = self.product()?;
        loop {
            let f = match self.token {
                Token::Symbol("+") => Binary::Add,
                Token::Symbol("-") => Binary::Sub,
                _ => return Ok(a),
            };
            a = self.operation(f, a, Self::product)?;
        }
    }

    fn product(&mut self) -> Result<Part, ParseError> {
        let mut a = self.unary()?;
        loop {
            let f = match self.token {
                Token::Symbol("*") => Binary::Mul,
                Token::Symbol("/") => Binary::Div,
                _ => return Ok(a),
            };
            a = self.operation(f, a, Self::unary)?;
        }
    }

    fn operation(
        &mut self,
        f: Binary,
        a: Part,
        right: fn(&mut Self) -> Result<Part, ParseError>,
    ) -> Result<Part, ParseError> {
        self.advance()?;
        let left = self.number(a)?;
        let right = right(self)?;
        let right = self.number(right)?;
        let id = self.builder.binary(f, left.id, right.id);
        Ok(self.join(id, Kind::Number, a.start))
    }

    fn unary(&mut self) -> Result<Part, ParseError> {
        let negative = self.is("-");
        if !negative && !self.is("+") {
            return self.power();
        }
        let start = self.start;
        self.deeper()?;
        self.advance()?;
        let a = self.unary()?;
        let a = self.number(a)?;
        self.depth -= 1;
        let id = if negative { self.builder.neg(a.id) } else { a.id };
        Ok(self.join(id, Kind::Number, start))
    }

    fn power(&mut self) -> Result<Part, ParseError> {
        let a = self.atom()?;
        if !self.is("^") {
            return Ok(a);
        }
        self.deeper()?;
        let a = self.operation(Binary::Pow, a, Self::unary)?;
        self.depth -= 1;
        Ok(a)
    }

    fn atom(&mut self) -> Result<Part, ParseError> {
        let start = self.start;
        match self.token {
            Token::Number(value) => {
                self.advance()?;
                let id = self.builder.constant(value);
                Ok(self.join(id, Kind::Number, start))
            }
            Token::Symbol("(") => {
                self.deeper()?;
                self.advance()?;
                let inner = self.or()?;
                self.close(start)?;
                self.depth -= 1;
                Ok(self.join(inner.id, inner.kind, start))
            }
            Token::Name if !WORDS.contains(&self.here()) => self.name(),
            _ => Err(self.unexpected("a number, a name or `(`")),
        }
    }

    fn close(&mut self, opened: usize) -> Result<(), ParseError> {
        if self.is(")") {
            return self.advance();
        }
        if self.token == Token::End {
            return Err(error("this `(` is never closed".into(), opened, opened + 1, None));
        }
        Err(self.unexpected("an operator, `,` or `)`"))
    }

    fn name(&mut self) -> Result<Part, ParseError> {
        let (start, end) = (self.start, self.end);
        let name = self.text[start..end].to_string();
        self.advance()?;
        if self.is("(") {
            let open = self.start;
            let Some(function) = names::function(&name) else {
                return Err(self.unknown_function(&name, start, end));
            };
            return self.call(&name, function, start, open);
        }
        let id = match name.as_str() {
            "x" => self.builder.var(Var::X),
            "y" => self.builder.var(Var::Y),
            "z" => self.builder.var(Var::Z),
            "t" => self.builder.var(Var::T),
            _ => {
                let constant = CONSTANTS.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
                let value = constant.or_else(|| self.scope.parameters.get(&name).copied());
                let Some(value) = value else {
                    return Err(self.unknown_name(&name, start, end));
                };
                self.builder.constant(value)
            }
        };
        Ok(self.join(id, Kind::Number, start))
    }

    fn unknown_function(&self, name: &str, start: usize, end: usize) -> ParseError {
        let known = self.scope.parameters.contains_key(name)
            || VARIABLES.contains(&name)
            || CONSTANTS.iter().any(|(n, _)| *n == name);
        if known {
            let message = format!("`{name}` is not a function");
            return error(message, start, end, Some("write `*` between factors".into()));
        }
        let message = format!("there is no function `{name}`");
        error(
            message,
            start,
            end,
            Some(suggest(name, FUNCTIONS.iter().map(|(n, _)| *n), "the functions are")),
        )
    }

    fn unknown_name(&self, name: &str, start: usize, end: usize) -> ParseError {
        if names::function(name).is_some() {
            let message = format!("`{name}` is a function and needs its arguments in parentheses");
            return error(message, start, end, None);
        }
        let message = format!("there is no variable or parameter `{name}`");
        let parameters = self.scope.parameters.keys().map(String::as_str);
        let known = parameters.chain(VARIABLES).chain(CONSTANTS.iter().map(|(n, _)| *n));
        error(message, start, end, Some(suggest(name, known, "known names are")))
    }

    fn call(
        &mut self,
        name: &str,
        function: Function,
        start: usize,
        open: usize,
    ) -> Result<Part, ParseError> {
        self.deeper()?;
        self.advance()?;
        let mut arguments = Vec::with_capacity(3);
        if !self.is(")") {
            arguments.push(self.or()?);
            while self.is(",") {
                self.advance()?;
                arguments.push(self.or()?);
            }
        }
        self.close(open)?;
        self.depth -= 1;
        let (fits, wanted) = match function {
            Function::Unary(_) => (arguments.len() == 1, "one argument"),
            Function::Binary(_) => (arguments.len() == 2, "two arguments"),
            Function::Fold(_) => (arguments.len() >= 2, "two arguments or more"),
            Function::If => (arguments.len() == 3, "three arguments, `if(condition, a, b)`"),
        };
        if !fits {
            let message = format!("`{name}` takes {wanted}, not {}", arguments.len());
            return Err(error(message, start, self.last_end, None));
        }
        for (i, &argument) in arguments.iter().enumerate() {
            if function == Function::If && i == 0 {
                self.truth(argument)?;
            } else {
                self.number(argument)?;
            }
        }
        let id = match function {
            Function::Unary(f) => self.builder.unary(f, arguments[0].id),
            Function::Binary(f) | Function::Fold(f) => {
                let mut id = arguments[0].id;
                for argument in &arguments[1..] {
                    id = self.builder.binary(f, id, argument.id);
                }
                id
            }
            Function::If => self.builder.select(arguments[0].id, arguments[1].id, arguments[2].id),
        };
        Ok(self.join(id, Kind::Number, start))
    }
}

fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone, list: &str) -> String {
    match names::nearest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{list} {}", known.collect::<Vec<_>>().join(", ")),
    }
}
