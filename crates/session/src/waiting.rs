//! What a slow start waits for, told again and again.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use guest::event::Event;
use target::{Phase, Progress};
use tokio::time::Instant;

/// How often.
const STILL: Duration = Duration::from_secs(5);

/// The phase that an agent is waited for in.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<Option<Lasting>>);

#[derive(Clone, Copy)]
struct Lasting {
    phase: Phase,
    since: Instant,
    /// Bytes, and of how many.
    sent: Option<(usize, usize)>,
}

impl Waiting {
    pub(crate) fn note(&self, progress: Progress) {
        let mut lasting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Progress::Began(phase) => {
                let since = Instant::now();
                *lasting = Some(Lasting {
                    phase,
                    since,
                    sent: None,
                });
            }
            Progress::Sent(bytes, all) => {
                if let Some(lasting) = &mut *lasting {
                    lasting.sent = Some((bytes, all));
                }
            }
            Progress::Ended(..) => *lasting = None,
        }
    }

    /// Waits for it, and tells again and again for what.
    pub(crate) async fn tell_of<T>(&self, connecting: impl Future<Output = T>, tell: &impl Fn(Event)) -> T {
        let mut connecting = pin!(connecting);
        loop {
            match tokio::time::timeout(STILL, &mut connecting).await {
                Ok(connected) => return connected,
                Err(_) => {
                    let lasting = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(lasting) = lasting {
                        tell(lasting.event());
                    }
                }
            }
        }
    }
}

impl Lasting {
    fn event(self) -> Event {
        let bytes = |bytes| u64::try_from(bytes).ok();
        let what = match self.sent {
            Some(_) => "sending the agent to the pod",
            None => self.phase.waits_for(),
        };
        Event::Waiting {
            name: self.phase.to_string(),
            what: what.to_owned(),
            milliseconds: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            sent: self.sent.and_then(|(sent, _)| bytes(sent)),
            of: self.sent.and_then(|(_, all)| bytes(all)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_with_how_far_it_is() {
        let (waiting, told) = (Waiting::default(), Mutex::new(Vec::new()));
        let connecting = async {
            waiting.note(Progress::Began(Phase::Start));
            tokio::time::sleep(Duration::from_secs(6)).await;
            waiting.note(Progress::Ended(Phase::Start, Duration::from_secs(6)));
            waiting.note(Progress::Began(Phase::Deliver));
            tokio::time::sleep(Duration::from_secs(5)).await;
            waiting.note(Progress::Sent(1_203_456, 3_912_345));
            tokio::time::sleep(Duration::from_secs(5)).await;
            waiting.note(Progress::Ended(Phase::Deliver, Duration::from_secs(10)));
            tokio::time::sleep(Duration::from_secs(5)).await;
            "connected"
        };
        let tell = |event: Event| told.lock().unwrap().push(event.to_string());
        assert_eq!(waiting.tell_of(connecting, &tell).await, "connected");
        let told = told.into_inner().unwrap();
        let [start, other, ours] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(start.starts_with("waiting for the agent's container to run"), "{start}");
        assert!(start.ends_with("(5 s)"), "{start}");
        assert!(other.starts_with("waiting for another session"), "{other}");
        assert_eq!(ours, "sending the agent to the pod: 1203 of 3912 kB (9 s)");
    }
}
