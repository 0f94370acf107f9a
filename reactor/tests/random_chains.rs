//! Random chains, of callbacks and of async blocks within one another, end as a plain recursive
//! function says they should, in whatever order their Deferreds fire, are unpaused and get their
//! callbacks.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use deferred_reactor::deferred::spawn;
use deferred_reactor::{AbandonedError, Deferred, Failure, NoLostFailures, maybe_deferred};
use proptest::prelude::*;

/// A chain: how it begins, and what is added to it.
#[derive(Debug, Clone)]
struct Plan {
    id: u32,
    source: Source,
    pause: Pause,
    /// Its steps are taken by an async block. Not of the outermost.
    is_block: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Pause {
    None,
    /// By somebody who will end it.
    Pauser,
    /// By whoever has the handle, who forgets it, and hands it on. Of the outermost, the first.
    Forgotten,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Succeeded,
    Failed,
    ToSucceed,
    ToFail,
    ToAbandon,
}

#[derive(Debug, Clone)]
enum Step {
    Callback(Act),
    Errback(Act),
    Both(Act),
    Pair(Act, Act),
}

/// What a callback does.
#[derive(Debug, Clone)]
enum Act {
    Return(u32),
    Fail(u32),
    Panic(u32),
    /// Returns a Deferred that is made when the callback runs, or has been made before.
    Wait {
        made_before: bool,
        plan: Box<Plan>,
    },
}

/// How something ended, with the failure in words.
type Ended = Result<u32, String>;

fn in_words(result: Result<u32, Failure>) -> Ended {
    result.map_err(|failure| {
        if failure.is::<AbandonedError>() {
            "abandoned".to_owned()
        } else {
            failure.to_string()
        }
    })
}

/// For each chain, what its callbacks were given, in order.
type Calls = BTreeMap<u32, Vec<Ended>>;

/// What should happen.
#[derive(Debug, Default, PartialEq)]
struct Oracle {
    calls: Calls,
    lost: usize,
}

impl Oracle {
    fn run(&mut self, plan: &Plan) -> Ended {
        let mut ended = match plan.source {
            Source::Succeeded | Source::ToSucceed => Ok(plan.id),
            Source::Failed | Source::ToFail => Err(format!("error {}", plan.id)),
            Source::ToAbandon => Err("abandoned".to_owned()),
        };
        for step in &plan.steps {
            let (act, skipped) = match (step, ended.is_ok()) {
                (Step::Both(act), _) => (Some(act), None),
                (Step::Callback(act), true) | (Step::Errback(act), false) => (Some(act), None),
                (Step::Callback(act), false) | (Step::Errback(act), true) => (None, Some(act)),
                (Step::Pair(callback, errback), true) => (Some(callback), Some(errback)),
                (Step::Pair(callback, errback), false) => (Some(errback), Some(callback)),
            };
            if let Some(Act::Wait {
                made_before: true,
                plan,
            }) = skipped
            {
                self.lost += usize::from(self.run(plan).is_err());
            }
            if let Some(act) = act {
                self.calls.entry(plan.id).or_default().push(ended);
                ended = match act {
                    Act::Return(n) => Ok(*n),
                    Act::Fail(n) => Err(format!("error {n}")),
                    Act::Panic(n) => Err(format!("panicked: error {n}")),
                    Act::Wait { plan, .. } => self.run(plan),
                };
            }
        }
        ended
    }
}

type Action = Box<dyn FnOnce()>;

/// What does happen.
#[derive(Clone, Default)]
struct World {
    calls: Rc<RefCell<Calls>>,
    /// What somebody has yet to do: fire, drop a resolver, unpause.
    open: Rc<RefCell<Vec<Action>>>,
    /// Whether somebody also cancels each chain at some time.
    cancels: bool,
}

impl World {
    fn later(&self, action: impl FnOnce() + 'static) {
        self.open.borrow_mut().push(Box::new(action));
    }

