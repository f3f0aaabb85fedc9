//! A keeper goes and the next one comes: it takes over what is kept before the former ends, and that
//! waits for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use rouse_core::kept::{KEPT_PATH, read_pieces};

use crate::fetch::{Connection, FetchError};
use crate::serve::TAKEN;
use crate::store::{Store, StoreError};

/// Bytes that the pieces of a Function may have: two segments, with the heads of pieces.
const MOST: usize = 8 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why not all was taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeirError {
    #[error("asking the other keeper")]
    Fetch(#[from] FetchError),
    #[error("the other keeper answers {0}")]
    Refused(StatusCode),
    #[error("the other keeper's list does not parse")]
    List(#[from] serde_json::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes over what the keeper at `address`, in the pod with this UID, has. May be done again: what is
/// there already is left out.
pub(crate) async fn take_over(
    store: &Arc<Store>,
    (address, uid): (SocketAddr, &str),
) -> Result<(), HeirError> {
    let mut connection = Connection::open(address, uid).await?;
    let list = ask(&mut connection, Method::GET, KEPT_PATH).await?;
    let names: Vec<String> = serde_json::from_slice(&list)?;
    for name in names {
        let pieces = ask(&mut connection, Method::GET, &format!("{KEPT_PATH}/{name}")).await?;
        let store = Arc::clone(store);
        let keeping = tokio::task::spawn_blocking(move || {
            let (pieces, _) = read_pieces(&pieces);
            pieces.iter().try_for_each(|piece| store.keep(&name, piece).map(drop))
        });
        // It fails only when the process ends.
        keeping.await.unwrap_or(Ok(()))?;
    }
    Ok(())
}

/// Tells the other keeper that it may go.
pub(crate) async fn dismiss(address: SocketAddr, uid: &str) -> Result<(), HeirError> {
    let mut connection = Connection::open(address, uid).await?;
    ask(&mut connection, Method::POST, TAKEN).await.map(drop)
}

async fn ask(connection: &mut Connection, method: Method, path: &str) -> Result<Bytes, HeirError> {
    let answer = connection.call(method, path, (MOST, PATIENCE)).await?;
    if answer.status.is_success() {
        Ok(answer.body)
    } else {
        Err(HeirError::Refused(answer.status))
    }
}

#[cfg(test)]
mod tests {
    use rouse_core::kept::{Piece, PieceHead};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::*;
    use crate::serve::Desk;

    fn keep(store: &Store, from: u64, lines: &str) {
        let bytes = u64::try_from(lines.len()).unwrap();
        let head = PieceHead { pod: "p".into(), uid: "u".into(), run: 1, from, bytes };
        store.keep("hello", &Piece { head, lines: lines.as_bytes() }).unwrap();
    }

    #[tokio::test]
    async fn the_next_keeper_has_all_lines_once_and_the_former_knows_it() {
        let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let former = Arc::new(Store::open(folders.0.path()).unwrap());
        let next = Arc::new(Store::open(folders.1.path()).unwrap());
        let (taken, mut is_taken) = watch::channel(false);
        let desk = Desk { store: Arc::clone(&former), uid: "former".into(), taken };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let answer = move |request| desk.clone().hand_over(request);
        let serving = tokio::spawn(rouse_listen::serve(listener, answer, stopped));

        keep(&former, 0, "one\n");
        take_over(&next, (address, "former")).await.unwrap();
        keep(&former, 4, "two\n");
        take_over(&next, (address, "former")).await.unwrap();
        assert_eq!(next.read("hello").unwrap(), former.read("hello").unwrap());
        let stranger = take_over(&next, (address, "another")).await.unwrap_err();
        assert!(matches!(stranger, HeirError::Refused(StatusCode::FORBIDDEN)), "{stranger}");
        assert!(!*is_taken.borrow());
        dismiss(address, "former").await.unwrap();
        assert!(*is_taken.wait_for(|taken| *taken).await.unwrap());
        stop.send_replace(true);
        serving.await.unwrap();
    }
}
