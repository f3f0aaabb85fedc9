//! Traces: how often each Function was called in each minute, and how much memory it takes.
//!
//! The form is that of the Azure Functions trace of 2019 (Shahrad et al., "Serverless in the Wild",
//! USENIX ATC 2020): a line for each function, with columns `HashOwner`, `HashApp`, `HashFunction`,
//! perhaps `Trigger`, then one for each minute; and a table of the memory by function.

use std::collections::HashMap;

use super::chance::Chance;

/// A trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Minutes that it lasts.
    pub minutes: u32,
    /// The Functions.
    pub functions: Vec<TracedFunction>,
}

/// What a trace says of one Function.
#[derive(Clone, Debug, PartialEq)]
pub struct TracedFunction {
    /// Its name: a hash.
    pub name: String,
    /// Whether a timer calls it: at the same second of each minute, and known beforehand.
    pub timer: bool,
    /// Its memory in MB.
    pub memory: f64,
    /// Calls by minute; minutes without any are left out.
    pub calls: Vec<(u32, u32)>,
}

/// Why a table is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTrace {
    /// The head of the table lacks a column.
    #[error(
        "line 1 has no column {0}: the first line must name the columns, with commas between, as in \
         the Azure Functions trace of 2019"
    )]
    Column(&'static str),
    /// A line can't be read.
    #[error("line {line}: {what}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it, and what must stand there.
        what: String,
    },
    /// There are no functions.
    #[error("there are no functions in it: a line for each must follow the names of the columns")]
    Empty,
    /// The table of the memory can't be read.
    #[error("{0}")]
    Memory(Box<NoTrace>),
}

impl Trace {
    /// Reads the calls, and the memory of the functions; those without get the mean of the others.
    pub fn parse(table: &str, memory: &str) -> Result<Self, NoTrace> {
        let memory = parse_memory(memory).map_err(|error| NoTrace::Memory(Box::new(error)))?;
        let mut lines = table.lines().enumerate();
        let head: Vec<&str> = lines.next().ok_or(NoTrace::Empty)?.1.split(',').collect();
        let name = column(&head, "HashFunction")?;
        let trigger = head.iter().position(|column| *column == "Trigger");
        let first = head
            .iter()
            .position(|column| column.parse::<u32>().is_ok())
            .ok_or(NoTrace::Column("of a minute"))?;
        let usual = mean(memory.values().copied());
        let parse = |(index, line): (usize, &str)| {
            let cells: Vec<&str> = line.split(',').collect();
            let wrong = |what: String| NoTrace::Line { line: index + 1, what };
            if cells.len() != head.len() {
                let (has, named) = (cells.len(), head.len());
                return Err(wrong(format!(
                    "{has} values where line 1 names {named} columns: give as many, 0 for minutes \
                     without calls"
                )));
            }
            let busy = (0..).zip(&cells[first..]).filter(|(_, count)| **count != "0");
            let count = |(minute, count): (u32, &&str)| {
                let parsed = count.parse().map_err(|_| {
                    let minute = head.get(first + minute as usize).copied().unwrap_or_default();
                    wrong(format!(
                        "{count:?} in minute {minute} is no number of calls: give a whole number"
                    ))
                });
                Ok((minute, parsed?))
            };
            Ok(TracedFunction {
                name: cells[name].to_owned(),
                timer: trigger.is_some_and(|trigger| cells[trigger] == "timer"),
                memory: memory.get(cells[name]).copied().unwrap_or(usual),
                calls: busy.map(count).collect::<Result<_, _>>()?,
            })
        };
        let functions: Vec<TracedFunction> =
            lines.filter(|(_, line)| !line.is_empty()).map(parse).collect::<Result<_, _>>()?;
        if functions.is_empty() {
            return Err(NoTrace::Empty);
        }
        let minutes = u32::try_from(head.len() - first).map_err(|_| NoTrace::Empty)?;
        Ok(Self { minutes, functions })
    }

    /// The mean memory of its functions, in MB.
    pub fn usual_memory(&self) -> f64 {
        mean(self.functions.iter().map(|function| function.memory))
    }

    /// The functions that fall into part `part` of `parts`, as their names say.
    #[must_use]
    pub fn part(&self, part: u64, parts: u64) -> Self {
        let of = |name: &str| {
            name.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
                % parts.max(1)
        };
        let functions = self.functions.iter().filter(|function| of(&function.name) == part);
        Self { minutes: self.minutes, functions: functions.cloned().collect() }
    }
}

/// When the calls of one Function come, in seconds: spread evenly over each minute, from a phase
/// that is drawn for each minute, or once for a timer.
#[derive(Clone, Debug)]
pub struct CallTimes<'a> {
    minutes: std::slice::Iter<'a, (u32, u32)>,
    chance: Chance,
    constant: Option<f64>,
    /// The next call of the minute, how far calls are apart in it, and how many are left.
    next: f64,
    pause: f64,
    left: u32,
}

