#[celeriac::task]
async fn swap((a, b): (u8, u8), _: u8) -> (u8, u8) {
    (b, a)
}

fn main() {}
