#[celeriac::task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {
    let _ = add::s("2", 3);
    let _ = add::s(2);
}
