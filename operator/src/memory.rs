//! How much memory this process may use, as the container's control group says.

use std::path::Path;

/// Where the kernel tells a container of its limit: control groups of version 2 and 1.
const LIMIT_FILES: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Version 1 writes a number near 2^63 where there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// The limit, in bytes; none where there is none or nobody knows.
pub fn limit() -> Option<u64> {
    LIMIT_FILES.iter().find_map(|file| parse_limit(&read(Path::new(file))?))
}

fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_that_means_something() {
        assert_eq!(parse_limit("536870912\n"), Some(512 << 20));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
    }
}
