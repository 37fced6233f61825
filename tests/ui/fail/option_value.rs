#[celeriac::task(name = "", priority = 256, expires = "30 minutes", result_expires = 1.5)]
async fn send() {}

fn main() {}
