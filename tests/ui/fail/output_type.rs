use celeriac::TaskResult;

struct Receipt;

#[celeriac::task]
async fn send() -> TaskResult<Receipt> {
    Ok(Receipt)
}

fn main() {}
