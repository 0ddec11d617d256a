//! The SQLite database in the state directory.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row, SqlitePool};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations/sqlite");

const DATABASE_FILE: &str = "itsd.sqlite3";
const LOCK_FILE: &str = "itsd.lock";

/// How long another program, such as a backup, may keep the database to itself before we give up.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);

/// How long a daemon that is about to end may still hold the state directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The daemon's database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
    path: PathBuf,
    /// Held as long as the store is used, so that no other daemon numbers revisions here.
    _lock: Arc<File>,
}

/// One configuration that was made active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub number: i64,
    /// Seconds since 1970-01-01 UTC.
    pub created_at: i64,
    /// SHA-256 of the redacted document, in hexadecimal.
    pub content_hash: String,
    /// JSON, its literal secrets sealed.
    pub document: String,
    pub origin: Origin,
    /// JSON: field to where its value came from, for those that came another way than the revision.
    pub field_origins: String,
}

/// A revision that has no number yet.
#[derive(Debug, Clone)]
pub struct NewRevision {
    pub content_hash: String,
    pub document: String,
    pub origin: Origin,
    pub field_origins: String,
}

/// How a revision came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `POST /configure`.
    Request,
    /// `PATCH /configure`.
    Patch,
    /// `POST /configure/rollback`.
    Rollback,
    /// The `[active]` table of the configuration file.
    File,
    /// A variable that names a model or holds a provider's key, where nobody had configured anything.
    Environment,
}

impl Origin {
    const ALL: [Self; 5] = [Self::Request, Self::Patch, Self::Rollback, Self::File, Self::Environment];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Patch => "patch",
            Self::Rollback => "rollback",
            Self::File => "file",
            Self::Environment => "environment",
        }
    }

    fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|origin| origin.as_str() == word).expect("the table checks the word")
    }
}

/// What can go wrong with the state directory or its database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the state directory {path} cannot be used: {cause}; name another with --state-dir")]
    Directory { path: PathBuf, cause: io::Error },
    #[error("another itsd uses the state directory {path}; stop it, or name another directory with --state-dir")]
    InUse { path: PathBuf },
    #[error("the database {path} is damaged or is no database ({message}); move it away to start afresh")]
    Corrupt { path: PathBuf, message: String },
    #[error("the database {path} is held by another process; end what reads or copies it")]
    Locked { path: PathBuf },
    #[error("the database {path} cannot be written ({message}); check its owner, its mode and the disk")]
    Unwritable { path: PathBuf, message: String },
    #[error("the database {path} was made by a newer itsd ({message}); update this one or name another --state-dir")]
    Newer { path: PathBuf, message: String },
    #[error("the database {path} failed: {message}")]
    Other { path: PathBuf, message: String },
}

