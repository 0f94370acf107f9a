//! Several Deferreds as one: lists, their flags, and who owns a failure.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::deferred::{spawn, unhandled_failures};
use deferred_reactor::{
    CancelledError, Canceller, Clock, Deferred, Failure, FailureGroup, FirstError, NoLostFailures,
    Resolver, TimeoutError, deferred_list, gather_results, race,
};
use support::{Bomb, Calls, Oops, in_small_stack, keep_log, logged, tracked};

type Inputs = (Vec<Deferred<i32>>, Vec<Resolver<i32>>);

fn pending(count: usize) -> Inputs {
    (0..count).map(|_| Deferred::pending()).unzip()
}

/// Results with the failures in words.
fn in_words(results: Vec<Result<i32, Failure>>) -> Vec<Result<i32, String>> {
    results
        .into_iter()
        .map(|result| result.map_err(|failure| failure.to_string()))
        .collect()
}

/// Deferreds whose cancellers fire them with 10, 20, ... and the record of those that were called.
fn with_cancellers(count: i32, calls: &Calls) -> Inputs {
    (1..=count)
        .map(|n| {
            let calls = calls.clone();
            Deferred::with_canceller(move |resolver| {
                calls.push(format!("cancel {n}"));
                resolver.callback(n * 10).unwrap();
            })
        })
        .unzip()
}

/// D-45.
#[test]
fn a_list_has_one_entry_for_each_input_in_their_order() {
    let _guard = NoLostFailures::new();
    let (inputs, mut resolvers) = pending(3);
    let list = deferred_list(inputs).consume_errors().fire_on_all();
    resolvers.pop().unwrap().callback(3).unwrap();
    resolvers.remove(0).callback(1).unwrap();
    assert!(!list.is_fired());
    resolvers.pop().unwrap().errback(Oops("two")).unwrap();
    let results = list.result().unwrap();
    assert_eq!(results[1].as_ref().unwrap_err().check(), Some(&Oops("two")));
    assert_eq!(in_words(results), [Ok(1), Err("two".to_owned()), Ok(3)]);
}

/// D-45: the same without the flag, where the entries own the failures.
#[test]
fn the_entries_of_a_list_say_how_each_input_ended() {
    let _guard = NoLostFailures::new();
    let (inputs, resolvers) = pending(3);
    let list = deferred_list(inputs).fire_on_all();
    for (n, resolver) in resolvers.into_iter().enumerate().rev() {
        match n {
            1 => resolver.errback(Oops("one")).unwrap(),
            _ => resolver.callback(n as i32).unwrap(),
        }
    }
    let entries = list.result().unwrap();
    assert_eq!(format!("{:?}", entries[0]), "ListEntry(Ok(0))");
    assert!(entries[1].as_result().is_err());
    let results = entries.into_iter().map(|entry| entry.into_result());
    let want = [Ok(0), Err("one".to_owned()), Ok(2)];
    assert_eq!(in_words(results.collect()), want);
}

/// D-46.
#[test]
fn a_list_of_nothing_has_fired() {
    let none = || Vec::<Deferred<i32>>::new();
    assert!(
        deferred_list(none())
            .fire_on_all()
            .result()
            .unwrap()
            .is_empty()
    );
    let consuming = deferred_list(none()).consume_errors().fire_on_all();
    assert!(consuming.result().unwrap().is_empty());
    let errback = deferred_list(none()).fire_on_one_errback();
    assert!(errback.result().unwrap().is_empty());
    assert!(gather_results(none()).result().unwrap().is_empty());
}

/// D-46: it does not even fail when it is let go of, but it can be cancelled.
#[test]
fn a_list_of_nothing_that_waits_for_one_never_fires() {
    let _guard = NoLostFailures::new();
    type One = Deferred<(i32, usize)>;
    let makes: [fn() -> One; 2] = [
        || deferred_list(Vec::new()).fire_on_one_callback(),
        || deferred_list(Vec::new()).consume_errors().fire_on_one(),
    ];
    for make in makes {
        let calls = Calls::new();
        let (witness, is_dropped) = tracked();
        let noted = calls.note("both", move |result: Result<_, Failure>| {
            drop(witness);
            result
        });
        let list = make().add_both(noted);
        assert!(!list.is_fired());
        drop(list);
        assert!(calls.take().is_empty());
        assert!(is_dropped.get(), "nothing keeps it");

        let list = make();
        list.cancel();
        assert!(list.result().unwrap_err().is::<CancelledError>());
    }
}

