//! The date that answers carry, written out once a second.

use std::cell::RefCell;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

thread_local! {
    static DATE: RefCell<Date> = const { RefCell::new(Date { second: None, text: String::new() }) };
}

struct Date {
    /// Since 1970.
    second: Option<u64>,
    text: String,
}

/// Lets `write` have the date as RFC 9110 has it.
pub(super) fn with_date<T>(write: impl FnOnce(&[u8]) -> T) -> T {
    DATE.with_borrow_mut(|date| {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        if date.second != Some(now) {
            date.second = Some(now);
            date.text.clear();
            let now = i64::try_from(now).ok().and_then(|now| Timestamp::from_second(now).ok());
            // Only years of more than four digits can't be written.
            let printer = DateTimePrinter::new();
            drop(now.map(|now| printer.print_timestamp_rfc9110(&now, &mut date.text)));
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
