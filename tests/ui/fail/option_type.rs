#[celeriac::task(name = 5, queue = mail, ignore_result = "yes", serializer, crate = "no path")]
async fn send() {}

fn main() {}
