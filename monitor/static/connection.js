// Server-sent events: every event is a whole cluster document, so the next one makes up for a lost one.

const RETRY_MILLISECONDS = 1500;

/**
 * Listen for ever: call `onDocument(cluster)` for each document, `onLost()` when the connection is lost or silent.
 * EventSource connects again by itself, except after an HTTP error and on a stalled connection, which reports nothing.
 */
export function listen(url, onDocument, onLost) {
  let source;
  let watchdog;

  function connect() {
    clearTimeout(watchdog);
    source?.close();
    source = new EventSource(url);
    source.addEventListener("cluster", (event) => {
      const cluster = JSON.parse(event.data);
      watch(Math.max(5, 3 * cluster.monitor.refresh_seconds));
      onDocument(cluster);
    });
    source.addEventListener("error", () => {
      clearTimeout(watchdog);
      onLost();
      if (source.readyState === EventSource.CLOSED) {
        watchdog = setTimeout(connect, RETRY_MILLISECONDS);
      }
    });
    watch(15);
  }

  function watch(seconds) {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => {
      onLost();
      connect();
    }, seconds * 1000);
  }

  connect();
}
