//! Pausing a chain.

use std::fmt;
use std::rc::Rc;

use super::chain::{self, ChainRoot, Root, Source};
use super::{Deferred, State};

impl<T> Deferred<T> {
    /// Pauses the chain: no callback runs until [`unpause`](Self::unpause) was called as often as
    /// `pause` (Twisted's `pause`).
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// let mut deferred = Deferred::succeed(1);
    /// deferred.pause();
    /// let deferred = deferred.map(|n| n + 1);
    /// assert!(!deferred.is_fired());
    /// deferred.unpause();
    /// assert_eq!(deferred.result()?, 2);
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn pause(&mut self) {
        chain::pause(&self.root());
    }

    /// Ends one pause. Ending the last one runs the callbacks that are due, before it returns. Does
    /// nothing without a pause.
    pub fn unpause(&self) {
        if let Some(State::Pending { root, .. }) = &self.state {
            chain::unpause(root);
        }
    }

    /// A handle that pauses and unpauses the Deferred after it has been moved elsewhere.
    pub fn pauser(&mut self) -> Pauser {
        let root = self.root();
        chain::hold(&root);
        Pauser { root }
    }

    /// The root of the chain; a fired Deferred gets one here, to store the pause.
    fn root(&mut self) -> Rc<dyn ChainRoot> {
        let (node, root): (Rc<dyn Source<T>>, Rc<dyn ChainRoot>) = match self.state.take() {
            Some(State::Pending { node, root }) => (node, root),
            Some(State::Fired { result, made }) => {
                let root = Rc::new(Root::fired(made, result));
                (root.clone(), root)
            }
            None => unreachable!("only a handle that is being consumed is empty"),
        };
        // Now another handle may end a pause, whatever has polled the Deferred before.
        root.chain().awaited_by.set(0);
        self.state = Some(State::Pending {
            node,
            root: root.clone(),
        });
        root
    }
}

/// Pauses and unpauses a Deferred that has been moved elsewhere.
///
/// When the last handle that could end a pause is dropped, the chain continues: a forgotten
/// `unpause` does not lose a result.
pub struct Pauser {
    root: Rc<dyn ChainRoot>,
}

impl Pauser {
    /// As [`Deferred::pause`].
    pub fn pause(&self) {
        chain::pause(&self.root);
    }

    /// As [`Deferred::unpause`].
    pub fn unpause(&self) {
        chain::unpause(&self.root);
    }
}

impl Clone for Pauser {
    fn clone(&self) -> Self {
        chain::hold(&self.root);
        Self {
            root: self.root.clone(),
        }
    }
}

impl Drop for Pauser {
    fn drop(&mut self) {
        chain::release(&self.root);
    }
}

impl fmt::Debug for Pauser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pauser")
            .field("is_paused", &self.root.chain().is_paused())
            .finish_non_exhaustive()
    }
}
