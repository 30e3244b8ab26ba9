// Time spent on an item, without the time away: it stops while the page is hidden, and after a while without any
// movement it counts as idle from the last movement on.

export class Attention {
  private spent = 0
  private since: number | null
  private last: number

  constructor(
    private readonly now: () => number,
    private idleAfterMs: number,
  ) {
    this.since = now()
    this.last = now()
  }

  setIdleAfter(milliseconds: number): void {
    this.idleAfterMs = milliseconds
  }

  /** A sign of life: a key, a pointer, a scroll. */
  stir(): void {
    this.bank()
    this.last = this.now()
    if (this.since === null) this.since = this.last
  }

  hide(): void {
    this.bank()
    this.since = null
  }

  restart(): void {
    this.spent = 0
    this.since = this.now()
    this.last = this.since
  }

  activeMs(): number {
    return this.spent + this.running()
  }

  private running(): number {
    if (this.since === null) return 0
    return Math.max(0, Math.min(this.now(), this.last + this.idleAfterMs) - this.since)
  }

  private bank(): void {
    const now = this.now()
    this.spent += this.running()
    if (this.since !== null) this.since = now
  }
}
