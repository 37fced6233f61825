#[celeriac::task]
async fn send(#[arg(default = true)] tries: u32) {
    let _ = tries;
}

fn main() {}
