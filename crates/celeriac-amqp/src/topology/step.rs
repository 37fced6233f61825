//! One thing that is declared, or asked of the server.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Declares a durable exchange.
    Exchange { name: ShortString, kind: ExchangeKind },
    /// Asks whether an exchange is there.
    FindExchange { name: ShortString },
    /// Declares a queue.
    Queue { name: ShortString, durable: bool, auto_delete: bool, arguments: FieldTable },
    /// Asks whether a queue is there, and how many messages wait in it.
    FindQueue { name: ShortString },
    /// Drops what waits in a queue, and tells how many messages that was.
    Purge { queue: ShortString },
    /// Binds a queue to an exchange.
    Bind { queue: ShortString, exchange: ShortString, key: ShortString, arguments: FieldTable },
    /// Binds an exchange to another, the source.
    BindExchange { exchange: ShortString, source: ShortString, key: ShortString },
}

impl Step {
    /// Sends it, and waits for the answer: a number of messages, if it is one.
    pub(crate) async fn carry_out(&self, channel: &Channel) -> lapin::Result<u32> {
        let none = FieldTable::default;
        match self.clone() {
            Self::Exchange { name, kind } => {
                let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(name, kind, options, none()).await?;
            }
            Self::FindExchange { name } => {
                let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
                // The kind is not compared.
                channel.exchange_declare(name, ExchangeKind::Direct, options, none()).await?;
            }
            Self::Queue { name, durable, auto_delete, arguments } => {
                let options = QueueDeclareOptions { durable, auto_delete, ..QueueDeclareOptions::default() };
                return Ok(channel.queue_declare(name, options, arguments).await?.message_count());
            }
            Self::FindQueue { name } => {
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                return Ok(channel.queue_declare(name, options, none()).await?.message_count());
            }
            Self::Purge { queue } => return channel.queue_purge(queue, QueuePurgeOptions::default()).await,
            Self::Bind { queue, exchange, key, arguments } => {
                channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), arguments).await?;
            }
            Self::BindExchange { exchange, source, key } => {
                channel.exchange_bind(exchange, source, key, ExchangeBindOptions::default(), none()).await?;
            }
        }
        Ok(0)
    }
}