impl Store {
    /// Opens the database of a state directory, makes both if they are missing, and brings the tables up to
    /// date. The directory is made for its owner alone, and so are the files. It belongs to this store until
    /// the last clone of it is gone.
    ///
    /// # Errors
    ///
    /// When another process uses the directory, when it cannot be written, and when what is in it is no
    /// database or one of a newer daemon.
    pub async fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let directory = |cause| StoreError::Directory { path: state_dir.to_owned(), cause };
        make_private_directory(state_dir).map_err(directory)?;
        let path = state_dir.join(DATABASE_FILE);
        // SQLite gives its journal files the mode of the database.
        private_file(&path).map_err(directory)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A committed revision survives a power failure, not only a crash.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_PATIENCE);
        let lock = lock(state_dir, LOCK_PATIENCE).await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(BUSY_PATIENCE + Duration::from_secs(5))
            .connect_with(options)
            .await
            .map_err(|error| classify(&path, error))?;
        let store = Self { pool, path, _lock: Arc::new(lock) };
        store.check().await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Writes a revision and gives it the next number.
    ///
    /// Cancel safety: a dropped call either committed or left nothing.
    pub async fn commit(&self, new: NewRevision) -> Result<Revision, StoreError> {
        let created_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let number = sqlx::query(
            "INSERT INTO configuration_revisions (created_at, content_hash, document, origin, field_origins) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(created_at)
        .bind(&new.content_hash)
        .bind(&new.document)
        .bind(new.origin.as_str())
        .bind(&new.field_origins)
        .execute(&self.pool)
        .await
        .map_err(|error| classify(&self.path, error))?
        .last_insert_rowid();
        let NewRevision { content_hash, document, origin, field_origins } = new;
        Ok(Revision { number, created_at, content_hash, document, origin, field_origins })
    }

    /// The newest revisions, newest first, of numbers below `below` if it is given; at most `limit`.
    pub async fn newest(&self, below: Option<i64>, limit: u32) -> Result<Vec<Revision>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, created_at, content_hash, document, origin, field_origins FROM configuration_revisions \
             WHERE number < ? ORDER BY number DESC LIMIT ?",
        )
        .bind(below.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(|error| classify(&self.path, error))?;
        Ok(rows.iter().map(revision_of).collect())
    }

    /// The revision of a number, if there is one.
    pub async fn revision(&self, number: i64) -> Result<Option<Revision>, StoreError> {
        let row = sqlx::query(
            "SELECT number, created_at, content_hash, document, origin, field_origins FROM configuration_revisions \
             WHERE number = ?",
        )
        .bind(number)
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| classify(&self.path, error))?;
        Ok(row.as_ref().map(revision_of))
    }

    /// The content hash of the newest revision that came from the file.
    pub async fn last_file_hash(&self) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT content_hash FROM configuration_revisions WHERE origin = 'file' ORDER BY number DESC LIMIT 1",
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| classify(&self.path, error))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(|_| ()).map_err(|error| classify(&self.path, error))
    }

    async fn check(&self) -> Result<(), StoreError> {
        let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| classify(&self.path, error))?;
        if verdict == "ok" {
            return Ok(());
        }
        Err(StoreError::Corrupt { path: self.path.clone(), message: verdict })
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        use sqlx::migrate::MigrateError;
        MIGRATIONS.run(&self.pool).await.map_err(|error| match error {
            MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
                StoreError::Newer { path: self.path.clone(), message: error.to_string() }
            }
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => classify(&self.path, error),
            other => StoreError::Other { path: self.path.clone(), message: other.to_string() },
        })
    }
}

fn revision_of(row: &SqliteRow) -> Revision {
    Revision {
        number: row.get(0),
        created_at: row.get(1),
        content_hash: row.get(2),
        document: row.get(3),
        origin: Origin::of(row.get(4)),
        field_origins: row.get(5),
    }
}

fn make_private_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Takes the state directory, and waits for it without blocking a thread of the runtime. The kernel lets it
/// go with the process, however that ends.
async fn lock(state_dir: &Path, patience: Duration) -> Result<File, StoreError> {
    let directory = |cause| StoreError::Directory { path: state_dir.to_owned(), cause };
    let file = private_file(&state_dir.join(LOCK_FILE)).map_err(directory)?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if started.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: state_dir.to_owned() }),
            Err(TryLockError::Error(cause)) => return Err(directory(cause)),
        }
    }
}

