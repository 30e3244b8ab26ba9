import { IDBFactory, IDBObjectStore } from 'fake-indexeddb'
import { afterEach, expect, test, vi } from 'vitest'
import { Outbox, StorageTrouble } from '../src/outbox'
import { briefing, item, judgment } from './samples'

afterEach(() => { vi.restoreAllMocks() })

async function fresh(factory = new IDBFactory()) {
  return { factory, outbox: await Outbox.open('attune:1:demo', factory) }
}

test('answers come out in the order they went in, whoever opens the box', async () => {
  const { factory, outbox } = await fresh()
  for (const n of [3, 1, 2]) await outbox.put('verify', judgment(`j${n}`, n), item(n))
  outbox.close()
  const reopened = await Outbox.open('attune:1:demo', factory)
  expect((await reopened.pending()).map((entry) => entry.id)).toEqual(['j3', 'j1', 'j2'])
})

test('putting an answer releases its item and extends the trail in one transaction', async () => {
  const { outbox } = await fresh()
  await outbox.hold('verify', [item(1), item(2)], 'tab')
  await outbox.put('verify', judgment('a', 1), item(1))
  expect((await outbox.adopt('verify', 'tab', new Set(['tab']))).map((one) => one.slot)).toEqual([2])
  expect((await outbox.trail('verify')).map((past) => past.judgment.id)).toEqual(['a'])
})

test('a crash between the steps leaves all of them or none', async () => {
  const { outbox } = await fresh()
  await outbox.hold('verify', [item(1)], 'tab')
  vi.spyOn(IDBObjectStore.prototype, 'delete').mockImplementation(() => { throw new Error('crash') })
  await expect(outbox.put('verify', judgment('a', 1), item(1))).rejects.toBeInstanceOf(StorageTrouble)
  vi.restoreAllMocks()
  expect(await outbox.pending()).toEqual([])
  expect(await outbox.trail('verify')).toEqual([])
  expect((await outbox.adopt('verify', 'tab', new Set())).length).toBe(1)
})

test('a full disk is told apart, and the box works again afterwards', async () => {
  const { outbox } = await fresh()
  vi.spyOn(IDBObjectStore.prototype, 'add').mockImplementation(() => { throw new DOMException('no room', 'QuotaExceededError') })
  const trouble = await outbox.put('verify', judgment('a', 1), item(1)).catch((error: unknown) => error)
  expect(trouble).toBeInstanceOf(StorageTrouble)
  expect((trouble as StorageTrouble).fault).toBe('full')
  vi.restoreAllMocks()
  await outbox.put('verify', judgment('a', 1), item(1))
  expect((await outbox.pending()).length).toBe(1)
})

test('the same answer cannot be queued twice', async () => {
  const { outbox } = await fresh()
  await outbox.put('verify', judgment('a', 1), item(1))
  await expect(outbox.put('verify', judgment('a', 1), item(1))).rejects.toBeInstanceOf(StorageTrouble)
  expect((await outbox.pending()).length).toBe(1)
})

test('stored and duplicate leave the box; refused and set aside stay with their reasons', async () => {
  const { outbox } = await fresh()
  for (const n of [1, 2, 3, 4]) await outbox.put('verify', judgment(`j${n}`, n), item(n))
  await outbox.settle([
    { id: 'j1', status: 'stored' }, { id: 'j2', status: 'duplicate' }, { id: 'j3', status: 'refused', reason: 'conflict', detail: 'differs' }, { id: 'j4', status: 'set_aside', reason: 'lapsed' },
  ])
  expect(await outbox.pending()).toEqual([])
  expect((await outbox.count()).problems.map(({ id, status, reason }) => [id, status, reason])).toEqual([['j3', 'refused', 'conflict'], ['j4', 'set_aside', 'lapsed']])
})

test('settling twice, or something unknown, harms nothing', async () => {
  const { outbox } = await fresh()
  await outbox.put('verify', judgment('a', 1), item(1))
  await outbox.settle([{ id: 'a', status: 'stored' }])
  await outbox.settle([{ id: 'a', status: 'stored' }, { id: 'unknown', status: 'refused' }])
  expect(await outbox.entries()).toEqual([])
})

