//! Limits of bytes per second for connections.
//!
//! A [`Bucket`] (token bucket) holds the bytes that may pass now, and fills over time. Connections
//! share a bucket; each has a [`Gate`] to it. A gate that finds the bucket empty waits. After a
//! tenth of a second of filling, the bucket shares its bytes among the waiting gates, and wakes
//! them. Meanwhile a [`ThrottledStream`] returns `WouldBlock` to its connection, as a socket would.
//!
//! A delayed call exists only while a gate waits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Transport;
use super::stream::Stream;
use crate::time::{DelayedCall, TimeSource};

const NANOS: u128 = 1_000_000_000;

/// The capacity of a bucket is the bytes of one second divided by this.
const BURSTS: u64 = 4;

/// How many times per second waiting gates are woken.
const WAKE_UPS: u64 = 10;

/// Bytes that may pass, in one direction.
pub(crate) struct Bucket {
    /// Bytes a second; at least 1.
    rate: u64,
    available: Cell<u64>,
    /// The time up to which `available` is computed; `None` before the first byte.
    filled: Cell<Option<Instant>>,
    /// Waiting gates, first come, first served.
    waiting: RefCell<VecDeque<Rc<Gate>>>,
    /// The call that shares bytes among waiting gates; `None` while none waits.
    call: RefCell<Option<DelayedCall>>,
    passed: Cell<u64>,
    waits: Cell<u64>,
}

impl Bucket {
    /// Makes a full bucket.
    pub(crate) fn new(rate: u64) -> Rc<Self> {
        debug_assert!(rate > 0);
        Rc::new(Self {
            rate,
            available: Cell::new(Self::part(rate, BURSTS)),
            filled: Cell::new(None),
            waiting: RefCell::new(VecDeque::new()),
            call: RefCell::new(None),
            passed: Cell::new(0),
            waits: Cell::new(0),
        })
    }

    pub(crate) fn rate(&self) -> u64 {
        self.rate
    }

    /// Bytes that have passed.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.get()
    }

    /// Number of waits of connections so far.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.get()
    }

    fn part(rate: u64, parts: u64) -> u64 {
        (rate / parts).max(1)
    }

    /// Adds the bytes of the time since the last call.
    fn fill(&self, now: Instant) {
        let Some(filled) = self.filled.get() else {
            return self.filled.set(Some(now));
        };
        let nanos = now.saturating_duration_since(filled).as_nanos();
        let bytes = nanos.saturating_mul(self.rate.into()) / NANOS;
        let capacity = Self::part(self.rate, BURSTS);
        let available = bytes.saturating_add(self.available.get().into());
        if available >= capacity.into() {
            self.available.set(capacity);
            self.filled.set(Some(now));
        } else {
            // Fits, because the capacity does. The remaining time counts towards the next byte.
            self.available.set(available as u64);
            let nanos = bytes * NANOS / u128::from(self.rate);
            self.filled
                .set(Some(filled + Duration::from_nanos(nanos as u64)));
        }
    }

    fn add(self: &Rc<Self>, gate: Rc<Gate>) {
        self.waits.set(self.waits.get() + 1);
        let time = gate.time.clone();
        self.waiting.borrow_mut().push_back(gate);
        if self.call.borrow().is_none() {
            self.schedule(&time);
        }
    }

    fn schedule(self: &Rc<Self>, time: &TimeSource) {
        let missing = Self::part(self.rate, WAKE_UPS).saturating_sub(self.available.get());
        // Rounded up, so that the bytes are available when the time comes. At most one second.
        let nanos = (u128::from(missing) * NANOS).div_ceil(self.rate.into());
        let bucket = Rc::downgrade(self);
        let next = time.clone();
        let call = time.call_later(Duration::from_nanos(nanos as u64), move || {
            if let Some(bucket) = bucket.upgrade() {
                bucket.call.take();
                bucket.share(&next);
            }
        });
        self.call.replace(Some(call));
    }

    /// Shares the available bytes among the waiting gates. A gate that gets nothing is first next
    /// time.
    fn share(self: &Rc<Self>, time: &TimeSource) {
        self.fill(time.now());
        let mut gates = self.waiting.take();
        gates.retain(|gate| gate.transport.is_connected());
        let share = (self.available.get() / (gates.len() as u64).max(1)).max(1);
        while self.available.get() > 0
            && let Some(gate) = gates.pop_front()
        {
            let granted = share.min(self.available.get());
            self.available.set(self.available.get() - granted);
            gate.open(granted);
        }
        if !gates.is_empty() {
            // No gate was added meanwhile: waking calls no user code.
            self.waiting.replace(gates);
            self.schedule(time);
        }
    }
}

