// The connection to the daemon: it reconnects by itself, whatever broke it.

const SILENCE_MS = 3_000; // the daemon speaks at least once a second
const GIVE_UP_MS = 6_000; // then the connection is made anew
const AGAIN_MS = 1_000;

/**
 * Listens to server-sent events for ever.
 * @param {string} address
 * @param {Record<string, (content: any) => void>} heard what to do with each kind of event
 */
export class Stream {
  constructor(address, heard) {
    this.address = address;
    this.heard = heard;
    this.lastAt = null;
    this.begunAt = performance.now();
    this.open();
    setInterval(() => this.check(), 500);
  }

  open() {
    this.source?.close();
    this.openedAt = performance.now();
    this.source = new EventSource(this.address);
    for (const [kind, hear] of Object.entries(this.heard)) {
      this.source.addEventListener(kind, (event) => {
        this.lastAt = performance.now();
        hear(JSON.parse(event.data));
      });
    }
  }

  /** Seconds without a word; 0 while all is well. */
  get silentS() {
    const silent = performance.now() - (this.lastAt ?? this.begunAt);
    return silent > SILENCE_MS ? silent / 1000 : 0;
  }

  /** A browser does not retry after an answer like 503, nor on a connection that only hangs. */
  check() {
    const now = performance.now();
    const quiet = now - Math.max(this.lastAt ?? 0, this.openedAt);
    const closed = this.source.readyState === EventSource.CLOSED && now - this.openedAt > AGAIN_MS;
    if (closed || quiet > GIVE_UP_MS) this.open();
  }
}
