//! One test, alone in its process, which counts what the process has open.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::time::Duration;

use deferred_reactor::defer_to_thread;
use deferred_reactor::testing::MemoryReactor;

use peers::{Script, Scripts};

/// Descriptors and threads.
fn open() -> (usize, usize) {
    let count = |folder| std::fs::read_dir(folder).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// B-15: no socket, no selector, no thread.
#[test]
fn a_reactor_in_memory_opens_nothing() {
    let before = open();
    let memory = MemoryReactor::new();
    memory
        .listen_tcp("127.0.0.1:0", Scripts::new(Script::echo))
        .unwrap();
    let peer = memory.connect(Script::echo());
    drop(defer_to_thread(memory.reactor(), || Ok(())));
    assert_eq!(peer.exchange("x"), b"x");
    memory.advance(Duration::from_secs(3600));
    assert_eq!(open(), before);
    memory.stop().unwrap();
    memory.run().unwrap_err();
    memory.pump();
    let stop = memory.reactor().clone();
    memory
        .reactor()
        .call_when_running(move || stop.stop().unwrap());
    memory.run().unwrap();
    assert_eq!(open(), before);
}
