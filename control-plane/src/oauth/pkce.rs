//! Proof Key for Code Exchange (RFC 7636), S256 only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::crypto::sha256;

/// Octets of a SHA-256.
const DIGEST: usize = 32;

/// Whether this can be an S256 challenge: a SHA-256 in base64url (section 4.2).
pub(super) fn is_challenge(text: &str) -> bool {
    URL_SAFE_NO_PAD
        .decode(text)
        .is_ok_and(|digest| digest.len() == DIGEST)
}

/// Whether this can be a verifier: 43 to 128 unreserved characters (section 4.1).
pub(super) fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
}

/// Whether the verifier is the challenge's (section 4.6).
pub(super) fn fits(verifier: &str, challenge: &str) -> bool {
    let computed = URL_SAFE_NO_PAD.encode(sha256(verifier));
    aws_lc_rs::constant_time::verify_slices_are_equal(computed.as_bytes(), challenge.as_bytes())
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7636_appendix_b_fits() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert!(is_verifier(verifier) && is_challenge(challenge) && fits(verifier, challenge));
        assert!(!fits(&verifier.replace('d', "e"), challenge));
        assert!(!is_challenge("short") && !is_challenge(&challenge.replace('-', "+")));
        assert!(
            !is_verifier("short")
                && !is_verifier(&"a".repeat(129))
                && !is_verifier(&" ".repeat(50))
        );
    }
}
