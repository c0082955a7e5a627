//! Names by content: SHA-256 over parts that cannot be mistaken for each other.

use std::fmt::Write;

use aws_lc_rs::digest::{Context, SHA256};

/// A hash in the making.
pub struct Hash(Context);

impl Hash {
    /// Begins.
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Adds a part, and how long it is, so that `ab`+`c` is not `a`+`bc`.
    pub fn part(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// The hash, lower-case hexadecimal.
    pub fn hex(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

/// SHA-256 of exactly these bytes, lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&SHA256, bytes).as_ref())
}

pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let one = Hash::new().part(b"ab").part(b"c").hex();
        let other = Hash::new().part(b"a").part(b"bc").hex();
        assert_ne!(one, other);
        assert_eq!(one.len(), 64);
    }

    #[test]
    fn plain_hashes_are_what_others_compute() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
