//! Changes that fail, and transactions that do.

use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{StoreError, writer::Writer};

struct World {
    folder: tempfile::TempDir,
    writer: Writer,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rows = Connection::open(folder.path().join("db")).unwrap();
        rows.busy_timeout(Duration::ZERO).unwrap();
        rows.execute_batch("PRAGMA max_page_count = 20; CREATE TABLE numbers (number INTEGER, bytes BLOB)").unwrap();
        Self { folder, writer: Writer::start(rows, None).unwrap() }
    }

    fn rows(&self) -> Connection {
        Connection::open(self.folder.path().join("db")).unwrap()
    }

    fn numbers(&self) -> Vec<u32> {
        let rows = self.rows();
        let mut numbers = rows.prepare("SELECT number FROM numbers ORDER BY number").unwrap();
        numbers.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// Adds a number in the same commit as the others of `changes`, and does what each is said to do after it.
    async fn together(&self, changes: &[(u32, &'static str)]) -> Vec<Result<(), StoreError>> {
        // The thread is kept busy with one until all of them wait.
        let ((begun, begins), (go, waits)) = (oneshot::channel(), oneshot::channel::<()>());
        let busy = self.writer.change(move |_| {
            let _ = (begun.send(()), waits.blocking_recv());
            Ok(())
        });
        let changes = changes.iter().map(|&(number, after)| {
            self.writer.change(move |rows| {
                rows.execute("INSERT INTO numbers VALUES (?1, NULL)", [number])?;
                match after {
                    "fail" => Err(StoreError::not_found("that")),
                    after => Ok(rows.execute_batch(after)?),
                }
            })
        });
        let (mut busy, mut changes) = (Box::pin(busy), changes.map(Box::pin).collect::<Vec<_>>());
        super::give_up_after(&mut busy, 1).await;
        begins.await.unwrap();
        for change in &mut changes {
            super::give_up_after(change, 1).await;
        }
        let _ = go.send(());
        busy.await.unwrap();
        let mut answers = Vec::new();
        for change in changes {
            answers.push(change.await);
        }
        answers
    }
}

#[tokio::test]
async fn nothing_of_a_change_that_fails_stays_and_all_of_the_others() {
    let world = World::new();
    let answers = world.together(&[(1, ""), (2, "fail"), (3, ""), (4, "no SQL"), (5, "")]).await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false, true]);
    assert!(matches!(answers[1], Err(StoreError::NotFound { .. })));
    assert_eq!(world.numbers(), [1, 3, 5]);
}

#[tokio::test]
async fn a_change_that_takes_the_transaction_with_it_is_told_to_all_in_it() {
    let world = World::new();
    let answers = world.together(&[(1, ""), (2, "ROLLBACK"), (3, "")]).await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(world.numbers(), [3]);
}

#[tokio::test]
async fn a_full_disk_is_told_and_does_no_harm() {
    let world = World::new();
    let large = "UPDATE numbers SET bytes = zeroblob(1000000)";
    let answers = world.together(&[(1, ""), (2, large), (3, "")]).await;
    assert!(matches!(&answers[1], Err(StoreError::Failed(why)) if why.contains("full")), "{answers:?}");
    let told: Vec<u32> = (1..).zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(number, _)| number).collect();
    assert_eq!(world.numbers(), told);
    assert!(world.together(&[(4, "")]).await[0].is_ok());
}

#[tokio::test]
async fn another_process_that_writes_too_long_is_told() {
    let world = World::new();
    let other = world.rows();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let add = || world.writer.change(|rows| Ok(rows.execute("INSERT INTO numbers VALUES (1, NULL)", [])?));
    let answer = add().await;
    assert!(matches!(&answer, Err(StoreError::Failed(why)) if why.contains("locked")), "{answer:?}");
    other.execute_batch("ROLLBACK").unwrap();
    add().await.unwrap();
    assert_eq!(world.numbers(), [1]);
}

#[tokio::test]
async fn what_was_handed_over_is_done_though_nobody_waits_for_it() {
    let world = World::new();
    let change = world.writer.change(|rows| Ok(rows.execute("INSERT INTO numbers VALUES (1, NULL)", [])?));
    super::give_up_after(change, 1).await;
    // Waits for the thread.
    let World { folder, writer } = world;
    drop(writer);
    let rows = Connection::open(folder.path().join("db")).unwrap();
    assert_eq!(rows.query_row("SELECT count(*) FROM numbers", [], |row| row.get::<_, u32>(0)).unwrap(), 1);
}
