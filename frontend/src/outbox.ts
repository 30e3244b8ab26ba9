// What must outlive the page, in IndexedDB: answers not yet acknowledged (first in, first out), answers the server did
// not take, leased items, and the trail that undo walks. One database per person and campaign, shared by all her tabs.
import type { Answered, Briefing, Draft, Fault, Item, Judgment, Problem, Result, Slot, Task } from './contract'

export interface Entry {
  seq: number
  id: string
  task: Task
  judgment: Judgment
  item: Item
  state: 'pending' | 'refused' | 'set_aside'
  reason: string
  detail: string
}

interface Held {
  /** Task and slot: an adjudicator's items are numbered apart from an annotator's slots. */
  place: string
  task: Task
  client: string
  order: number
  item: Item
}

interface Walked extends Answered {
  seq?: number
  task: Task
}

const place = (task: Task, slot: Slot): string => `${task}:${slot}`

const TRAIL_KEPT = 50
const STORES = ['outbox', 'held', 'trail', 'notes'] as const
type StoreName = (typeof STORES)[number]

/** This device could not keep something. */
export class StorageTrouble extends Error {
  constructor(readonly fault: Fault, cause: unknown) {
    super(String(cause))
  }
}

function faultOf(error: unknown): StorageTrouble {
  if (error instanceof StorageTrouble) return error
  const name = (error as { name?: string } | null)?.name
  return new StorageTrouble(name === 'QuotaExceededError' ? 'full' : 'unavailable', error)
}

function asked<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
}

function openDatabase(factory: IDBFactory, name: string): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = factory.open(name, 1)
    request.onupgradeneeded = () => {
      const outbox = request.result.createObjectStore('outbox', { keyPath: 'seq', autoIncrement: true })
      outbox.createIndex('id', 'id', { unique: true })
      request.result.createObjectStore('held', { keyPath: 'place' })
      request.result.createObjectStore('trail', { keyPath: 'seq', autoIncrement: true })
      request.result.createObjectStore('notes')
    }
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
    request.onblocked = () => reject(new Error('blocked'))
  })
}

export class Outbox {
  private database: IDBDatabase | null = null

  private constructor(
    private readonly factory: IDBFactory,
    private readonly name: string,
  ) {}

  static async open(name: string, factory: IDBFactory = indexedDB): Promise<Outbox> {
    const outbox = new Outbox(factory, name)
    try {
      await outbox.connect()
    } catch (error) {
      throw faultOf(error)
    }
    return outbox
  }

  private async connect(): Promise<IDBDatabase> {
    if (this.database) return this.database
    const database = await openDatabase(this.factory, this.name)
    // The browser may close a connection under memory pressure or for a newer page: connect again when next needed.
    database.onclose = () => { this.database = null }
    database.onversionchange = () => {
      database.close()
      this.database = null
    }
    this.database = database
    return database
  }

  close(): void {
    this.database?.close()
    this.database = null
  }

  /** Runs `work` in one transaction and resolves only when that transaction is complete. */
  private async transact<T>(stores: StoreName[], mode: IDBTransactionMode, work: (store: (name: StoreName) => IDBObjectStore) => Promise<T> | T): Promise<T> {
    try {
      let transaction: IDBTransaction
      try {
        transaction = (await this.connect()).transaction(stores, mode, { durability: 'relaxed' })
      } catch {
        this.database = null
        transaction = (await this.connect()).transaction(stores, mode, { durability: 'relaxed' })
      }
      const complete = new Promise<void>((resolve, reject) => {
        transaction.oncomplete = () => resolve()
        transaction.onabort = () => reject(transaction.error ?? new Error('aborted'))
        transaction.onerror = () => reject(transaction.error)
      })
      // Without this a failed request inside `work` would leave the transaction's own rejection unhandled.
      complete.catch(() => undefined)
      try {
        const made = work((name) => transaction.objectStore(name))
        // Nothing more will be asked: committing now saves waiting for each request's own answer.
        if (mode === 'readwrite' && !(made instanceof Promise)) transaction.commit?.()
        const value = await made
        await complete
        return value
      } catch (error) {
        try {
          transaction.abort()
        } catch { /* already finished */ }
        throw error
      }
    } catch (error) {
      throw faultOf(error)
    }
  }