/// D-47.
#[test]
fn inputs_that_have_fired_count_at_once() {
    let _guard = NoLostFailures::new();
    let (late, resolver) = Deferred::pending();
    let inputs = [Deferred::succeed(1), Deferred::fail(Oops("no")), late];
    let list = deferred_list(inputs).consume_errors().fire_on_all();
    assert!(!list.is_fired());
    resolver.callback(3).unwrap();
    let want = [Ok(1), Err("no".to_owned()), Ok(3)];
    assert_eq!(in_words(list.result().unwrap()), want);

    let inputs = [Deferred::succeed(1), Deferred::fail(Oops("no"))];
    let list = deferred_list(inputs).consume_errors().fire_on_all();
    assert!(list.is_fired());
}

/// D-48.
#[test]
fn the_first_success_decides_whatever_failed_before_or_happens_later() {
    let _guard = NoLostFailures::new();
    let (inputs, resolvers) = pending(4);
    let calls = Calls::new();
    let list = deferred_list(inputs)
        .consume_errors()
        .fire_on_one_callback()
        .map(calls.note("list", |pair: (i32, usize)| pair));
    let [zero, one, two, three] = <[_; 4]>::try_from(resolvers).unwrap();
    two.errback(Oops("two")).unwrap();
    assert!(calls.take().is_empty());
    one.callback(1).unwrap();
    assert_eq!(calls.take(), ["list((1, 1))"]);
    zero.callback(0).unwrap();
    three.errback(Oops("three")).unwrap();
    assert_eq!(list.result().unwrap(), (1, 1));
}

/// D-48: among inputs that have fired, the first in their order.
#[test]
fn a_success_of_before_decides_during_the_call() {
    let inputs = [
        Deferred::fail(Oops("no")),
        Deferred::succeed(2),
        Deferred::succeed(3),
    ];
    let list = deferred_list(inputs)
        .consume_errors()
        .fire_on_one_callback();
    assert_eq!(list.result().unwrap(), (2, 1));
}

/// D-48: where Twisted fires with a list of failures, in spite of the type.
#[test]
fn waiting_for_one_success_fails_when_there_is_none() {
    let _guard = NoLostFailures::new();
    let (inputs, mut resolvers) = pending(2);
    let list = deferred_list(inputs).fire_on_one_callback();
    resolvers.pop().unwrap().errback(Oops("second")).unwrap();
    resolvers.pop().unwrap().errback(Oops("first")).unwrap();
    let group = list.result().unwrap_err().trap::<FailureGroup>().unwrap();
    let texts: Vec<_> = group.failures.iter().map(Failure::to_string).collect();
    assert_eq!(texts, ["first", "second"]);
}

/// D-49.
#[test]
fn the_first_failure_decides_and_tells_which_it_was() {
    let _guard = NoLostFailures::new();
    for failed_before in [true, false] {
        let (mut inputs, mut resolvers) = pending(2);
        let (third, resolver) = Deferred::pending();
        let mut last = Some(resolver);
        if failed_before {
            last.take().unwrap().errback(Oops("third")).unwrap();
        }
        inputs.push(third);
        let list = deferred_list(inputs).consume_errors().fire_on_one_errback();
        if let Some(resolver) = last {
            resolvers.remove(0).callback(1).unwrap();
            assert!(!list.is_fired());
            resolver.errback(Oops("third")).unwrap();
        }
        let first = list.result().unwrap_err().trap::<FirstError>().unwrap();
        assert_eq!(first.index, 2);
        assert_eq!(first.failure.trap::<Oops>().unwrap(), Oops("third"));
        for resolver in resolvers {
            resolver.errback(Oops("later")).unwrap();
        }
    }
}

/// D-49: where all goes well.
#[test]
fn without_a_failure_the_values_come_in_their_order() {
    let (inputs, resolvers) = pending(3);
    let list = deferred_list(inputs).fire_on_one_errback();
    for (n, resolver) in resolvers.into_iter().enumerate().rev() {
        resolver.callback(n as i32).unwrap();
    }
    assert_eq!(list.result().unwrap(), [0, 1, 2]);
}

