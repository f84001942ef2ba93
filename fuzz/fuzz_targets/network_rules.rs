//! Rules, lists and published ports: what is read is written so that it is read the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox::network::allowlist::AllowList;
use sandbox::network::domain::DomainPattern;
use sandbox::network::policy::Rule;
use sandbox::network::publish::PublishedPort;

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
