use std::rc::Rc;

use celeriac::State;

#[celeriac::task]
async fn send(db: State<Rc<u8>>) {
    let _ = db;
}

fn main() {}