  /** Makes an answer durable: it is queued, its item leaves the held ones and joins the trail, all or nothing. */
  async put(task: Task, judgment: Judgment, item: Item): Promise<void> {
    await this.transact(['outbox', 'held', 'trail', 'notes'], 'readwrite', (store) => {
      store('outbox').add({ id: judgment.id, task, judgment, item, state: 'pending', reason: '', detail: '' })
      store('held').delete(place(task, item.slot))
      store('trail').add({ task, item, judgment } satisfies Walked)
      store('notes').delete(`draft:${place(task, item.slot)}`)
    })
  }

  async entries(): Promise<Entry[]> {
    return this.transact(['outbox'], 'readonly', (store) => asked(store('outbox').getAll() as IDBRequest<Entry[]>))
  }

  async pending(): Promise<Entry[]> {
    return (await this.entries()).filter((entry) => entry.state === 'pending')
  }

  /** How many answers wait, and which were not taken: one look, so that no answer given meanwhile falls between two. */
  async count(): Promise<{ pending: number; problems: Problem[] }> {
    const entries = await this.entries()
    const problems = entries.flatMap((entry): Problem[] =>
      entry.state === 'pending' ? [] : [{ id: entry.id, status: entry.state, reason: entry.reason, detail: entry.detail, item: entry.item, judgment: entry.judgment }],
    )
    return { pending: entries.length - problems.length, problems }
  }

  /** Takes the server's verdicts: stored and duplicate are done with; the others stay, with the reason. */
  async settle(results: Result[]): Promise<void> {
    await this.transact(['outbox'], 'readwrite', async (store) => {
      for (const result of results) {
        const entry = await asked(store('outbox').index('id').get(result.id) as IDBRequest<Entry | undefined>)
        if (!entry) continue
        if (result.status === 'stored' || result.status === 'duplicate') store('outbox').delete(entry.seq)
        else store('outbox').put({ ...entry, state: result.status, reason: result.reason ?? '', detail: result.detail ?? '' })
      }
    })
  }

  /** Queues a refused answer once more, or forgets one that the person has read and the server has kept. */
  async retry(id: string): Promise<void> {
    await this.change(id, (entry) => (entry.state === 'refused' ? { ...entry, state: 'pending' } : entry))
  }

  async acknowledge(id: string): Promise<void> {
    await this.change(id, (entry) => (entry.state === 'set_aside' ? null : entry))
  }

  private async change(id: string, next: (entry: Entry) => Entry | null): Promise<void> {
    await this.transact(['outbox'], 'readwrite', async (store) => {
      const entry = await asked(store('outbox').index('id').get(id) as IDBRequest<Entry | undefined>)
      if (!entry) return
      const changed = next(entry)
      if (changed) store('outbox').put(changed)
      else store('outbox').delete(entry.seq)
    })
  }

  /** Keeps leased items for one tab. An item that another tab holds, or that waits in the outbox, is not taken. */
  async hold(task: Task, items: Item[], client: string): Promise<Item[]> {
    return this.transact(['held', 'outbox'], 'readwrite', async (store) => {
      const held = await asked(store('held').getAll() as IDBRequest<Held[]>)
      const queued = await asked(store('outbox').getAll() as IDBRequest<Entry[]>)
      const taken = new Set([...held.map((one) => one.place), ...queued.filter((one) => one.state === 'pending').map((one) => place(one.task, one.item.slot))])
      let order = held.reduce((most, one) => Math.max(most, one.order), 0)
      const fresh = items.filter((item) => !taken.has(place(task, item.slot)))
      for (const item of fresh) {
        order += 1
        store('held').put({ place: place(task, item.slot), task, client, order, item } satisfies Held)
      }
      return fresh
    })
  }