/// D-48, D-49: both flags.
#[test]
fn the_first_ending_of_any_kind_can_decide() {
    let _guard = NoLostFailures::new();
    let (inputs, mut resolvers) = pending(2);
    let list = deferred_list(inputs).fire_on_one();
    resolvers.pop().unwrap().errback(Oops("no")).unwrap();
    let first = list.result().unwrap_err().trap::<FirstError>().unwrap();
    assert_eq!(first, FirstError::new(1, Oops("no").into()));
    resolvers.pop().unwrap().callback(1).unwrap();

    let (inputs, mut resolvers) = pending(2);
    let list = deferred_list(inputs).consume_errors().fire_on_one();
    resolvers.pop().unwrap().callback(7).unwrap();
    assert_eq!(list.result().unwrap(), (7, 1));
    resolvers.pop().unwrap().errback(Oops("late")).unwrap();
}

/// D-50: looked at or not, what stays in the list is nobody's.
#[test]
fn a_failure_that_was_only_listed_is_reported_when_it_is_dropped() {
    let guard = NoLostFailures::new();
    let before = unhandled_failures();
    let make = || {
        let inputs = [Deferred::succeed(1), Deferred::fail(Oops("listed"))];
        deferred_list(inputs).fire_on_all()
    };

    let looked_at = make().map(|entries| {
        let result = entries[1].as_result();
        assert!(result.as_ref().unwrap_err().is::<Oops>());
        entries.len()
    });
    assert_eq!(looked_at.result().unwrap(), 2);
    let lost = guard.flush();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].failure.check(), Some(&Oops("listed")));
    assert_eq!(lost[0].made.file(), file!());

    let list = make();
    assert!(guard.flush().is_empty(), "it may yet be taken");
    drop(list);
    assert_eq!(guard.flush().len(), 1);
    assert_eq!(unhandled_failures(), before + 2);
}

/// D-50: the line where the input was made, and the line that made the list.
#[test]
fn the_report_of_a_listed_failure_names_its_lines() {
    let guard = NoLostFailures::new();
    let (input, resolver) = Deferred::<i32>::pending();
    let made = line!() - 1;
    drop(deferred_list([input]).fire_on_all());
    let listed = line!() - 1;
    resolver.errback(Oops("no")).unwrap();
    let lost = guard.flush();
    assert_eq!(
        (lost[0].made.line(), lost[0].dropped.line()),
        (made, listed)
    );
}

/// D-50: nobody can take these any more.
#[test]
fn a_failure_that_is_no_part_of_the_result_is_reported() {
    let guard = NoLostFailures::new();
    let texts = || -> Vec<String> {
        let lost = guard.flush();
        lost.iter().map(|lost| lost.failure.to_string()).collect()
    };

    // Too early: once somebody else has succeeded.
    let (input, resolver) = Deferred::pending();
    let list = deferred_list([Deferred::fail(Oops("early")), input]).fire_on_one_callback();
    assert!(texts().is_empty());
    resolver.callback(1).unwrap();
    assert_eq!(texts(), ["early"]);
    list.result().unwrap();

    // Too late: at once.
    let (input, resolver) = Deferred::pending();
    let list = gather_results([Deferred::<i32>::fail(Oops("first")), input]);
    drop(list.add_errback(|_| Ok(vec![])));
    assert!(texts().is_empty());
    resolver.errback(Oops("late")).unwrap();
    assert_eq!(texts(), ["late"]);

    // What the list fails with is the list's, and is reported once.
    drop(gather_results([Deferred::<i32>::fail(Oops("only"))]));
    assert_eq!(texts(), ["input 0 failed: only"]);
    drop(deferred_list([Deferred::<i32>::fail(Oops("only"))]).fire_on_one_callback());
    assert_eq!(texts(), ["no input succeeded: input 0 failed: only"]);
}

/// D-50.
#[test]
fn a_list_that_consumes_errors_reports_none() {
    let _guard = NoLostFailures::new();
    let fails = || Deferred::<i32>::fail(Oops("no"));
    drop(
        deferred_list([fails(), fails()])
            .consume_errors()
            .fire_on_all(),
    );
    let inputs = [fails(), Deferred::succeed(1), fails()];
    drop(
        deferred_list(inputs)
            .consume_errors()
            .fire_on_one_callback(),
    );
    let handled = deferred_list([fails(), fails()])
        .consume_errors()
        .fire_on_one_errback()
        .add_errback(|_| Ok(vec![]));
    drop(handled);
}

