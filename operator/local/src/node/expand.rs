//! What stands in variables and arguments for other variables: `$(NAME)`, as the kubelet reads it.
//! Pure.

/// Puts values in place of `$(NAME)`, and a dollar in place of two. What has no value stays.
pub fn expand<'v>(text: &str, value_of: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let name = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let valued = name.and_then(|(name, after)| Some((value_of(name)?, after)));
        let (value, after) = valued.unwrap_or(("$", after));
        expanded.push_str(value);
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_as_the_kubelet_does() {
        let value = |name: &str| (name == "PORT").then_some("8080");
        for (text, expected) in [
            ("", ""),
            ("at $(PORT)", "at 8080"),
            ("$(PORT)$(PORT)", "80808080"),
            ("$$(PORT)", "$(PORT)"),
            ("$(OTHER) $PORT $(", "$(OTHER) $PORT $("),
            ("5$", "5$"),
            ("$$$(PORT)", "$8080"),
        ] {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }
}