    fn begin(&self, plan: &Plan) -> Deferred<u32> {
        let id = plan.id;
        let failure = move || Failure::message(format!("error {id}"));
        let mut deferred = match plan.source {
            Source::Succeeded => Deferred::succeed(id),
            Source::Failed => Deferred::fail(failure()),
            to_come => {
                let (deferred, resolver) = Deferred::pending();
                self.later(move || match to_come {
                    Source::ToSucceed => resolver.callback(id).expect("it is fired once"),
                    Source::ToFail => resolver.errback(failure()).expect("it is fired once"),
                    _ => drop(resolver),
                });
                // What is abandoned without a callback is reported only to those who hold it.
                deferred.map(|n| n)
            }
        };
        if self.cancels {
            let canceller = deferred.canceller();
            self.later(move || canceller.cancel());
        }
        match plan.pause {
            Pause::None => {}
            Pause::Pauser => {
                let pauser = deferred.pauser();
                pauser.pause();
                self.later(move || pauser.unpause());
            }
            Pause::Forgotten => deferred.pause(),
        }
        deferred
    }

    fn build(&self, plan: &Plan) -> Deferred<u32> {
        let chain = self.begin(plan);
        if plan.is_block {
            return self.build_block(chain, plan);
        }
        plan.steps
            .iter()
            .fold(chain, |chain, step| self.add(chain, plan.id, step))
    }

    /// The same, in straight-line code.
    fn build_block(&self, chain: Deferred<u32>, plan: &Plan) -> Deferred<u32> {
        type Taken = Box<dyn FnOnce(Result<u32, Failure>) -> Deferred<u32>>;
        let prepare = |act: &Act| -> Option<Taken> { Some(Box::new(self.prepare(plan.id, act))) };
        let steps: Vec<_> = (plan.steps.iter())
            .map(|step| match step {
                Step::Callback(act) => (prepare(act), None),
                Step::Errback(act) => (None, prepare(act)),
                Step::Pair(callback, errback) => (prepare(callback), prepare(errback)),
                Step::Both(_) => (None, None),
            })
            .zip(plan.steps.iter().map(|step| match step {
                Step::Both(act) => prepare(act),
                _ => None,
            }))
            .collect();
        let block = spawn(async move {
            let mut ended = chain.await;
            for ((callback, errback), both) in steps {
                let act = match ended {
                    _ if both.is_some() => both,
                    Ok(_) => callback,
                    Err(_) => errback,
                };
                ended = match act {
                    Some(act) => maybe_deferred(|| act(ended)).await,
                    None => ended,
                };
            }
            ended
        });
        if self.cancels {
            let canceller = block.canceller();
            self.later(move || canceller.cancel());
        }
        block
    }

    fn add(&self, chain: Deferred<u32>, id: u32, step: &Step) -> Deferred<u32> {
        match step {
            Step::Callback(act) => {
                let act = self.prepare(id, act);
                chain.add_callback(move |n| act(Ok(n)))
            }
            Step::Errback(act) => {
                let act = self.prepare(id, act);
                chain.add_errback(move |failure| act(Err(failure)))
            }
            Step::Both(act) => chain.add_both(self.prepare(id, act)),
            Step::Pair(callback, errback) => {
                let (callback, errback) = (self.prepare(id, callback), self.prepare(id, errback));
                chain.add_callbacks(
                    move |n| callback(Ok(n)),
                    move |failure| errback(Err(failure)),
                )
            }
        }
    }

