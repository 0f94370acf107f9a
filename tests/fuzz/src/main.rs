//! One program for all targets: `FUZZ_TARGET` names the one that gets the inputs.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use prometheus_deferred::fuzzing as http1;
use prometheus_deferred::web::fuzzing as web;

type Target = fn(&[u8]);

/// `run` reads the names from here.
const TARGETS: &[(&str, Target)] = &[
    ("request_heads", http1::request_heads),
    ("response_heads", http1::response_heads),
    ("chunks", http1::chunks),
    ("request_targets", web::request_targets),
    ("response_fields", web::response_fields),
    ("route_patterns", web::route_patterns),
    ("ranges", web::ranges),
    ("entity_tags", web::entity_tags),
    ("conditions", web::conditions),
];

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|(known, _)| *known == name);
        let (_, target) = found.unwrap_or_else(|| panic!("FUZZ_TARGET={name} is no target"));
        TARGET.get_or_init(|| *target);
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(data);
        }
    }
);
