//! Which names the entries of an archive may have: places below the folder, by every reading. Pure.

use std::path::{Component, Path, PathBuf};

/// Longest name of a file, as file systems have it.
const LONGEST: usize = 255;
/// Most folders in one another.
const DEEPEST: usize = 64;

/// The place of an entry below the folder; none for the folder itself. An error says what is wrong
/// with the name.
pub fn place(name: &str) -> Result<Option<PathBuf>, &'static str> {
    if name.contains(['\\', '\0']) {
        return Err("it has a backslash or a NUL in it");
    }
    let mut place = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) if part.len() > LONGEST => return Err("it is too long"),
            Component::Normal(part) => place.push(part),
            Component::ParentDir => return Err("it leads out of the folder by \"..\""),
            Component::RootDir | Component::Prefix(_) => return Err("it is absolute"),
        }
    }
    if place.components().count() > DEEPEST {
        return Err("it lies too deep");
    }
    Ok((!place.as_os_str().is_empty()).then_some(place))
}

/// Whether a link at `place` may lead to `target`: a relative one that goes up at its beginning only,
/// and never above the folder. What lies on its way down is below the folder too.
pub fn link(place: &Path, target: &str) -> Result<(), &'static str> {
    if target.is_empty() || target.contains(['\\', '\0']) {
        return Err("it leads nowhere");
    }
    let mut above = place.components().count().saturating_sub(1);
    let mut went_down = false;
    for component in Path::new(target).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) => went_down = true,
            Component::ParentDir if went_down => return Err("it goes down and up again"),
            Component::ParentDir if above == 0 => return Err("it leads out of the folder"),
            Component::ParentDir => above -= 1,
            Component::RootDir | Component::Prefix(_) => {
                return Err("it leads to an absolute path");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_below_the_folder() {
        for (name, expected) in [
            ("app.py", Some("app.py")),
            ("./lib//deep/x.so", Some("lib/deep/x.so")),
            ("lib/", Some("lib")),
            (".", None),
            ("..app", Some("..app")),
        ] {
            assert_eq!(place(name).unwrap(), expected.map(PathBuf::from), "{name}");
        }
        for name in ["/etc/passwd", "../x", "a/../../x", "a/..", "..\\x", "C:\\x", "a\0b"] {
            place(name).unwrap_err();
        }
        place(&"a".repeat(256)).unwrap_err();
        place(&"a/".repeat(65)).unwrap_err();
    }

    #[test]
    fn links_stay_below_the_folder() {
        let at = |target| link(Path::new("node_modules/.bin/tool"), target);
        for target in ["../tool/cli.js", "../../app.js", "x", "./x"] {
            at(target).unwrap();
        }
        for target in ["/etc/passwd", "../../../x", "a/../b", "", "..\\..\\x"] {
            at(target).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_has_plain_parts_only(name in "[a./\\\\]{0,12}") {
            if let Ok(Some(place)) = place(&name) {
                prop_assert!(place.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }

        #[test]
        fn a_link_that_is_taken_ends_below_the_folder(
            place in "([ab]/){0,3}[ab]", target in "(\\.\\./|[ab]/|\\./){0,5}[ab]?"
        ) {
            if link(Path::new(&place), &target).is_ok() {
                let mut depth = i32::try_from(place.matches('/').count()).unwrap();
                for part in target.split('/') {
                    depth += match part { ".." => -1, "" | "." => 0, _ => 1 };
                    prop_assert!(depth >= 0);
                }
            }
        }
    }
}
