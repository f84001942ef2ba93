//! Rules, allowlists and published ports: a value is the same after writing and parsing it again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox_gateway::allowlist::AllowList;
use sandbox_spec::domain::DomainPattern;
use sandbox_spec::policy::Rule;
use sandbox_spec::publish::PublishedPort;

fuzz_target!(|text: &str| {
    if let Ok(rule) = text.parse::<Rule>() {
        assert_eq!(rule.to_string().parse::<Rule>().as_ref(), Ok(&rule));
    }
    if let Ok(port) = text.parse::<PublishedPort>() {
        assert_eq!(port.to_string().parse::<PublishedPort>(), Ok(port));
    }
    for pattern in AllowList::parse(text).patterns() {
        assert_eq!(
            pattern.to_string().parse::<DomainPattern>().as_ref(),
            Ok(pattern)
        );
    }
});
