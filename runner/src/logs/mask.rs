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
    /// base64 (both alphabets, also inside a longer text), URL-encoded, hexadecimal, and escaped
    /// for JSON.
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
    let json = json[1..json.len() - 1].to_owned();
    let url: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    // Spaces are `+` in forms and `%20` elsewhere, and some leave slashes as they are.
    let spaced = url.replace('+', "%20");
    let hex = hex(text);
    let mut forms = vec![
        text.to_owned(),
        spaced.replace("%2F", "/"),
        lower_escapes(&url),
        lower_escapes(&spaced),
        spaced,
        url,
        hex.to_ascii_uppercase(),
        hex,
        ascii_only(&json),
        json,
    ];
    forms.extend(base64_of(text));
    forms
}

/// Base64 of the text alone, and the part of it that stands in that of any longer text: three
/// bytes become four characters, so it depends on where the text begins.
fn base64_of(text: &str) -> Vec<String> {
    let mut forms = vec![STANDARD_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(text)];
    for before in 1..3 {
        let padded: Vec<u8> = std::iter::repeat_n(0, before).chain(text.bytes()).collect();
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&padded);
            // The first characters hold bits of what stands before, the last one of what follows.
            let end = encoded.len() - usize::from(!padded.len().is_multiple_of(3));
            if let Some(part) = encoded.get(before + 1..end) {
                forms.push(part.to_owned());
            }
        }
    }
    // Followed by more, the last character of the text alone may be another one.
    if !text.len().is_multiple_of(3) {
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(text);
            forms.push(encoded[..encoded.len() - 1].to_owned());
        }
    }
    forms
}

fn hex(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// `%2f` for `%2F`.
fn lower_escapes(url: &str) -> String {
    let mut parts = url.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2.min(part.len()));
        text.extend(["%", &digits.to_ascii_lowercase(), rest]);
    }
    text
}

/// JSON as Python's `json.dumps` writes it: beyond ASCII, `\uXXXX` in UTF-16.
fn ascii_only(json: &str) -> String {
    use std::fmt::Write as _;
    json.chars().fold(String::new(), |mut escaped, c| {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r53_secrets_are_hidden_in_their_common_encodings() {
        let secret = "sk-ünit/test key+1";
        let masker = Masker::new([secret]);
        let basic = |text: &str| STANDARD_NO_PAD.encode(text);
        for text in [
            secret.to_owned(),
            basic(secret),
            basic(&format!("user:{secret}")),
            basic(&format!("someone:{secret}")),
            basic(&format!("a:{secret} and more")),
            basic(&format!("{secret} and more")),
            URL_SAFE_NO_PAD.encode(format!("user:{secret}")),
            hex(secret),
            hex(secret).to_ascii_uppercase(),
            r"sk-\u00fcnit/test key+1".to_owned(),
            "sk-%C3%BCnit%2Ftest%20key%2B1".to_owned(),
            "sk-%c3%bcnit%2ftest%20key%2b1".to_owned(),
            "sk-%C3%BCnit%2Ftest+key%2B1".to_owned(),
            "sk-%C3%BCnit/test%20key%2B1".to_owned(),
        ] {
            let line = format!("before {text} after");
            let masked = masker.mask(&line);
            assert!(masked.contains(MASK), "{text} → {masked}");
            assert!(masked.len() < line.len(), "{text} → {masked}");
            // Of a longer text what stands around it may stay, the secret's own part may not.
            for part in ["unit", "test", "a2V5", "6b6579", "key"] {
                assert!(!masked.contains(part), "{text} → {masked}");
            }
        }
    }

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
