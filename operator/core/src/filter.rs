//! Filters: expressions in CEL that say which events a Function gets. Pure.
//!
//! A filter is written by whoever may write Triggers and runs in a process that others may share,
//! so what it can cost is bounded: by its length and depth when it is parsed, and by the size of
//! what it looks at before it looks. An event that is too large to be looked at is delivered; one
//! that the filter can't tell anything about, for want of a field, is not. A field of what has no
//! fields, as of a text, is false and not missing: that is how the library reads it.

mod check;
mod value;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::thread;

use cel::common::ast::IdedExpr;
use cel::parser::Parser;
use cel::{Context, Value};

use crate::event::CloudEvent;

/// Longest filter in bytes.
const LONGEST: usize = 1024;
/// How deep brackets, calls and macros may be nested.
const DEEPEST: u16 = 12;
/// Stack of the thread that reads a filter. What is not used of it takes no memory.
const READING_STACK: usize = 32 << 20;
/// Steps that looking at one event may take: some ten milliseconds.
const MOST_STEPS: u64 = 2_000_000;
/// Longest text of a mistake that others than we wrote.
const LONGEST_MISTAKE: usize = 200;

/// The functions of the language.
static LANGUAGE: LazyLock<Context<'static>> = LazyLock::new(Context::default);

/// An expression that says which events a Function gets.
#[derive(Clone)]
pub struct Filter {
    text: Arc<str>,
    expression: Arc<IdedExpr>,
    /// Parts of the expression.
    parts: u64,
    /// The power of the event's size with which the work grows at most.
    degree: u32,
}

/// What a filter says about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The Function gets it.
    Matches,
    /// The Function does not get it.
    Differs,
    /// Nothing can be said: a field is missing, or of another type. The Function does not get it.
    Unclear,
    /// It is too large to be looked at. The Function gets it.
    TooLarge,
}

impl Verdict {
    /// Whether the Function gets the event.
    pub const fn delivers(self) -> bool {
        matches!(self, Self::Matches | Self::TooLarge)
    }
}

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// It is too long.
    #[error("it has {0} bytes: it may have {LONGEST}")]
    TooLong(usize),
    /// It is no expression.
    #[error("{0}")]
    Syntax(String),
    /// It names something that there is not.
    #[error("there is no {0:?}: a filter knows event and data")]
    Name(String),
    /// It calls something that there is not, or not so.
    #[error("there is no function {0} with {1} arguments")]
    Call(String, usize),
    /// It uses what could take any amount of memory, or time.
    #[error("{0}")]
    Unbounded(&'static str),
    /// A pattern is none.
    #[error("{0:?} is not a regular expression that can be used")]
    Pattern(String),
    /// It tells neither true nor false.
    #[error("it must be true or false")]
    NotBool,
}

impl Filter {
    /// Reads a filter, and checks that it can be used.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        if text.len() > LONGEST {
            return Err(Mistake::TooLong(text.len()));
        }
        // The parser goes down into each bracket with some hundred KiB, and a chain of fields is a
        // deep tree until it is refused: it gets a stack on which the longest text fits.
        let read = thread::scope(|scope| {
            let reader = thread::Builder::new().stack_size(READING_STACK);
            reader.spawn_scoped(scope, || read(text)).map(thread::ScopedJoinHandle::join)
        });
        let Ok(Ok(read)) = read else { return Err(Mistake::Syntax("it can't be read".into())) };
        let (expression, bounds) = read?;
        Ok(Self {
            text: text.into(),
            expression: Arc::new(expression),
            parts: bounds.parts,
            degree: bounds.degree,
        })
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says about `event`.
    pub fn judge(&self, event: &CloudEvent) -> Verdict {
        let size = value::size(event).max(self.parts);
        if self.parts.saturating_mul(size.saturating_pow(self.degree)) > MOST_STEPS {
            return Verdict::TooLarge;
        }
        let Some(data) = value::of_data(&event.data) else { return Verdict::TooLarge };
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let mut context = LANGUAGE.new_inner_scope();
            context.add_variable_from_value("event", value::of_attributes(event));
            context.add_variable_from_value("data", data);
            Value::resolve(&self.expression, &context)
        }));
        match judged {
            Ok(Ok(Value::Bool(true))) => Verdict::Matches,
            Ok(Ok(Value::Bool(false))) => Verdict::Differs,
            _ => Verdict::Unclear,
        }
    }
}

fn read(text: &str) -> Result<(IdedExpr, check::Bounds), Mistake> {
    let expression = Parser::new().max_recursion_depth(DEEPEST).parse(text).map_err(|errors| {
        let told = errors.errors.into_iter().next().map(|error| {
            let (line, column) = error.pos;
            let what: String = error.msg.chars().take(LONGEST_MISTAKE).collect();
            format!("line {line}, column {column}: {what}")
        });
        Mistake::Syntax(told.unwrap_or_default())
    })?;
    let bounds = check::check(&expression)?;
    Ok((expression, bounds))
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests;
