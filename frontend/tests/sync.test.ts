import { IDBFactory } from 'fake-indexeddb'
import { expect, test } from 'vitest'
import type { Api } from '../src/api'
import { createApi } from '../src/api'
import type { Judgment, Task } from '../src/contract'
import { Outbox } from '../src/outbox'
import { emptySession, reduce } from '../src/session'
import type { Happening, Session } from '../src/session'
import type { Locks } from '../src/sync'
import { AHEAD, createSync } from '../src/sync'
import { briefing, item, judgment, progress } from './samples'

/** A server that stores by id, and can be told to fail in the ways servers and networks do. */
function makeServer() {
  const server = {
    stored: [] as Judgment[],
    requests: [] as { path: string; body: Record<string, unknown> }[],
    next: 1,
    total: 1000,
    verdict: {} as Record<string, object>,
    mood: [] as ('offline' | 'lost' | number | object)[],
    fetch: async (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
      const path = String(input)
      const body = JSON.parse(String(init?.body ?? '{}')) as Record<string, unknown>
      server.requests.push({ path, body })
      const mood = server.mood.shift()
      if (mood === 'offline') throw new TypeError('network')
      if (typeof mood === 'number') return Response.json({ error: `status_${mood}`, detail: 'no' }, { status: mood })
      const answer = server.answer(path, body)
      if (mood === 'lost') throw new TypeError('connection reset')
      return Response.json(typeof mood === 'object' ? mood : answer)
    },
    answer: (path: string, body: Record<string, unknown>) => {
      const results = ((body.judgments ?? []) as Judgment[]).map((given) => {
        const verdict = server.verdict[given.id]
        if (verdict) return { id: given.id, ...verdict }
        if (server.stored.some((one) => one.id === given.id)) return { id: given.id, status: 'duplicate' }
        server.stored.push(given)
        return { id: given.id, status: 'stored' }
      })
      const items = []
      for (let left = Number(body.want ?? 0); left > 0 && server.next <= server.total; left -= 1) items.push(item(server.next++))
      return { items, lost: [], progress: progress({ done: server.stored.length }), ...(path.endsWith('judgments/') ? { results } : {}) }
    },
  }
  return server
}

function makeLocks(): Locks {
  let tail: Promise<unknown> = Promise.resolve()
  return {
    exclusive: (_name, work) => {
      const mine = tail.then(work)
      tail = mine.catch(() => undefined)
      return mine
    },
  }
}

type Server = ReturnType<typeof makeServer>

async function makeTab(server: Server, factory: IDBFactory, locks: Locks, over: { client?: string; task?: Task; samePerson?: () => Promise<boolean>; api?: Partial<Api> } = {}) {
  const task = over.task ?? 'verify'
  let state: Session = reduce(emptySession(), { type: 'briefed', briefing: briefing(task), phase: 'work', guidelineSeen: true })
  const lines: string[] = []
  const waits: { work: () => void; milliseconds: number }[] = []
  const outbox = await Outbox.open('attune:1:demo', factory)
  const happen = (event: Happening): void => {
    state = reduce(state, event)
    if (event.type === 'line') lines.push(event.line)
  }
  const api = { ...createApi({ campaign: 'demo', language: 'en', csrf: () => 'token' }, server.fetch as typeof fetch), ...over.api }
  const sync = createSync({
    api, outbox, locks, scope: '1:demo', task, client: over.client ?? 'tab', ahead: () => state.ahead.length, happen, announce: () => undefined,
    samePerson: over.samePerson ?? (async () => true), gated: () => lines.push('gated'),
    later: (work, milliseconds) => {
      const wait = { work, milliseconds }
      waits.push(wait)
      return () => { waits.splice(waits.indexOf(wait), 1) }
    },
    random: () => 0,
  })
  let made = 0
  const tab = {
    outbox, sync, lines, waits,
    state: () => state,
    answer: async (): Promise<void> => {
      const shown = state.ahead[0]
      if (!shown) throw new Error('nothing on screen')
      const given = judgment(`${over.client ?? 'tab'}-${(made += 1)}`, Number(shown.slot))
      await outbox.put(task, given, shown)
      happen({ type: 'answered', judgment: given, item: shown })
      sync.wake()
    },
    run: async (): Promise<void> => {
      sync.wake()
      await sync.settled()
    },
    /** The back-off is over. */
    elapse: async (): Promise<void> => {
      for (const wait of waits.splice(0)) wait.work()
      await sync.settled()
    },
  }
  return tab
}

