//! Whatever happens to what is measured, it is recorded, once.
//!
//! Random chains are built on both sides: with the library, and with a model of a few dozen lines
//! that knows neither links nor resolvers. Both are then fired, failed, cancelled, abandoned and
//! timed out in the same random order, and after every step the metrics are what the model says.
//!
//! A failure prints its seed: put that in the place of the range in
//! `every_start_has_one_ending_whatever_happens` to run it alone.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge};
use prometheus_deferred::{
    AbandonedError, CancelledError, Clock, Deferred, Failure, PanicError, Resolver, TimeoutError,
    count_exceptions, count_exceptions_of, maybe_deferred, on_unhandled, time, track_inprogress,
};

const SEQUENCES: u64 = 100_000;

/// Law 1, B-01.
#[test]
fn every_start_has_one_ending_whatever_happens() {
    on_unhandled(|_| {});
    let mut observations = 0;
    let mut failures_of = [0; 5];
    for seed in 0..SEQUENCES {
        let story = Story::random(&mut Random(seed));
        match catch_unwind(AssertUnwindSafe(|| story.clone().play())) {
            Ok(book) => {
                observations += book.observations;
                for (sum, failures) in failures_of.iter_mut().zip(book.failures_of) {
                    *sum += failures;
                }
            }
            Err(panic) => {
                eprintln!("seed {seed}: {story:#?}");
                resume_unwind(panic);
            }
        }
    }
    // The sequences are good for something.
    assert!(observations > SEQUENCES / 4, "{observations}");
    let rarest = failures_of.into_iter().min().unwrap();
    assert!(rarest > SEQUENCES / 1000, "{failures_of:?}");
}

/// What happens, and to what.
#[derive(Debug, Clone)]
struct Story {
    plan: Plan,
    events: Vec<Event>,
}

/// A chain: where its first result comes from, and what is added to it.
#[derive(Debug, Clone)]
struct Plan {
    source: Source,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Source {
    Fired(Ended),
    /// The resolver with this number fires it.
    Pending(usize, Canceller),
    /// A function with measures around it.
    Function(Vec<Measure>, Body),
}

#[derive(Debug, Clone)]
enum Body {
    Returns(Ended),
    Panics,
    ReturnsDeferred(Box<Plan>),
}

#[derive(Debug, Clone, Copy)]
enum Canceller {
    None,
    Idle,
    Fires(Ended),
}

#[derive(Debug, Clone)]
enum Step {
    Measure(Measure),
    Callback(Then),
    Errback(Then),
    Both(Then),
    /// So many seconds; the model notes the number of its timer once there is one.
    Timeout(u64, Option<usize>),
}

/// What a callback does.
#[derive(Debug, Clone)]
enum Then {
    Return(Ended),
    Panic,
    Wait(Box<Plan>),
}

#[derive(Debug, Clone, Copy)]
enum Measure {
    Time,
    Track,
    Count,
    CountOf(Kind),
}

type Ended = Result<(), Kind>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Refused,
    Cancelled,
    Abandoned,
    TimedOut,
    Panicked,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Fire(usize, Ended),
    DropResolver(usize),
    Cancel,
    DropTail,
    Advance(u64),
}

impl Story {
    /// Lets both sides live through it, and compares.
    fn play(self) -> Book {
        let world = World::new();
        let mut book = Book::default();

        let mut tail = Some(world.build(self.plan.clone()));
        let canceller = tail.as_ref().map(Deferred::canceller).unwrap();
        let mut chain = Chain::start(self.plan, &mut book);
        world.compare(&book);

        for event in self.events {
            match event {
                Event::Fire(number, ended) => {
                    if let Some(resolver) = world.take(number) {
                        let _ = resolver.fire(ended.map_err(Kind::failure));
                    }
                    book.settle(number, ended, &mut chain);
                }
                Event::DropResolver(number) => {
                    drop(world.take(number));
                    book.settle(number, Err(Kind::Abandoned), &mut chain);
                }
                Event::Cancel => {
                    canceller.cancel();
                    chain.cancel(&mut book);
                }
                Event::DropTail => drop(tail.take()),
                Event::Advance(seconds) => {
                    world.clock.advance(Duration::from_secs(seconds));
                    book.advance(seconds, &mut chain);
                }
            }
            world.compare(&book);
        }

        // All is over when no resolver is left. Dropping one may let a callback make another.
        while let Some(number) = world.first_resolver() {
            drop(world.take(number));
            book.settle(number, Err(Kind::Abandoned), &mut chain);
            world.compare(&book);
        }
        assert_eq!(world.running.get(), 0, "in progress");
        assert_eq!(world.seconds.get_sample_count(), book.timers_started);
        if let Some(tail) = tail {
            let ended = tail.result().map_err(|failure| Kind::of(&failure));
            assert_eq!(chain.state.ended(), Some(ended));
        }
        book
    }
}

