//! The layers, the pages that each of them has, and what an invalidation reaches of these.

use cacheback::{Error, Key, Scope};

/// The layers that are soaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// HTTP; the layer says how long answers live.
    Red,
    /// HTTP; each answer says how long it lives.
    Blue,
    /// HTTP; its origin never fails, so that nothing excuses two runs at one time.
    Calm,
    /// A typed service, with a cache of its own.
    Typed,
}

/// One of the pages that each layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page(pub(crate) usize);

/// What an invalidation reaches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    Uri(Page),
    Path(Page),
    Group(usize),
    Tag(usize),
    Namespace(Route),
    AllPages,
    Key(Page),
    AllKeys,
}

/// Groups of pages, the items in each, and the queries of each item.
const GROUPS: usize = 2;
const ITEMS: usize = 4;
const QUERIES: usize = 2;
pub(crate) const PAGES: usize = GROUPS * ITEMS * QUERIES;
/// No language, and three of them.
pub(crate) const VARIANTS: usize = 4;
/// Each item carries one of so many tags.
pub(crate) const TAGS: usize = 3;

impl Route {
    pub(crate) const ALL: [Self; 4] = [Self::Red, Self::Blue, Self::Calm, Self::Typed];
    pub(crate) const HTTP: [Self; 3] = [Self::Red, Self::Blue, Self::Calm];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Blue => "blue",
            Self::Calm => "calm",
            Self::Typed => "typed",
        }
    }
}

impl Page {
    pub(crate) fn group(self) -> usize {
        self.0 / QUERIES / ITEMS
    }

    fn item(self) -> usize {
        self.0 / QUERIES % ITEMS
    }

    pub(crate) fn tag(self) -> String {
        tag(self.item() % TAGS)
    }

    pub(crate) fn path(self) -> String {
        format!("/{}/{}", self.group(), self.item())
    }

    pub(crate) fn uri(self) -> String {
        format!("{}?q={}", self.path(), self.0 % QUERIES)
    }

    /// The page that a request is for.
    pub(crate) fn of(uri: &http::Uri) -> Option<Self> {
        let (group, item) = uri.path().strip_prefix('/')?.split_once('/')?;
        let query: usize = uri.query()?.strip_prefix("q=")?.parse().ok()?;
        Some(Self((group.parse::<usize>().ok()? * ITEMS + item.parse::<usize>().ok()?) * QUERIES + query))
    }

    pub(crate) fn key(self) -> Key {
        Key::from(self.uri())
    }

    /// Whether its answers vary by language, where it is a page of this layer.
    pub(crate) fn varies(self, route: Route) -> bool {
        matches!(route, Route::Red | Route::Blue) && self.item() % 2 == 1
    }
}

impl Reach {
    pub(crate) fn scope(self) -> Result<Scope, Error> {
        match self {
            Self::Uri(page) => Scope::uri(&page.uri()),
            Self::Path(page) => Scope::path(&page.path()),
            Self::Group(group) => Scope::path_prefix(&format!("/{group}")),
            Self::Tag(number) => Ok(Scope::tag(tag(number))),
            Self::Namespace(route) => Ok(Scope::namespace(route.name())),
            Self::Key(page) => Ok(Scope::from(page.key())),
            Self::AllPages | Self::AllKeys => Ok(Scope::everything()),
        }
    }

    pub(crate) fn covers(self, route: Route, page: Page) -> bool {
        let typed = route == Route::Typed;
        match self {
            Self::Uri(own) => !typed && own == page,
            Self::Path(own) => !typed && own.path() == page.path(),
            Self::Group(group) => !typed && group == page.group(),
            Self::Tag(number) => !typed && tag(number) == page.tag(),
            Self::Namespace(own) => own == route,
            Self::AllPages => !typed,
            Self::Key(own) => typed && own == page,
            Self::AllKeys => typed,
        }
    }
}

fn tag(number: usize) -> String {
    format!("tag-{number}")
}
