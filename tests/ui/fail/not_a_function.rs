#[celeriac::task]
struct Add {
    x: i64,
}

trait Math {
    #[celeriac::task]
    fn add(x: i64, y: i64) -> i64;
}

fn main() {}