    fn prepare(
        &self,
        id: u32,
        act: &Act,
    ) -> impl FnOnce(Result<u32, Failure>) -> Deferred<u32> + use<> {
        let (world, act) = (self.clone(), act.clone());
        let made = match &act {
            Act::Wait {
                made_before: true,
                plan,
            } => Some(self.build(plan)),
            _ => None,
        };
        move |result| {
            let mut calls = world.calls.borrow_mut();
            calls.entry(id).or_default().push(in_words(result));
            drop(calls);
            match act {
                Act::Return(n) => Deferred::succeed(n),
                Act::Fail(n) => Deferred::fail(Failure::message(format!("error {n}"))),
                Act::Panic(n) => panic!("error {n}"),
                Act::Wait { plan, .. } => made.unwrap_or_else(|| world.build(&plan)),
            }
        }
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let source = prop_oneof![
        Just(Source::Succeeded),
        Just(Source::Failed),
        Just(Source::ToSucceed),
        Just(Source::ToFail),
        Just(Source::ToAbandon),
    ];
    let plan = move |act: BoxedStrategy<Act>| {
        let step = prop_oneof![
            act.clone().prop_map(Step::Callback),
            act.clone().prop_map(Step::Errback),
            act.clone().prop_map(Step::Both),
            (act.clone(), act).prop_map(|(callback, errback)| Step::Pair(callback, errback)),
        ];
        let steps = prop::collection::vec(step, 0..5);
        let pause = prop_oneof![
            8 => Just(Pause::None),
            2 => Just(Pause::Pauser),
            1 => Just(Pause::Forgotten),
        ];
        let plan = (source.clone(), pause, prop::bool::weighted(0.4), steps);
        plan.prop_map(|(source, pause, is_block, steps)| Plan {
            id: 0,
            source,
            pause,
            is_block,
            steps,
        })
    };
    let simple = prop_oneof![
        Just(Act::Return(0)),
        Just(Act::Fail(0)),
        Just(Act::Panic(0))
    ];
    let act = simple.clone().boxed().prop_recursive(4, 40, 4, {
        let plan = plan.clone();
        move |act| {
            let wait = (any::<bool>(), plan(act)).prop_map(|(made_before, plan)| Act::Wait {
                made_before,
                plan: Box::new(plan),
            });
            prop_oneof![1 => simple.clone(), 2 => wait]
        }
    });
    plan(act.boxed()).prop_map(|mut plan| {
        if plan.pause == Pause::Forgotten {
            plan.pause = Pause::Pauser; // its handle is held to the end
        }
        number(&mut plan, &mut 0);
        plan
    })
}

/// Gives each chain and each ending a number of its own.
fn number(plan: &mut Plan, last: &mut u32) {
    fn number_act(act: &mut Act, last: &mut u32) {
        *last += 1;
        match act {
            Act::Return(n) | Act::Fail(n) | Act::Panic(n) => *n = *last,
            Act::Wait { plan, .. } => number(plan, last),
        }
    }
    *last += 1;
    plan.id = *last;
    for step in &mut plan.steps {
        match step {
            Step::Callback(act) | Step::Errback(act) | Step::Both(act) => number_act(act, last),
            Step::Pair(callback, errback) => {
                number_act(callback, last);
                number_act(errback, last);
            }
        }
    }
}

/// Carries out `plan` in the order that `choices` makes up.
fn carry_out(plan: &Plan, choices: &[usize], cancels: bool) -> (Ended, Oracle) {
    let guard = NoLostFailures::new();
    let world = World {
        cancels,
        ..World::default()
    };
    let next_choice = Cell::new(0);
    let choose = |among: usize| {
        next_choice.set(next_choice.get() + 1);
        choices[next_choice.get() % choices.len()] % among
    };
    let mut chain = world.begin(plan);
    let mut steps = plan.steps.iter();
    loop {
        let waiting = world.open.borrow().len();
        if (choose(2) == 0 || waiting == 0)
            && let Some(step) = steps.next()
        {
            chain = world.add(chain, plan.id, step);
            continue;
        }
        if waiting == 0 {
            break;
        }
        let action = world.open.borrow_mut().swap_remove(choose(waiting));
        action();
    }
    let ended = in_words(chain.try_result().expect("nothing is left to wait for"));
    assert_eq!(
        Rc::strong_count(&world.calls),
        1,
        "a callback is still there"
    );
    let happened = Oracle {
        calls: world.calls.take(),
        lost: guard.flush().len(),
    };
    (ended, happened)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_ends_as_its_plan_says(
        plan in plans(),
        choices in prop::collection::vec(0_usize..1000, 40),
    ) {
        let mut oracle = Oracle::default();
        let ended = oracle.run(&plan);
        let (really_ended, happened) = carry_out(&plan, &choices, false);
        prop_assert_eq!(really_ended, ended);
        prop_assert_eq!(happened, oracle);
    }

    /// Where cancels come in between, the plan does not say how it ends, only that it does.
    #[test]
    fn a_chain_that_is_cancelled_anywhere_ends_and_leaves_nothing_behind(
        plan in plans(),
        choices in prop::collection::vec(0_usize..1000, 40),
    ) {
        drop(carry_out(&plan, &choices, true));
    }
}