// With the library.

/// The metrics, and what fires.
struct World {
    clock: Clock,
    resolvers: RefCell<Vec<Option<Resolver<()>>>>,
    seconds: Histogram,
    running: IntGauge,
    failures: IntCounter,
    failures_of: [IntCounter; 5],
}

impl World {
    fn new() -> Rc<Self> {
        let counter = || IntCounter::new("failures_total", "f").expect("a good name");
        let seconds = HistogramOpts::new("seconds", "s").buckets(vec![1.0]);
        Rc::new(Self {
            clock: Clock::new(),
            resolvers: RefCell::default(),
            seconds: Histogram::with_opts(seconds).expect("a good name"),
            running: IntGauge::new("running", "r").expect("a good name"),
            failures: counter(),
            failures_of: std::array::from_fn(|_| counter()),
        })
    }

    fn build(self: &Rc<Self>, plan: Plan) -> Deferred<()> {
        let source = match plan.source {
            Source::Fired(ended) => Deferred::from_result(ended.map_err(Kind::failure)),
            Source::Pending(number, canceller) => self.pending(number, canceller),
            Source::Function(measures, Body::Returns(ended)) => {
                let function = move || ended.map_err(Kind::failure);
                maybe_deferred(|| self.call(&measures, Box::new(function)))
            }
            Source::Function(measures, Body::Panics) => {
                let function = || -> Result<(), Failure> { silent_panic() };
                maybe_deferred(|| self.call(&measures, Box::new(function)))
            }
            Source::Function(measures, Body::ReturnsDeferred(plan)) => {
                self.call(&measures, Box::new(|| self.build(*plan)))
            }
        };
        let mut tail = source;
        for step in plan.steps {
            let world = self.clone();
            tail = match step {
                Step::Measure(measure) => self.measure(measure, tail),
                Step::Callback(then) => tail.add_callback(move |()| world.act(then)),
                Step::Errback(then) => tail.add_errback(move |_| world.act(then)),
                Step::Both(then) => tail.add_both(move |_| world.act(then)),
                Step::Timeout(seconds, _) => {
                    tail.add_timeout(Duration::from_secs(seconds), &self.clock)
                }
            };
        }
        tail
    }

    fn pending(&self, number: usize, canceller: Canceller) -> Deferred<()> {
        let (deferred, resolver) = match canceller {
            Canceller::None => Deferred::pending(),
            Canceller::Idle => Deferred::with_canceller(drop),
            Canceller::Fires(ended) => Deferred::with_canceller(move |resolver| {
                let _ = resolver.fire(ended.map_err(Kind::failure));
            }),
        };
        let mut resolvers = self.resolvers.borrow_mut();
        if resolvers.len() <= number {
            resolvers.resize_with(number + 1, || None);
        }
        resolvers[number] = Some(resolver);
        deferred
    }

    fn act(self: &Rc<Self>, then: Then) -> Deferred<()> {
        match then {
            Then::Return(ended) => Deferred::from_result(ended.map_err(Kind::failure)),
            Then::Panic => silent_panic(),
            Then::Wait(plan) => self.build(*plan),
        }
    }

