//! Looks over a filter before it is used: what it names, what it calls, and how its work grows with
//! the size of an event.

use std::collections::BTreeMap;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};
use regex::RegexBuilder;

use super::Mistake;

/// What a filter may look at.
const ROOTS: [&str; 2] = ["event", "data"];
/// How deep the parts of a filter may lie, so that they fit on any stack.
const DEEPEST: usize = 40;
/// Memory of a pattern.
const LARGEST_PATTERN: usize = 64 << 10;
/// What looking for a pattern counts beside looking at a field.
const PATTERN_PARTS: u64 = 50;

/// Functions by name, whether they are called on something, and the number of their arguments.
const FUNCTIONS: [(&str, bool, usize); 20] = [
    ("size", true, 0),
    ("size", false, 1),
    ("contains", true, 1),
    ("startsWith", true, 1),
    ("endsWith", true, 1),
    ("matches", true, 1),
    ("string", false, 1),
    ("int", false, 1),
    ("uint", false, 1),
    ("double", false, 1),
    ("timestamp", false, 1),
    ("duration", false, 1),
    ("getFullYear", true, 0),
    ("getMonth", true, 0),
    ("getDate", true, 0),
    ("getDayOfMonth", true, 0),
    ("getDayOfWeek", true, 0),
    ("getDayOfYear", true, 0),
    ("getHours", true, 0),
    ("getMinutes", true, 0),
];

/// Operators whose result is true or false.
const TESTS: [&str; 10] = [
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::IN,
];

/// Other operators. `@not_strictly_false` is what macros are made of.
const OPERATORS: [&str; 9] = [
    operators::CONDITIONAL,
    operators::ADD,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
    operators::INDEX,
    operators::NOT_STRICTLY_FALSE,
];

/// Functions whose result is true or false.
const ASKING: [&str; 4] = ["contains", "startsWith", "endsWith", "matches"];

/// How much work an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Its parts.
    pub parts: u64,
    /// With which power of the size of an event the work grows.
    pub degree: u32,
}

/// The power with which the work grows with the size of each variable.
type Degrees<'a> = BTreeMap<&'a str, u32>;

/// Checks that `expression` can be used.
pub(super) fn check(expression: &IdedExpr) -> Result<Bounds, Mistake> {
    if !may_be_bool(expression) {
        return Err(Mistake::NotBool);
    }
    let mut walk = Walk { parts: 0, depth: 0, scope: Vec::new() };
    let degrees = walk.visit(expression)?;
    Ok(Bounds { parts: walk.parts, degree: degrees.values().sum::<u32>().max(1) })
}

fn may_be_bool(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Literal(literal) => matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => false,
        Expr::Ident(name) => !ROOTS.contains(&name.as_str()),
        Expr::Call(call) => {
            let name = call.func_name.as_str();
            let is_known = FUNCTIONS.iter().any(|(known, ..)| *known == name);
            let is_operator = OPERATORS.contains(&name);
            let may = [operators::CONDITIONAL, operators::INDEX].contains(&name);
            !(is_known || is_operator) || may || ASKING.contains(&name)
        }
        Expr::Select(_) | Expr::Comprehension(_) => true,
    }
}

