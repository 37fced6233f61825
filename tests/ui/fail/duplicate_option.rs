#[celeriac::task(queue = "mail", queue = "post")]
async fn send() {}

fn main() {}