    /// Calls a function with all the measures around it, the first outermost.
    fn call<'a, R>(&'a self, measures: &[Measure], function: Box<dyn FnOnce() -> R + 'a>) -> R
    where
        R: prometheus_deferred::instrument::Ending + 'a,
    {
        let measured = measures.iter().rfold(function, |inner, measure| {
            let measure = *measure;
            Box::new(move || self.measure(measure, inner))
        });
        measured()
    }

    fn measure<X>(&self, measure: Measure, measured: X) -> X::Output
    where
        X: prometheus_deferred::instrument::Measured,
    {
        let of = |kind: Kind| &self.failures_of[kind as usize];
        match measure {
            Measure::Time => time(&self.seconds, measured),
            Measure::Track => track_inprogress(&self.running, measured),
            Measure::Count => count_exceptions(&self.failures, measured),
            Measure::CountOf(kind) => match kind {
                Kind::Refused => count_exceptions_of::<Refused, _>(of(kind), measured),
                Kind::Cancelled => count_exceptions_of::<CancelledError, _>(of(kind), measured),
                Kind::Abandoned => count_exceptions_of::<AbandonedError, _>(of(kind), measured),
                Kind::TimedOut => count_exceptions_of::<TimeoutError, _>(of(kind), measured),
                Kind::Panicked => count_exceptions_of::<PanicError, _>(of(kind), measured),
            },
        }
    }

    fn take(&self, number: usize) -> Option<Resolver<()>> {
        self.resolvers.borrow_mut().get_mut(number)?.take()
    }

    fn first_resolver(&self) -> Option<usize> {
        self.resolvers.borrow().iter().position(Option::is_some)
    }

    fn compare(&self, book: &Book) {
        assert_eq!(self.running.get(), book.running, "in progress");
        assert_eq!(self.seconds.get_sample_count(), book.observations);
        assert_eq!(self.failures.get(), book.failures, "failures");
        let of_kind = self.failures_of.each_ref().map(IntCounter::get);
        assert_eq!(of_kind, book.failures_of, "failures of each kind");
    }
}