/// D-51.
#[test]
fn cancelling_a_list_cancels_every_input_and_it_fires_by_its_rule() {
    let _guard = NoLostFailures::new();
    let calls = Calls::new();
    let (mut inputs, _resolvers) = with_cancellers(2, &calls);
    let (plain, _plain_resolver) = Deferred::pending();
    inputs.push(plain);
    let list = deferred_list(inputs).fire_on_all();
    list.cancel();
    assert_eq!(calls.take(), ["cancel 1", "cancel 2"]);
    let entries = list.result().unwrap();
    assert_eq!(entries[0].as_result().as_ref().unwrap(), &10);
    assert_eq!(entries[1].as_result().as_ref().unwrap(), &20);
    let failure = entries[2].as_result().as_ref().unwrap_err();
    assert!(failure.is::<CancelledError>());
}

/// D-51: also those that come after the one which decides.
#[test]
fn a_list_that_is_decided_while_it_is_cancelled_cancels_the_rest_all_the_same() {
    let _guard = NoLostFailures::new();
    let calls = Calls::new();
    let (inputs, _resolvers) = with_cancellers(3, &calls);
    let list = deferred_list(inputs).fire_on_one_callback();
    list.cancel();
    assert_eq!(calls.take(), ["cancel 1", "cancel 2", "cancel 3"]);
    assert_eq!(list.result().unwrap(), (10, 0));

    let (plain, _resolver) = Deferred::pending();
    let (mut inputs, _resolvers) = with_cancellers(2, &calls);
    inputs.insert(0, plain);
    let list = deferred_list(inputs).fire_on_one_errback();
    list.cancel();
    assert_eq!(calls.take(), ["cancel 1", "cancel 2"]);
    let first = list.result().unwrap_err().trap::<FirstError>().unwrap();
    assert!(first.index == 0 && first.failure.is::<CancelledError>());
}

/// D-51: it stands for its inputs, and one of them is not done yet.
#[test]
fn a_cancelled_list_waits_for_an_input_that_recovers_in_time() {
    let _guard = NoLostFailures::new();
    let calls = Calls::new();
    let (input, _never) = Deferred::<i32>::pending();
    let (instead, resolver) = Deferred::pending();
    let input = input.add_errback(move |_| instead);
    let list = deferred_list([Deferred::succeed(1), input])
        .fire_on_all()
        .map(calls.note("list", |entries: Vec<_>| entries.len()));
    list.cancel();
    assert!(!list.is_fired());
    resolver.callback(2).unwrap();
    assert_eq!(calls.take(), ["list([ListEntry(Ok(1)), ListEntry(Ok(2))])"]);
    assert_eq!(list.result().unwrap(), 2);

    // The second time, what it waits for now is cancelled.
    let (input, _never) = Deferred::<i32>::pending();
    let (instead, _also_never) = Deferred::pending();
    let list = gather_results([input.add_errback(move |_| instead)]);
    list.cancel();
    assert!(!list.is_fired());
    list.cancel();
    let first = list.result().unwrap_err().trap::<FirstError>().unwrap();
    assert!(first.failure.is::<CancelledError>());
}

/// D-51: through the handle's stand-in, and inside a chain that waits for the list.
#[test]
fn a_list_can_be_cancelled_through_whoever_waits_for_it() {
    let _guard = NoLostFailures::new();
    let (inputs, _resolvers) = pending(2);
    let list = gather_results(inputs);
    let outer = Deferred::succeed(()).add_callback(move |()| list);
    outer.cancel();
    assert!(outer.result().unwrap_err().is::<FirstError>());
}

/// D-51: the limit of a list is the result, and not what cancelling made of its inputs.
#[test]
fn a_list_that_is_too_slow_fails_with_a_timeout() {
    let _guard = NoLostFailures::new();
    let clock = Clock::new();
    let second = Duration::from_secs(1);
    let (inputs, _resolvers) = pending(2);
    let list = gather_results(inputs).add_timeout(second, &clock);
    let (inputs, _more_resolvers) = pending(2);
    let inputs = inputs
        .into_iter()
        .map(|input| input.add_timeout(second, &clock));
    let each = deferred_list(inputs).consume_errors().fire_on_all();
    clock.advance(second);
    assert!(list.result().unwrap_err().is::<TimeoutError>());
    for result in each.result().unwrap() {
        assert!(result.unwrap_err().is::<TimeoutError>());
    }
}

