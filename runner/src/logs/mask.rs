//! Hides a deployment's secrets in what is shown. Best effort: it knows the forms in which values
//! usually appear, and a server that wants to print a secret in another form can.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What stands in a secret's place.
const MASK: &str = "•••";

/// Shorter values are not hidden: `1` or `true` would hide half of every line and protect nothing.
const MIN_SECRET_BYTES: usize = 8;

/// Knows the secrets of one deployment.
#[derive(Default)]
pub struct Masker {
    /// Longest first, so that a form that holds another goes as a whole.
    forms: Vec<String>,
}

impl Masker {
    /// Learns the values, in every form that is looked for: as they are, each of their lines,
    /// base64 (both alphabets), URL-encoded, and escaped for JSON.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = BTreeSet::new();
        for value in values {
            let whole = std::iter::once(value.trim());
            for text in whole.chain(value.lines().map(str::trim)) {
                if text.len() >= MIN_SECRET_BYTES {
                    forms.extend(forms_of(text));
                }
            }
        }
        let mut forms: Vec<String> = forms.into_iter().collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Self { forms }
    }

    /// The text with every known form of every secret replaced.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for form in &self.forms {
            if masked.contains(form.as_str()) {
                masked = masked.replace(form.as_str(), MASK);
            }
        }
        masked
    }
}

fn forms_of(text: &str) -> Vec<String> {
    let json = serde_json::Value::from(text).to_string();
    let url: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    vec![
        text.to_owned(),
        STANDARD_NO_PAD.encode(text),
        URL_SAFE_NO_PAD.encode(text),
        // Spaces are `+` in forms and `%20` elsewhere.
        url.replace('+', "%20"),
        url,
        json.trim_matches('"').to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_form_is_hidden() {
        let masker = Masker::new(["p\"ss wörd/1"]);
        for text in [
            "key=p\"ss wörd/1;",
            r#"{"key":"p\"ss wörd/1"}"#,
            "key=cCJzcyB3w7ZyZC8x",
            "key=p%22ss+w%C3%B6rd%2F1",
            "key=p%22ss%20w%C3%B6rd%2F1",
        ] {
            let masked = masker.mask(text);
            assert!(masked.contains(MASK), "{text} → {masked}");
            assert!(
                !masked.contains("ss w") && !masked.contains("cCJz"),
                "{masked}"
            );
        }
    }

    #[test]
    fn padding_and_length_do_not_matter() {
        let masker = Masker::new(["abcdefgh"]);
        assert_eq!(masker.mask("YWJjZGVmZ2g= abcdefghi"), "•••= •••i");
    }

    #[test]
    fn short_values_stay() {
        assert_eq!(Masker::new(["true", "1"]).mask("true 1"), "true 1");
    }

    #[test]
    fn lines_of_a_long_secret_are_hidden_one_by_one() {
        let masker = Masker::new(["-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n"]);
        assert_eq!(masker.mask("MIIEvQIBADANBgkq"), MASK);
    }

    #[test]
    fn a_secret_inside_another_does_not_show_the_rest() {
        let masker = Masker::new(["password", "password-and-more"]);
        assert_eq!(masker.mask("x password-and-more"), "x •••");
    }
}
