//! Bencoding, as far as rtpengine's control protocol needs it.

/// A value. Dictionaries keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
    List(Vec<Value>),
    Dictionary(Vec<(String, Value)>),
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub fn list(items: &[&str]) -> Self {
        Self::List(items.iter().map(|item| Self::text(item)).collect())
    }

    /// A dictionary's text of that name.
    pub fn find(&self, name: &str) -> Option<&str> {
        let Self::Dictionary(entries) = self else {
            return None;
        };
        entries.iter().find_map(|(key, value)| match value {
            Self::Text(text) if key == name => Some(text.as_str()),
            _ => None,
        })
    }

    /// How many entries a dictionary's list of that name has.
    pub fn length(&self, name: &str) -> Option<usize> {
        let Self::Dictionary(entries) = self else {
            return None;
        };
        entries.iter().find_map(|(key, value)| match value {
            Self::List(items) if key == name => Some(items.len()),
            _ => None,
        })
    }

    pub fn encode(&self) -> String {
        match self {
            Self::Text(text) => format!("{}:{text}", text.len()),
            Self::Number(number) => format!("i{number}e"),
            Self::List(items) => {
                format!("l{}e", items.iter().map(Self::encode).collect::<String>())
            }
            Self::Dictionary(entries) => {
                let inner: String = entries
                    .iter()
                    .map(|(key, value)| format!("{}:{key}{}", key.len(), value.encode()))
                    .collect();
                format!("d{inner}e")
            }
        }
    }

    /// The value at the beginning of `text`, and what follows it.
    pub fn decode(text: &str) -> Option<(Self, &str)> {
        let kind = text.chars().next()?;
        match kind {
            'i' => {
                let (number, rest) = text.get(1..)?.split_once('e')?;
                Some((Self::Number(number.parse().ok()?), rest))
            }
            'l' => {
                let mut rest = text.get(1..)?;
                let mut items = Vec::new();
                while !rest.starts_with('e') {
                    let (item, after) = Self::decode(rest)?;
                    items.push(item);
                    rest = after;
                }
                Some((Self::List(items), rest.get(1..)?))
            }
            'd' => {
                let mut rest = text.get(1..)?;
                let mut entries = Vec::new();
                while !rest.starts_with('e') {
                    let (Self::Text(key), after) = Self::decode(rest)? else {
                        return None;
                    };
                    let (value, after) = Self::decode(after)?;
                    entries.push((key, value));
                    rest = after;
                }
                Some((Self::Dictionary(entries), rest.get(1..)?))
            }
            _ => {
                let (length, rest) = text.split_once(':')?;
                let length = length.parse().ok()?;
                Some((Self::text(rest.get(..length)?), rest.get(length..)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let value = Value::Dictionary(vec![
            ("command".to_owned(), Value::text("offer")),
            ("flags".to_owned(), Value::list(&["a", "bc"])),
            ("number".to_owned(), Value::Number(-7)),
        ]);
        let text = value.encode();
        assert_eq!(text, "d7:command5:offer5:flagsl1:a2:bce6:numberi-7ee");
        assert_eq!(Value::decode(&text), Some((value, "")));
        for end in 0..text.len() {
            assert_eq!(Value::decode(&text[..end]), None, "{end}");
        }
    }
}