/// One direction of one connection, and its bucket.
struct Gate {
    bucket: Rc<Bucket>,
    transport: Transport,
    time: TimeSource,
    direction: Direction,
    /// Bytes taken out of the bucket that may pass.
    granted: Cell<u64>,
    is_waiting: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

impl Gate {
    fn new(
        bucket: &Rc<Bucket>,
        transport: &Transport,
        time: &TimeSource,
        direction: Direction,
    ) -> Rc<Self> {
        Rc::new(Self {
            bucket: bucket.clone(),
            transport: transport.clone(),
            time: time.clone(),
            direction,
            granted: Cell::new(0),
            is_waiting: Cell::new(false),
        })
    }

    fn open(&self, granted: u64) {
        self.is_waiting.set(false);
        self.granted.set(self.granted.get() + granted);
        match self.direction {
            Direction::Read => self.transport.may_read_again(),
            Direction::Write => self.transport.may_write_again(),
        }
    }

    /// Lets granted bytes pass; `pass` returns how many it used.
    fn pass(
        self: &Rc<Self>,
        wanted: usize,
        pass: impl FnOnce(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if wanted == 0 {
            return pass(0);
        }
        if self.granted.get() == 0 && self.bucket.waiting.borrow().is_empty() {
            self.bucket.fill(self.time.now());
            self.granted.set(self.bucket.available.take());
        }
        // A value over `usize::MAX` is also over `wanted`.
        let most = usize::try_from(self.granted.get())
            .unwrap_or(usize::MAX)
            .min(wanted);
        if most == 0 {
            self.wait();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let passed = pass(most);
        let used = *passed.as_ref().unwrap_or(&0);
        let bucket = &self.bucket;
        bucket.passed.set(bucket.passed.get() + used as u64);
        let rest = self.granted.take() - used as u64;
        bucket
            .available
            .set(bucket.available.get().saturating_add(rest));
        if used == most && most < wanted {
            // More may be left to read, and no event will report it.
            self.wait();
        }
        passed
    }

    fn wait(self: &Rc<Self>) {
        if !self.is_waiting.replace(true) {
            self.bucket.add(self.clone());
        }
    }
}

/// A stream with a limited number of bytes per second.
pub(crate) struct ThrottledStream {
    stream: Stream,
    read: Option<Rc<Gate>>,
    write: Option<Rc<Gate>>,
}

impl ThrottledStream {
    /// `stream` is that of `transport`, of a reactor that has this `time`.
    pub(super) fn new(
        stream: Stream,
        transport: &Transport,
        time: &TimeSource,
        read: Option<&Rc<Bucket>>,
        write: Option<&Rc<Bucket>>,
    ) -> Self {
        let gate =
            |direction| move |bucket: &Rc<Bucket>| Gate::new(bucket, transport, time, direction);
        Self {
            stream,
            read: read.map(gate(Direction::Read)),
            write: write.map(gate(Direction::Write)),
        }
    }

    /// The stream without the limit.
    pub(super) fn inner(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn inner_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = &self.stream;
        match &self.read {
            Some(gate) => gate.pass(buffer.len(), |most| stream.read(&mut buffer[..most])),
            None => stream.read(buffer),
        }
    }

    pub(super) fn write(&self, data: &[u8]) -> io::Result<usize> {
        let mut stream = &self.stream;
        match &self.write {
            Some(gate) => gate.pass(data.len(), |most| stream.write(&data[..most])),
            None => stream.write(data),
        }
    }

    pub(super) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.write {
            // One slice at a time: a throttled stream need not be fast.
            Some(_) => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                self.write(first.map_or(&[], |slice| slice))
            }
            None => (&self.stream).write_vectored(slices),
        }
    }
}

impl fmt::Debug for ThrottledStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottledStream")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    /// PO-12.
    #[test]
    fn a_bucket_fills_by_the_rate_at_its_extremes() {
        for (rate, seconds, want) in [
            (1, 0, 1),
            (1, 1, 1),
            (1, u64::MAX / 4, 1),
            (1000, 0, 250),
            (u64::MAX, 0, u64::MAX / 4),
            (u64::MAX, 1_000_000, u64::MAX / 4),
        ] {
            let bucket = Bucket::new(rate);
            let clock = Clock::new();
            bucket.fill(clock.now());
            bucket.available.set(
                bucket
                    .available
                    .get()
                    .min(if seconds == 0 { want } else { 0 }),
            );
            let now = clock.now().checked_add(Duration::from_secs(seconds));
            bucket.fill(now.unwrap_or_else(|| clock.now() + Duration::from_secs(1 << 30)));
            assert_eq!(
                bucket.available.get(),
                want,
                "{rate} a second for {seconds} s"
            );
        }
    }

    #[test]
    fn no_part_of_a_byte_is_lost() {
        let bucket = Bucket::new(100);
        let clock = Clock::new();
        bucket.fill(clock.now());
        bucket.available.set(0);
        for _ in 0..30 {
            clock.advance(Duration::from_millis(7)); // 0.7 bytes
            bucket.fill(clock.now());
        }
        assert_eq!(bucket.available.get(), 21);
    }
}
