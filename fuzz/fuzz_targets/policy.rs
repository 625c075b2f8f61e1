//! A policy file of arbitrary text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vortex_registry::{NamePattern, Policy, RegistryError};

fuzz_target!(|text: &str| {
    match Policy::from_toml(text, "/nonexistent") {
        Ok(policy) => {
            for (index, rule) in policy.rules().iter().enumerate() {
                assert!((1..=rule.keyring().len()).contains(&rule.threshold()));
                let pattern: NamePattern = rule.pattern().to_string().parse().expect("a pattern");
                assert_eq!(&pattern, rule.pattern());
                let trusted = policy.keyring();
                assert!(
                    rule.keyring()
                        .iter()
                        .all(|key| trusted.get(&key.key_id()) == Some(key))
                );
                // A rule after one for every name would be dead, and is refused.
                assert!(pattern.as_str() != "*" || index + 1 == policy.rules().len());
            }
            // The same text says the same.
            let again = Policy::from_toml(text, "/nonexistent").expect("it was fine before");
            assert_eq!(again, policy);
        }
        Err(RegistryError::InvalidPolicy { reason, .. }) => assert!(!reason.is_empty()),
        Err(other) => panic!("{other}"),
    }
});
