// Keeps a few items ahead and empties the outbox, one tab at a time. It trusts answers, not `navigator.onLine`.
import type { Api, Ask } from './api'
import { Trouble } from './api'
import type { Item, Progress, Result, Slot, Task } from './contract'
import type { Entry, Outbox } from './outbox'
import type { Happening, Line } from './session'

/** Items wanted in the browser beyond the one on screen. */
export const AHEAD = 8
/** The server reads so many names of held slots. */
const MOST_HELD = 100
const BACKLOG_BATCH = 10
const FIRST_WAIT_MS = 1_000
const LONGEST_WAIT_MS = 30_000
const SLOW_WAIT_MS = 20_000

/** A lock shared by all tabs of this browser: the Web Locks API, or its stand-in where that is missing. */
export interface Locks {
  exclusive<T>(name: string, work: () => Promise<T>): Promise<T>
}

export function webLocks(manager: LockManager | undefined): Locks {
  if (!manager) return { exclusive: (_name, work) => work() }
  // The library's types give the callback's promise twice over.
  return { exclusive: <T>(name: string, work: () => Promise<T>) => manager.request(name, work) as Promise<T> }
}

export interface Surroundings {
  api: Api
  outbox: Outbox
  locks: Locks
  scope: string
  task: Task
  client: string
  /** Items of this tab not yet answered. */
  ahead: () => number
  happen: (event: Happening) => void
  /** Tells the other tabs that the outbox or the leases changed. */
  announce: () => void
  /** False when the session cookie now belongs to someone else: then nothing may be sent. */
  samePerson: () => Promise<boolean>
  /** The server wants the consent page or the practice round first. */
  gated: () => void
  later: (work: () => void, milliseconds: number) => () => void
  random: () => number
}

export interface Sync {
  /** Something may have to be sent or fetched. */
  wake: () => void
  /** The person asked, or the network seems back: do not wait out the back-off. */
  retry: () => void
  /** Another tab changed the outbox. */
  recount: () => Promise<void>
  stop: () => void
  settled: () => Promise<void>
}

const LINES: Record<Trouble['kind'], Line> = {
  offline: 'offline', busy: 'busy', signed_out: 'signed_out', forbidden: 'forbidden', malformed: 'malformed', refused: 'busy',
}

