//! The two forms in which metrics are told: OpenMetrics, and the older text form of Prometheus for
//! whoever does not ask for the other. Pure.
//!
//! The library writes OpenMetrics. The older form has no exemplars, no units and no end, and names
//! a counter by its sample.

use std::fmt::Write as _;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// A form of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text form of Prometheus, 0.0.4.
    Text,
}

impl Form {
    /// The form that a caller prefers who sends these values of the header `Accept`.
    pub fn preferred<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let ranges = || accept_ranges(accept);
        let mut best = (Self::Text, 0.0);
        for (range, quality) in ranges() {
            let form = match range {
                "application/openmetrics-text" => Self::OpenMetrics,
                "text/plain" | "text/*" | "*/*" => Self::Text,
                _ => continue,
            };
            if quality > best.1 {
                best = (form, quality);
            }
        }
        best.0
    }

    /// The type of the content.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What `registry` holds, in this form.
    pub fn write(self, registry: &Registry) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, registry)?;
        match self {
            Self::OpenMetrics => Ok(text),
            Self::Text => to_text(&text),
        }
    }
}

/// The ranges of media that are named, each with its quality.
fn accept_ranges<'a>(accept: impl Iterator<Item = &'a str>) -> Vec<(&'a str, f32)> {
    let range = |range: &'a str| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
        (name, quality.unwrap_or(1.0))
    };
    accept.flat_map(|value| value.split(',')).map(|part| range(part.trim())).collect()
}

fn to_text(open_metrics: &str) -> Result<String, std::fmt::Error> {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = type_of(line) {
            // The library names a counter without the end of its samples.
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                writeln!(text, "# HELP {name}{total} {help}")?;
            }
            writeln!(text, "# TYPE {name}{total} {kind}")?;
        } else if !line.starts_with('#') {
            writeln!(text, "{}", without_exemplar(line))?;
        }
    }
    Ok(text)
}

fn type_of(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("# TYPE ")?.split_once(' ')
}

/// A sample without what follows its value. Values of labels may hold anything, between quotes.
fn without_exemplar(line: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return line.get(..at).unwrap_or(line).trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::EncodeLabelSet;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::exemplar::HistogramWithExemplars;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;

    use rouse_activator::request_metrics::RequestMetrics;
    use rouse_core::function::FunctionKey;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
    struct Labels {
        name: String,
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        let calls = Family::<Labels, Counter>::default();
        registry.register("calls", "Calls", calls.clone());
        for name in ["plain", "odd \" # {x=\"y\"} \\ , \n"] {
            calls.get_or_create(&Labels { name: name.into() }).inc();
        }
        let waits = HistogramWithExemplars::<Labels>::new([0.1, 1.0].into_iter());
        waits.observe(0.5, Some(Labels { name: "trace".into() }), None);
        registry.register("wait_seconds", "Waits", waits);
        let gauge: Gauge = Gauge::default();
        registry.register("open", "Open", gauge);
        registry
    }

    #[test]
    fn the_form_is_what_the_caller_prefers() {
        let of = |accept: &[&'static str]| Form::preferred(accept.iter().copied());
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(of(&[prometheus]), Form::OpenMetrics);
        assert_eq!(of(&["text/plain", "application/openmetrics-text; q=0.9"]), Form::Text);
        assert_eq!(of(&["application/openmetrics-text;q=0"]), Form::Text);
        assert_eq!(of(&["text/html, */*"]), Form::Text);
        assert_eq!(of(&[]), Form::Text);
    }

    #[test]
    fn open_metrics_has_exemplars_and_an_end() {
        let text = Form::OpenMetrics.write(&registry()).unwrap();
        assert!(text.contains("le=\"1.0\"} 1 # {name=\"trace\"} 0.5"), "{text}");
        assert!(text.contains("# TYPE calls counter\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_text_form_is_what_an_older_parser_reads() {
        let text = Form::Text.write(&registry()).unwrap();
        assert!(!text.contains("trace") && !text.contains("EOF"), "{text}");
        assert!(text.contains("\\\" # {x=\\\"y\\\"} \\\\ , \\n\"} 1\n"), "values are kept: {text}");
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let scrape = prometheus_parse::Scrape::parse(lines).unwrap();
        assert_eq!(scrape.docs["calls_total"], "Calls.");
        let of = |name: &str| -> Vec<_> {
            scrape.samples.iter().filter(|sample| sample.metric == name).collect()
        };
        let prometheus_parse::Value::Counter(calls) = of("calls_total")[0].value else {
            panic!("a counter: {:?}", of("calls_total"));
        };
        assert!((calls - 1.0).abs() < 1e-9);
        let prometheus_parse::Value::Histogram(waits) = &of("wait_seconds")[0].value else {
            panic!("a histogram: {:?}", of("wait_seconds"));
        };
        let counts: Vec<f64> = waits.iter().map(|class| class.count).collect();
        assert_eq!(counts, [0.0, 1.0, 1.0]);
        assert!(matches!(of("open")[0].value, prometheus_parse::Value::Gauge(_)));
    }

    #[test]
    fn what_an_activator_tells_is_read_whole() {
        let mut registry = Registry::default();
        let metrics = RequestMetrics::register(&mut registry);
        let series = metrics.function(&FunctionKey::new("shop", "f"));
        let text = Form::Text.write(&registry).unwrap();
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let scrape = prometheus_parse::Scrape::parse(lines).unwrap();
        let histogram =
            |name: &str| ["_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let read = scrape.samples.iter().any(|sample| sample.metric == name);
            assert!(read || histogram(name), "{line}");
        }
        for sample in &scrape.samples {
            use prometheus_parse::Value::{Counter, Gauge, Histogram};
            let known = matches!(sample.value, Counter(_) | Gauge(_) | Histogram(_));
            assert!(known || histogram(&sample.metric), "{sample:?}");
            let of_function = sample.labels.get("function").is_none_or(|name| name == "f");
            assert!(of_function && sample.metric.starts_with("rouse_"), "{sample:?}");
        }
        drop(series);
    }
}
