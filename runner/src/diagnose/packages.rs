//! Names of packages that differ from the names of their modules.

/// Modules whose package has another name.
const PACKAGES: &[(&str, &str)] = &[
    ("PIL", "pillow"),
    ("attr", "attrs"),
    ("bs4", "beautifulsoup4"),
    ("cv2", "opencv-python-headless"),
    ("dateutil", "python-dateutil"),
    ("decouple", "python-decouple"),
    ("discord", "discord.py"),
    ("docx", "python-docx"),
    ("dotenv", "python-dotenv"),
    ("fitz", "pymupdf"),
    ("git", "gitpython"),
    ("github", "pygithub"),
    ("googleapiclient", "google-api-python-client"),
    ("jose", "python-jose"),
    ("jwt", "pyjwt"),
    ("key_value", "py-key-value-aio"),
    ("magic", "python-magic"),
    ("multipart", "python-multipart"),
    ("nacl", "pynacl"),
    ("pptx", "python-pptx"),
    ("psycopg2", "psycopg2-binary"),
    ("serial", "pyserial"),
    ("sklearn", "scikit-learn"),
    ("telegram", "python-telegram-bot"),
    ("websocket", "websocket-client"),
    ("yaml", "pyyaml"),
];

/// The package that brings a module: another name where one is known, else the module's own.
pub fn package_of(module: &str) -> String {
    PACKAGES
        .iter()
        .find(|(name, _)| *name == module)
        .map_or_else(
            || module.replace('_', "-"),
            |(_, package)| (*package).to_owned(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_as_the_index_does() {
        assert_eq!(package_of("yaml"), "pyyaml");
        assert_eq!(package_of("slack_sdk"), "slack-sdk");
    }
}
