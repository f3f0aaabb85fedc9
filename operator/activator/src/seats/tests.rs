use prometheus_client::registry::Registry;
use tokio::time::advance;

use super::leave::LAST_WORDS;
use super::*;

fn seats(most: usize) -> Seats {
    Seats::new(most, RequestMetrics::register(&mut Registry::default()))
}

fn far(seat: &Occupied) -> Option<Farewell> {
    seat.seat().farewell()
}

/// Lets seconds pass, one look at all seats after the other.
async fn pass(seconds: u32) {
    for _ in 0..seconds {
        advance(SWEEP).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_full_port_lets_those_go_whose_time_is_over_soonest() {
    let seats = seats(3);
    let fresh = seats.take().unwrap();
    let used = seats.take().unwrap();
    drop(used.seat().begin());
    let busy = seats.take().unwrap();
    let request = busy.seat().begin();
    let _third = seats.take().unwrap();
    assert_eq!(far(&fresh), Some(Farewell::evicted), "it has asked for nothing yet");
    assert_eq!((far(&used), far(&busy)), (None, None));
    let fourth = seats.take().unwrap();
    drop(fresh);
    let requests = [fourth.seat().begin(), used.seat().begin()];
    assert!(seats.take().is_none(), "all serve a request");
    drop((requests, request));
    assert!(seats.take().is_some());
}

#[tokio::test]
async fn a_seat_is_free_when_its_connection_is_gone() {
    let seats = seats(2);
    for _ in 0..10 {
        let taken = [seats.take().unwrap(), seats.take().unwrap()];
        assert!(taken.iter().all(|seat| far(seat).is_none()));
    }
    assert!(seats.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_has_its_time() {
    let seats = seats(10);
    tokio::spawn(seats.clone().watch());
    let [silent, slow, idle, busy] = std::array::from_fn(|_| seats.take().unwrap());
    let http2 = seats.take().unwrap();
    http2.seat().speaks_http2();
    drop(idle.seat().begin());
    let request = busy.seat().begin();
    pass(HEAD - 1).await;
    slow.seat().note_read(1);
    assert_eq!(far(&silent), None);
    pass(2).await;
    assert_eq!(far(&silent), Some(Farewell::idle));
    assert_eq!(far(&slow), Some(Farewell::idle), "a byte now and then gains no time");
    idle.seat().note_read(1);
    pass(HEAD + 1).await;
    assert_eq!(far(&idle), Some(Farewell::idle), "the head of its next request takes too long");
    assert_eq!((far(&http2), far(&busy)), (None, None));
    pass(IDLE).await;
    assert_eq!((far(&http2), far(&busy)), (Some(Farewell::idle), None));
    drop(request);
    pass(IDLE + 1).await;
    assert_eq!(far(&busy), Some(Farewell::idle));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_has_to_go_at_once() {
    let seats = seats(10);
    tokio::spawn(seats.clone().watch());
    let [taking, stalled] = std::array::from_fn(|_| seats.take().unwrap());
    let _requests = [taking.seat().begin(), stalled.seat().begin()];
    let mut leave = Leave::new(stalled.seat());
    for _ in 0..=STALL {
        for seat in [&taking, &stalled] {
            seat.seat().note_written(true);
        }
        taking.seat().note_written(false);
        pass(1).await;
    }
    assert_eq!(far(&taking), None);
    assert_eq!(leave.order().await, Order::Go);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_one_request_after_the_other_has_to_go() {
    let seats = seats(10);
    let [fair, abusive] = std::array::from_fn(|_| seats.take().unwrap());
    for _ in 0..10 * MOST_GIVEN_UP {
        fair.seat().note_given_up();
        fair.seat().note_answered();
    }
    for _ in 0..=MOST_GIVEN_UP {
        assert_eq!(far(&abusive), None);
        abusive.seat().note_given_up();
    }
    assert_eq!((far(&fair), far(&abusive)), (None, Some(Farewell::abusive)));
    abusive.seat().speaks_http2();
    let _request = abusive.seat().begin();
    let mut leave = Leave::new(abusive.seat());
    assert_eq!(leave.order().await, Order::Finish);
    for _ in 0..MOST_STREAMS {
        abusive.seat().note_given_up();
    }
    let cut = Instant::now();
    assert_eq!(leave.order().await, Order::Go, "it did not listen");
    assert_eq!(cut.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_told_to_finish_may_do_so() {
    let seats = seats(10);
    let seat = seats.take().unwrap();
    seat.seat().speaks_http2();
    let request = seat.seat().begin();
    seat.seat().dismiss(Farewell::idle);
    let mut leave = Leave::new(seat.seat());
    assert_eq!(leave.order().await, Order::Finish);
    let minute = Duration::from_mins(1);
    assert!(tokio::time::timeout(minute, leave.order()).await.is_err());
    drop(request);
    let begun = Instant::now();
    assert_eq!(leave.order().await, Order::Go);
    assert!(begun.elapsed() <= LAST_WORDS);
}
