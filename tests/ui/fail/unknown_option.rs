#[celeriac::task(quue = "mail", ignore_result)]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[celeriac::task(colour = "red")]
async fn paint() {}

fn main() {
    // The task is defined all the same: nothing is reported here.
    let _ = add::s(2, 3);
}
