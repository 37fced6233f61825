#[derive(Clone)]
struct Letter;

#[celeriac::task]
async fn send(letter: Letter) {
    let _ = letter;
}

fn main() {}