async function setUp(over: Parameters<typeof makeTab>[3] = {}) {
  const server = makeServer()
  const tab = await makeTab(server, new IDBFactory(), makeLocks(), over)
  await tab.run()
  return { server, tab }
}

test('it starts with the item on screen and five or more ahead', async () => {
  const { tab } = await setUp()
  expect(tab.state().ahead.length).toBe(AHEAD + 1)
  expect(AHEAD).toBeGreaterThanOrEqual(5)
})

test('each answer is one request, which brings the next item too', async () => {
  const { server, tab } = await setUp()
  const before = server.requests.length
  for (let n = 0; n < 5; n += 1) {
    await tab.answer()
    await tab.sync.settled()
  }
  expect(server.requests.slice(before).map((request) => request.path)).toEqual(Array(5).fill('/api/campaigns/demo/judgments/'))
  expect(tab.state().ahead.length).toBe(AHEAD + 1)
  expect(tab.state().pending).toBe(0)
})

test('what is held is named, so that it is not dealt again, without what is being answered', async () => {
  const { server, tab } = await setUp()
  await tab.answer()
  await tab.sync.settled()
  const { holding, want } = server.requests.at(-1)?.body as { holding: number[]; want: number }
  expect(holding).toEqual([2, 3, 4, 5, 6, 7, 8, 9])
  expect(want).toBe(1)
})

test('offline, answers pile up and are counted; back online they are all sent once, in order', async () => {
  const { server, tab } = await setUp()
  server.mood = Array(50).fill('offline')
  for (let n = 0; n < 6; n += 1) {
    await tab.answer()
    await tab.sync.settled()
  }
  expect(tab.state().line).toBe('offline')
  expect(tab.state().pending).toBe(6)
  server.mood = []
  await tab.elapse()
  expect(server.stored.map((one) => one.id)).toEqual([1, 2, 3, 4, 5, 6].map((n) => `tab-${n}`))
  expect([tab.state().line, tab.state().pending]).toEqual(['idle', 0])
})

test('an answer made while waiting does not break the wait', async () => {
  const { server, tab } = await setUp()
  server.mood = ['offline']
  await tab.answer()
  await tab.sync.settled()
  const before = server.requests.length
  await tab.answer()
  await tab.sync.settled()
  expect(server.requests.length).toBe(before)
  expect(tab.state().pending).toBe(2)
})

test('waits double up to half a minute, and an answer of the server ends them', async () => {
  const { server, tab } = await setUp()
  server.mood = Array(8).fill(500)
  await tab.answer()
  await tab.sync.settled()
  const seen: number[] = []
  for (let n = 0; n < 7; n += 1) {
    seen.push(tab.waits[0]?.milliseconds ?? -1)
    await tab.elapse()
  }
  expect(seen).toEqual([500, 1000, 2000, 4000, 8000, 15000, 15000])
  expect(tab.lines).toContain('busy')
  await tab.elapse()
  expect(tab.state().line).toBe('idle')
})

test('a response lost on the way is asked for again with the same id, and stored once', async () => {
  const { server, tab } = await setUp()
  server.mood = ['lost']
  await tab.answer()
  await tab.sync.settled()
  expect([server.stored.length, tab.state().pending]).toEqual([1, 1])
  await tab.elapse()
  expect([server.stored.length, tab.state().pending]).toEqual([1, 0])
})

test('a refused answer does not hold up the others, and is listed', async () => {
  const { server, tab } = await setUp()
  server.verdict['tab-1'] = { status: 'refused', reason: 'conflict', detail: 'other content' }
  server.verdict['tab-2'] = { status: 'set_aside', reason: 'lapsed' }
  for (let n = 0; n < 3; n += 1) await tab.answer()
  await tab.run()
  expect(server.stored.map((one) => one.id)).toEqual(['tab-3'])
  expect(tab.state().problems.map((one) => [one.id, one.status])).toEqual([['tab-1', 'refused'], ['tab-2', 'set_aside']])
  expect(tab.state().pending).toBe(0)
})

test('a request the server calls wrong refuses that answer alone, even out of a batch', async () => {
  const { server, tab } = await setUp()
  server.mood = ['offline']
  for (let n = 0; n < 4; n += 1) await tab.answer()
  await tab.sync.settled()
  // The batch of four is called wrong; sent one by one, only the first is.
  server.mood = [400, 400]
  await tab.elapse()
  expect(tab.state().problems.map((one) => one.id)).toEqual(['tab-1'])
  expect(server.stored.map((one) => one.id)).toEqual(['tab-2', 'tab-3', 'tab-4'])
})

