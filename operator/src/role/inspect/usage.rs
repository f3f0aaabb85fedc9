//! `rouse usage`: what Functions used, and what it costs.

use anyhow::bail;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rouse_core::usage::book::{plus, since};
use rouse_crds::v1alpha1::{Function, UsageSums};
use serde::Serialize;

use super::args::UsageArgs;
use crate::cluster::name_of_function;
use crate::output::Sheet;

/// What one Function, or one of its revisions, used.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(flatten)]
    sums: UsageSums,
    gb_seconds: f64,
    pod_gb_seconds: f64,
    cost: f64,
}

/// What `functions` used, as `args` say.
pub fn sum_up(functions: &[Function], args: &UsageArgs) -> anyhow::Result<String> {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let first_day = args.since.as_deref().map(|text| parse_since(text, today)).transpose()?;
    let mut notes = Vec::new();
    let (mut rows, mut total) = (Vec::new(), UsageSums::default());
    for function in functions {
        let meta = &function.metadata;
        let name = || meta.name.clone().unwrap_or_default();
        let row = |revision, sums| row((meta.namespace.clone(), name()), revision, sums, args);
        let usage = function.status.as_ref().and_then(|status| status.usage.as_ref());
        let Some(usage) = usage else {
            rows.push(row(None, UsageSums::default()));
            continue;
        };
        let sums = match &first_day {
            Some(day) => {
                let (sums, complete) = since(usage, day);
                if !complete {
                    notes.push(format!(
                        "{}: only its last {} days are known",
                        name(),
                        usage.days.len()
                    ));
                }
                sums
            }
            None => usage.total,
        };
        total = plus(&total, &sums);
        rows.push(row(None, sums));
        if args.revisions {
            rows.extend(usage.revisions.iter().map(|of| row(Some(&*of.revision), of.sums)));
        }
        if usage.gaps > 0 {
            notes.push(format!(
                "{}: an activator ended {} times without its last word, as in a crash; each time at \
                 most 10 s of what it counted are missing",
                name(),
                usage.gaps
            ));
        }
    }
    if functions.len() > 1 {
        notes.insert(0, total_line(&total, args));
    }
    notes.push("What is used is told about once a minute.".to_owned());
    sheet(&rows, args, notes).render(args.output, &rows)
}

fn row(
    (namespace, function): (Option<String>, String),
    revision: Option<&str>,
    sums: UsageSums,
    args: &UsageArgs,
) -> Row {
    let figures = args.prices.prices().figures(&sums);
    Row {
        namespace: namespace.unwrap_or_default(),
        function,
        revision: revision.map(str::to_owned),
        sums,
        gb_seconds: figures.gb_seconds,
        pod_gb_seconds: figures.pod_gb_seconds,
        cost: figures.cost,
    }
}

fn total_line(total: &UsageSums, args: &UsageArgs) -> String {
    let figures = args.prices.prices().figures(total);
    format!(
        "All: {} requests, {:.3} GB-s of requests, {:.3} GB-s of pods, cost {:.6}",
        total.requests, figures.gb_seconds, figures.pod_gb_seconds, figures.cost
    )
}

fn sheet(rows: &[Row], args: &UsageArgs, notes: Vec<String>) -> Sheet {
    let mut head = vec!["NAMESPACE", "FUNCTION"];
    head.extend(args.revisions.then_some("REVISION"));
    head.extend(["REQUESTS", "BILLED MS", "GB-S", "POD MS", "POD GB-S", "COST"]);
    let cells = |row: &Row| {
        let revision = row.revision.clone().unwrap_or_else(|| "-".to_owned());
        let mut cells = vec![row.namespace.clone(), row.function.clone()];
        cells.extend(args.revisions.then_some(revision));
        cells.extend([
            row.sums.requests.to_string(),
            row.sums.billed_millis.to_string(),
            format!("{:.3}", row.gb_seconds),
            row.sums.pod_millis.to_string(),
            format!("{:.3}", row.pod_gb_seconds),
            format!("{:.6}", row.cost),
        ]);
        cells
    };
    let names = rows.iter().filter(|row| row.revision.is_none());
    let names = names.map(|row| name_of_function(&row.function)).collect();
    Sheet { head, rows: rows.iter().map(cells).collect(), notes, names, ..Sheet::default() }
}

/// The first day that is counted.
fn parse_since(text: &str, today: Date) -> anyhow::Result<String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
    if let Some(days) = days.filter(|days| (0..=100_000).contains(days)) {
        return Ok(today.saturating_sub(days.days()).to_string());
    }
    match text.parse::<Date>() {
        Ok(day) => Ok(day.to_string()),
        Err(_) => {
            bail!("--since {text:?} is neither a date such as 2026-11-01 nor days such as 7d")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: UsageArgs,
    }

    fn ask(line: &[&str]) -> String {
        let functions: Vec<Function> = ["a", "b"]
            .map(|name| {
                let sums = json!({"requests": 2_000_000, "billedMillis": 5, "podMillis": 60_000,
                    "billedMibMillis": 1_024_000, "podMibMillis": 10_240_000});
                let usage = json!({"since": "2026-11-20T00:00:00Z", "gaps": 2,
                    "updatedAt": "2026-11-23T00:00:00Z", "total": sums,
                    "revisions": [{"revision": "r1", "sums": sums}],
                    "days": [{"day": "2026-11-23", "sums": {"requests": 3}}]});
                json!({"apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
                    "metadata": {"name": name, "namespace": "shop"}, "spec": {"image": "x"},
                    "status": {"usage": usage}})
            })
            .map(|object| serde_json::from_value(object).unwrap())
            .to_vec();
        let args = Cli::try_parse_from([&["usage"], line].concat()).ok().unwrap().args;
        sum_up(&functions, &args).unwrap()
    }

    #[test]
    fn usage_has_a_row_for_each_function_and_says_what_is_missing() {
        let table = ask(&["--price-gb-second", "0.5", "--price-million-requests=0.2"]);
        let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["shop", "a", "2000000", "5", "1.000", "60000", "10.000", "0.900000"]);
        assert!(table.contains("All: 4000000 requests"), "{table}");
        assert!(table.contains("a: an activator ended 2 times"), "{table}");
    }

    #[test]
    fn usage_is_told_to_programs_and_by_day_and_revision() {
        let csv = ask(&["--since", "2026-11-22", "-o", "csv"]);
        assert_eq!(csv.lines().nth(2).unwrap(), "shop,b,3,0,0.000,0,0.000,0.000000");
        let told: Value = serde_json::from_str(&ask(&["--revisions", "-o", "json"])).unwrap();
        assert_eq!(told.as_array().unwrap().len(), 4);
        assert_eq!((&told[1]["revision"], &told[1]["requests"]), (&json!("r1"), &json!(2_000_000)));
        assert_eq!(told[0]["podGbSeconds"], 10.0);
    }

    #[test]
    fn days_are_dates_or_counted_back() {
        let today = "2026-11-23".parse().unwrap();
        assert_eq!(parse_since("7d", today).unwrap(), "2026-11-16");
        assert_eq!(parse_since("2026-11-01", today).unwrap(), "2026-11-01");
        assert!(parse_since("yesterday", today).is_err());
        assert!(Cli::try_parse_from(["usage", "--price-gb-second=-1"]).is_err());
    }
}
