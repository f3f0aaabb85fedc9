//! What filters say, what is refused, and that none of it can be made to cost much.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::event::Data;

fn event(data: Data) -> CloudEvent {
    CloudEvent {
        id: "1".into(),
        source: "/shop".into(),
        kind: "order.paid".into(),
        time: "2026-03-29T01:00:00Z".parse().unwrap(),
        subject: None,
        extensions: BTreeMap::from([("tenant".into(), "blue".into())]),
        data,
    }
}

fn order() -> CloudEvent {
    event(Data::Json(json!({
        "total": 12.5, "count": 3, "whole": 4.0, "vip": true, "note": null,
        "items": [{"name": "tea", "tags": ["hot", "green"]}, {"name": "cup", "tags": []}],
    })))
}

fn judge(text: &str, event: &CloudEvent) -> Verdict {
    Filter::parse(text).unwrap_or_else(|mistake| panic!("{text}: {mistake}")).judge(event)
}

#[test]
fn filters_look_at_attributes_and_data() {
    for (text, verdict) in [
        ("event.type == 'order.paid'", Verdict::Matches),
        ("event.type.startsWith('order.') && event.tenant == 'blue'", Verdict::Matches),
        ("event.source in ['/shop', '/other']", Verdict::Matches),
        ("timestamp(event.time).getFullYear() == 2026", Verdict::Matches),
        ("has(event.subject)", Verdict::Differs),
        ("!has(event.subject) || event.subject == 'x'", Verdict::Matches),
        ("event['datacontenttype'] == 'application/json'", Verdict::Matches),
        ("data.total > 12.0 && data.count >= 3 && data.whole == 4", Verdict::Matches),
        ("data.total < 20 && data.vip && data.note == null", Verdict::Matches),
        ("data.vip", Verdict::Matches),
        ("data.items.exists(item, item.name == 'cup')", Verdict::Matches),
        ("data.items.exists(item, item.tags.exists(tag, tag.matches('^gr')))", Verdict::Matches),
        ("data.items.all(item, size(item.tags) > 0)", Verdict::Differs),
        ("data.items[0].name.size() == 3", Verdict::Matches),
        ("data.missing == 1", Verdict::Unclear),
        ("data.missing != 1 || true", Verdict::Matches),
        ("data.total.startsWith('1')", Verdict::Unclear),
        ("data.items[9].name == 'x'", Verdict::Unclear),
        ("data.count / 0 == 1", Verdict::Unclear),
        ("data.total", Verdict::Unclear),
    ] {
        assert_eq!(judge(text, &order()), verdict, "{text}");
    }
}

#[test]
fn data_that_is_no_json_document_is_text_or_bytes() {
    let bytes = |content_type: &str, bytes: &[u8]| {
        event(Data::Bytes { content_type: content_type.into(), bytes: bytes.to_vec() })
    };
    let json = bytes("application/vnd.x+json", br#"{"a": [1]}"#);
    assert_eq!(judge("data.a[0] == 1", &json), Verdict::Matches);
    assert_eq!(judge("data.contains('lo')", &bytes("text/plain", b"hello")), Verdict::Matches);
    assert_eq!(judge("data == b'\\xff'", &bytes("image/png", &[0xff])), Verdict::Matches);
    let broken = bytes("application/json", b"{broken");
    assert_eq!(judge("data.startsWith('{b')", &broken), Verdict::Matches);
}

#[test]
fn mistakes_tell_what_and_where() {
    let told = |text: &str| Filter::parse(text).unwrap_err().to_string();
    assert!(told("data.a == ").starts_with("line 1, column "), "{}", told("data.a == "));
    assert_eq!(told("dat.a == 1"), "there is no \"dat\": a filter knows event and data");
    assert_eq!(told("data.a.upper() == 'A'"), "there is no function upper with 0 arguments");
    assert_eq!(told("size(data)"), "it must be true or false");
    assert_eq!(told("'text'"), "it must be true or false");
    assert!(told("data.map(a, a) == []").contains("map and filter"));
    assert!(told("data.filter(a, true) == []").contains("map and filter"));
    assert!(told("data.map(a) == []").contains("map and filter"));
    assert!(told("data.a.matches(data.b)").contains("written down"));
    assert!(told("data.a.matches('(')").contains("not a regular expression"));
    assert!(told("data.a.matches('(.{99}){99}')").contains("not a regular expression"));
    assert!(told("data.exists(data, true)").contains("a name of its own"));
    assert!(told("shop.Order{a: 1} == data").contains("messages"));
    assert!(told(&" ".repeat(1025)).contains("1025 bytes"));
    assert!(told(&format!("{}true{}", "(".repeat(20), ")".repeat(20))).len() < 300);
    assert!(Filter::parse("").is_err());
}

#[test]
fn what_is_too_large_is_not_looked_at() {
    let large = event(Data::Json(Json::from((0..3000).collect::<Vec<_>>())));
    assert_eq!(judge("data.exists(a, a == 2999)", &large), Verdict::Matches);
    let square = "data.exists(a, data.exists(b, a + b == 5997))";
    assert_eq!(judge(square, &large), Verdict::TooLarge);
    assert!(Verdict::TooLarge.delivers());
    let small = event(Data::Json(json!([1, 2])));
    assert_eq!(judge("data.exists(a, data.exists(b, a + b == 3))", &small), Verdict::Matches);
    // Going through the parts of parts is no more work than there are parts.
    let nested: Vec<_> = (0..300).map(|n| json!({"tags": [n, n, n]})).collect();
    let nested = event(Data::Json(Json::from(nested)));
    let text = "data.exists(a, a.tags.exists(tag, tag == 299))";
    assert_eq!(judge(text, &nested), Verdict::Matches);
}

/// The deepest and longest that is let through is read on a small stack, built without optimisation.
#[test]
fn what_is_let_through_fits_on_the_stack() {
    let mut texts = vec![];
    for (opening, middle, closing) in
        [("(", "true", ")"), ("[", "1", "]"), ("!", "true", ""), ("true ? true : ", "true", "")]
    {
        for depth in [1, 5, 11, 12, 13, 60, 500, 1000] {
            texts.push(format!("{}{middle}{}", opening.repeat(depth), closing.repeat(depth)));
        }
    }
    for (first, more) in
        [("data", ".a"), ("1", "+1"), ("true", "||true"), ("data", "[0]"), ("-1", "--1")]
    {
        for length in [10, 100, 200, 240, 500] {
            texts.push(format!("{first}{} == 1", more.repeat(length)));
        }
    }
    let judged = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        let filters = texts.iter().filter_map(|text| Filter::parse(text).ok());
        filters.fold(0, |judged, filter| {
            filter.judge(&order());
            judged + 1
        })
    });
    assert!(judged.unwrap().join().unwrap() > 20);
}

proptest! {
    /// Whatever is written, it is refused or judged.
    #[test]
    fn nothing_breaks_a_filter(text in "[dataevn.()\\[\\]{}!=<>&|+*/%?:'\"0-9, -]{0,60}") {
        if let Ok(filter) = Filter::parse(&text) {
            let _ = filter.judge(&order());
        }
    }
}
