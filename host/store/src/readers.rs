//! Connections that only read: a list never waits for the disk that a commit waits for.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use sglhost_core::limits::STORE_READERS_MAX;
use tokio::{sync::Semaphore, task};

use crate::{StoreError, schema};

/// Hands out connections, which are opened as they are needed.
pub(crate) struct Readers {
    database: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(database: PathBuf) -> Self {
        Self { database, idle: Arc::default(), turns: Arc::new(Semaphore::new(STORE_READERS_MAX)) }
    }

    /// Looks something up, in a database that stands still meanwhile: all that was answered before is in it.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = |_| StoreError::Failed("a look-up was given up".to_owned());
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|error| gone(error.to_string()))?;
        let (idle, database) = (Arc::clone(&self.idle), self.database.clone());
        let lookup = move || {
            let before = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match before {
                Some(connection) => connection,
                None => schema::open_to_read(&database)?,
            };
            // One transaction, so that several statements see the same.
            let transaction = connection.transaction()?;
            let found = work(&transaction);
            drop(transaction);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(turn);
            found
        };
        task::spawn_blocking(lookup).await.map_err(|error| gone(error.to_string()))?
    }
}
