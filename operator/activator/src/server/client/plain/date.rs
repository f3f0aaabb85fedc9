//! The date that answers carry, written out once a second.

use std::cell::RefCell;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

thread_local! {
    static DATE: RefCell<Date> = const { RefCell::new(Date { second: i64::MIN, text: String::new() }) };
}

struct Date {
    second: i64,
    text: String,
}

/// Lets `write` have the date as RFC 9110 has it.
pub(super) fn with_date<T>(write: impl FnOnce(&[u8]) -> T) -> T {
    DATE.with_borrow_mut(|date| {
        let now = Timestamp::now();
        if date.second != now.as_second() {
            date.second = now.as_second();
            date.text.clear();
            // Only years of more than four digits can't be written.
            drop(DateTimePrinter::new().print_timestamp_rfc9110(&now, &mut date.text));
        }
        write(date.text.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_now_in_the_form_of_http() {
        let told = with_date(|date| String::from_utf8(date.to_vec()).unwrap());
        let form = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", &told).unwrap();
        let told = form.to_datetime().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        let late = Timestamp::now().as_second() - told.timestamp().as_second();
        assert!((0..5).contains(&late), "{late}");
    }
}
