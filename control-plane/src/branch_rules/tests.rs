use super::*;

fn watching(patterns: &[&str]) -> Result<Rules> {
    let rules = Rules {
        watch_paths: patterns.iter().map(|it| (*it).to_owned()).collect(),
        ..Rules::default()
    };
    rules.check()
}

#[test]
fn patterns_are_trimmed_and_empty_ones_dropped() {
    let rules = watching(&[" services/a/ ", "", "  "]).unwrap();
    assert_eq!(rules.watch_paths, ["services/a/"]);
    assert!(rules.look_at_files());
    assert!(!watching(&[""]).unwrap().look_at_files());
}

#[test]
fn what_is_no_pattern_is_refused_with_what_to_do() {
    let long = "a".repeat(MAX_PATTERN + 1);
    for (pattern, says) in [
        ("# services", "comment"),
        ("../other", "from the repository's root"),
        ("a/./b", "from the repository's root"),
        ("a[", "no pattern"),
        ("{a", "no pattern"),
        ("a\u{7}b", "control characters"),
        (&*long, "longer than"),
        ("!docs/", "takes back"),
    ] {
        let Err(Error::Invalid(fields)) = watching(&[pattern]) else {
            panic!("{pattern} is taken");
        };
        assert_eq!(fields[0].name, "watch_paths");
        assert!(fields[0].message.contains(says), "{}", fields[0].message);
    }
    assert!(watching(&["a/", "!a/docs/", "/*.toml", "**/x", "\\#x", "{a,b}/*.py"]).is_ok());
    let many = vec!["a"; MAX_PATTERNS + 1];
    assert!(watching(&many).is_err());
}
