//! Calls into Linux that std does not have, as safe functions. The only unsafe code of the package.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

pub use libc::{EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP};

/// What epoll reports: flags, and the token that was given with the descriptor.
pub type Event = libc::epoll_event;

/// An epoll instance, level-triggered unless a caller asks otherwise.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; a non-negative result is a new descriptor that nobody owns.
        unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Watches a descriptor until it is closed.
    pub fn add(&self, fd: &impl AsFd, token: u64, flags: i32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, flags)
    }

    /// Changes what is watched for.
    pub fn modify(&self, fd: &impl AsFd, token: u64, flags: i32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, flags)
    }

    fn control(&self, what: i32, fd: &impl AsFd, token: u64, flags: i32) -> io::Result<()> {
        let mut event = Event {
            events: flags as u32,
            u64: token,
        };
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: both descriptors are open while they are borrowed, and `event` outlives the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &raw mut event) }).map(drop)
    }

    /// Waits for events, at most for `timeout`; `None` is for ever. An interruption counts as none.
    pub fn wait<'a>(
        &self,
        events: &'a mut [Event],
        timeout: Option<Duration>,
    ) -> io::Result<&'a [Event]> {
        let (epoll, length) = (self.0.as_raw_fd(), events.len() as i32);
        let timeout = timeout.map(|time| libc::timespec {
            tv_sec: time.as_secs() as libc::time_t,
            tv_nsec: time.subsec_nanos().into(),
        });
        // SAFETY: the pointers are to a local and to a slice of the length that is passed; no signal
        // mask is given.
        let count = unsafe {
            match &timeout {
                // The plain call where it will do: valgrind does not know the other.
                None => libc::epoll_wait(epoll, events.as_mut_ptr(), length, -1),
                Some(timeout) => {
                    let no_mask = std::ptr::null();
                    libc::epoll_pwait2(epoll, events.as_mut_ptr(), length, timeout, no_mask)
                }
            }
        };
        match check(count) {
            Ok(count) => Ok(&events[..count as usize]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(error) => Err(error),
        }
    }
}

/// Keeps the calling thread, and those it starts from now on, on one core.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: all zeros is an empty set; `CPU_SET` checks the index; the pointer is to a local.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        check(libc::sched_setaffinity(
            0,
            size_of_val(&set),
            &raw const set,
        ))
        .map(drop)
    }
}

/// Makes closing a socket cut it off: no TIME_WAIT, so that ports do not run out.
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the pointer is to a local of the size that is passed.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as u32,
        )
    })
    .map(drop)
}

/// Allows this process, and those it starts, as many descriptors as the system lets it have.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointers are to a local.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
    }
    Ok(limit.rlim_cur)
}

/// Sends SIGTERM or SIGINT to a child that has not been waited for.
pub fn signal(child: &std::process::Child, signal: i32) -> io::Result<()> {
    // SAFETY: takes no pointers; the child is not reaped, so the number is still its own.
    check(unsafe { libc::kill(child.id() as i32, signal) }).map(drop)
}

/// Processor time of a process so far, all its threads together, those that have ended included.
/// 0 is this process.
pub fn processor_time(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointers are to locals.
    unsafe {
        // Unlike the other calls, this one returns the error.
        match libc::clock_getcpuclockid(pid as i32, &raw mut clock) {
            0 => check(libc::clock_gettime(clock, &raw mut time))?,
            error => return Err(io::Error::from_raw_os_error(error)),
        };
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

pub use libc::{SIGINT, SIGTERM};

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