test.each([[401, 'signed_out'], [403, 'forbidden'], [404, 'forbidden'], [503, 'busy'], [429, 'busy']])('a %i keeps the answer and says %s', async (status, line) => {
  const { server, tab } = await setUp()
  server.mood = [status]
  await tab.answer()
  await tab.sync.settled()
  expect([tab.state().line, tab.state().pending, tab.state().problems.length]).toEqual([line, 1, 0])
})

test('where consent is wanted first, the page is told, not the person accused', async () => {
  const { server, tab } = await setUp()
  server.fetch = (async () => Response.json({ error: 'consent_needed', detail: 'Read it first.' }, { status: 403 })) as typeof server.fetch
  const late = await makeTab(server, new IDBFactory(), makeLocks())
  await late.run()
  expect(late.lines).toEqual(['gated'])
  expect(tab.state().line).toBe('idle')
})

test('an answer in an unknown form keeps the judgment and says so', async () => {
  const { server, tab } = await setUp()
  server.mood = [{ hello: 'world' }]
  await tab.answer()
  await tab.sync.settled()
  expect([tab.state().line, tab.state().pending]).toEqual(['malformed', 1])
})

test('nothing is sent while somebody else is signed in', async () => {
  let same = false
  const { server, tab } = await setUp({ samePerson: async () => same })
  await tab.answer()
  await tab.sync.settled()
  expect([server.stored.length, tab.state().line, tab.state().pending]).toEqual([0, 'other_person', 1])
  same = true
  tab.sync.retry()
  await tab.sync.settled()
  expect([server.stored.length, tab.state().pending]).toEqual([1, 0])
})

test('two tabs share the outbox, hold different items and send everything once', async () => {
  const server = makeServer()
  const factory = new IDBFactory()
  const locks = makeLocks()
  const one = await makeTab(server, factory, locks, { client: 'one' })
  const two = await makeTab(server, factory, locks, { client: 'two' })
  await Promise.all([one.run(), two.run()])
  const slots = [...one.state().ahead, ...two.state().ahead].map((held) => held.slot)
  expect(new Set(slots).size).toBe(slots.length)
  for (let n = 0; n < 5; n += 1) await Promise.all([one.answer(), two.answer()])
  await Promise.all([one.run(), two.run()])
  await Promise.all([one.run(), two.run()])
  expect(server.stored.length).toBe(10)
  const sent = server.requests.flatMap((request) => (request.body.judgments ?? []) as Judgment[]).map((given) => given.id)
  expect(new Set(sent).size).toBe(sent.length)
  expect(await one.outbox.pending()).toEqual([])
})

test('what another task left behind is sent too, without asking for its items', async () => {
  const { server, tab } = await setUp()
  await tab.outbox.put('rate', judgment('old', 900, { action: 'rate' }), item(900))
  await tab.run()
  expect(server.stored.map((one) => one.id)).toEqual(['old'])
  expect(server.requests.at(-1)?.body).toMatchObject({ task: 'rate', want: 0 })
})

test('the end of the queue is said once nothing is left, and looked at again later', async () => {
  const server = makeServer()
  server.total = 2
  const tab = await makeTab(server, new IDBFactory(), makeLocks())
  await tab.run()
  await tab.answer()
  await tab.answer()
  await tab.run()
  expect(tab.state().exhausted).toBe(true)
  server.total = 3
  await tab.elapse()
  expect(tab.state().ahead.map((held) => held.slot)).toEqual([3])
})

test('a decision is sent as a decision, and brings the comments', async () => {
  const decided: unknown[] = []
  const api = {
    disputes: async () => ({ items: [item(1, { labels: [{ label: 'joy', count: 2 }] })], left: 1 }),
    decide: async (decision: unknown) => {
      decided.push(decision)
      return { status: 'stored', comments: ['ironic'], reason: '', detail: '' }
    },
  }
  const { tab } = await setUp({ task: 'adjudicate', api })
  const shown = tab.state().ahead[0]
  if (!shown) throw new Error('nothing to decide')
  await tab.outbox.put('adjudicate', judgment('d1', 1, { comment: 'clear' }), shown)
  await tab.run()
  expect(decided).toEqual([{ id: 'd1', item: 1, label: 'joy', comment: 'clear' }])
  expect(await tab.outbox.pending()).toEqual([])
})
