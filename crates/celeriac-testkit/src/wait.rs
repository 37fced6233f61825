//! Waiting for what must come, and names that no other test uses.

use std::time::Duration;

/// What comes at all comes within this, on any machine: 30 seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
///
/// # Panics
/// If it does not come within [`PATIENCE`].
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    let Ok(came) = tokio::time::timeout(PATIENCE, what).await else {
        panic!("what was waited for did not come within {PATIENCE:?}");
    };
    came
}

/// Waits until `condition` holds, asking it again and again.
///
/// # Panics
/// If it does not hold within `deadline`.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::time::Duration;
/// use celeriac_testkit::eventually;
///
/// let mut asked = 0;
/// eventually(Duration::from_secs(5), async || {
///     asked += 1;
///     asked == 3
/// })
/// .await;
/// # }
/// ```
pub async fn eventually(deadline: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let come_true = async {
        let mut pause = Duration::from_millis(1);
        while !condition().await {
            // The pauses grow, so that a slow server is not kept busy by the asking.
            tokio::time::sleep(pause).await; // wait: the condition cannot tell when it comes true
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    };
    let came_true = tokio::time::timeout(deadline, come_true).await.is_ok();
    assert!(came_true, "the condition that was waited for did not come true within {deadline:?}");
}

/// A name beginning with `prefix` that no other test, of this or of another process, uses.
#[must_use]
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}
