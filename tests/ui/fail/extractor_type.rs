use celeriac::State;

struct Database;

#[celeriac::task]
async fn send(db: State<Database>) {
    let _ = db;
}

fn main() {}