export function createSync(around: Surroundings): Sync {
  const { api, outbox, happen } = around
  let running: Promise<void> | null = null
  let again = false
  let stopped = false
  let failures = 0
  let exhaustedUntilAnswer = false
  let cancelWait: (() => void) | null = null
  let counting: Promise<void> = Promise.resolve()

  async function recount(): Promise<void> {
    happen({ type: 'counted', ...(await outbox.count()) })
  }

  async function ask(task: Task): Promise<Ask> {
    const short = task !== around.task || exhaustedUntilAnswer ? 0 : Math.max(0, AHEAD + 1 - around.ahead())
    return { task, want: Math.min(20, short), holding: (await outbox.holding(task)).slice(0, MOST_HELD), client: around.client }
  }

  async function take(dealt: { items: Item[]; lost: Slot[]; progress: Progress | null }, wanted: number): Promise<void> {
    if (dealt.lost.length > 0) await outbox.release(around.task, dealt.lost)
    const items = await outbox.hold(around.task, dealt.items, around.client)
    const exhausted = wanted > 0 && dealt.items.length === 0
    exhaustedUntilAnswer = exhausted
    happen({ type: 'received', items, lost: dealt.lost, progress: dealt.progress, exhausted })
    if (items.length > 0) around.announce()
  }

  /** One request for one entry, or for several when a backlog has built up; falls back to one when several fail. */
  async function send(batch: Entry[]): Promise<void> {
    const task = batch[0]?.task ?? around.task
    exhaustedUntilAnswer = false
    const asked = await ask(task)
    const judgments = batch.map((entry) => entry.judgment)
    // What is being answered is no longer held.
    const answered = new Set(batch.map((entry) => String(entry.item.slot)))
    const holding = asked.holding.filter((slot) => !answered.has(String(slot)))
    const receipt = await api.submit({ ...asked, holding, judgments })
    const known = new Set(judgments.map((judgment) => judgment.id))
    const results = receipt.results.filter((result) => known.has(result.id))
    await outbox.settle(results)
    if (task === around.task) await take(receipt, asked.want)
    if (results.length === 0) throw new Trouble('malformed', 'no_result', 'no result for what was sent')
  }

  async function decide(entry: Entry): Promise<void> {
    const { id, slot, label, comment, supersedes } = entry.judgment
    const receipt = await api.decide({
      id, item: slot, label: label ?? '', ...(comment ? { comment } : {}), ...(supersedes ? { supersedes } : {}),
    })
    const status = receipt.status === 'refused' ? 'refused' : 'stored'
    await outbox.settle([{ id, status, reason: receipt.reason, detail: receipt.detail }])
    happen({ type: 'comments', id, comments: receipt.comments })
  }

  async function refuse(batch: Entry[], trouble: Trouble): Promise<void> {
    const results: Result[] = batch.map((entry) => ({ id: entry.id, status: 'refused', reason: trouble.code, detail: trouble.message }))
    await outbox.settle(results)
  }

  async function drain(): Promise<void> {
    let single = false
    for (;;) {
      const waiting = await outbox.pending()
      const first = waiting[0]
      if (!first || stopped) return
      const run = waiting.findIndex((entry) => entry.task !== first.task)
      const alike = run === -1 ? waiting : waiting.slice(0, run)
      if (!(await around.samePerson())) {
        happen({ type: 'line', line: 'other_person' })
        throw new Trouble('signed_out', 'other_person', '')
      }
      happen({ type: 'line', line: 'sending' })
      const deciding = first.task === 'adjudicate'
      const batch = deciding || single ? [first] : alike.slice(0, alike.length > 2 ? BACKLOG_BATCH : 1)
      try {
        await (deciding ? decide(first) : send(batch))
      } catch (error) {
        if (!(error instanceof Trouble)) throw error
        const ours = error.kind === 'refused' || error.kind === 'busy'
        if (batch.length > 1 && ours) single = true
        else if (error.kind === 'refused') await refuse(batch, error)
        else throw error
      }
      await recount()
      around.announce()
    }
  }

  async function topUp(): Promise<void> {
    if (around.task === 'adjudicate') {
      if (around.ahead() > 2 || exhaustedUntilAnswer) return
      const { items } = await api.disputes()
      const queued = new Set((await outbox.pending()).map((entry) => String(entry.item.slot)))
      const fresh = items.filter((item) => !queued.has(String(item.slot)))
      exhaustedUntilAnswer = fresh.length === 0
      happen({ type: 'received', items: fresh, lost: [], progress: null, exhausted: fresh.length === 0 })
      return
    }
    if (around.ahead() > AHEAD / 2) return
    const asked = await ask(around.task)
    if (asked.want === 0) return
    await take(await api.lease(asked), asked.want)
  }

  function wait(milliseconds: number): void {
    cancelWait?.()
    cancelWait = around.later(() => {
      cancelWait = null
      wake()
    }, milliseconds)
  }

  function backOff(trouble: Trouble): void {
    failures += 1
    if (trouble.code === 'consent_needed' || trouble.code === 'practice_needed') {
      around.gated()
      return
    }
    if (trouble.code !== 'other_person') happen({ type: 'line', line: LINES[trouble.kind] })
    const hopeless = trouble.kind === 'signed_out' || trouble.kind === 'forbidden' || trouble.kind === 'malformed'
    const doubling = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failures - 1))
    wait(trouble.retryAfterMs ?? (hopeless ? SLOW_WAIT_MS : doubling * (0.5 + around.random() / 2)))
  }

  async function once(): Promise<void> {
    try {
      await around.locks.exclusive(`attune-drain:${around.scope}`, drain)
      await topUp()
      failures = 0
      happen({ type: 'line', line: 'idle' })
      // With nothing in hand, look again now and then: a lease of someone else may lapse.
      if (around.ahead() === 0) {
        exhaustedUntilAnswer = false
        wait(LONGEST_WAIT_MS)
      }
    } catch (error) {
      if (error instanceof Trouble) backOff(error)
      else {
        happen({ type: 'fault', fault: 'unavailable' })
        wait(LONGEST_WAIT_MS)
      }
    }
    await recount().catch(() => undefined)
  }

  function wake(): void {
    if (stopped || (cancelWait && failures > 0)) {
      counting = recount().catch(() => undefined)
      return
    }
    if (running) {
      again = true
      return
    }
    running = once().finally(() => {
      running = null
      if (again) {
        again = false
        wake()
      }
    })
  }

  return {
    wake,
    recount,
    retry: () => {
      cancelWait?.()
      cancelWait = null
      wake()
    },
    stop: () => {
      stopped = true
      cancelWait?.()
      cancelWait = null
    },
    settled: async () => {
      while (running) await running
      await counting
    },
  }
}