  /** Every slot this person has in this browser, in any tab: what the server must not deal again. */
  async holding(task: Task): Promise<Slot[]> {
    return this.transact(['held', 'outbox'], 'readonly', async (store) => {
      const held = await asked(store('held').getAll() as IDBRequest<Held[]>)
      const queued = await asked(store('outbox').getAll() as IDBRequest<Entry[]>)
      const slots = [
        ...held.filter((one) => one.task === task).map((one) => one.item.slot),
        ...queued.filter((one) => one.task === task && one.state === 'pending' && !one.judgment.supersedes).map((one) => one.item.slot),
      ]
      return [...new Map(slots.map((slot) => [String(slot), slot])).values()]
    })
  }

  /** The items of this tab, and of tabs that are gone: a reload, a crash and a new tab all resume with the same ones.
   * `living` is null where the browser cannot tell which tabs live; then another tab's items stay where they are. */
  async adopt(task: Task, client: string, living: ReadonlySet<string> | null): Promise<Item[]> {
    return this.transact(['held'], 'readwrite', async (store) => {
      const held = await asked(store('held').getAll() as IDBRequest<Held[]>)
      const mine = held.filter((one) => one.task === task && (one.client === client || (living !== null && !living.has(one.client))))
      for (const one of mine) store('held').put({ ...one, client })
      return mine.sort((a, b) => a.order - b.order).map((one) => one.item)
    })
  }

  async release(task: Task, slots: Slot[]): Promise<void> {
    await this.transact(['held'], 'readwrite', (store) => {
      for (const slot of slots) store('held').delete(place(task, slot))
    })
  }

  async trail(task: Task): Promise<Answered[]> {
    return this.transact(['trail'], 'readwrite', async (store) => {
      const walked = await asked(store('trail').getAll() as IDBRequest<Walked[]>)
      for (const old of walked.slice(0, Math.max(0, walked.length - 2 * TRAIL_KEPT))) store('trail').delete(old.seq as number)
      const latest = new Map<string, Answered>()
      for (const { task: of, item, judgment } of walked) {
        if (of !== task) continue
        latest.delete(String(item.slot))
        latest.set(String(item.slot), { item, judgment })
      }
      return [...latest.values()].slice(-TRAIL_KEPT)
    })
  }

  async keepDraft(task: Task, slot: Slot, draft: Draft): Promise<void> {
    await this.transact(['notes'], 'readwrite', (store) => { store('notes').put(draft, `draft:${place(task, slot)}`) })
  }

  async draft(task: Task, slot: Slot): Promise<Draft | null> {
    const draft = await this.transact(['notes'], 'readonly', (store) => asked(store('notes').get(`draft:${place(task, slot)}`) as IDBRequest<Draft | undefined>))
    return draft ?? null
  }

  /** The last briefing, so that a page opened without a network can go on. */
  async keepBriefing(briefing: Briefing): Promise<void> {
    await this.transact(['notes'], 'readwrite', (store) => { store('notes').put(briefing, `briefing:${briefing.task}`) })
  }

  async briefing(task: Task): Promise<Briefing | null> {
    const kept = await this.transact(['notes'], 'readonly', (store) => asked(store('notes').get(`briefing:${task}`) as IDBRequest<Briefing | undefined>))
    return kept ?? null
  }

  async note(key: string, value?: string): Promise<string | null> {
    if (value !== undefined) {
      await this.transact(['notes'], 'readwrite', (store) => { store('notes').put(value, `note:${key}`) })
      return value
    }
    const kept = await this.transact(['notes'], 'readonly', (store) => asked(store('notes').get(`note:${key}`) as IDBRequest<string | undefined>))
    return kept ?? null
  }
}
