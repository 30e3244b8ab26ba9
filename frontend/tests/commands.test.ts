import { IDBFactory, IDBObjectStore } from 'fake-indexeddb'
import { afterEach, expect, test, vi } from 'vitest'
import type { Api } from '../src/api'
import { COMMANDS, canRemap, collisions, commandFor, createCommander, keysOf, refuseKey } from '../src/commands'
import { Outbox } from '../src/outbox'
import type { Happening, Panel, Session } from '../src/session'
import { current, reduce } from '../src/session'
import { item, judgment, rateItem, stamp, working } from './samples'

afterEach(() => { vi.restoreAllMocks() })

/** Every kind of moment the workbench can be in. */
function moments(): [string, Session][] {
  const verify = working('verify', [item(1), item(2, { prelabel: 'joy' })])
  const shown = working('verify', [item(1, { prelabel: 'joy' })])
  const answered = reduce(verify, { type: 'answered', judgment: judgment('a', 1), item: item(1) })
  const reopened = reduce(answered, { type: 'undone' })
  let rated = working('rate', [rateItem(1)])
  const rating = rated
  for (let n = 0; n < 6; n += 1) rated = reduce(rated, { type: 'rated', points: 3 })
  const submitted = reduce(rated, { type: 'answered', judgment: judgment('r', 1, { action: 'rate', ratings: rated.draft.ratings }), item: rateItem(1) })
  const disputes = working('adjudicate', [item(1, { labels: [] }), item(2)])
  const practice: Session = { ...shown, phase: 'practice' }
  const problem = { id: 'x', status: 'refused' as const, reason: '', detail: '', item: item(9), judgment: judgment('x', 9) }
  const base: [string, Session][] = [
    ['empty', working('verify', [])], ['verify', verify], ['pre-label shown', shown], ['after an answer', answered], ['reopened', reopened],
    ['reopened ratings', reduce(submitted, { type: 'undone' })], ['rating', rating], ['all rated', rated], ['adjudicating', disputes],
    ['decided', reduce(disputes, { type: 'decided', judgment: judgment('d', 1), item: item(1) })],
    ['practice', practice], ['feedback', reduce(practice, { type: 'feedback', feedback: { correct: true, label: 'joy', explanation: '', done: false }, given: 'joy' })],
    ['consent', { ...verify, phase: 'consent' }],
    ['offline with problems', { ...answered, line: 'offline', pending: 3, problems: [problem] }],
    ['offline while all rated', { ...rated, line: 'offline', problems: [problem] }],
  ]
  const panels: Panel[] = ['keys', 'guidelines', 'skip', 'comment', 'history', 'problems', 'settings']
  return base.flatMap(([name, state]): [string, Session][] => [[name, state], ...panels.map((panel): [string, Session] => [`${name}, ${panel} open`, { ...state, panel }])])
}

test('no key ever runs two live commands', () => {
  for (const [name, state] of moments()) expect({ name, collisions: collisions(state, {}) }).toEqual({ name, collisions: [] })
})

test('the collision check can fail', () => {
  const [, state] = moments().find(([name]) => name === 'verify') as [string, Session]
  expect(collisions(state, { flag: 's' })).toEqual([['skip', 'flag']])
})

test('every command is live in some moment, has a unique name, and its keys reach it', () => {
  expect(new Set(COMMANDS.map((command) => command.id)).size).toBe(COMMANDS.length)
  const everywhere = moments().map(([, state]) => state)
  const beyond = ['rate_6', 'rate_7', 'rate_8', 'rate_9', 'reason_3', 'reason_4', 'reason_5', 'reason_6', 'reason_7', 'reason_8', 'reason_9']
  for (const command of COMMANDS.filter((one) => !beyond.includes(one.id))) {
    const live = everywhere.find((state) => command.when(state))
    expect(live, command.id).toBeDefined()
    if (live) for (const key of command.keys) expect(commandFor(live, key)?.id).toBe(command.id)
  }
})