/// D-51: whatever the rule, whatever the inputs do, and also where the list is waited for by another
/// Deferred or an async block.
#[test]
fn no_ending_of_an_input_is_taken_for_the_time_limit() {
    let _guard = NoLostFailures::new();
    let clock = Clock::new();
    let limit = Duration::from_secs(1);
    let inputs = || {
        let (stubborn, resolver) = Deferred::with_canceller(|resolver| {
            let _ = resolver.callback(7);
        });
        let (plain, other) = Deferred::with_canceller(drop);
        ([plain, stubborn], [resolver, other])
    };
    let (all, _one) = inputs();
    let (first_value, _two) = inputs();
    let (first_ending, _three) = inputs();
    let (racing, _four) = inputs();
    let (inner, _five) = inputs();
    let (awaited, _six) = inputs();
    let ended = [
        deferred_list(all).fire_on_all().map(drop),
        deferred_list(first_value).fire_on_one_callback().map(drop),
        deferred_list(first_ending).fire_on_one().map(drop),
        race(racing).map(drop),
        Deferred::succeed(()).add_callback(move |()| gather_results(inner).map(drop)),
        spawn(async move { gather_results(awaited).await.map(drop) }),
    ]
    .map(|list| list.add_timeout(limit, &clock));
    clock.advance(limit);
    for (index, list) in ended.into_iter().enumerate() {
        let failure = list.result().unwrap_err();
        assert!(failure.is::<TimeoutError>(), "{index}: {failure}");
    }
}

/// D-51: who wants what has come in time gets it.
#[test]
fn a_function_for_the_end_of_the_time_sees_what_the_rule_made() {
    let _guard = NoLostFailures::new();
    let clock = Clock::new();
    let limit = Duration::from_secs(1);
    let (slow, _resolver) = Deferred::pending();
    let list = deferred_list([Deferred::succeed(5), slow])
        .consume_errors()
        .fire_on_all()
        .add_timeout_with(limit, &clock, |results, _| results);
    clock.advance(limit);
    let results = list.result().unwrap();
    assert_eq!(results[0].as_ref().unwrap(), &5);
    assert!(results[1].as_ref().unwrap_err().is::<CancelledError>());
}

/// D-52.
#[test]
fn cancelling_a_list_that_has_fired_leaves_its_inputs_alone() {
    let _guard = NoLostFailures::new();
    let calls = Calls::new();
    let (mut inputs, resolvers) = with_cancellers(1, &calls);
    inputs.push(Deferred::succeed(5));
    let list = deferred_list(inputs).fire_on_one_callback();
    list.cancel();
    assert_eq!(list.result().unwrap(), (5, 1));

    let (mut inputs, more_resolvers) = with_cancellers(1, &calls);
    inputs.push(Deferred::fail(Oops("no")));
    let list = deferred_list(inputs).fire_on_one_errback();
    list.cancel();
    assert!(list.result().unwrap_err().is::<FirstError>());

    assert!(calls.take().is_empty());
    for resolver in resolvers.into_iter().chain(more_resolvers) {
        resolver.callback(1).unwrap();
    }
}

/// D-53.
#[test]
fn a_canceller_that_panics_is_logged_and_the_other_inputs_are_cancelled() {
    let _guard = NoLostFailures::new();
    keep_log();
    let calls = Calls::new();
    let (bad, _resolver) = Deferred::with_canceller(|_| panic!("bad canceller"));
    let (mut inputs, _resolvers) = with_cancellers(2, &calls);
    inputs.insert(1, bad);
    let list = deferred_list(inputs).consume_errors().fire_on_all();
    list.cancel();
    assert_eq!(calls.take(), ["cancel 1", "cancel 2"]);
    let want = [Ok(10), Err("cancelled".to_owned()), Ok(20)];
    assert_eq!(in_words(list.result().unwrap()), want);
    let log = logged();
    assert_eq!(log.len(), 1);
    assert!(log[0].contains("panicked: bad canceller"), "{log:?}");
}

/// D-54.
#[test]
fn gather_results_gives_plain_values_or_the_first_failure() {
    let _guard = NoLostFailures::new();
    let (inputs, resolvers) = pending(3);
    let gathered = gather_results(inputs);
    for (n, resolver) in resolvers.into_iter().enumerate().rev() {
        assert!(!gathered.is_fired());
        resolver.callback(n as i32).unwrap();
    }
    assert_eq!(gathered.result().unwrap(), [0, 1, 2]);

    let (inputs, mut resolvers) = pending(3);
    let gathered = gather_results(inputs);
    resolvers.remove(1).errback(Oops("one")).unwrap();
    let failure = gathered.result().unwrap_err();
    assert_eq!(failure.location().file(), file!(), "where the error arose");
    let first = failure.trap::<FirstError>().unwrap();
    assert_eq!(first, FirstError::new(1, Oops("one").into()));
    for resolver in resolvers {
        resolver.callback(0).unwrap();
    }
}

