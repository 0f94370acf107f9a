//! SIGINT and SIGTERM, while a reactor runs that handles them.
//!
//! The signal handler writes one byte to a socket pair that the reactor polls, and does nothing
//! else. Handlers cannot be removed from a process. Once no reactor handles the signals any more, a
//! signal does what it did before the first reactor ran: it ends the program, unless the program
//! had a handler of its own.
//!
//! A signal that is ignored when the first reactor runs stays ignored. A shell starts background
//! jobs with SIGINT ignored, so that Ctrl-C reaches only the job in the foreground.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mio::net::UnixStream;
use parking_lot::Mutex;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// The signals that end `run`, unless they are ignored.
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// What a signal does when no reactor handles it; one for the whole process.
struct DefaultAction {
    /// Number of running reactors that handle signals.
    wanted: usize,
    /// Whether a signal ends the program, as if no handler were installed.
    applies: Option<Arc<AtomicBool>>,
    /// Those of [`SIGNALS`] that were not ignored when the first reactor ran.
    heeded: Vec<i32>,
    /// Those of `heeded` for which the program had no handler.
    deadly: Vec<i32>,
}

static DEFAULT: Mutex<DefaultAction> = Mutex::new(DefaultAction {
    wanted: 0,
    applies: None,
    heeded: Vec::new(),
    deadly: Vec::new(),
});

/// The signal handling of one reactor; ends on drop.
pub(crate) struct Signals {
    pub(crate) socket: UnixStream,
    last: Arc<AtomicUsize>,
    ids: Vec<SigId>,
}

impl Signals {
    pub(crate) fn install() -> io::Result<Self> {
        let (socket, to_handler) = std::os::unix::net::UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        let heeded = suspend_default()?;
        let mut signals = Self {
            socket: UnixStream::from_std(socket),
            last: Arc::new(AtomicUsize::new(0)),
            ids: Vec::new(),
        };
        for signal in heeded {
            // In this order: the number is stored before the reactor wakes up.
            let number = signal.unsigned_abs() as usize;
            let last = signals.last.clone();
            signals
                .ids
                .push(flag::register_usize(signal, last, number)?);
            let end = to_handler.try_clone()?;
            signals.ids.push(low_level::pipe::register(signal, end)?);
        }
        Ok(signals)
    }

    /// Makes signals end the program until the returned value is dropped, for a time in which no
    /// loop reads them. `None` if a reactor of another thread may still handle the first signal.
    pub(crate) fn let_them_end_the_program(&self, is_first: bool) -> Option<impl Drop + use<>> {
        struct Ends(Arc<AtomicBool>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        let default = DEFAULT.lock();
        let applies = default.applies.clone()?;
        if is_first && default.wanted > 1 {
            return None;
        }
        applies.store(true, Ordering::Release);
        Some(Ends(applies))
    }

    /// Takes the signal that arrived since the last call, if one did.
    pub(crate) fn take(&self) -> Option<i32> {
        let mut bytes = [0; 64];
        while matches!((&self.socket).read(&mut bytes), Ok(count) if count > 0) {}
        match self.last.swap(0, Ordering::AcqRel) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }
}

/// Whether this signal ended the program before the first reactor ran.
pub(crate) fn ends_the_program(signal: i32) -> bool {
    DEFAULT.lock().deadly.contains(&signal)
}

/// Ends the program as the signal does when no handler is installed.
pub(crate) fn end_the_program(signal: i32) -> ! {
    let _ = low_level::emulate_default_handler(signal);
    // Not reached: these signals end the program.
    low_level::exit(128 + signal)
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
        let mut default = DEFAULT.lock();
        default.wanted -= 1;
        if let (0, Some(applies)) = (default.wanted, &default.applies) {
            applies.store(true, Ordering::Release);
        }
    }
}

/// Returns the signals to handle; from here on they no longer end the program.
fn suspend_default() -> io::Result<Vec<i32>> {
    let mut default = DEFAULT.lock();
    match &default.applies {
        Some(applies) => applies.store(false, Ordering::Release),
        None => {
            let before = Dispositions::read();
            let is_heeded = |signal: &i32| !before.is_ignored(*signal);
            let heeded: Vec<i32> = SIGNALS.into_iter().filter(is_heeded).collect();
            let applies = Arc::new(AtomicBool::new(false));
            for signal in &heeded {
                if !before.is_caught(*signal) {
                    flag::register_conditional_default(*signal, applies.clone())?;
                    default.deadly.push(*signal);
                }
            }
            default.heeded = heeded;
            default.applies = Some(applies);
        }
    }
    default.wanted += 1;
    Ok(default.heeded.clone())
}

/// Which signals the process ignores and catches, if the system reports it: two masks, in which
/// signal 1 is the lowest bit (proc_pid_status(5)).
#[derive(Default)]
struct Dispositions {
    ignored: u64,
    caught: u64,
}

impl Dispositions {
    /// Where the system has no such file, no signal counts as ignored or caught.
    fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = |name: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix(name));
            mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                .unwrap_or(0)
        };
        Self {
            ignored: mask("SigIgn:"),
            caught: mask("SigCgt:"),
        }
    }

    fn is_ignored(&self, signal: i32) -> bool {
        self.ignored >> (signal - 1) & 1 == 1
    }

    fn is_caught(&self, signal: i32) -> bool {
        self.caught >> (signal - 1) & 1 == 1
    }
}