test('digits 1 to 7 label in the fixed order, and capital letters do what small ones do', () => {
  const state = working('verify', [item(1)])
  expect(['1', '7'].map((key) => commandFor(state, key)?.effect(state))).toEqual([
    { type: 'answer', answer: { action: 'label', label: 'joy' } }, { type: 'answer', answer: { action: 'label', label: 'neutral' } },
  ])
  expect(commandFor(state, '8')).toBeNull()
  expect(commandFor(state, 'S')?.id).toBe('skip')
})

test('Enter accepts a shown pre-label and does nothing where none is shown', () => {
  const hidden = working('verify', [item(1)])
  expect(commandFor(hidden, 'Enter')).toBeNull()
  const shown = working('verify', [item(1, { prelabel: 'fear' })])
  expect(commandFor(shown, 'Enter')?.effect(shown)).toEqual({ type: 'answer', answer: { action: 'label', label: 'fear' } })
})

test('a pre-label is never an answer by itself', () => {
  const shown = working('verify', [item(1, { prelabel: 'fear' })])
  expect(shown.draft).toEqual({ ratings: {}, comment: '', flagged: false })
  expect(current(shown)).not.toHaveProperty('label')
})

test('a remapped key works, shows as the cap, and frees the old one', () => {
  const state = working('verify', [item(1)], { keymap: { flag: 'x' } })
  expect(commandFor(state, 'x')?.id).toBe('flag')
  expect(commandFor(state, 'f')).toBeNull()
  const flag = COMMANDS.find((command) => command.id === 'flag')
  expect(flag && keysOf(flag, { flag: 'x' })).toEqual(['x'])
})

test('a remap is refused where the key is taken, a digit or the browser’s', () => {
  expect(refuseKey('flag', 's', {})).toMatchObject({ problem: 'taken', by: { id: 'skip' } })
  expect(refuseKey('flag', '3', {})).toEqual({ problem: 'reserved' })
  expect(refuseKey('flag', 'Enter', {})).toEqual({ problem: 'reserved' })
  expect(refuseKey('flag', 'Escape', {})).toEqual({ problem: 'reserved' })
  expect(refuseKey('nothing', 'x', {})).toEqual({ problem: 'reserved' })
  expect(refuseKey('flag', 'x', {})).toBeNull()
  expect(refuseKey('flag', 's', { skip: 'x' })).toBeNull()
  expect(refuseKey('label_1', 'a', {})).toBeNull()
  expect(refuseKey('label_1', '2', {})).toMatchObject({ problem: 'taken' })
})

test('no remap that is allowed makes two commands live on one key', () => {
  const keys = [...'abcdefghijklmnopqrstuvwxyz0123456789?,. '].concat(['Backspace', 'ArrowUp', 'Enter', 'F2'])
  for (const command of COMMANDS.filter(canRemap)) {
    for (const key of keys.filter((one) => refuseKey(command.id, one, {}) === null)) {
      for (const [name, state] of moments()) {
        const keymap = { [command.id]: key }
        const found = collisions({ ...state, briefing: state.briefing && { ...state.briefing, keymap } }, keymap)
        expect({ command: command.id, key, name, found }).toEqual({ command: command.id, key, name, found: [] })
      }
    }
  }
})

async function setUp(start: Session, api: Partial<Api> = {}) {
  let state = start
  const happened: Happening[] = []
  const stored: string[] = []
  const outbox = await Outbox.open('attune:1:demo', new IDBFactory())
  let made = 0
  const commander = createCommander({
    state: () => state,
    happen: (event) => {
      happened.push(event)
      state = reduce(state, event)
    },
    outbox, api: api as Api,
    stamp: () => stamp(`j${(made += 1)}`),
    stored: (given) => stored.push(given.id),
    retry: () => undefined,
  })
  const press = async (key: string): Promise<void> => {
    const command = commandFor(state, key)
    if (command) await commander.perform(command.effect(state))
  }
  return { outbox, commander, happened, stored, press, state: () => state }
}