/// D-55: and nobody is told that the others were cancelled, too.
#[test]
fn a_cancelled_gather_results_fails_with_the_first_cancellation() {
    let _guard = NoLostFailures::new();
    let (inputs, _resolvers) = pending(3);
    let gathered = gather_results(inputs);
    gathered.cancel();
    let first = gathered.result().unwrap_err().trap::<FirstError>().unwrap();
    assert_eq!(first.index, 0);
    assert!(first.failure.is::<CancelledError>());
}

/// D-55.
#[test]
fn a_cancelled_gather_results_succeeds_with_what_the_cancellers_have() {
    let calls = Calls::new();
    let (inputs, _resolvers) = with_cancellers(3, &calls);
    let gathered = gather_results(inputs);
    gathered.cancel();
    assert_eq!(gathered.result().unwrap(), [10, 20, 30]);
    assert_eq!(calls.take(), ["cancel 1", "cancel 2", "cancel 3"]);
}

/// D-56.
#[test]
fn a_first_error_shows_the_index_and_the_error() {
    let failure = gather_results([Deferred::succeed(1), Deferred::fail(Oops("broken"))])
        .result()
        .unwrap_err();
    let shown = [
        failure.to_string(),
        format!("{failure:?}"),
        format!("{:?}", failure.check::<FirstError>().unwrap()),
    ];
    for text in shown {
        assert!(text.contains('1') && text.contains("broken"), "{text}");
    }
    assert_eq!(failure.to_string(), "input 1 failed: broken");
}

/// D-56: each layer of the error is told once.
#[test]
fn the_sources_of_a_first_error_are_those_of_the_error_in_it() {
    #[derive(Debug)]
    struct Outer(Oops);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("outer")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let failure: Failure = FirstError::new(3, Outer(Oops("inner")).into()).into();
    assert_eq!(format!("{failure:?}"), "input 3 failed: outer: inner");

    let with = |text| FirstError::new(3, Outer(Oops(text)).into());
    assert_eq!(with("same"), with("same"));
    assert_ne!(with("same"), with("other"));
}

