struct Refused;

#[celeriac::task]
async fn send() -> Result<u8, Refused> {
    Err(Refused)
}

fn main() {}