/// Unwinds like any panic, and prints nothing.
fn silent_panic<T>() -> T {
    let text: Box<dyn Any + Send> = Box::new("as planned");
    resume_unwind(text)
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl Kind {
    /// The error for a failure of this kind that is made by hand.
    fn failure(self) -> Failure {
        assert_eq!(self, Self::Refused, "the others come from the library");
        Refused.into()
    }

    fn of(failure: &Failure) -> Self {
        if failure.is::<Refused>() {
            Self::Refused
        } else if failure.is::<CancelledError>() {
            Self::Cancelled
        } else if failure.is::<AbandonedError>() {
            Self::Abandoned
        } else if failure.is::<TimeoutError>() {
            Self::TimedOut
        } else if failure.is::<PanicError>() {
            Self::Panicked
        } else {
            panic!("nothing here fails with {failure:?}")
        }
    }
}

// And without it.

/// What the metrics should say, and what is still to happen.
#[derive(Default)]
struct Book {
    timers_started: u64,
    observations: u64,
    running: i64,
    failures: u64,
    failures_of: [u64; 5],
    /// The resolvers that are there, by number.
    has_resolver: Vec<bool>,
    now: u64,
    /// The deadlines of the timeouts, by number, while they wait.
    deadlines: Vec<Option<u64>>,
    /// Whether a timeout was what cancelled.
    is_up: Vec<bool>,
}

impl Book {
    fn start(&mut self, measure: Measure) {
        match measure {
            Measure::Time => self.timers_started += 1,
            Measure::Track => self.running += 1,
            Measure::Count | Measure::CountOf(_) => {}
        }
    }

    fn end(&mut self, measure: Measure, ended: Ended) {
        match measure {
            Measure::Time => self.observations += 1,
            Measure::Track => self.running -= 1,
            Measure::Count => self.failures += u64::from(ended.is_err()),
            Measure::CountOf(kind) => {
                self.failures_of[kind as usize] += u64::from(ended == Err(kind));
            }
        }
    }

    /// The resolver with this number is used up.
    fn settle(&mut self, number: usize, ended: Ended, chain: &mut Chain) {
        if let Some(has_resolver) = self.has_resolver.get_mut(number)
            && std::mem::take(has_resolver)
        {
            chain.settle(number, ended, self);
        }
    }

    fn advance(&mut self, seconds: u64, chain: &mut Chain) {
        self.now += seconds;
        loop {
            let due = (0..self.deadlines.len())
                .filter_map(|timer| Some((self.deadlines[timer]?, timer)))
                .filter(|(deadline, _)| *deadline <= self.now)
                .min();
            let Some((_, timer)) = due else {
                return;
            };
            self.deadlines[timer] = None;
            self.is_up[timer] = true;
            chain.time_out(timer, self);
        }
    }
}

/// A chain: where it stands, and the steps ahead of it.
struct Chain {
    state: State,
    steps: VecDeque<Step>,
}

enum State {
    Waits(usize, Canceller),
    WaitsOn(Box<Chain>),
    Over(Ended),
}

impl State {
    fn ended(&self) -> Option<Ended> {
        match self {
            Self::Over(ended) => Some(*ended),
            _ => None,
        }
    }
}

impl Chain {
    fn start(plan: Plan, book: &mut Book) -> Self {
        let mut steps = VecDeque::from(plan.steps);
        let mut source = plan.source;
        // The measures of a function are steps like any others, right after what it gives.
        while let Source::Function(measures, body) = source {
            for measure in measures {
                steps.push_front(Step::Measure(measure));
            }
            source = match body {
                Body::Returns(ended) => Source::Fired(ended),
                Body::Panics => Source::Fired(Err(Kind::Panicked)),
                Body::ReturnsDeferred(inner) => {
                    for step in inner.steps.into_iter().rev() {
                        steps.push_front(step);
                    }
                    inner.source
                }
            };
        }
        for step in &steps {
            if let Step::Measure(measure) = step {
                book.start(*measure);
            }
        }
        let state = match source {
            Source::Pending(number, canceller) => {
                let len = book.has_resolver.len().max(number + 1);
                book.has_resolver.resize(len, false);
                book.has_resolver[number] = true;
                State::Waits(number, canceller)
            }
            Source::Fired(ended) => State::Over(ended),
            Source::Function(..) => unreachable!("unfolded above"),
        };
        let mut chain = Self { state, steps };
        chain.go_on(book);
        // Those that were passed by now have set no timer.
        for step in &mut chain.steps {
            if let Step::Timeout(seconds, timer) = step {
                *timer = Some(book.deadlines.len());
                book.deadlines.push(Some(book.now + *seconds));
                book.is_up.push(false);
            }
        }
        chain
    }

    /// Takes the steps that can be taken.
    fn go_on(&mut self, book: &mut Book) {
        loop {
            if let State::WaitsOn(inner) = &self.state
                && let Some(ended) = inner.state.ended()
            {
                self.state = State::Over(ended);
            }
            let Some(ended) = self.state.ended() else {
                return;
            };
            let Some(step) = self.steps.pop_front() else {
                return;
            };
            let then = match step {
                Step::Measure(measure) => {
                    book.end(measure, ended);
                    continue;
                }
                Step::Timeout(_, timer) => {
                    if let Some(timer) = timer {
                        book.deadlines[timer] = None;
                        if book.is_up[timer] && ended == Err(Kind::Cancelled) {
                            self.state = State::Over(Err(Kind::TimedOut));
                        }
                    }
                    continue;
                }
                Step::Callback(_) if ended.is_err() => continue,
                Step::Errback(_) if ended.is_ok() => continue,
                Step::Callback(then) | Step::Errback(then) | Step::Both(then) => then,
            };
            self.state = match then {
                Then::Return(ended) => State::Over(ended),
                Then::Panic => State::Over(Err(Kind::Panicked)),
                Then::Wait(plan) => State::WaitsOn(Box::new(Self::start(*plan, book))),
            };
        }
    }

    fn settle(&mut self, number: usize, ended: Ended, book: &mut Book) {
        match &mut self.state {
            State::Waits(mine, _) if *mine == number => self.state = State::Over(ended),
            State::WaitsOn(inner) => inner.settle(number, ended, book),
            _ => return,
        }
        self.go_on(book);
    }

    fn cancel(&mut self, book: &mut Book) {
        match &mut self.state {
            State::Waits(_, Canceller::Fires(ended)) => self.state = State::Over(*ended),
            State::Waits(..) => self.state = State::Over(Err(Kind::Cancelled)),
            State::WaitsOn(inner) => inner.cancel(book),
            State::Over(_) => return,
        }
        self.go_on(book);
    }

    /// Cancels the chain with this timeout ahead of it.
    fn time_out(&mut self, timer: usize, book: &mut Book) {
        let is_it = |step: &Step| matches!(step, Step::Timeout(_, Some(it)) if *it == timer);
        if self.steps.iter().any(is_it) {
            self.cancel(book);
        } else if let State::WaitsOn(inner) = &mut self.state {
            inner.time_out(timer, book);
            self.go_on(book);
        }
    }
}

// At random.

/// SplitMix64: a seed, a sequence, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

impl Story {
    fn random(random: &mut Random) -> Self {
        let resolvers = Cell::new(0);
        let plan = Plan::random(random, 3, &resolvers);
        let events = (0..random.below(7))
            .map(|_| match random.below(9) {
                0..=2 => Event::Fire(random.below(resolvers.get() + 1), ended(random)),
                3 => Event::DropResolver(random.below(resolvers.get() + 1)),
                4..=5 => Event::Cancel,
                6..=7 => Event::Advance(1 + random.next() % 3),
                _ => Event::DropTail,
            })
            .collect();
        Self { plan, events }
    }
}

impl Plan {
    /// A chain in which chains are nested up to `depth` levels.
    fn random(random: &mut Random, depth: usize, resolvers: &Cell<usize>) -> Self {
        let source = match random.below(8) {
            0 => Source::Fired(ended(random)),
            1..=4 => Source::pending(random, resolvers),
            5 => Source::Function(measures(random), Body::Returns(ended(random))),
            6 => Source::Function(measures(random), Body::Panics),
            _ if depth == 0 => Source::pending(random, resolvers),
            _ => {
                let plan = Self::random(random, depth - 1, resolvers);
                Source::Function(measures(random), Body::ReturnsDeferred(Box::new(plan)))
            }
        };
        let steps = (0..random.below(6))
            .map(|_| match random.below(10) {
                0..=3 => Step::Measure(measure(random)),
                4..=5 => Step::Callback(Then::random(random, depth, resolvers)),
                6 => Step::Errback(Then::random(random, depth, resolvers)),
                7 => Step::Both(Then::random(random, depth, resolvers)),
                _ => Step::Timeout(1 + random.next() % 3, None),
            })
            .collect();
        Self { source, steps }
    }
}

impl Source {
    fn pending(random: &mut Random, resolvers: &Cell<usize>) -> Self {
        let number = resolvers.replace(resolvers.get() + 1);
        let canceller = match random.below(4) {
            0 => Canceller::Idle,
            1 => Canceller::Fires(ended(random)),
            _ => Canceller::None,
        };
        Self::Pending(number, canceller)
    }
}

impl Then {
    fn random(random: &mut Random, depth: usize, resolvers: &Cell<usize>) -> Self {
        match random.below(5) {
            0 => Self::Panic,
            1..=2 if depth > 0 => Self::Wait(Box::new(Plan::random(random, depth - 1, resolvers))),
            _ => Self::Return(ended(random)),
        }
    }
}

fn ended(random: &mut Random) -> Ended {
    match random.below(3) {
        0 => Err(Kind::Refused),
        _ => Ok(()),
    }
}

fn measures(random: &mut Random) -> Vec<Measure> {
    (0..1 + random.below(3)).map(|_| measure(random)).collect()
}

fn measure(random: &mut Random) -> Measure {
    let kind = match random.below(5) {
        0 => Kind::Refused,
        1 => Kind::Cancelled,
        2 => Kind::Abandoned,
        3 => Kind::TimedOut,
        _ => Kind::Panicked,
    };
    match random.below(4) {
        0 => Measure::Time,
        1 => Measure::Track,
        2 => Measure::Count,
        _ => Measure::CountOf(kind),
    }
}
