//! What the processes of a container hold of memory, as the kernel tells on Linux. Elsewhere nobody
//! tells, and nothing is limited.

use std::fs::{read_dir, read_to_string};
use std::path::Path;

use k8s_openapi::api::core::v1::Container;
use rouse_core::usage::parse_quantity;

/// What a container may have where its pod does not say.
const NOMINAL: u64 = 1 << 30;
/// Processes of one container that are looked at, so that a look is short whatever it starts.
const MOST: usize = 512;

/// Bytes that a container may have.
pub fn limit(own: &Container) -> u64 {
    let limits = own.resources.as_ref().and_then(|all| all.limits.as_ref());
    let said = limits.and_then(|limits| parse_quantity(&limits.get("memory")?.0));
    said.unwrap_or(NOMINAL)
}

/// Bytes that `process` and all that it started hold for themselves; what they share with others, as
/// the text of programs, is not counted.
pub fn held_by(process: u32) -> u64 {
    let page = rustix::param::page_size() as u64;
    let mut all = vec![process];
    let mut pages = 0;
    let mut at = 0;
    while let Some(id) = all.get(at).copied().filter(|_| at < MOST) {
        at += 1;
        let folder = format!("/proc/{id}");
        pages += private_pages(Path::new(&folder)).unwrap_or_default();
        for thread in read_dir(format!("{folder}/task")).into_iter().flatten().flatten() {
            let children = read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
    }
    pages * page
}

fn private_pages(folder: &Path) -> Option<u64> {
    let text = read_to_string(folder.join("statm")).ok()?;
    let mut fields = text.split_whitespace().skip(1).map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next()??, fields.next()??);
    Some(resident.saturating_sub(shared))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_a_process_holds_is_added_up() {
        let script = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo; read y";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        let held = held_by(child.id());
        assert!(held > 25_000_000, "{held}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