test('the screen moves on only after the answer is durable', async () => {
  const { outbox, press, happened, stored } = await setUp(working('verify', [item(1), item(2)]))
  const put = outbox.put.bind(outbox)
  const order: string[] = []
  vi.spyOn(outbox, 'put').mockImplementation(async (...given) => {
    await put(...given)
    order.push(`durable, ${happened.some((event) => event.type === 'answered') ? 'after' : 'before'} the screen moved`)
  })
  await press('1')
  expect(order).toEqual(['durable, before the screen moved'])
  expect(happened.map((event) => event.type)).toEqual(['answered'])
  expect(stored).toEqual(['j1'])
})

test('a full disk keeps the item on screen and nothing is called stored', async () => {
  const { press, state, stored } = await setUp(working('verify', [item(1), item(2)]))
  vi.spyOn(IDBObjectStore.prototype, 'add').mockImplementation(() => { throw new DOMException('no room', 'QuotaExceededError') })
  await press('1')
  expect([current(state())?.slot, state().fault, stored]).toEqual([1, 'full', []])
  vi.restoreAllMocks()
  await press('1')
  expect([current(state())?.slot, state().fault]).toEqual([2, null])
})

test('while an answer is being written, other keys wait for none and change nothing', async () => {
  const { outbox, press, happened } = await setUp(working('verify', [item(1), item(2), item(3)]))
  await Promise.all([press('1'), press('2'), press('f'), press('u')])
  expect(happened.map((event) => event.type)).toEqual(['answered'])
  expect((await outbox.pending()).map((entry) => entry.judgment.label)).toEqual(['joy'])
})

test('skip asks for a reason, which goes with it', async () => {
  const { press, outbox, state } = await setUp(working('verify', [item(1), item(2)]))
  await press('s')
  expect(state().panel).toBe('skip')
  await press('2')
  expect((await outbox.pending()).map((entry) => [entry.judgment.action, entry.judgment.reason])).toEqual([['skip', 'other']])
  expect([current(state())?.slot, state().panel]).toEqual([2, null])
})

test('undo and the same key again sends nothing; another key sends a correction', async () => {
  const { press, outbox, state } = await setUp(working('verify', [item(1), item(2)]))
  await press('1')
  await press('u')
  await press('1')
  expect((await outbox.pending()).length).toBe(1)
  expect(current(state())?.slot).toBe(2)
  await press('Backspace')
  await press('2')
  expect((await outbox.pending()).map((entry) => entry.judgment.supersedes)).toEqual([undefined, 'j1'])
})

test('a whole rating is keys only', async () => {
  const { press, outbox } = await setUp(working('rate', [rateItem(1), rateItem(2)]))
  for (const key of ['5', '4', '3', '2', '1', 'Enter', '2', 'Enter']) await press(key)
  const ratings = (await outbox.pending()).map((entry) => entry.judgment.ratings)
  expect(ratings).toEqual([{ '1A': { personalization: 5, justification: 4, satisfaction: 3 }, '1B': { personalization: 2, justification: 1, satisfaction: 2 } }])
})

test('practice answers go to practice, never to the outbox', async () => {
  const asked: unknown[] = []
  const tryPractice = async (slot: unknown, label: string) => {
    asked.push([slot, label])
    return { correct: false, label: 'neutral', explanation: 'plain', done: true }
  }
  const { press, outbox, state } = await setUp({ ...working('verify', [item(1)]), phase: 'practice' }, { tryPractice })
  await press('5')
  expect(asked).toEqual([[1, 'surprise']])
  expect(await outbox.entries()).toEqual([])
  expect(state().feedback).toMatchObject({ correct: false, given: 'surprise' })
})

test('consent moves on only once the server has recorded it', async () => {
  let works = false
  const consent = async (): Promise<void> => { if (!works) throw new Error('offline') }
  const start: Session = { ...working('verify', [], { consent: { needed: true, version: '1', html: '' } }), phase: 'consent' }
  const { commander, state } = await setUp(start, { consent })
  expect([await commander.agree(), state().phase]).toEqual([false, 'consent'])
  works = true
  expect([await commander.agree(), state().phase]).toEqual([true, 'work'])
})
