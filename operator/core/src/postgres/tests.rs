//! Messages that a PostgreSQL 15 sent, and what no server should send.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::wire::Message;
use super::*;
use crate::event::Data;

/// `shop.orders(id int8 primary key, paid bool, total numeric, note text, about jsonb, at
/// timestamptz)`: two rows come, one is changed, gets another key, and goes.
const ORDERS: &[&str] = &[
    "4200000000015327e0000303fb1dce1c5b000002db",
    "520000400173686f70006f7264657273006400060169640000000014ffffffff00706169640000000010ffffffff00746f74616c00000006a4000a0006006e6f74650000000019ffffffff0061626f75740000000edaffffffff00617400000004a0ffffffff",
    "49000040014e0006740000000131740000000174740000000531322e3530740000000469742773740000000a7b2261223a205b315d7d7400000016323032362d30312d30322030333a30343a30352b3030",
    "49000040014e00067400000010393030373139393235343734303939336e6e6e6e6e",
    "55000040014e0006740000000131740000000166740000000531322e3530740000000469742773740000000a7b2261223a205b315d7d7400000016323032362d30312d30322030333a30343a30352b3030",
    "55000040014b00067400000001316e6e6e6e6e4e0006740000000132740000000166740000000531322e3530740000000469742773740000000a7b2261223a205b315d7d7400000016323032362d30312d30322030333a30343a30352b3030",
    "44000040014b00067400000001326e6e6e6e6e",
    "430000000000015327e00000000001532810000303fb1dce1c5b",
];
/// `shop.full_log(a int, b float8)` with `REPLICA IDENTITY FULL`: a row comes, is changed, and goes.
const FULL: &[&str] = &[
    "420000000001532910000303fb1dce1d3a000002dc",
    "520000400873686f700066756c6c5f6c6f670066000201610000000017ffffffff016200000002bdffffffff",
    "49000040084e000274000000013174000000034e614e",
    "55000040084f000274000000013174000000034e614e4e00027400000001317400000003322e35",
    "44000040084f00027400000001317400000003322e35",
    "430000000000015329100000000001532940000303fb1dce1d3a",
];
/// `shop.docs(id int primary key, body text, n int)`: `n` is changed beside a large `body`.
const LARGE: &[&str] = &[
    "420000000001533820000303fb1dce1e48000002de",
    DOCS,
    "550000400b4e000374000000013175740000000132",
    "430000000000015338200000000001533850000303fb1dce1e48",
];
/// It is truncated.
const TRUNCATED: &[&str] = &[
    "4200000000015343f0000303fb1dce1f63000002df",
    DOCS,
    "5400000001000000400b",
    "430000000000015343f00000000001534560000303fb1dce1f63",
];
const DOCS: &str = "520000400b73686f7000646f6373006400030169640000000017ffffffff00626f64790000000019ffffffff006e0000000017ffffffff";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The changes that the messages tell, after which a transaction has to be over.
fn changes(selection: Selection, messages: &[&str]) -> Vec<Change> {
    let mut reader = Reader::new(selection);
    let mut changes = Vec::new();
    let mut committed = None;
    for message in messages {
        match reader.read(&bytes(message)).unwrap() {
            Told::Nothing => {}
            Told::Changes(told) => {
                assert!(reader.is_within());
                changes.extend(told);
            }
            Told::Committed(end) => committed = Some(end),
        }
    }
    assert!(committed.is_some() && !reader.is_within());
    changes
}

fn data(change: &Change) -> Value {
    match change.clone().into_event("/namespaces/shop/triggers/t".into(), "s").data {
        Data::Json(value) => value,
        Data::Bytes { .. } => panic!("not JSON"),
    }
}

#[test]
fn rows_are_told_as_they_were_and_are() {
    let changes = changes(Selection::default(), ORDERS);
    let first = json!({
        "id": 1, "paid": true, "total": "12.50", "note": "it's", "about": {"a": [1]},
        "at": "2026-01-02 03:04:05+00",
    });
    assert_eq!(
        data(&changes[0]),
        json!({
            "op": "insert", "table": {"schema": "shop", "name": "orders"}, "before": null,
            "after": first, "lsn": "0/15327E0", "index": 0,
            "commitTime": changes[0].time.to_string(),
        })
    );
    let second = &data(&changes[1])["after"];
    assert_eq!((&second["id"], &second["paid"]), (&json!(9_007_199_254_740_993_i64), &Value::Null));
    let told = |change: &Change| {
        let key = change.key.clone().unwrap();
        (change.operation, key, change.before.clone().map(Value::Object), change.stands_alone)
    };
    assert_eq!(told(&changes[2]), (Operation::Update, "1".into(), None, false));
    assert_eq!(told(&changes[3]), (Operation::Update, "2".into(), Some(json!({"id": 1})), true));
    assert_eq!(told(&changes[4]), (Operation::Delete, "2".into(), Some(json!({"id": 2})), false));
    assert_eq!(changes[4].after, None);
}