impl<'a> CallTimes<'a> {
    /// Those of a Function, which has that index in its trace.
    pub fn new(function: &'a TracedFunction, seed: u64, index: usize) -> Self {
        let mut chance = Chance::new(seed, index as u64 + 1);
        let constant = function.timer.then(|| chance.share());
        let minutes = function.calls.iter();
        Self { minutes, chance, constant, next: 0.0, pause: 0.0, left: 0 }
    }
}

impl Iterator for CallTimes<'_> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        while self.left == 0 {
            let &(minute, count) = self.minutes.next()?;
            let phase = self.constant.unwrap_or_else(|| self.chance.share());
            self.pause = 60.0 / f64::from(count.max(1));
            self.next = f64::from(minute) * 60.0 + phase * self.pause;
            self.left = count;
        }
        let time = self.next;
        self.next += self.pause;
        self.left -= 1;
        Some(time)
    }
}

fn parse_memory(text: &str) -> Result<HashMap<&str, f64>, NoTrace> {
    let mut lines = text.lines().enumerate();
    let Some((_, head)) = lines.next() else { return Ok(HashMap::new()) };
    let head: Vec<&str> = head.split(',').collect();
    let name = column(&head, "HashFunction")?;
    let memory = column(&head, "AverageAllocatedMb")?;
    let mut sizes = HashMap::new();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let cells: Vec<&str> = line.split(',').collect();
        let size = cells.get(memory).and_then(|cell| cell.parse().ok());
        let size: f64 = size.filter(|mb: &f64| mb.is_finite() && *mb > 0.0).ok_or_else(|| {
            let cell = cells.get(memory).copied().unwrap_or_default();
            let what = format!("{cell:?} in AverageAllocatedMb is no size: give megabytes above 0");
            NoTrace::Line { line: index + 1, what }
        })?;
        sizes.insert(cells.get(name).copied().unwrap_or_default(), size);
    }
    Ok(sizes)
}

fn column(head: &[&str], name: &'static str) -> Result<usize, NoTrace> {
    head.iter().position(|column| *column == name).ok_or(NoTrace::Column(name))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: &str =
        "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,timer,1,0,2\no,a,g,http,0,0,0\n";
    const MEMORY: &str =
        "HashFunction,HashOwner,HashApp,SampleCount,AverageAllocatedMb\nf,o,a,3,50\n";

    #[test]
    fn a_trace_is_read_with_and_without_triggers() {
        let trace = Trace::parse(CALLS, MEMORY).unwrap();
        assert_eq!((trace.minutes, trace.functions.len()), (3, 2));
        assert_eq!(trace.functions[0].calls, [(0, 1), (2, 2)]);
        assert!(trace.functions[0].timer && !trace.functions[1].timer);
        assert!((trace.functions[1].memory - 50.0).abs() < 1e-9, "the mean of the others");
        let plain = CALLS.replace("Trigger,", "").replace("timer,", "").replace("http,", "");
        let plain = Trace::parse(&plain, "").unwrap();
        assert!(!plain.functions[0].timer);
        assert_eq!(plain.functions[0].calls, trace.functions[0].calls);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(Trace::parse("", "").unwrap_err(), NoTrace::Empty);
        assert_eq!(Trace::parse("a,1\n", "").unwrap_err(), NoTrace::Column("HashFunction"));
        let error = Trace::parse(&CALLS.replace("timer,1", "timer,x"), MEMORY).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: \"x\" in minute 1 is no number of calls: give a whole number"
        );
        let error = Trace::parse(&CALLS.replace("timer,1,", "timer,"), MEMORY).unwrap_err();
        assert!(error.to_string().starts_with("line 2: 6 values where line 1 names 7 columns"));
        let error = Trace::parse(CALLS, &MEMORY.replace("50", "NaN")).unwrap_err();
        assert!(matches!(&error, NoTrace::Memory(_)));
        assert!(error.to_string().starts_with("line 2: \"NaN\" in AverageAllocatedMb"), "{error}");
    }

    #[test]
    fn calls_are_spread_evenly_and_a_timer_keeps_its_second() {
        let function = |timer| TracedFunction {
            name: "f".into(),
            timer,
            memory: 1.0,
            calls: vec![(2, 3), (4, 1), (9, 1)],
        };
        let all = |timer| CallTimes::new(&function(timer), 1, 0).collect::<Vec<f64>>();
        let timer = all(true);
        assert_eq!(timer.len(), 5);
        assert!(timer[..3].iter().all(|time| (120.0..180.0).contains(time)));
        assert!((timer[1] - timer[0] - 20.0).abs() < 1e-9);
        assert!((timer[4] - timer[3] - 300.0).abs() < 1e-9);
        let others = all(false);
        assert!((others[4] - others[3] - 300.0).abs() > 1e-6);
    }

    #[test]
    fn parts_are_apart_and_together_everything() {
        let trace = Trace::parse(CALLS, MEMORY).unwrap();
        let count = |part| trace.part(part, 2).functions.len();
        assert_eq!(count(0) + count(1), 2);
    }
}
