//! How a trunk writes telephone numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The shortest number that is one of the public network: shorter ones are services.
const SHORTEST: usize = 7;
/// The longest (ITU-T E.164).
const LONGEST: usize = 15;

/// How a trunk writes numbers, in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Numbers {
    /// `as-sent` (nothing is changed), `e164` (`+493012345`), `digits` (`493012345`) or `national`
    /// (`03012345`, and `00442079460000` abroad).
    pub form: Form,
    /// The country code of national numbers, such as `"49"`.
    pub country: String,
    /// What stands before a national number; may be empty.
    pub national_prefix: String,
    /// What stands before a country code.
    pub international_prefix: String,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            form: Form::AsSent,
            country: String::new(),
            national_prefix: "0".to_owned(),
            international_prefix: "00".to_owned(),
        }
    }
}

/// A way of writing numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    #[default]
    AsSent,
    E164,
    Digits,
    National,
}

impl Numbers {
    /// A number of the trunk with its country code behind `+`; `None` when it stays as it is.
    #[must_use]
    pub fn read(&self, number: &str) -> Option<String> {
        match self.form {
            Form::Digits if is_number(number) => Some(format!("+{number}")),
            Form::National if !number.is_empty() && number.bytes().all(is_digit) => {
                if let Some(abroad) = number.strip_prefix(&self.international_prefix) {
                    return is_number(abroad).then(|| format!("+{abroad}"));
                }
                let national = number.strip_prefix(&self.national_prefix)?;
                let whole = format!("{}{national}", self.country);
                (is_number(&whole) && number.len() >= SHORTEST).then(|| format!("+{whole}"))
            }
            _ => None,
        }
    }

    /// A number that begins with `+` as the trunk writes it; `None` when it stays as it is.
    #[must_use]
    pub fn write(&self, number: &str) -> Option<String> {
        let digits = number
            .strip_prefix('+')
            .filter(|digits| is_number(digits))?;
        match self.form {
            Form::AsSent | Form::E164 => None,
            Form::Digits => Some(digits.to_owned()),
            Form::National => Some(match digits.strip_prefix(&self.country) {
                Some(national) => format!("{}{national}", self.national_prefix),
                None => format!("{}{digits}", self.international_prefix),
            }),
        }
    }

    /// Why it cannot be used, and what to do.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        let digits = |text: &str| text.bytes().all(is_digit);
        if self.form != Form::National {
            return None;
        }
        if self.country.is_empty() || self.country.len() > 3 || !digits(&self.country) {
            return Some((
                "national numbers want a country",
                "set `country` to the digits of its code, such as \"49\"",
            ));
        }
        let prefixes = [&self.national_prefix, &self.international_prefix];
        if self.international_prefix.is_empty()
            || prefixes
                .iter()
                .any(|prefix| prefix.len() > 5 || !digits(prefix))
            || self.national_prefix == self.international_prefix
        {
            return Some((
                "these prefixes cannot be told apart from numbers",
                "use digits, such as \"0\" and \"00\"",
            ));
        }
        None
    }
}

const fn is_digit(octet: u8) -> bool {
    octet.is_ascii_digit()
}

/// Whether digits are a whole number with its country code.
fn is_number(digits: &str) -> bool {
    (SHORTEST..=LONGEST).contains(&digits.len())
        && digits.bytes().all(is_digit)
        && !digits.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(form: Form, country: &str, national: &str, international: &str) -> Numbers {
        Numbers {
            form,
            country: country.to_owned(),
            national_prefix: national.to_owned(),
            international_prefix: international.to_owned(),
        }
    }

    #[test]
    fn numbers_come_back_as_they_went() {
        let germany = numbers(Form::National, "49", "0", "00");
        let america = numbers(Form::National, "1", "", "011");
        let digits = numbers(Form::Digits, "", "0", "00");
        for (numbers, theirs, ours) in [
            (&germany, "03012345678", "+493012345678"),
            (&germany, "00442079460000", "+442079460000"),
            (&america, "2125550100", "+12125550100"),
            (&america, "011442079460000", "+442079460000"),
            (&digits, "442079460000", "+442079460000"),
        ] {
            assert_eq!(numbers.fault(), None);
            assert_eq!(numbers.read(theirs).as_deref(), Some(ours));
            assert_eq!(numbers.write(ours).as_deref(), Some(theirs));
        }
    }

    #[test]
    fn what_is_no_number_of_the_public_network_stays() {
        let germany = numbers(Form::National, "49", "0", "00");
        for number in [
            "112",
            "0112",
            "+493012345678",
            "alice",
            "",
            "1234567",
            "00",
            "0049",
        ] {
            assert_eq!(germany.read(number), None, "{number}");
        }
        let digits = numbers(Form::Digits, "", "0", "00");
        for number in ["112", "0301234567", "+493012345678", "1234567890123456"] {
            assert_eq!(digits.read(number), None, "{number}");
        }
        for number in ["112", "03012345678", "+112", "+4930abc4567", "anonymous"] {
            assert_eq!(germany.write(number), None, "{number}");
        }
        let plain = Numbers::default();
        assert_eq!(plain.read("03012345678"), None);
        assert_eq!(plain.write("+493012345678"), None);
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        for wrong in [
            numbers(Form::National, "", "0", "00"),
            numbers(Form::National, "+49", "0", "00"),
            numbers(Form::National, "49", "0", ""),
            numbers(Form::National, "49", "00", "00"),
            numbers(Form::National, "49", "x", "00"),
        ] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }
}