#[test]
fn events_are_known_by_the_slot_the_commit_and_the_number_in_the_transaction() {
    let ids = |selection| {
        let changes = changes(selection, ORDERS).into_iter();
        let events = changes.map(|change| change.into_event("/t".into(), "s"));
        events.map(|event| (event.id, event.kind)).collect::<Vec<_>>()
    };
    let all = ids(Selection::default());
    assert_eq!(all.len(), 5);
    assert_eq!(all[0], ("s/0/15327E0/0".into(), "dev.rouse.postgres.insert".into()));
    let deleted = Selection { operations: [Operation::Delete].into(), ..Selection::default() };
    assert_eq!(ids(deleted), [all[4].clone()], "what is left out is counted");
}

#[test]
fn the_time_is_that_of_the_commit_and_the_subject_names_the_row() {
    let [first, ..] = &changes(Selection::default(), ORDERS)[..] else { panic!("no changes") };
    assert!(first.time.to_string().starts_with("2026-11-24T02:2"), "{}", first.time);
    let event = first.clone().into_event("/t".into(), "s");
    assert_eq!(event.subject.as_deref(), Some("shop.orders/1"));
}

#[test]
fn a_table_that_is_identified_by_whole_rows_tells_them_and_has_one_order() {
    let changes = changes(Selection::default(), FULL);
    assert_eq!(data(&changes[0])["after"], json!({"a": 1, "b": "NaN"}));
    let update = data(&changes[1]);
    assert_eq!(update["before"], json!({"a": 1, "b": "NaN"}));
    assert_eq!(update["after"], json!({"a": 1, "b": 2.5}));
    assert_eq!(data(&changes[2])["before"], json!({"a": 1, "b": 2.5}));
    for change in changes {
        assert_eq!((change.order_key(), change.stands_alone), ("shop.full_log".into(), false));
    }
}

#[test]
fn large_values_that_did_not_change_are_named() {
    let changes = changes(Selection::default(), LARGE);
    let told = data(&changes[0]);
    assert_eq!(told["after"], json!({"id": 1, "n": 2}));
    assert_eq!((&told["unchanged"], &told["before"]), (&json!(["body"]), &Value::Null));
}

#[test]
fn large_values_that_did_not_change_are_taken_from_the_whole_row_before() {
    let update = "55000040084f000274000000013174000000034e614e4e000274000000013275";
    let changes = changes(Selection::default(), &[FULL[0], FULL[1], update, FULL[5]]);
    assert_eq!(data(&changes[0])["after"], json!({"a": 2, "b": "NaN"}));
    assert_eq!(changes[0].unchanged, [""; 0]);
}

#[test]
fn a_truncated_table_stands_alone() {
    let changes = changes(Selection::default(), TRUNCATED);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].operation, changes[0].stands_alone), (Operation::Truncate, true));
    assert_eq!(changes[0].order_key(), "shop.docs");
}

#[test]
fn only_what_is_selected_is_told() {
    let selection = Selection {
        operations: [Operation::Insert, Operation::Update].into(),
        tables: vec![Table {
            schema: "shop".into(),
            name: "orders".into(),
            columns: ["note".into()].into(),
        }],
    };
    let told = changes(selection.clone(), ORDERS);
    assert_eq!(told.len(), 4);
    assert_eq!(data(&told[0])["after"], json!({"note": "it's"}));
    assert_eq!(told[0].order_key(), "shop.orders/1", "the key is known all the same");
    assert_eq!(changes(selection, FULL), []);
}

#[test]
fn a_table_may_change_while_it_is_read() {
    let mut reader = Reader::new(Selection::default());
    for message in &ORDERS[..3] {
        reader.read(&bytes(message)).unwrap();
    }
    let grown = "520000400173686f70006f7264657273006400010169640000000014ffffffff";
    assert_eq!(reader.read(&bytes(grown)), Ok(Told::Nothing));
    let row = "49000040014e0001740000000133";
    let Told::Changes(told) = reader.read(&bytes(row)).unwrap() else { panic!("no change") };
    assert_eq!((data(&told[0])["after"].clone(), told[0].place.index), (json!({"id": 3}), 1));
}

