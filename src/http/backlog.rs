//! What a stream holds for a client that reads more slowly than the answer comes: bounded in number and in bytes, so
//! that beyond it the upstream is kept waiting, and only for so long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::chat::{Interruption, Order};

/// Pieces that are held.
const MOST_PIECES: usize = 64;
/// What they may hold together, unless it is one alone that holds more.
const MOST_BYTES: usize = 256 << 10;

/// A new backlog: where the run puts pieces, and where the response takes them.
pub fn backlog<T>(order: Order, patience: Duration) -> (Writer<T>, Reader<T>) {
    let (sender, receiver) = mpsc::channel(MOST_PIECES);
    let writer = Writer { sender, room: Arc::new(Semaphore::new(MOST_BYTES)), order, patience };
    (writer, Reader { receiver })
}

/// The run's end.
pub struct Writer<T> {
    sender: mpsc::Sender<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    order: Order,
    /// How long the client may read nothing while there is more than is held.
    patience: Duration,
}

/// The response's end.
pub struct Reader<T> {
    receiver: mpsc::Receiver<(T, OwnedSemaphorePermit)>,
}

impl<T> Writer<T> {
    /// Puts a piece of this size there as soon as there is room. When there is none for too long, the run gets the
    /// order to end.
    ///
    /// # Cancel safety
    ///
    /// A piece whose turn has not come is lost.
    pub async fn put(&self, piece: T, bytes: usize) {
        let order = &self.order;
        if timeout(self.patience, self.wait(piece, bytes)).await.is_err() {
            order.give(Interruption::Unread);
        }
    }

    /// Puts the last piece there and waits until it is taken. When nothing is taken for too long, that is given up
    /// with the order to end.
    ///
    /// # Cancel safety
    ///
    /// As [`Writer::put`].
    pub async fn end(self, piece: T) {
        let taken = async {
            timeout(self.patience, self.wait(piece, 0)).await?;
            for room in 1..=MOST_PIECES {
                // Without a reader there is nobody to wait for.
                let _ = timeout(self.patience, self.sender.reserve_many(room)).await?;
            }
            Ok::<_, Elapsed>(())
        };
        if taken.await.is_err() {
            self.order.give(Interruption::Unread);
        }
    }

    async fn wait(&self, piece: T, bytes: usize) {
        let bytes = u32::try_from(bytes.min(MOST_BYTES)).expect("the bound fits");
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.expect("the semaphore is never closed");
        // Without a reader there is nobody to tell, and whoever writes goes with it.
        let _ = self.sender.send((piece, room)).await;
    }
}

impl<T> Reader<T> {
    /// The next piece; `None` when the run is gone.
    ///
    /// # Cancel safety
    ///
    /// No piece is lost.
    pub async fn take(&mut self) -> Option<T> {
        self.receiver.recv().await.map(|(piece, _)| piece)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn pieces_are_held_up_to_their_number_and_come_in_order() {
        let (writer, mut reader) = backlog(Order::default(), PATIENCE);
        for piece in 0..MOST_PIECES {
            writer.put(piece, 1).now_or_never().expect("there is room");
        }
        assert!(writer.put(MOST_PIECES, 1).now_or_never().is_none());
        assert_eq!((reader.take().await, reader.take().await), (Some(0), Some(1)));
        writer.put(MOST_PIECES, 1).now_or_never().expect("there is room again");
        let last = tokio::spawn(writer.end(100));
        let mut rest = Vec::new();
        while let Some(piece) = reader.take().await {
            rest.push(piece);
        }
        assert_eq!(rest, (2..=MOST_PIECES).chain([100]).collect::<Vec<_>>());
        last.await.unwrap();
    }

    #[tokio::test]
    async fn pieces_are_held_up_to_what_they_weigh_but_one_alone_may_weigh_anything() {
        let (writer, mut reader) = backlog(Order::default(), PATIENCE);
        writer.put('a', usize::MAX).now_or_never().expect("one always has room");
        assert!(writer.put('b', 1).now_or_never().is_none());
        assert_eq!(reader.take().await, Some('a'));
        writer.put('b', MOST_BYTES - 1).now_or_never().expect("there is room");
        writer.put('c', 1).now_or_never().expect("there is room");
        assert!(writer.put('d', 1).now_or_never().is_none());
        writer.put('e', 0).now_or_never().expect("what weighs nothing needs none");
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_for_too_long_ends_the_run() {
        let order = Order::default();
        let (writer, mut reader) = backlog(order.clone(), Duration::from_millis(1));
        writer.put('a', MOST_BYTES).await;
        assert!(order.given().now_or_never().is_none());
        writer.put('b', 1).await;
        assert_eq!(order.given().await, Interruption::Unread);
        assert_eq!(reader.take().await, Some('a'));
    }

    #[tokio::test]
    async fn the_last_word_waits_no_longer_than_the_others() {
        let order = Order::default();
        let (writer, mut reader) = backlog(order.clone(), Duration::from_millis(1));
        writer.put('a', 1).await;
        writer.end('b').await;
        assert_eq!(order.is_given(), Some(Interruption::Unread));
        assert_eq!((reader.take().await, reader.take().await), (Some('a'), Some('b')));

        let order = Order::default();
        let (writer, mut reader) = backlog(order.clone(), PATIENCE);
        let last = tokio::spawn(writer.end('c'));
        assert_eq!(reader.take().await, Some('c'));
        last.await.unwrap();
        assert_eq!(order.is_given(), None);
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_keeps_nobody_waiting() {
        let order = Order::default();
        let (writer, reader) = backlog(order.clone(), PATIENCE);
        drop(reader);
        for _ in 0..2 * MOST_PIECES {
            writer.put('a', MOST_BYTES).now_or_never().expect("nobody waits for a reader that has gone");
        }
        writer.end('b').await;
        assert_eq!(order.is_given(), None);
    }
}