struct Walk<'a> {
    parts: u64,
    depth: usize,
    /// Variables of the macros around.
    scope: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, expression: &'a IdedExpr) -> Result<Degrees<'a>, Mistake> {
        self.parts += 1;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Mistake::Unbounded("it is nested too deep, or a chain in it is too long"));
        }
        let degrees = self.visit_parts(expression)?;
        self.depth -= 1;
        Ok(degrees)
    }

    fn visit_parts(&mut self, expression: &'a IdedExpr) -> Result<Degrees<'a>, Mistake> {
        match &expression.expr {
            Expr::Literal(_) => Ok(Degrees::new()),
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.visit(&select.operand),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) => self.visit_all(&list.elements),
            Expr::Map(map) => {
                let mut degrees = Degrees::new();
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(Mistake::Syntax("messages are unknown here".into()));
                    };
                    join(&mut degrees, self.visit(&entry.key)?);
                    join(&mut degrees, self.visit(&entry.value)?);
                }
                Ok(degrees)
            }
            Expr::Struct(_) => Err(Mistake::Syntax("messages are unknown here".into())),
            Expr::Unspecified => Err(Mistake::Syntax("there is no expression".into())),
        }
    }

    fn visit_all(&mut self, all: &'a [IdedExpr]) -> Result<Degrees<'a>, Mistake> {
        let mut degrees = Degrees::new();
        for expression in all {
            join(&mut degrees, self.visit(expression)?);
        }
        Ok(degrees)
    }

    fn ident(&self, name: &'a str) -> Result<Degrees<'a>, Mistake> {
        let is_known = ROOTS.contains(&name) || self.scope.contains(&name);
        // The results of macros are single values.
        match (name.starts_with('@'), is_known) {
            (true, _) => Ok(Degrees::new()),
            (false, true) => Ok(Degrees::from([(name, 1)])),
            (false, false) => Err(Mistake::Name(name.to_owned())),
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<Degrees<'a>, Mistake> {
        let CallExpr { func_name, target, args } = call;
        let name = func_name.as_str();
        if [operators::MAP, operators::FILTER].contains(&name) {
            return Err(NO_LISTS);
        }
        let shape = (name, target.is_some(), args.len());
        let is_operator = TESTS.contains(&name) || OPERATORS.contains(&name);
        if !is_operator && !FUNCTIONS.contains(&shape) {
            let shown = if is_operator { "operator" } else { name };
            return Err(Mistake::Call(shown.to_owned(), args.len()));
        }
        if name == "matches" {
            self.parts += PATTERN_PARTS;
            check_pattern(args)?;
        }
        let mut degrees = self.visit_all(args)?;
        if let Some(target) = target {
            join(&mut degrees, self.visit(target)?);
        }
        Ok(degrees)
    }

    /// What a macro goes through adds up to what it was given: going through all fields of all
    /// members of a list is as much work as the list is large, not its square.
    fn comprehension(&mut self, macro_: &'a ComprehensionExpr) -> Result<Degrees<'a>, Mistake> {
        // `map` and `filter` make lists, which grow with each use.
        if !matches!(macro_.accu_init.expr, Expr::Literal(_)) {
            return Err(NO_LISTS);
        }
        let variable = macro_.iter_var.as_str();
        if ROOTS.contains(&variable) || self.scope.contains(&variable) {
            return Err(Mistake::Unbounded("a variable of a macro needs a name of its own"));
        }
        let mut range = self.visit(&macro_.iter_range)?;
        if range.is_empty() {
            // As many as there are parts: judged as if it were the event.
            range.insert("", 1);
        }
        self.scope.push(variable);
        let mut body = Degrees::new();
        for part in [&macro_.accu_init, &macro_.loop_cond, &macro_.loop_step, &macro_.result] {
            join(&mut body, self.visit(part)?);
        }
        self.scope.pop();
        let times = body.remove(variable).unwrap_or(0).max(1);
        for (name, degree) in range {
            *body.entry(name).or_default() += degree * times;
        }
        Ok(body)
    }
}

const NO_LISTS: Mistake =
    Mistake::Unbounded("map and filter can't be used: has, all, exists and exists_one can");

/// The work of two parts that follow one another.
fn join<'a>(degrees: &mut Degrees<'a>, other: Degrees<'a>) {
    for (name, degree) in other {
        let known = degrees.entry(name).or_default();
        *known = degree.max(*known);
    }
}

/// Patterns are written down, so that they can be looked at beforehand.
fn check_pattern(args: &[IdedExpr]) -> Result<(), Mistake> {
    let Some(Expr::Literal(LiteralValue::String(pattern))) = args.first().map(|arg| &arg.expr)
    else {
        return Err(Mistake::Unbounded(
            "the pattern of matches must be a text that is written down",
        ));
    };
    let pattern = pattern.inner();
    let built = RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
    built.map(drop).map_err(|_| Mistake::Pattern(pattern.to_owned()))
}
