struct Mailer;

impl Mailer {
    #[celeriac::task]
    async fn send(&self, to: String) {
        let _ = to;
    }
}

fn main() {}
