//! Connections that are lost, and servers that go down: no result goes with them.

use celeriac_testkit::eventually;
use celeriac_testkit::proxy::FaultProxy;

use super::*;

/// A client behind a proxy, which consumes its queue already, and a worker that is not disturbed.
async fn behind_a_proxy(vhost: &Vhost<'_>) -> (FaultProxy, Arc<dyn ResultBackend>, Arc<dyn ResultBackend>) {
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let client = backend(&vhost.url_at(proxy.address())).await;
    client.fetch(&[]).await.unwrap();
    (proxy, client, backend(&vhost.url()).await)
}

/// Waits until the queue has no consumer.
async fn is_alone(vhost: &Vhost<'_>, queue: &RoutingKey) {
    eventually(SOON, async || vhost.queue_info(queue).await.unwrap().consumers == 0).await;
}

#[tokio::test]
async fn what_comes_while_the_connection_is_lost_is_kept_and_received() {
    let vhost = vhost().await;
    let (proxy, client, worker) = behind_a_proxy(&vhost).await;
    let queue = client.reply_to().unwrap();
    let (id, known) = (TaskId::random(), TaskId::random());
    worker.store(vec![result(&known, TaskState::Success, "0", Some(queue.clone()))]).await.unwrap();
    end(&client, &known).await;
    // Else it would come again.
    eventually(SOON, async || vhost.queue_info(&queue).await.unwrap().unacked == 0).await;
    let mut watch = client.watch(&id).await.unwrap();
    proxy.refuse().await;
    proxy.cut();
    is_alone(&vhost, &queue).await;
    let states = [TaskState::Started, TaskState::PROGRESS, TaskState::Success];
    worker.store(states.map(|state| result(&id, state, "1", Some(queue.clone()))).into()).await.unwrap();
    assert_eq!(vhost.queue_info(&queue).await.unwrap().ready, 3, "the server keeps them");
    let found = client.fetch(&[id, known]).await.unwrap();
    assert_eq!(found.map_states(), [None, Some(TaskState::Success)], "what is known is told meanwhile");
    proxy.heal().await;
    while next(&mut watch).await.state != TaskState::Success {}
}

trait States {
    fn map_states(self) -> Vec<Option<TaskState>>;
}

impl States for Vec<Option<TaskMeta>> {
    fn map_states(self) -> Vec<Option<TaskState>> {
        self.into_iter().map(|meta| meta.map(|meta| meta.state)).collect()
    }
}

#[tokio::test]
async fn no_result_is_lost_on_its_way_when_connections_are_cut() {
    const COUNT: usize = 2000;
    let vhost = vhost().await;
    let (proxy, client, worker) = behind_a_proxy(&vhost).await;
    let ids: Vec<TaskId> = (0..COUNT).map(|_| TaskId::random()).collect();
    let reply_to = client.reply_to();
    let storing = {
        let ids = ids.clone();
        tokio::spawn(async move {
            for batch in ids.chunks(20) {
                let batch = batch.iter().map(|id| result(id, TaskState::Success, "1", reply_to.clone())).collect();
                worker.store(batch).await.unwrap();
            }
        })
    };
    // Slow enough that there is always something on its way.
    proxy.delay(Duration::from_millis(5));
    let mut cuts = 0;
    while !storing.is_finished() {
        proxy.cut();
        cuts += 1;
        let before = proxy.connections();
        // Until it has connected anew, and some more has come.
        eventually(SOON, async || proxy.connections() > before || storing.is_finished()).await;
        tokio::time::sleep(Duration::from_millis(30)).await; // wait: something is to come in between
    }
    storing.await.unwrap();
    assert!(cuts >= 3, "it was cut {cuts} times only");
    eventually(SOON, async || client.fetch(&ids).await.unwrap().iter().all(Option::is_some)).await;
}

#[tokio::test]
async fn results_survive_a_server_that_is_killed() {
    let server = RabbitServer::start().await;
    let vhost = server.default_vhost();
    let (proxy, client, worker) = behind_a_proxy(&vhost).await;
    let queue = client.reply_to().unwrap();
    let id = TaskId::random();
    let mut watch = client.watch(&id).await.unwrap();
    proxy.refuse().await;
    proxy.cut();
    is_alone(&vhost, &queue).await;
    worker.store(vec![result(&id, TaskState::Success, "1", Some(queue))]).await.unwrap();
    server.kill();
    server.restart().await;
    proxy.heal().await;
    assert_eq!(json(&next(&mut watch).await), 1);
    client.close().await.unwrap();
    worker.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_down_holds_up_no_close() {
    let vhost = vhost().await;
    let (proxy, client, _worker) = behind_a_proxy(&vhost).await;
    let mut watch = client.watch(&TaskId::random()).await.unwrap();
    proxy.refuse().await;
    proxy.cut();
    let (closed, next) = tokio::join!(timeout(SOON, client.close()), timeout(SOON, watch.next()));
    closed.expect("it is closed").unwrap();
    next.expect("nobody waits for what cannot come").unwrap_err();
}

#[tokio::test]
async fn where_no_queue_can_be_had_for_results_it_is_told_in_time() {
    let vhost = vhost().await;
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let config = AmqpConfig::from_url(&vhost.url_at(proxy.address())).unwrap();
    let client = AmqpStore::open(config.publish_timeout(Duration::from_millis(700))).await.unwrap().backend();
    proxy.refuse().await;
    proxy.cut();
    let id = TaskId::random();
    let fetched = timeout(SOON, client.fetch(std::slice::from_ref(&id))).await.expect("it ends").unwrap_err();
    let watched = timeout(SOON, client.watch(&id)).await.expect("it ends").err().unwrap();
    let stored = result(&id, TaskState::Success, "1", client.reply_to());
    let stored = timeout(SOON, client.store(vec![stored])).await.expect("it ends").unwrap_err();
    for error in [fetched, watched, stored] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
        assert!(error.report().contains("`publish_timeout`"), "{}", error.report());
    }
    // A call later it may be there.
    proxy.heal().await;
    eventually(SOON, async || client.fetch(std::slice::from_ref(&id)).await.is_ok()).await;
}
