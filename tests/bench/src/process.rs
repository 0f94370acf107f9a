//! What a process has cost so far, from /proc.

use std::io;
use std::ops::Sub;

use crate::sys;

/// Processor time of all threads of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// To the nanosecond, by the scheduler.
    pub nanos: u64,
    /// Time that its threads, as far as they are alive, were ready to run and did not: others had
    /// the core.
    pub waiting_nanos: u64,
    /// What share was the program's own, and what the kernel's on its behalf, is known only from
    /// samples: what a thread was doing at each tick. In units of 10 ms.
    pub user_ticks: u64,
    pub system_ticks: u64,
}

impl Cpu {
    /// Of the process with this number; `None` is this one.
    pub fn of(pid: Option<u32>) -> io::Result<Self> {
        // Not the sum over its threads: some live for one scrape.
        let mut cpu = Self {
            nanos: sys::processor_time(pid.unwrap_or(0))?.as_nanos() as u64,
            ..Self::default()
        };
        let pid = pid.map_or("self".to_owned(), |pid| pid.to_string());
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end meanwhile.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let waiting = text.split_whitespace().nth(1);
            cpu.waiting_nanos += waiting.and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold anything; `utime` is the 12th field behind it.
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || {
            fields
                .next()
                .and_then(|field| field.parse().ok())
                .unwrap_or(0)
        };
        (cpu.user_ticks, cpu.system_ticks) = (ticks(), ticks());
        Ok(cpu)
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_sub(before.nanos),
            waiting_nanos: self.waiting_nanos.saturating_sub(before.waiting_nanos),
            user_ticks: self.user_ticks - before.user_ticks,
            system_ticks: self.system_ticks - before.system_ticks,
        }
    }
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: impl std::fmt::Display) -> io::Result<u64> {
    // Not `statm`: the kernel keeps that per thread and adds it up now and then, off by up to 64
    // pages for each.
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib
        .and_then(|kib| kib.trim().parse().ok())
        .ok_or_else(|| io::Error::other("smaps_rollup has no Rss"))?;
    Ok(kib * 1024)
}
