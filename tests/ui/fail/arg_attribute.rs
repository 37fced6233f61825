use celeriac::State;

#[celeriac::task]
async fn send(#[arg(default)] _db: State<i64>, #[arg(defualt)] _tries: u32, #[cfg(unix)] _mode: u32) {}

fn main() {}
