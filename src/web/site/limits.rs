//! What a client is granted.

use std::time::Duration;

use crate::http1::HeadLimits;

/// The limits of a site, as its builder has set them.
#[derive(Debug, Clone, Copy)]
pub(in crate::web) struct Limits {
    pub(in crate::web) head: HeadLimits,
    pub(in crate::web) body_bytes: u64,
    pub(in crate::web) read_ahead_bytes: usize,
    pub(in crate::web) unread_output_bytes: usize,
    pub(in crate::web) discard_bytes: u64,
    pub(in crate::web) discard_timeout: Duration,
    pub(in crate::web) keep_alive: Option<Duration>,
    pub(in crate::web) header_timeout: Option<Duration>,
    pub(in crate::web) body_timeout: Option<Duration>,
    pub(in crate::web) half_close_grace: Duration,
    pub(in crate::web) abort_timeout: Duration,
    pub(in crate::web) write_timeout: Option<Duration>,
    pub(in crate::web) response_timeout: Option<Duration>,
    pub(in crate::web) min_rate: MinRate,
    pub(in crate::web) connections: usize,
    pub(in crate::web) connections_per_client: Option<usize>,
    pub(in crate::web) requests_per_connection: Option<u64>,
}

/// The slowest that bytes may go, in either direction.
#[derive(Debug, Clone, Copy)]
pub(in crate::web) struct MinRate {
    /// Zero for none.
    pub(in crate::web) bytes_per_second: u32,
    /// The rate is not looked at before so long.
    pub(in crate::web) grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits {
                bytes: 16 * 1024,
                line_bytes: 8 * 1024,
                fields: 500,
            },
            body_bytes: 1024 * 1024,
            read_ahead_bytes: 64 * 1024,
            unread_output_bytes: 1024 * 1024,
            discard_bytes: 256 * 1024,
            discard_timeout: Duration::from_secs(2),
            keep_alive: Some(Duration::from_secs(60)),
            header_timeout: Some(Duration::from_secs(30)),
            body_timeout: Some(Duration::from_secs(60)),
            half_close_grace: Duration::from_secs(1),
            abort_timeout: Duration::from_secs(15),
            write_timeout: Some(Duration::from_secs(30)),
            response_timeout: None,
            min_rate: MinRate {
                bytes_per_second: 240,
                grace: Duration::from_secs(10),
            },
            connections: default_connections(),
            connections_per_client: None,
            requests_per_connection: None,
        }
    }
}

/// As many connections as the process has descriptors, but for some of its own; at most 10,000.
fn default_connections() -> usize {
    /// For files, the selector, a logger, connections that the program makes.
    const KEPT_BACK: usize = 64;
    const MOST: usize = 10_000;
    // No safe call tells the limit, but Linux has it in a file.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    descriptor_limit(&limits).map_or(MOST, |limit| limit.saturating_sub(KEPT_BACK).clamp(1, MOST))
}

/// The soft limit on open files, as `/proc/self/limits` has it.
fn descriptor_limit(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_limit_is_read_where_there_is_one() {
        let table = "Limit          Soft Limit  Hard Limit  Units\n\
                     Max open files            1024       524288      files\n";
        assert_eq!(descriptor_limit(table), Some(1024));
        assert_eq!(
            descriptor_limit("Max open files unlimited unlimited files"),
            None
        );
        assert_eq!(descriptor_limit(""), None);
        assert!((1..=10_000).contains(&default_connections()));
    }
}