test('a refused answer can be sent again but not thrown away; one set aside can be put away once read', async () => {
  const { outbox } = await fresh()
  for (const n of [1, 2]) await outbox.put('verify', judgment(`j${n}`, n), item(n))
  await outbox.settle([{ id: 'j1', status: 'refused' }, { id: 'j2', status: 'set_aside' }])
  await outbox.acknowledge('j1')
  await outbox.acknowledge('j2')
  expect((await outbox.count()).problems.map((one) => one.id)).toEqual(['j1'])
  await outbox.retry('j1')
  expect((await outbox.pending()).map((entry) => entry.id)).toEqual(['j1'])
})

test('an item is held by one tab, and not again while its answer waits', async () => {
  const { outbox } = await fresh()
  expect((await outbox.hold('verify', [item(1), item(2)], 'one')).length).toBe(2)
  expect(await outbox.hold('verify', [item(2)], 'two')).toEqual([])
  await outbox.put('verify', judgment('a', 1), item(1))
  expect(await outbox.hold('verify', [item(1)], 'two')).toEqual([])
  expect((await outbox.holding('verify')).sort()).toEqual([1, 2])
})

test('a new tab takes over the items of tabs that are gone, and leaves those of living ones', async () => {
  const { outbox } = await fresh()
  await outbox.hold('verify', [item(1)], 'gone')
  await outbox.hold('verify', [item(2)], 'alive')
  await outbox.hold('rate', [item(3)], 'gone')
  expect((await outbox.adopt('verify', 'new', new Set(['alive', 'new']))).map((one) => one.slot)).toEqual([1])
  expect((await outbox.adopt('verify', 'another', new Set(['alive', 'new', 'another']))).length).toBe(0)
})

test('where no one can tell which tabs live, only one’s own items are taken', async () => {
  const { outbox } = await fresh()
  await outbox.hold('verify', [item(1)], 'other')
  await outbox.hold('verify', [item(2)], 'mine')
  expect((await outbox.adopt('verify', 'mine', null)).map((one) => one.slot)).toEqual([2])
})

test('an adjudicator’s items and an annotator’s slots with one number are two things', async () => {
  const { outbox } = await fresh()
  await outbox.hold('verify', [item(1)], 'tab')
  await outbox.put('adjudicate', judgment('d', 1), item(1))
  expect((await outbox.adopt('verify', 'tab', new Set())).length).toBe(1)
})

test('the trail holds the latest answer of each item and is bounded', async () => {
  const { outbox } = await fresh()
  await outbox.put('verify', judgment('a', 1), item(1))
  await outbox.put('verify', judgment('b', 2), item(2))
  await outbox.put('verify', judgment('c', 1, { supersedes: 'a', label: 'fear' }), item(1))
  expect((await outbox.trail('verify')).map((past) => past.judgment.id)).toEqual(['b', 'c'])
  for (let n = 10; n < 140; n += 1) await outbox.put('verify', judgment(`x${n}`, n), item(n))
  expect((await outbox.trail('verify')).length).toBe(50)
})

test('a half-made rating survives, and goes with its answer', async () => {
  const { outbox } = await fresh()
  const draft = { ratings: { x: { satisfaction: 4 } }, comment: '', flagged: true }
  await outbox.keepDraft('rate', 7, draft)
  expect(await outbox.draft('rate', 7)).toEqual(draft)
  await outbox.put('rate', judgment('a', 7), item(7))
  expect(await outbox.draft('rate', 7)).toBeNull()
})

test('the briefing is there without a network', async () => {
  const { outbox } = await fresh()
  await outbox.keepBriefing(briefing('rate'))
  expect((await outbox.briefing('rate'))?.title).toBe('Demo')
  expect(await outbox.briefing('verify')).toBeNull()
})

test('a connection the browser closed is opened again', async () => {
  const { outbox } = await fresh()
  outbox.close()
  await outbox.put('verify', judgment('a', 1), item(1))
  expect((await outbox.pending()).length).toBe(1)
})

test('a browser without storage is told so at once', async () => {
  const broken = { open: () => { throw new DOMException('denied', 'SecurityError') } } as unknown as IDBFactory
  await expect(Outbox.open('x', broken as never)).rejects.toMatchObject({ fault: 'unavailable' })
})
