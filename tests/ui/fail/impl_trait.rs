#[celeriac::task]
async fn send(to: impl Into<String>) {
    let _: String = to.into();
}

#[celeriac::task]
async fn numbers() -> impl Iterator<Item = u8> {
    std::iter::empty()
}

#[celeriac::task]
fn forever() -> ! {
    loop {}
}

#[celeriac::task]
fn name() -> &'static str {
    "name"
}

fn main() {}
