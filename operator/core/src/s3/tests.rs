//! What is told of objects, and what the ledger keeps of that.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn version(etag: &str, millis: i64) -> Version {
    let modified = Timestamp::from_millisecond(1_764_403_200_000 + millis).unwrap();
    Version { etag: etag.into(), size: 7, modified }
}

fn scope(prefix: &str) -> Scope {
    Scope { bucket: "pictures".into(), prefix: prefix.into(), suffix: String::new() }
}

fn event(change: &Change, key: &str) -> CloudEvent {
    let place = Place { bucket: "pictures", region: "us-east-1", key, version_id: None };
    change.event(&place, Timestamp::from_second(1_764_406_800).unwrap())
}

/// As MinIO sends it.
fn notification(name: &str, key: &str, sequencer: &str) -> Vec<u8> {
    let record = json!({
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": "2025-11-29T08:00:00.250Z",
        "eventName": name,
        "s3": {
            "bucket": {"name": "pictures"},
            "object": {"key": key, "size": 7, "eTag": "e", "versionId": "null", "sequencer": sequencer},
        },
    });
    serde_json::to_vec(&json!({"EventName": name, "Key": "x", "Records": [record]})).unwrap()
}

#[test]
fn an_id_is_of_one_version_of_one_object() {
    let created = Change::Created(version("a", 0));
    let id = created.id("b", "k");
    assert_eq!((id.len(), &id), (32, &created.clone().id("b", "k")));
    let others = [
        Change::Removed(version("a", 0)).id("b", "k"),
        Change::Created(version("b", 0)).id("b", "k"),
        Change::Created(version("a", 1)).id("b", "k"),
        created.id("b", "l"),
        created.id("c", "k"),
    ];
    assert!(!others.contains(&id));
}

#[test]
fn a_notification_and_a_list_speak_of_the_same() {
    // What MinIO counts from is when the object was written, in nanoseconds.
    let nanos = version("e", 123).modified.as_nanosecond() + 456;
    let body = notification("s3:ObjectCreated:Put", "a%2Bb+c%C3%BC/d.png", &format!("{nanos:X}"));
    let told = read_notifications(&body).unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].key.as_str(), told[0].is_removed), ("a+b cü/d.png", false));
    assert_eq!(told[0].version(), version("e", 123));
    assert_eq!(told[0].exact(), Some(version("e", 123)));
    assert_eq!(told[0].version_id, None);
    let other = &read_notifications(&notification("ObjectRemoved:Delete", "a", "xyz")).unwrap()[0];
    assert!(other.is_removed);
    assert_eq!(other.version().modified, other.at);
    assert_eq!(other.exact(), None);
    assert_ne!(other.id(), told[0].id());
}

#[test]
fn who_can_t_be_taken_at_his_word_is_asked() {
    let told = |sequencer: &str| {
        let body = notification("s3:ObjectCreated:Put", "a", sequencer);
        read_notifications(&body).unwrap().remove(0)
    };
    // It may be a time, but not of this event.
    let nanos = version("e", -61_000).modified.as_nanosecond();
    for sequencer in ["0055AED6DCD90281E5", "", &format!("{nanos:X}")] {
        assert_eq!(told(sequencer).exact(), None, "{sequencer}");
    }
    let nanos = version("e", -59_000).modified.as_nanosecond();
    assert!(told(&format!("{nanos:X}")).exact().is_some());
}

#[test]
fn what_is_no_news_of_objects_tells_nothing() {
    for body in [&b""[..], b"{}", br#"{"Event": "s3:TestEvent"}"#] {
        assert_eq!(read_notifications(body).unwrap(), []);
    }
    assert_eq!(read_notifications(&notification("s3:ObjectAccessed:Get", "a", "1")).unwrap(), []);
    assert!(read_notifications(b"[1]").is_err());
    let error = read_notifications(&notification("s3:ObjectCreated:Put", "%ff", "1")).unwrap_err();
    assert_eq!(error.to_string(), "the key \"%ff\" is no text in percent");
}

#[test]
fn an_event_says_what_is_known() {
    let event = event(&Change::Created(version("e", 250)), "über/a b.png");
    assert_eq!(
        (event.kind.as_str(), event.source.as_str()),
        ("dev.rouse.s3.created", "/s3/pictures")
    );
    assert_eq!(event.subject.as_deref(), Some("über/a b.png"));
    let expected = json!({
        "bucket": "pictures", "region": "us-east-1", "key": "über/a b.png", "size": 7,
        "eTag": "e", "lastModified": "2025-11-29T08:00:00.25Z",
    });
    assert_eq!(event.data, Data::Json(expected));
    let odd = super::tests::event(&Change::Removed(version("e", 0)), "a\nb");
    assert_eq!((odd.subject.as_ref(), odd.kind.as_str()), (None, "dev.rouse.s3.removed"));
    crate::event::to_binary(&odd).unwrap();
}

