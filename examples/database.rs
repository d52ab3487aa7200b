//! Run with `cargo run --example database`: it prints what it asks, what it is answered, and how many queries that took.
//!
//! A library in an embedded SQLite. Its queries are async functions behind typed layers: one book by its key, and all books
//! of an author. What they find is tagged with the tables that they read, and a write expires the tag of its table.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cacheback::{CachebackLayer, CachedFunction, Freshness, Key, Tags};
use rusqlite::{Connection, OptionalExtension, Params, Row};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) id: u32,
    pub(crate) title: String,
}

/// SQLite, in a thread where it may wait.
#[derive(Clone)]
struct Database {
    connection: Arc<Mutex<Connection>>,
    queries: Arc<AtomicUsize>,
}

/// The database, and the functions that ask it, each behind a layer.
pub(crate) struct Library {
    database: Database,
    book: CachedFunction<u32, Option<Book>, Failure>,
    books_by: CachedFunction<String, Arc<[Book]>, Failure>,
}

impl Library {
    /// A library with a few books.
    pub(crate) fn open() -> Result<Self, Failure> {
        let database = Database::open()?;
        let lifetime = Freshness::new(Duration::from_secs(60));

        // One row by its key. A book that is not there may be there soon, so that is not stored.
        let by_key = CachebackLayer::typed::<u32, Option<Book>>(|id| Key::from(format!("book:{id}")))
            .freshness(lifetime)
            .admit(|_, book| book.is_some())
            .tags_by(|_, _| Tags::new(["books"]));
        let asked = database.clone();
        let book = by_key.function(move |id| asked.clone().book(id));

        // Rows by a filter. They are joined from two tables, and change with either.
        let by_author = CachebackLayer::typed::<String, Arc<[Book]>>(|author| Key::from(format!("by:{author}")))
            .freshness(lifetime)
            .weigh(|books| books.iter().map(|book| size_of::<Book>() + book.title.len()).sum())
            .tags_by(|_, _| Tags::new(["books", "authors"]));
        let asked = database.clone();
        let books_by = by_author.function(move |author| asked.clone().books_by(author));

        Ok(Self { database, book, books_by })
    }

    pub(crate) async fn book(&self, id: u32) -> Result<Option<Book>, Failure> {
        self.book.get(id).await
    }

    pub(crate) async fn books_by(&self, author: &str) -> Result<Arc<[Book]>, Failure> {
        self.books_by.get(author.to_owned()).await
    }

    /// Gives a book another title. Whoever asks for this book by its key waits for the new title; whoever asks for a list
    /// gets the old one once more, and the new one is fetched behind him.
    pub(crate) async fn retitle(&self, id: u32, title: &str) -> Result<(), Failure> {
        let title = title.to_owned();
        self.database.write("UPDATE books SET title = ?2 WHERE id = ?1", (id, title)).await?;
        self.expire("books").await?;
        self.book.purge(&id).await?;
        Ok(())
    }

    pub(crate) async fn rename(&self, author: &str, name: &str) -> Result<(), Failure> {
        let names = (author.to_owned(), name.to_owned());
        self.database.write("UPDATE authors SET name = ?2 WHERE name = ?1", names).await?;
        self.expire("authors").await
    }

    /// To be called when a write has gone through: what was read before it is stored no more, though it comes later.
    async fn expire(&self, table: &str) -> Result<(), Failure> {
        self.book.cache().expire_tag(table).await?;
        self.books_by.cache().expire_tag(table).await?;
        Ok(())
    }

    /// Waits for the refreshes that are under way.
    pub(crate) async fn settled(&self) {
        self.book.cache().settled().await;
        self.books_by.cache().settled().await;
    }

    /// How many queries came to the database.
    pub(crate) fn queries(&self) -> usize {
        self.database.queries.load(SeqCst)
    }
}

impl Database {
    fn open() -> Result<Self, Failure> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE TABLE authors (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
             CREATE TABLE books (id INTEGER PRIMARY KEY, author INTEGER NOT NULL REFERENCES authors, title TEXT NOT NULL);
             INSERT INTO authors VALUES (1, 'Austen'), (2, 'Woolf');
             INSERT INTO books VALUES (1, 1, 'Emma'), (2, 1, 'Persuasion'), (3, 2, 'The Waves');",
        )?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), queries: Arc::default() })
    }

    async fn book(self, id: u32) -> Result<Option<Book>, Failure> {
        let find = move |connection: &Connection| {
            connection.query_row("SELECT id, title FROM books WHERE id = ?1", [id], Book::read).optional()
        };
        self.query(find).await
    }

    async fn books_by(self, author: String) -> Result<Arc<[Book]>, Failure> {
        let find = move |connection: &Connection| {
            let sql =
                "SELECT books.id, title FROM books JOIN authors ON author = authors.id WHERE name = ?1 ORDER BY 1";
            connection.prepare(sql)?.query_map([author], Book::read)?.collect()
        };
        self.query(find).await
    }

    async fn query<T: Send + 'static>(
        self,
        find: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.queries.fetch_add(1, SeqCst);
        self.work(find).await
    }

    async fn write(&self, sql: &'static str, values: impl Params + Send + 'static) -> Result<usize, Failure> {
        self.clone().work(move |connection| connection.execute(sql, values)).await
    }

    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let work = move || work(&self.connection.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(tokio::task::spawn_blocking(work).await??)
    }
}

impl Book {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, title: row.get(1)? })
    }
}

/// Prints an answer.
fn say(library: &Library, what: &str, answer: &impl fmt::Debug) {
    println!("{what:<44} {answer:?}; queries so far: {}", library.queries());
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let library = Library::open()?;
    say(&library, "Nothing is stored: a query.", &library.book(1).await?);
    say(&library, "Out of memory.", &library.book(1).await?);
    let titles = |books: Arc<[Book]>| books.iter().map(|book| book.title.clone()).collect::<Vec<_>>();
    say(&library, "All of an author: a query.", &titles(library.books_by("Austen").await?));

    library.retitle(1, "Emma, revised").await?;
    println!("\nA book has another title. The table is written, then its tag is expired.\n");
    say(&library, "By its key it is new at once.", &library.book(1).await?);
    say(&library, "The list is old once more, and refreshed.", &titles(library.books_by("Austen").await?));
    library.settled().await;
    say(&library, "Then it is new.", &titles(library.books_by("Austen").await?));

    library.rename("Austen", "Jane Austen").await?;
    println!("\nAn author has another name. Books by their keys do not read that table.\n");
    say(&library, "Out of memory.", &library.book(1).await?);
    say(&library, "A query.", &titles(library.books_by("Jane Austen").await?));
    Ok(())
}