/// D-56.
#[test]
fn first_errors_are_equal_only_if_index_and_error_are() {
    #[derive(Debug)]
    struct Other(#[allow(dead_code, reason = "shown by Debug")] &'static str);
    impl std::fmt::Display for Other {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }
    impl std::error::Error for Other {}

    let one = FirstError::new(1, Oops("a").into());
    assert_eq!(one, FirstError::new(1, Oops("a").into()));
    assert_ne!(one, FirstError::new(2, Oops("a").into()));
    assert_ne!(one, FirstError::new(1, Oops("b").into()));
    assert_ne!(one, FirstError::new(1, Other("a").into()), "another type");
}

/// Firing, cancelling and making lists inside what a list runs.
#[test]
fn a_list_may_be_used_inside_its_own_callbacks_and_cancellers() {
    let _guard = NoLostFailures::new();
    // A canceller of an input cancels the list again, and fires another input.
    let itself: Rc<RefCell<Canceller>> = Rc::default();
    let (other, fire_other) = Deferred::pending();
    let (again, fire_other) = (itself.clone(), Rc::new(Cell::new(Some(fire_other))));
    let (input, _resolver) = Deferred::with_canceller(move |resolver| {
        again.borrow().cancel();
        fire_other.take().unwrap().callback(2).unwrap();
        resolver.callback(1).unwrap();
    });
    let list = gather_results([input, other]);
    *itself.borrow_mut() = list.canceller();
    // A callback of the list cancels it, and waits for another list.
    let cancels = itself.clone();
    let list = list.add_callback(move |values| {
        cancels.borrow().cancel();
        gather_results(values.into_iter().map(Deferred::succeed))
    });
    list.cancel();
    assert_eq!(list.result().unwrap(), [1, 2]);
}

/// A list whose handle was dropped still runs its callbacks.
#[test]
fn a_list_without_a_handle_goes_on() {
    let calls = Calls::new();
    let (inputs, resolvers) = pending(2);
    drop(gather_results(inputs).map(calls.note("all", |values: Vec<i32>| values)));
    for resolver in resolvers {
        resolver.callback(1).unwrap();
    }
    assert_eq!(calls.take(), ["all([1, 1])"]);
}

/// An input that nobody fires is an ending like any other.
#[test]
fn an_abandoned_input_is_a_failure_of_the_list() {
    let (inputs, resolvers) = pending(2);
    let gathered = gather_results(inputs);
    drop(resolvers);
    // The second one is lost on purpose.
    let first = gathered.result().unwrap_err().trap::<FirstError>().unwrap();
    assert_eq!(first.index, 0);
}

/// Values that are no part of the result go at once, and all goes with the last input.
#[test]
fn a_list_keeps_nothing_longer_than_it_can_be_used() {
    let _guard = NoLostFailures::new();
    let (early, early_dropped) = tracked();
    let (late, late_dropped) = tracked();
    let (callback, callback_dropped) = tracked();
    let ((first, fire_first), (second, fire_second), (third, fire_third)) = (
        Deferred::pending(),
        Deferred::pending(),
        Deferred::pending(),
    );
    let list = gather_results([first, second, third]).add_errback(move |_| {
        drop(callback);
        Ok(vec![])
    });
    fire_first.callback(early).unwrap();
    assert!(!early_dropped.get());
    fire_second.errback(Oops("no")).unwrap();
    assert!(early_dropped.get() && callback_dropped.get());
    fire_third.callback(late).unwrap();
    assert!(late_dropped.get());
    list.result().unwrap();

    // Nobody wants it any more.
    let ((value, value_dropped), (kept, kept_dropped)) = (tracked(), tracked());
    let ((first, fire_first), (second, fire_second)) = (Deferred::pending(), Deferred::pending());
    drop(
        deferred_list([first, second])
            .consume_errors()
            .fire_on_all()
            .map(move |entries| {
                drop(kept);
                entries
            }),
    );
    fire_first.callback(value).unwrap();
    drop(fire_second);
    assert!(value_dropped.get() && kept_dropped.get());
}

/// A `Drop` that panics costs nobody else's result.
#[test]
fn a_list_survives_values_that_panic_when_they_are_dropped() {
    let guard = NoLostFailures::new();
    let (first, fire_first) = Deferred::pending();
    let (second, fire_second) = Deferred::pending();
    let list = deferred_list([first, second]).fire_on_one_callback();
    let index = list.map(|(bomb, index)| {
        std::mem::forget(bomb);
        index
    });
    fire_first.callback(Bomb).unwrap();
    fire_second.callback(Bomb).unwrap(); // dropped, as it comes too late
    assert_eq!(index.result().unwrap(), 0);
    // That panic is nobody's to handle.
    let lost = guard.flush();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].failure.to_string().contains("boom"));
}

/// Law 2: a loop that gathers for ever.
#[test]
fn a_loop_over_lists_runs_in_constant_stack() {
    in_small_stack(|| {
        fn round(left: usize, slots: Rc<RefCell<Vec<Resolver<usize>>>>) -> Deferred<usize> {
            let (input, resolver) = Deferred::pending();
            slots.borrow_mut().push(resolver);
            gather_results([input, Deferred::succeed(0)]).add_callback(move |_| {
                if left == 0 {
                    return Deferred::succeed(0);
                }
                round(left - 1, slots)
            })
        }
        let slots: Rc<RefCell<Vec<Resolver<usize>>>> = Rc::default();
        let result = round(20_000, slots.clone());
        loop {
            let Some(resolver) = slots.borrow_mut().pop() else {
                break;
            };
            resolver.callback(1).unwrap();
        }
        assert_eq!(result.result().unwrap(), 0);
    });
}

/// A list of many inputs takes one pass, however it ends.
#[test]
fn a_long_list_is_no_burden() {
    let _guard = NoLostFailures::new();
    in_small_stack(|| {
        let (inputs, resolvers) = pending(100_000);
        let list = gather_results(inputs);
        for (n, resolver) in resolvers.into_iter().enumerate() {
            resolver.callback(n as i32).unwrap();
        }
        assert_eq!(list.result().unwrap().len(), 100_000);

        let (inputs, _resolvers) = pending(100_000);
        let list = deferred_list(inputs).fire_on_all();
        list.cancel();
        assert_eq!(list.result().unwrap().len(), 100_000);
    });
}