/// The causes that a reader can do something about, by SQLite's primary result codes.
fn classify(path: &Path, error: sqlx::Error) -> StoreError {
    let path = path.to_owned();
    let message = error.to_string();
    let code = error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<u32>().ok())
        .map(|extended| extended & 0xff);
    match code {
        Some(11 | 26) => StoreError::Corrupt { path, message },
        Some(5 | 6) => StoreError::Locked { path },
        Some(8 | 10 | 13 | 14 | 23) => StoreError::Unwritable { path, message },
        _ => match error {
            sqlx::Error::PoolTimedOut => StoreError::Locked { path },
            _ => StoreError::Other { path, message },
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn revision(document: &str) -> NewRevision {
        NewRevision {
            content_hash: format!("hash of {document}"),
            document: document.to_owned(),
            origin: Origin::Request,
            field_origins: "{}".to_owned(),
        }
    }

    #[tokio::test]
    async fn revisions_are_numbered_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(store.newest(None, 10).await.unwrap(), []);
        let first = store.commit(revision("{1}")).await.unwrap();
        let second = store.commit(revision("{2}")).await.unwrap();
        assert_eq!((first.number, second.number), (1, 2));
        // No close: what is committed must survive a process that is killed.
        drop(store);
        let reopened = Store::open(dir.path()).await.unwrap();
        assert_eq!(reopened.newest(None, 10).await.unwrap(), [second.clone(), first.clone()]);
        assert_eq!(reopened.newest(Some(2), 10).await.unwrap(), [first]);
        assert_eq!(reopened.newest(None, 1).await.unwrap(), std::slice::from_ref(&second));
        assert_eq!(reopened.revision(2).await.unwrap(), Some(second));
        assert_eq!(reopened.revision(3).await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_last_configuration_of_the_file_is_remembered_among_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(store.last_file_hash().await.unwrap(), None);
        store.commit(NewRevision { origin: Origin::File, ..revision("from file") }).await.unwrap();
        store.commit(revision("by request")).await.unwrap();
        assert_eq!(store.last_file_hash().await.unwrap().as_deref(), Some("hash of from file"));
    }

    #[tokio::test]
    async fn every_origin_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        for origin in Origin::ALL {
            let made = store.commit(NewRevision { origin, ..revision("x") }).await.unwrap();
            assert_eq!(store.revision(made.number).await.unwrap().unwrap().origin, origin);
        }
    }

    /// A database as the first version left it.
    #[tokio::test]
    async fn an_older_database_keeps_its_revisions_and_its_numbering() {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(dir.path().join(DATABASE_FILE)).create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let mut first = sqlx::migrate!("./migrations/sqlite");
        first.migrations.to_mut().truncate(1);
        first.run(&pool).await.unwrap();
        sqlx::query(
            "INSERT INTO configuration_revisions (created_at, content_hash, document, origin) \
             VALUES (5, 'h', '{}', 'file'), (6, 'i', '{}', 'request')",
        )
        .execute(&pool)
        .await
        .unwrap();
        sqlx::query("DELETE FROM configuration_revisions WHERE number = 2").execute(&pool).await.unwrap();
        pool.close().await;

        let store = Store::open(dir.path()).await.unwrap();
        let kept = store.newest(None, 10).await.unwrap();
        assert_eq!((kept.len(), kept[0].number, kept[0].created_at, kept[0].origin), (1, 1, 5, Origin::File));
        assert_eq!(store.commit(revision("new")).await.unwrap().number, 3, "a number is never given twice");
    }

    #[tokio::test]
    async fn directory_and_files_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("a/b");
        let store = Store::open(&state_dir).await.unwrap();
        store.commit(revision("x")).await.unwrap();
        assert_eq!(fs::metadata(&state_dir).unwrap().permissions().mode() & 0o777, 0o700);
        for file in fs::read_dir(&state_dir).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.file_name());
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join(DATABASE_FILE),
            "this is not a database, but long enough to be looked at".repeat(200),
        )
        .unwrap();
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(DATABASE_FILE), "{error}");
    }

    #[tokio::test]
    async fn a_state_directory_that_is_a_file_is_told_with_what_to_change() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Store::open(&file.path().join("state")).await.unwrap_err();
        assert!(matches!(error, StoreError::Directory { .. }), "{error}");
        assert!(error.to_string().contains("--state-dir"), "{error}");
    }

    #[tokio::test]
    async fn a_state_directory_belongs_to_one_daemon_until_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let error = lock(dir.path(), Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("another itsd") && message.contains("--state-dir"), "{message}");

        let waiting = lock(dir.path(), Duration::from_secs(60));
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(store);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_database_of_a_newer_daemon_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, 'later', 1, x'00', 0)",
        )
        .execute(&store.pool)
        .await
        .unwrap();
        drop(store);
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    }
}
