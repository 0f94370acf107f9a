//! How often each case allocates, and how much: `name`, count and bytes per operation, with tabs.
//!
//! What other threads allocate is not seen.

use allocation_counter::measure;
use bench::cases::{deferreds, timers, wake_ups};

fn main() {
    for mut case in deferreds().into_iter().chain(timers()).chain(wake_ups()) {
        let operations = case.fixed.unwrap_or(1_000);
        // Memory that is kept for the next one counts as the first one's.
        case.run(operations);
        let info = measure(|| {
            case.run(operations);
        });
        let each = |total: u64| total as f64 / operations as f64;
        println!(
            "{}\t{:.2}\t{:.0}",
            case.name,
            each(info.count_total),
            each(info.bytes_total)
        );
    }
}
