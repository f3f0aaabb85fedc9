//! Names that somebody may have meant who wrote another. Pure.

/// How like two names must be: transposed, missing and wrong letters are, another word is not.
const LIKE: f64 = 0.8;
/// Names that are offered.
const MOST: usize = 3;

/// The names that are like `name`, the likest first.
pub fn nearest<'a>(name: &str, names: &'a [String]) -> Vec<&'a str> {
    let like = |other: &'a String| (strsim::jaro_winkler(name, other), other.as_str());
    let mut all: Vec<(f64, &str)> = names.iter().map(like).filter(|(it, _)| *it >= LIKE).collect();
    all.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    all.into_iter().take(MOST).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let names = ["thumbnails", "orders", "orders-eu", "hello"].map(String::from);
        assert_eq!(nearest("thumbnial", &names), ["thumbnails"]);
        assert_eq!(nearest("order", &names), ["orders", "orders-eu"]);
        assert!(nearest("billing", &names).is_empty());
    }
}
