//! A line of a Function's log: as `rouse-shim` writes it, or as any program prints it. Pure.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::args::LineForm;

/// A line, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When it was written.
    pub time: Timestamp,
    /// The pod.
    pub pod: String,
    /// As the pod wrote it.
    pub written: String,
    fields: Map<String, Value>,
}

impl Line {
    /// Of what the API server tells of a pod: a time, a blank, and the text.
    pub fn read(pod: &str, told: &str) -> Option<Self> {
        let (time, text) = told.split_once(' ').unwrap_or((told, ""));
        let told: Timestamp = time.parse().ok()?;
        let fields = structured(text);
        let fields =
            fields.unwrap_or_else(|| Map::from_iter([("message".to_owned(), json!(text))]));
        let time = own_time(&fields).unwrap_or(told);
        Some(Self { time, pod: pod.to_owned(), written: text.to_owned(), fields })
    }

    /// Of what a pod's shim wrote; none where it was none, which tells no time.
    pub fn of_shim(pod: &str, text: &str) -> Option<Self> {
        let fields = structured(text)?;
        let time = own_time(&fields)?;
        Some(Self { time, pod: pod.to_owned(), written: text.to_owned(), fields })
    }

    /// Whether it is of the request; of one that can't be told it is not.
    pub fn is_of(&self, request: &str) -> bool {
        self.text("requestId") == request
    }

    fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The line in `form`, with its end.
    pub fn render(&self, form: LineForm) -> String {
        match form {
            LineForm::Json => {
                let mut fields = self.fields.clone();
                fields.insert("time".to_owned(), json!(self.time.to_string()));
                fields.insert("pod".to_owned(), json!(self.pod));
                format!("{}\n", Value::Object(fields))
            }
            LineForm::Text => {
                let time = self.time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
                let request = match self.text("requestId") {
                    "" => "-",
                    id => id,
                };
                // What the shim says of a request or a process stands beside its sentence.
                let more = self.fields.iter().filter(|(name, _)| {
                    !["time", "stream", "requestId", "message", "partial"].contains(&name.as_str())
                });
                let mut line = format!("{time} {} {request} {}", self.pod, self.text("message"));
                for (name, value) in more {
                    // Writing to a string can't fail.
                    let _ = write!(line, " {name}={value}");
                }
                line + "\n"
            }
        }
    }
}

/// The fields of a line that a shim wrote.
fn structured(text: &str) -> Option<Map<String, Value>> {
    let fields: Map<String, Value> = serde_json::from_str(text).ok()?;
    (fields.contains_key("stream") && fields.contains_key("message")).then_some(fields)
}

/// When the shim wrote it.
fn own_time(fields: &Map<String, Value>) -> Option<Timestamp> {
    fields.get("time")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-01T10:00:00.123456789Z";

    fn line(text: &str) -> Line {
        Line::read("hello-x", &format!("{TIME} {text}")).unwrap()
    }

    #[test]
    fn a_line_of_the_shim_is_told_by_its_request() {
        let shim = line(
            r#"{"time":"2026-11-01T10:00:00.1Z","stream":"stdout","requestId":"r1","message":"hi"}"#,
        );
        assert!(shim.is_of("r1") && !shim.is_of("r2"));
        assert_eq!(shim.render(LineForm::Text), "2026-11-01T10:00:00.100Z hello-x r1 hi\n");
        let json: Value = serde_json::from_str(&shim.render(LineForm::Json)).unwrap();
        assert_eq!((&json["pod"], &json["message"]), (&json!("hello-x"), &json!("hi")));
    }

    #[test]
    fn what_the_shim_adds_is_shown_and_any_program_may_print_anything() {
        let shim = line(r#"{"stream":"shim","message":"it ended","code":1}"#);
        assert!(shim.render(LineForm::Text).ends_with(" hello-x - it ended code=1\n"));
        for text in ["plain words", "{\"level\":\"info\",\"message\":\"own\"}", "", "{"] {
            let plain = line(text);
            assert!(plain.render(LineForm::Text).ends_with(&format!(" - {text}\n")), "{text}");
            assert!(!plain.is_of("r1"));
        }
        assert!(Line::read("x", "no time").is_none());
    }
}