/// Each field of what AWS documents for S3, of the same type.
#[test]
fn lambda_gets_the_records_of_s3() {
    let created = event(&Change::Created(version("e", 250)), "über/a b+c.png");
    let message = to_s3(&[&created]).unwrap();
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    let expected = json!({"Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2025-11-29T08:00:00.250Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "unknown"},
        "requestParameters": {"sourceIPAddress": "0.0.0.0"},
        "responseElements": {"x-amz-request-id": created.id, "x-amz-id-2": created.id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "rouse",
            "bucket": {
                "name": "pictures",
                "ownerIdentity": {"principalId": "unknown"},
                "arn": "arn:aws:s3:::pictures",
            },
            "object": {
                "key": "%C3%BCber/a+b%2Bc.png",
                "size": 7,
                "eTag": "e",
                "sequencer": "187C6B5CC776B280",
            },
        },
    }]});
    assert_eq!(body, expected);
    let many = event(&Change::Created(version("e-2", 0)), "k");
    let gone = event(&Change::Removed(version("e", 0)), "k");
    let message = to_s3(&[&many, &gone]).unwrap();
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    let records = body["Records"].as_array().unwrap();
    let names: Vec<_> = records.iter().map(|record| &record["eventName"]).collect();
    assert_eq!(names, ["ObjectCreated:CompleteMultipartUpload", "ObjectRemoved:Delete"]);
    assert_eq!(records[1]["s3"]["object"].get("size"), None);
}

fn entries(keys: impl IntoIterator<Item = String>) -> Entries {
    keys.into_iter().map(|key| (key, version("e", 0))).collect()
}

#[test]
fn a_segment_that_is_too_large_is_divided_and_an_empty_one_goes() {
    let mut index = Index::new(scope(""), None);
    let all = entries((0..3000).map(|number| format!("{number:05}")));
    let writes = index.put(0, Segment { entries: all.clone() });
    assert!(writes.put.len() > 3);
    assert!(writes.put.iter().all(|(_, part)| part.entries.len() <= 800));
    assert_eq!(writes.put.last().unwrap().0, "0", "what is divided is written last");
    assert_eq!(index.count(), 3000);
    let parts: std::collections::BTreeMap<_, _> = writes.put.into_iter().collect();
    for key in all.keys() {
        let (_, slice) = index.slice(index.find(key)).unwrap();
        assert!(parts[&slice.name].entries.contains_key(key), "{key}");
    }
    let index = Index::read(&index.text(), &scope(""), None).unwrap();
    assert_eq!(index.count(), 3000);
    let mut emptied = index.clone();
    let last = emptied.find("99999");
    assert_eq!(
        emptied.put(last, Segment::default()).gone.as_deref(),
        Some(index.slice(last).unwrap().1.name.as_str())
    );
    assert_eq!(emptied.slice(emptied.find("99999")).unwrap().1.until, None);
    let mut alone = Index::new(scope(""), None);
    assert_eq!(alone.put(0, Segment::default()).gone, None);
}

#[test]
fn an_index_of_other_objects_begins_anew_with_what_it_knows() {
    let mut index = Index::new(scope("a/"), None);
    index.put(0, Segment { entries: entries(["a/1".into(), "a/2".into()]) });
    let since = Some(Timestamp::UNIX_EPOCH);
    let wider = Index::read(&index.text(), &scope(""), since).unwrap();
    assert_eq!((wider.count(), wider.since), (2, since));
    assert_eq!(wider.slice(0).unwrap().1.digest, "");
    assert_eq!(Index::read(&index.text(), &scope("a/"), since).unwrap(), index);
    let other = Scope { bucket: "other".into(), ..scope("a/") };
    assert_eq!(Index::read(&index.text(), &other, since).unwrap().count(), 0);
    assert!(Index::read(b"{", &scope(""), None).is_err());
}

fn some_entries() -> impl Strategy<Value = Entries> {
    prop::collection::btree_map(
        "[ab%+ü\\n]{1,3}",
        (0..3_i64).prop_map(|at| version("e", at)),
        0..12,
    )
}

proptest! {
    #[test]
    fn a_segment_is_read_as_it_was_written(entries in some_entries()) {
        let segment = Segment { entries };
        prop_assert_eq!(Segment::read(&segment.text()).unwrap(), segment);
    }

    /// What changed, told and noted, leads from what is known to what is listed.
    #[test]
    fn changes_lead_to_what_is_listed(known in some_entries(), listed in some_entries()) {
        let mut segment = Segment { entries: known };
        for (key, change) in segment.clone().changes(&listed) {
            match change.after() {
                Some(version) => segment.entries.insert(key, version.clone()),
                None => segment.entries.remove(&key),
            };
        }
        prop_assert_eq!(&segment.entries, &listed);
        prop_assert!(segment.changes(&listed).is_empty());
        prop_assert_eq!(Segment::digest(&segment.entries), Segment::digest(&listed));
    }
}
