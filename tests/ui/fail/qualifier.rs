#[celeriac::task]
const fn one() -> u8 {
    1
}

#[celeriac::task]
unsafe fn two() {}

#[celeriac::task]
extern "C" fn three() {}

fn main() {}
