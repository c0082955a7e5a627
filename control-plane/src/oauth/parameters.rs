//! Parameters of a query or a form.

use std::collections::HashMap;

/// Form-encoded parameters. One without a value counts as not sent, and none may come twice
/// (RFC 6749 section 3.1).
#[derive(Debug, Default)]
pub(super) struct Parameters {
    values: HashMap<String, String>,
    repeated: Vec<String>,
}

impl Parameters {
    /// Reads `name=value&…`.
    pub(super) fn parse(encoded: &[u8]) -> Self {
        let mut parameters = Self::default();
        for (name, value) in url::form_urlencoded::parse(encoded) {
            if parameters.values.contains_key(name.as_ref()) {
                parameters.repeated.push(name.into_owned());
            } else {
                parameters
                    .values
                    .insert(name.into_owned(), value.into_owned());
            }
        }
        parameters
    }

    /// The value of a parameter that was sent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether a parameter was sent more than once.
    pub(super) fn is_repeated(&self, name: &str) -> bool {
        self.repeated.iter().any(|repeated| repeated == name)
    }

    /// Whether any parameter was sent more than once.
    pub(super) fn any_repeated(&self) -> bool {
        !self.repeated.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_absent_and_repetition_is_noticed() {
        let parameters = Parameters::parse(b"a=1&b=&c=x%20y&a=1");
        assert_eq!(parameters.get("a"), Some("1"));
        assert_eq!(parameters.get("b"), None);
        assert_eq!(parameters.get("c"), Some("x y"));
        assert!(
            parameters.is_repeated("a")
                && !parameters.is_repeated("c")
                && parameters.any_repeated()
        );
    }
}
