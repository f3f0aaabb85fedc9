//! Text without its percents, as it stands in URLs and forms.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Text without its percents; what is no UTF-8 then stays as it was.
pub fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), Cow::into_owned)
}

/// The same of a form, where `+` stands for a space.
pub fn decoded_form(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map_or_else(|_| text.to_owned(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_in_percent_stays_as_it_was() {
        assert_eq!(decoded("a%40b+c%2"), "a@b+c%2");
        assert_eq!(decoded_form("a%2Bb+c"), "a+b c");
        for odd in ["%zz", "%ff+", "100%"] {
            assert_eq!(decoded(odd), odd);
        }
        assert_eq!(decoded_form("%ff+"), "%ff+");
    }
}
