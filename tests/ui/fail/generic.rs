use serde::{Serialize, de::DeserializeOwned};

#[celeriac::task]
async fn echo<T>(value: T) -> T
where
    T: Serialize + DeserializeOwned,
{
    value
}

#[celeriac::task]
async fn one() -> u8
where
    u8: Copy,
{
    1
}

fn main() {}
