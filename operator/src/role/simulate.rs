//! Replays a trace: reads the files, lets the pure part replay, and writes the figures. It needs no
//! cluster.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use rouse_core::scaling::idle::economy::Economy;
use rouse_core::simulation::plot;
use rouse_core::simulation::replay::Named;
use rouse_core::simulation::summary::{self, Summary, compare};
use rouse_core::simulation::trace::{NoTrace, Trace};
use tokio::task::spawn_blocking;

use crate::args::{EconomyName, SimulateArgs};
use crate::output::{self, Form, Sheet};
use crate::progress::Progress;

/// First bytes of a file that gzip compressed.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Replays what `args` say and prints the figures.
pub async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let form = args.output;
    let mut progress = Progress::begin();
    progress.now("every call is replayed under each policy");
    let replayed = spawn_blocking(move || replay(&args).map(|summaries| (args, summaries)));
    let (args, summaries) = progress.during(replayed).await.context("replaying")??;
    if let Some(path) = &args.plot {
        let writing = || format!("writing {}", path.display());
        std::fs::write(path, plot::draw(&summaries)).with_context(writing)?;
    }
    output::print(&match form {
        Form::Table if !args.classes => summary::table(&summaries),
        Form::Table | Form::Wide => {
            summary::table(&summaries) + "\n" + &summary::table_of_classes(&summaries)
        }
        form => sheet(&summaries).render(form, &summaries)?,
    })
}

fn replay(args: &SimulateArgs) -> anyhow::Result<Vec<Summary>> {
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
    Ok(summaries)
}

/// The figures, for spreadsheets.
fn sheet(summaries: &[Summary]) -> Sheet {
    let row = |it: &Summary| {
        let counts = [it.calls, it.cold].map(|count| count.to_string());
        let figures =
            [it.cold_percent, it.p50_percent, it.p75_percent, it.waste, it.relative_waste];
        let figures = figures.map(|figure| figure.to_string());
        [it.policy.to_owned()].into_iter().chain(counts).chain(figures).collect()
    };
    Sheet {
        head: vec!["POLICY", "REQUESTS", "COLD", "COLD%", "P50%", "P75%", "WASTE GB-S", "WASTE"],
        rows: summaries.iter().map(row).collect(),
        names: summaries.iter().map(|it| it.policy.to_owned()).collect(),
        ..Sheet::default()
    }
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
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn figures_are_told_in_any_form() {
        let all = [Summary { policy: "fixed", calls: 7, cold: 2, ..Summary::default() }];
        let sheet = sheet(&all);
        assert_eq!(sheet.render(Form::Name, &all).unwrap(), "fixed\n");
        assert!(sheet.render(Form::Csv, &all).unwrap().ends_with("\nfixed,7,2,0,0,0,0,0\n"));
        assert!(sheet.render(Form::Yaml, &all).unwrap().contains("policy: fixed"));
    }

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
