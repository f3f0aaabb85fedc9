//! HTTP/2 by its specification: h2spec, a program of its own, against the port for callers in the
//! cluster. `cargo xtask test` builds the program and runs this with its path in `ROUSE_H2SPEC`.

use std::process::Command;
use std::time::Duration;

use rouse_core::routing::{Destination, RouteTable};
use rouse_core::trigger::{Grant, HostPolicy, TriggerKey};

use super::hostile::Ports;

/// Cases that fail, each with what it comes from. All others must pass.
const KNOWN: &[(&str, &str)] = &[(
    "2: Sends invalid connection preface",
    "the port speaks HTTP/1.1 too: what is no preface is answered in it, with 400, and closed",
)];

/// How long the Function takes: some cases send frames on the heels of a request, one by one, and look
/// at what is said to the last of them. An answer in between would be taken for that.
const ANSWERS_AFTER: Duration = Duration::from_millis(200);

/// The cases that failed, by what h2spec says in its list of them.
fn failures(said: &str) -> Vec<String> {
    let lines = said.lines().map(str::trim_start);
    // Only what failed is marked so; the titles of sections come before, without a mark.
    lines.filter_map(|line| line.strip_prefix("\u{d7} ")).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs h2spec: cargo xtask test"]
fn http2_is_spoken_by_its_specification() {
    let program = std::env::var_os("ROUSE_H2SPEC").expect("the path of h2spec is in ROUSE_H2SPEC");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ports = runtime.block_on(async {
        let ports = Ports::open_with_answers_after(ANSWERS_AFTER).await;
        let target = Destination { public: false, target: ports.rig.handle.clone() };
        let grant = Grant {
            trigger: TriggerKey { namespace: "shop".into(), name: "t".into() },
            function: ports.rig.handle.key.clone(),
            host: "127.0.0.1".into(),
            path: "/".into(),
            methods: Vec::new(),
        };
        let functions = [(ports.rig.handle.key.clone(), target)];
        ports.rig.set_table(RouteTable::build(functions, &[grant], &HostPolicy::default()));
        ports
    });
    let port = ports.cluster.port().to_string();
    let output =
        Command::new(program).args(["--strict", "--timeout", "5", "--port", &port]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(" tests, "), "{said}");
    let known: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
    let failed = failures(&said);
    let new: Vec<&String> = failed.iter().filter(|case| !known.contains(&case.as_str())).collect();
    assert!(new.is_empty(), "{new:#?}\n{said}");
    assert_eq!(failed.len(), known.len(), "some of these pass by now: {known:?}");
    runtime.block_on(ports.close());
}
