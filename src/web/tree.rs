//! A container of resources by name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::{BodyPolicy, Rendered, Request, RequestHead, Resource, pages};

/// Resources under names: the inner nodes of a site (Twisted's plain `Resource()`).
///
/// A tree has no page of its own; the page at `/dir/` is the child named by the empty segment.
/// Cheap to clone, and children may be put while it is being served.
///
/// ```
/// use prometheus_deferred::web::{Tree, pages};
///
/// let root = Tree::new();
/// let admin = Tree::new();
/// root.put_child("admin", admin.clone());
/// admin.put_child("secret", pages::forbidden()); // answers at /admin/secret
/// ```
#[derive(Clone, Default)]
pub struct Tree(Rc<RefCell<BTreeMap<String, Rc<dyn Resource>>>>);

impl Tree {
    /// A tree without children.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a resource under a name, in the place of one that was there.
    ///
    /// The name is one path segment, as it reads when decoded. The empty one stands for what comes
    /// after a final slash.
    ///
    /// # Panics
    ///
    /// If the name has a slash in it.
    pub fn put_child(&self, name: &str, child: impl Resource) {
        if let Some((first, rest)) = name.split_once('/') {
            panic!(
                "put_child takes one segment, got {name:?}; put {first:?} in the tree and {rest:?} \
                 in that"
            );
        }
        self.0.borrow_mut().insert(name.to_owned(), Rc::new(child));
    }

    /// Takes a child away.
    pub fn remove_child(&self, name: &str) -> Option<Rc<dyn Resource>> {
        self.0.borrow_mut().remove(name)
    }

    /// The child of that name.
    pub fn child(&self, name: &str) -> Option<Rc<dyn Resource>> {
        self.0.borrow().get(name).cloned()
    }
}

impl Resource for Tree {
    fn children(&self) -> Option<&Tree> {
        Some(self)
    }

    fn body_policy(&self, _: &RequestHead) -> BodyPolicy {
        BodyPolicy::Refuse
    }

    fn render(&self, request: Request) -> Rendered {
        request.head().matches_nothing();
        pages::not_found().render(request)
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.borrow().keys()).finish()
    }
}
