//! Events as golden files, and what is refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn event() -> CloudEvent {
    CloudEvent {
        id: "42ae550de1f8419eebda896001855164".into(),
        source: "/namespaces/shop/triggers/nightly".into(),
        kind: "dev.rouse.schedule.tick".into(),
        time: "2026-03-29T01:00:00Z".parse().unwrap(),
        subject: Some("50% off \u{fc}ber".into()),
        extensions: BTreeMap::from([("rouseattempts".into(), "5".into())]),
        data: Data::Json(json!({"scheduledTime": "2026-03-29T01:00:00Z"})),
    }
}

fn shown(message: &Message) -> String {
    let headers = message.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
    let body: Result<Value, _> = serde_json::from_slice(&message.body);
    let body = body.map_or_else(
        |_| String::from_utf8_lossy(&message.body).into_owned(),
        |body| serde_json::to_string_pretty(&body).unwrap(),
    );
    format!("{}\n{body}", headers.collect::<String>())
}

#[test]
fn binary_is_headers_and_data() {
    insta::assert_snapshot!(shown(&to_binary(&event()).unwrap()), @r#"
    ce-specversion: 1.0
    ce-id: 42ae550de1f8419eebda896001855164
    ce-source: /namespaces/shop/triggers/nightly
    ce-type: dev.rouse.schedule.tick
    ce-time: 2026-03-29T01:00:00Z
    ce-subject: 50%25%20off%20%C3%BCber
    ce-rouseattempts: 5
    content-type: application/json

    {
      "scheduledTime": "2026-03-29T01:00:00Z"
    }
    "#);
}

#[test]
fn structured_is_one_document() {
    insta::assert_snapshot!(shown(&to_structured(&event()).unwrap()), @r#"
    content-type: application/cloudevents+json; charset=utf-8

    {
      "data": {
        "scheduledTime": "2026-03-29T01:00:00Z"
      },
      "datacontenttype": "application/json",
      "id": "42ae550de1f8419eebda896001855164",
      "rouseattempts": "5",
      "source": "/namespaces/shop/triggers/nightly",
      "specversion": "1.0",
      "subject": "50% off über",
      "time": "2026-03-29T01:00:00Z",
      "type": "dev.rouse.schedule.tick"
    }
    "#);
}

#[test]
fn a_batch_is_a_list_of_documents() {
    let bytes = Data::Bytes { content_type: "image/png".into(), bytes: vec![0x89, 0x50] };
    let text = Data::Bytes { content_type: "text/plain".into(), bytes: b"hi".to_vec() };
    let events = [bytes, text].map(|data| CloudEvent { data, subject: None, ..event() });
    insta::assert_snapshot!(shown(&to_batch(&events.each_ref()).unwrap()), @r#"
    content-type: application/cloudevents-batch+json; charset=utf-8

    [
      {
        "data_base64": "iVA=",
        "datacontenttype": "image/png",
        "id": "42ae550de1f8419eebda896001855164",
        "rouseattempts": "5",
        "source": "/namespaces/shop/triggers/nightly",
        "specversion": "1.0",
        "time": "2026-03-29T01:00:00Z",
        "type": "dev.rouse.schedule.tick"
      },
      {
        "data": "hi",
        "datacontenttype": "text/plain",
        "id": "42ae550de1f8419eebda896001855164",
        "rouseattempts": "5",
        "source": "/namespaces/shop/triggers/nightly",
        "specversion": "1.0",
        "time": "2026-03-29T01:00:00Z",
        "type": "dev.rouse.schedule.tick"
      }
    ]
    "#);
}

#[test]
fn bytes_of_a_json_type_are_json_in_a_document() {
    let document = |content_type: &str, bytes: &[u8]| {
        let data = Data::Bytes { content_type: content_type.into(), bytes: bytes.to_vec() };
        let message = to_structured(&CloudEvent { data, ..event() }).unwrap();
        let document: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(document["datacontenttype"], content_type);
        (document.get("data").cloned(), document.get("data_base64").cloned())
    };
    for json in ["application/json", "application/JSON; charset=utf-8", "application/vnd.a+json"] {
        assert_eq!(document(json, br#"{"a": [1]}"#), (Some(json!({"a": [1]})), None), "{json}");
        assert_eq!(document(json, br#""text""#), (Some(json!("text")), None), "{json}");
        assert_eq!(document(json, b"{broken"), (None, Some(json!("e2Jyb2tlbg=="))), "{json}");
    }
    assert_eq!(document("text/plain", b"{}"), (Some(json!("{}")), None));
    assert_eq!(document("text/plain", &[0xff]), (None, Some(json!("/w=="))));
}

#[test]
fn lambda_gets_a_scheduled_event_of_event_bridge() {
    let message = to_event_bridge(&event(), "shop/nightly").unwrap();
    insta::assert_snapshot!(shown(&message), @r#"
    content-type: application/json
    rouse-event: lambda

    {
      "account": "000000000000",
      "detail": {},
      "detail-type": "Scheduled Event",
      "id": "42ae550d-e1f8-419e-ebda-896001855164",
      "region": "local",
      "resources": [
        "arn:aws:events:local:000000000000:rule/shop/nightly"
      ],
      "source": "aws.events",
      "time": "2026-03-29T01:00:00Z",
      "version": "0"
    }
    "#);
}

fn body(message: &Message) -> Value {
    serde_json::from_slice(&message.body).unwrap()
}

#[test]
fn lambda_gets_the_messages_of_a_queue() {
    let data =
        Data::Bytes { content_type: "text/plain".into(), bytes: b"Hello from SQS!".to_vec() };
    let text = CloudEvent { id: "7".into(), subject: Some("orders.new".into()), data, ..event() };
    let data = Data::Bytes { content_type: "image/png".into(), bytes: vec![0x89, 0x50] };
    let bytes = CloudEvent { data, subject: None, ..event() };
    let sent = body(&to_sqs(&[&text, &bytes, &event()]).unwrap());
    let attribute = json!({
        "stringValue": "5", "stringListValues": [], "binaryListValues": [], "dataType": "String",
    });
    let expected = json!({
        "messageId": "7",
        "receiptHandle": "7",
        "body": "Hello from SQS!",
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1774746000000",
            "SenderId": "/namespaces/shop/triggers/nightly",
            "ApproximateFirstReceiveTimestamp": "1774746000000",
        },
        "messageAttributes": { "rouseattempts": attribute },
        "md5OfBody": "7b270e59b47ff90a553787216d55d91d",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:local:000000000000:orders.new",
        "awsRegion": "local",
    });
    assert_eq!(sent["Records"][0], expected);
    assert_eq!(sent["Records"][1]["body"], "iVA=");
    assert_eq!(sent["Records"][2]["body"], r#"{"scheduledTime":"2026-03-29T01:00:00Z"}"#);
}

#[test]
fn lambda_gets_events_of_a_bus() {
    let one = body(&to_event_bus(&[&event()]).unwrap());
    let expected = json!({
        "version": "0",
        "id": "42ae550d-e1f8-419e-ebda-896001855164",
        "detail-type": "dev.rouse.schedule.tick",
        "source": "/namespaces/shop/triggers/nightly",
        "account": "000000000000",
        "time": "2026-03-29T01:00:00Z",
        "region": "local",
        "resources": ["50% off \u{fc}ber"],
        "detail": {"scheduledTime": "2026-03-29T01:00:00Z"},
    });
    assert_eq!(one, expected);
    let datas =
        [("application/a+json", &b"[1]"[..]), ("text/plain", b"hi"), ("image/png", &[0x89, 0x50])];
    let events = datas.map(|(kind, bytes)| {
        let data = Data::Bytes { content_type: kind.into(), bytes: bytes.to_vec() };
        CloudEvent { data, ..event() }
    });
    let several = body(&to_event_bus(&events.each_ref()).unwrap());
    let details: Vec<_> =
        several.as_array().unwrap().iter().map(|event| &event["detail"]).collect();
    assert_eq!(details, [&json!([1]), &json!({"data": "hi"}), &json!({"data_base64": "iVA="})]);
}

#[test]
fn what_is_malformed_is_not_sent() {
    let told = |change: &dyn Fn(&mut CloudEvent)| {
        let mut event = event();
        change(&mut event);
        let binary = to_binary(&event).unwrap_err().to_string();
        assert_eq!(to_structured(&event).unwrap_err().to_string(), binary);
        assert_eq!(to_batch(&[&event]).unwrap_err().to_string(), binary);
        binary
    };
    assert_eq!(told(&|event| event.id.clear()), "the event has no id");
    assert_eq!(told(&|event| event.kind.clear()), "the event has no type");
    assert!(told(&|event| event.source = "a b".into()).contains("is not a URI"));
    assert!(told(&|event| event.id = "a\r\nhost: b".into()).contains("control characters"));
    for name in ["", "Upper", "with-dash", "type", "database64", "twentyonecharacters00"] {
        let named = |event: &mut CloudEvent| {
            event.extensions.insert(name.into(), "x".into());
        };
        assert!(told(&named).contains("can't have an attribute"), "{name}");
    }
    let bytes = Data::Bytes { content_type: "png\n".into(), bytes: vec![] };
    assert!(told(&|event| event.data = bytes.clone()).contains("is not a content type"));
}

proptest! {
    /// Whatever stands in an attribute, the header holds it in plain ASCII and gives it back.
    #[test]
    fn headers_give_values_back(subject in "\\PC{0,40}") {
        let message = to_binary(&CloudEvent { subject: Some(subject.clone()), ..event() }).unwrap();
        let header = message.headers.iter().find(|(name, _)| name == "ce-subject").unwrap();
        prop_assert!(header.1.bytes().all(|byte| byte.is_ascii_graphic()));
        let mut decoded = Vec::new();
        let mut bytes = header.1.bytes();
        while let Some(byte) = bytes.next() {
            if byte == b'%' {
                let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                let hex = std::str::from_utf8(&hex).unwrap();
                decoded.push(u8::from_str_radix(hex, 16).unwrap());
            } else {
                decoded.push(byte);
            }
        }
        prop_assert_eq!(String::from_utf8(decoded).unwrap(), subject);
    }
}
