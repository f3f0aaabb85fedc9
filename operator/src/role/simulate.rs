//! Replays a trace: reads the files, lets the pure part replay, and writes the figures. It needs no
//! cluster.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use rouse_core::scaling::idle::economy::Economy;
use rouse_core::simulation::plot;
use rouse_core::simulation::replay::Named;
use rouse_core::simulation::summary::{self, compare};
use rouse_core::simulation::trace::{NoTrace, Trace};

use crate::args::{EconomyName, Output, SimulateArgs};

/// First bytes of a file that gzip compressed.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Replays what `args` say and prints the figures.
pub fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    let mut trace = read_trace(args)?;
    if let Some((part, parts)) = args.part {
        trace = trace.part(part, parts);
    }
    let economy = match args.economy {
        EconomyName::Cheap => Economy::Cheap,
        EconomyName::Balanced => Economy::Balanced,
        EconomyName::Warm => Economy::Warm,
    };
    let seeds: Vec<u64> = (0..args.seeds).map(|offset| args.seed.wrapping_add(offset)).collect();
    let mut summaries = compare(&trace, &Named::all(economy), &seeds);
    if !trace.functions.iter().any(|function| function.timer) {
        // Nothing is scheduled, as far as is known: it would be the same again.
        summaries.truncate(summaries.len().saturating_sub(1));
    }
    if let Some(path) = &args.plot {
        let writing = || format!("writing {}", path.display());
        std::fs::write(path, plot::draw(&summaries)).with_context(writing)?;
    }
    let text = match args.output {
        Output::Table if args.classes => {
            summary::table(&summaries) + "\n" + &summary::table_of_classes(&summaries)
        }
        Output::Table => summary::table(&summaries),
        Output::Json => serde_json::to_string_pretty(&summaries)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes()).context("printing the figures")
}

fn read_trace(args: &SimulateArgs) -> anyhow::Result<Trace> {
    let calls = read(&args.calls)?;
    let memory = args.memory.as_deref().map(read).transpose()?.unwrap_or_default();
    Trace::parse(&calls, &memory).map_err(|error| {
        let file = match (&error, &args.memory) {
            (NoTrace::Memory(_), Some(memory)) => memory,
            _ => &args.calls,
        };
        anyhow::anyhow!("{}: {error}", file.display())
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("reading {}", path.display());
    let bytes = std::fs::read(path).with_context(reading)?;
    let mut text = String::new();
    if bytes.starts_with(&GZIP) {
        MultiGzDecoder::new(&*bytes).read_to_string(&mut text).with_context(reading)?;
    } else {
        text = String::from_utf8(bytes).with_context(reading)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn files_are_read_whether_compressed_or_not() {
        let folder = std::env::temp_dir().join(format!("rouse-simulate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (plain, packed) = (folder.join("plain.csv"), folder.join("packed.csv.gz"));
        std::fs::write(&plain, "a,b\n").unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"a,b\n").unwrap();
        std::fs::write(&packed, encoder.finish().unwrap()).unwrap();
        let texts = [read(&plain).unwrap(), read(&packed).unwrap()];
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(texts, ["a,b\n", "a,b\n"]);
        assert!(read(&plain).unwrap_err().to_string().starts_with("reading "));
    }
}