#[test]
fn what_cannot_be_understood_is_never_skipped() {
    let mut reader = Reader::new(Selection::default());
    assert_eq!(reader.read(&bytes(ORDERS[2])), Err(Malformed::Outside));
    reader.read(&bytes(ORDERS[0])).unwrap();
    assert_eq!(reader.read(&bytes(ORDERS[2])), Err(Malformed::Table(0x4001)));
    reader.read(&bytes(ORDERS[1])).unwrap();
    let row = "49000040014e0001740000000133";
    let columns = Malformed::Columns { row: 1, table: 6 };
    assert_eq!(reader.read(&bytes(row)), Err(columns));
    assert_eq!(reader.read(b"S"), Err(Malformed::Unknown(b'S')));
    assert_eq!(reader.read(b""), Err(Malformed::Short));
    assert_eq!(reader.read(&[bytes(ORDERS[7]), vec![0]].concat()), Err(Malformed::Long(1)));
}

#[test]
fn keys_of_several_columns_are_told_apart() {
    let table = "5200000001730074006400020161000000\
                 0019ffffffff01620000000019ffffffff";
    let told = |row: &str| {
        let mut reader = Reader::new(Selection::default());
        for message in [ORDERS[0], table] {
            reader.read(&bytes(message)).unwrap();
        }
        let Told::Changes(told) = reader.read(&bytes(row)).unwrap() else { panic!("no change") };
        told[0].key.clone().unwrap()
    };
    // ("a,", "b") and ("a", ",b").
    assert_eq!(told("49000000014e00027400000002612c740000000162"), "a%2C,b");
    assert_eq!(told("49000000014e000274000000016174000000022c62"), "a,%2Cb");
}

#[test]
fn a_key_is_an_attribute_of_an_event_whatever_is_in_it() {
    let table = "520000000173007400640001016100000000 19ffffffff".replace(' ', "");
    let mut reader = Reader::new(Selection::default());
    for message in [ORDERS[0], &table] {
        reader.read(&bytes(message)).unwrap();
    }
    // "a\n\u{85}"
    let insert = "49000000014e00017400000004610ac285";
    let Told::Changes(told) = reader.read(&bytes(insert)).unwrap() else { panic!("no change") };
    let event = told[0].clone().into_event("/t".into(), "s");
    assert_eq!(event.subject.as_deref(), Some("s.t/a%0A%C2%85"));
    crate::event::to_binary(&event).unwrap();
}

#[test]
fn a_large_key_that_did_not_change_is_still_the_key() {
    let table = "520000000173007400640001016100000000 19ffffffff".replace(' ', "");
    let mut reader = Reader::new(Selection::default());
    for message in [ORDERS[0], &table] {
        reader.read(&bytes(message)).unwrap();
    }
    let update = "55000000014b00017400000001614e000175";
    let Told::Changes(told) = reader.read(&bytes(update)).unwrap() else { panic!("no change") };
    assert_eq!((told[0].key.as_deref(), told[0].stands_alone), (Some("a"), false));
}

#[test]
fn positions_are_written_as_postgresql_does() {
    let lsn: Lsn = "16/B374D848".parse().unwrap();
    assert_eq!((lsn, lsn.to_string()), (Lsn(0x16_B374_D848), "16/B374D848".into()));
    for text in ["", "16", "16/", "/1", "16/B374D8480", "x/1", "1/2/3"] {
        assert!(text.parse::<Lsn>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(any in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::parse(&any);
    }

    #[test]
    fn messages_that_are_cut_off_or_bent_are_read_or_refused(
        which in 0..ORDERS.len(), cut in 0..200_usize, at in 0..200_usize, to in any::<u8>(),
    ) {
        let mut message = bytes(ORDERS[which]);
        let at = at % message.len();
        message[at] = to;
        message.truncate(cut);
        let mut reader = Reader::new(Selection::default());
        for message in &ORDERS[..2] {
            reader.read(&bytes(message)).unwrap();
        }
        let _ = reader.read(&message);
    }

    #[test]
    fn positions_are_read_as_they_are_written(position in any::<u64>()) {
        prop_assert_eq!(Lsn(position).to_string().parse(), Ok(Lsn(position)));
    }
}
