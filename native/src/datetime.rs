//! Datetimes of records: what is accepted, as which instant, printed how.
//!
//! The accepted form is `YYYY-MM-DDThh:mm:ss(.d+)?(Z|±hh:mm)`, at most 64 bytes, in
//! the proleptic Gregorian calendar, with the year after conversion to UTC in 0..=9999.
//! It is the reference's (`isDatetimeString`: a regular expression and then V8's
//! `Date`), which differs from RFC 3339 in three ways: a day that its month does not
//! have (February 30) is accepted and rolls over into the next month, second 60 is
//! refused, and so is the offset `-00:00`.

/// Longer texts are refused unread.
const MAX_LENGTH: usize = 64;

/// Seconds of 0000-01-01T00:00:00Z and of 10000-01-01T00:00:00Z since 1970.
const FIRST_SECOND: i64 = -62_167_219_200;
const END_SECOND: i64 = 253_402_300_800;

const SECONDS_PER_DAY: i64 = 86_400;

/// Whether a record may hold `text` where its lexicon says `format: datetime`.
pub fn is_datetime(text: &str) -> bool {
    instant(text).is_some()
}

/// The instant that `text` names: seconds since 1970 (negative before) and nanoseconds.
/// Digits beyond the ninth of a fraction are dropped. None if `text` is no datetime.
pub fn instant(text: &str) -> Option<(i64, u32)> {
    let bytes = text.as_bytes();
    if bytes.len() > MAX_LENGTH || !has_punctuation(bytes) {
        return None;
    }
    let year = digits(bytes, 0, 4)?;
    let month = digits(bytes, 5, 2)?;
    let day = digits(bytes, 8, 2)?;
    let hour = digits(bytes, 11, 2)?;
    let minute = digits(bytes, 14, 2)?;
    let second = digits(bytes, 17, 2)?;
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 59;
    if !in_range {
        return None;
    }
    let (nanos, zone) = fraction(bytes.get(19..)?)?;
    let local =
        days_before(year, month, day) * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second;
    let seconds = local - offset_seconds(zone)?;
    (FIRST_SECOND..END_SECOND)
        .contains(&seconds)
        .then_some((seconds, nanos))
}

/// `text` as the data plane's `createdAt` columns hold it: UTC, exactly three digits of
/// fraction (truncated, never rounded), `Z`. None if `text` is no datetime.
pub fn normalize(text: &str) -> Option<String> {
    instant(text).map(|(seconds, nanos)| print(seconds, nanos / 1_000_000))
}

/// Prints an instant as `YYYY-MM-DDThh:mm:ss.mmmZ`. The year must be within 0..=9999.
pub fn print(seconds: i64, millis: u32) -> String {
    let (year, month, day) = date_of(seconds.div_euclid(SECONDS_PER_DAY));
    let rest = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

fn has_punctuation(bytes: &[u8]) -> bool {
    [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')]
        .iter()
        .all(|&(at, mark)| bytes.get(at) == Some(&mark))
}

fn digits(bytes: &[u8], start: usize, count: usize) -> Option<i64> {
    bytes
        .get(start..start + count)?
        .iter()
        .try_fold(0, |value, byte| {
            byte.is_ascii_digit()
                .then(|| value * 10 + i64::from(byte - b'0'))
        })
}

/// Reads an optional `.d+`: nanoseconds, and what follows.
fn fraction(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b".") else {
        return Some((0, bytes));
    };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let (shown, zone) = rest.split_at(count);
    let nanos = shown
        .iter()
        .chain(std::iter::repeat(&b'0'))
        .take(9)
        .fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
    Some((nanos, zone))
}

/// Seconds east of UTC.
fn offset_seconds(zone: &[u8]) -> Option<i64> {
    if zone == b"Z" {
        return Some(0);
    }
    if zone.len() != 6 || zone.get(3) != Some(&b':') || zone == b"-00:00" {
        return None;
    }
    let (hour, minute) = (digits(zone, 1, 2)?, digits(zone, 4, 2)?);
    if hour > 23 || minute > 59 {
        return None;
    }
    match zone.first() {
        Some(b'+') => Some(hour * 3_600 + minute * 60),
        Some(b'-') => Some(-(hour * 3_600 + minute * 60)),
        _ => None,
    }
}

/// Days from 1970-01-01 to the given date. Counting from the month's first day makes a
/// day beyond the month's end roll over. Years begin in March here, so that the leap
/// day is a year's last; 400 years ("era") have 146,097 days.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of `days_before`: year, month, day.
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalize_prints_utc_milliseconds() {
        for (text, expected) in [
            ("1985-04-12T23:20:50Z", "1985-04-12T23:20:50.000Z"),
            ("1985-04-12T23:20:50.1Z", "1985-04-12T23:20:50.100Z"),
            ("1985-04-12T23:20:50.9999999Z", "1985-04-12T23:20:50.999Z"),
            (
                "1985-04-12T23:20:50.123456789012Z",
                "1985-04-12T23:20:50.123Z",
            ),
            ("1985-04-12T23:20:50.123-07:00", "1985-04-13T06:20:50.123Z"),
            ("2024-01-01T00:30:00+01:45", "2023-12-31T22:45:00.000Z"),
            ("0000-01-01T00:00:00.000Z", "0000-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
            ("2000-02-29T12:00:00Z", "2000-02-29T12:00:00.000Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(normalize(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_day_beyond_its_month_rolls_over() {
        for (text, expected) in [
            ("2024-02-30T00:00:00Z", "2024-03-01T00:00:00.000Z"),
            ("2023-02-29T00:00:00Z", "2023-03-01T00:00:00.000Z"),
            ("2023-02-31T10:00:00Z", "2023-03-03T10:00:00.000Z"),
            ("2023-04-31T00:00:00+01:00", "2023-04-30T23:00:00.000Z"),
        ] {
            assert_eq!(normalize(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn years_beyond_four_digits_after_conversion_are_refused() {
        assert_eq!(instant("0000-01-01T00:00:00+01:00"), None);
        assert_eq!(instant("9999-12-31T23:30:00-01:00"), None);
        assert!(instant("9999-12-31T23:30:00+01:00").is_some());
        assert!(instant("0000-01-01T00:00:00-01:00").is_some());
    }

    #[test]
    fn every_day_of_the_calendar_is_printed_as_it_was_read() {
        let days = FIRST_SECOND / SECONDS_PER_DAY..END_SECOND / SECONDS_PER_DAY;
        assert_eq!(days.clone().count(), 3_652_425);
        for day in days.step_by(7) {
            let (year, month, of_month) = date_of(day);
            assert_eq!(days_before(year, month, of_month), day);
        }
        let text = "2026-08-20T01:02:03.004Z";
        assert_eq!(normalize(text).as_deref(), Some(text));
    }

    #[test]
    fn instant_keeps_nanoseconds_before_and_after_1970() {
        assert_eq!(instant("1970-01-01T00:00:00.000000001Z"), Some((0, 1)));
        assert_eq!(
            instant("1969-12-31T23:59:59.5Z"),
            Some((-1, 500_000_000)),
            "nanoseconds count forward from the second"
        );
    }
}
