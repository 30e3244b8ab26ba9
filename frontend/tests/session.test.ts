import { expect, test } from 'vitest'
import type { Session } from '../src/session'
import { current, emptySession, isComplete, judge, minutesLeft, reduce, unchanged } from '../src/session'
import { item, judgment, progress, rateItem, stamp, working } from './samples'

function answered(state: Session, id: string, label: string): Session {
  const given = judge(state, { action: 'label', label }, stamp(id))
  const shown = current(state)
  if (!given || !shown) throw new Error('nothing to answer')
  return reduce(state, { type: 'answered', judgment: given, item: shown })
}

test('an answer brings the next item and remembers the last', () => {
  const after = answered(working('verify', [item(1), item(2)]), 'a', 'joy')
  expect(current(after)?.slot).toBe(2)
  expect(after.trail.map((past) => past.judgment.label)).toEqual(['joy'])
  expect(after.pending).toBe(1)
})

test('a judgment carries what was said and nothing of a draft that was not', () => {
  const given = judge(working('verify', [item(1)]), { action: 'label', label: 'fear' }, stamp('a'))
  expect(given).toEqual({
    id: 'a', slot: 1, action: 'label', label: 'fear', answered_at: '2026-01-01T00:00:00.000Z', active_ms: 1235, device: 'desktop', guideline_version: 2,
  })
})

test('flag and comment go with the answer and do not stick to the next item', () => {
  let state = reduce(working('verify', [item(1), item(2)]), { type: 'flagged' })
  state = reduce(state, { type: 'commented', comment: '  slot text ' })
  const given = judge(state, { action: 'label', label: 'neutral' }, stamp('a'))
  expect(given).toMatchObject({ flagged: true, comment: 'slot text' })
  expect(answered(state, 'a', 'neutral').draft).toEqual({ ratings: {}, comment: '', flagged: false })
})

test('undo reopens the item before with its answer, also after it was sent, and a change supersedes it', () => {
  const state = answered(answered(working('verify', [item(1), item(2), item(3)]), 'a', 'joy'), 'b', 'anger')
  const once = reduce(state, { type: 'undone' })
  expect([current(once)?.slot, once.reopened?.judgment.label]).toEqual([2, 'anger'])
  const twice = reduce(once, { type: 'undone' })
  expect(current(twice)?.slot).toBe(1)
  const changed = judge(twice, { action: 'label', label: 'surprise' }, stamp('c'))
  expect(changed).toMatchObject({ slot: 1, label: 'surprise', supersedes: 'a' })
  const back = answered(twice, 'c', 'surprise')
  expect(current(back)?.slot).toBe(3)
  const again = reduce(back, { type: 'undone' })
  expect(again.reopened?.judgment.id).toBe('c')
})

test('undo with nothing behind changes nothing', () => {
  const state = working('verify', [item(1)])
  expect(reduce(state, { type: 'undone' })).toBe(state)
})

test('the same answer again is no correction', () => {
  expect(unchanged(judgment('b', 1, { supersedes: 'a', active_ms: 1 }), judgment('a', 1))).toBe(true)
  expect(unchanged(judgment('b', 1, { label: 'fear' }), judgment('a', 1))).toBe(false)
  expect(unchanged(judgment('b', 1, { flagged: true }), judgment('a', 1))).toBe(false)
  const one = judgment('a', 1, { action: 'rate', ratings: { x: { p: 1, q: 2 }, y: { p: 3 } } })
  expect(unchanged({ ...one, ratings: { y: { p: 3 }, x: { q: 2, p: 1 } } }, one)).toBe(true)
})

test('digits rate the focused scale, and the focus goes to the next open one', () => {
  let state = working('rate', [rateItem(1)])
  state = reduce(state, { type: 'rated', points: 4 })
  expect(state.focus).toEqual({ response: 0, scale: 1 })
  state = reduce(reduce(state, { type: 'rated', points: 3 }), { type: 'rated', points: 2 })
  expect(state.focus).toEqual({ response: 1, scale: 0 })
  expect(state.draft.ratings).toEqual({ '1A': { personalization: 4, justification: 3, satisfaction: 2 } })
})

test('arrows go round the scales and across the responses', () => {
  let state = reduce(working('rate', [rateItem(1)]), { type: 'moved', axis: 'scale', by: -1 })
  expect(state.focus).toEqual({ response: 0, scale: 2 })
  state = reduce(state, { type: 'moved', axis: 'response', by: 1 })
  expect(state.focus).toEqual({ response: 1, scale: 2 })
})

test('ratings submit only when every scale of every response has one', () => {
  let state = working('rate', [rateItem(1)])
  for (let index = 0; index < 5; index += 1) state = reduce(state, { type: 'rated', points: 5 })
  expect(isComplete(state)).toBe(false)
  expect(judge(state, { action: 'rate' }, stamp('a'))).toBeNull()
  state = reduce(state, { type: 'rated', points: 1 })
  expect(judge(state, { action: 'rate' }, stamp('a'))?.ratings).toEqual({
    '1A': { personalization: 5, justification: 5, satisfaction: 5 }, '1B': { personalization: 5, justification: 5, satisfaction: 1 },
  })
})

test('points beyond the scale are not ratings', () => {
  const state = working('rate', [rateItem(1)])
  expect(reduce(state, { type: 'rated', points: 6 })).toBe(state)
})

test('one scale keeps one value: rating again replaces', () => {
  let state = reduce(working('rate', [rateItem(1)]), { type: 'rated_at', response: 0, scale: 0, points: 2 })
  state = reduce(state, { type: 'rated_at', response: 0, scale: 0, points: 5 })
  expect(state.draft.ratings['1A']).toEqual({ personalization: 5 })
})

test('items are dealt once, however often the server sends them', () => {
  const state = reduce(working('verify', [item(1), item(2)]), { type: 'received', items: [item(2), item(3)], lost: [], progress: null, exhausted: false })
  expect(state.ahead.map((one) => one.slot)).toEqual([1, 2, 3])
})

test('a lost lease takes its item away and says so only when it was on screen', () => {
  const state = working('verify', [item(1), item(2), item(3)])
  const behind = reduce(state, { type: 'received', items: [], lost: [2], progress: null, exhausted: false })
  expect([behind.ahead.map((one) => one.slot), behind.swapped]).toEqual([[1, 3], false])
  const front = reduce(state, { type: 'received', items: [], lost: [1], progress: null, exhausted: false })
  expect([current(front)?.slot, front.swapped]).toEqual([2, true])
})

test('exhausted is said only when nothing is left in the browser', () => {
  const state = working('verify', [item(1)])
  expect(reduce(state, { type: 'received', items: [], lost: [], progress: null, exhausted: true }).exhausted).toBe(false)
  expect(reduce(working('verify', []), { type: 'received', items: [], lost: [], progress: null, exhausted: true }).exhausted).toBe(true)
})

test('an answer that could not be kept leaves the item where it is', () => {
  const state = reduce(working('verify', [item(1), item(2)]), { type: 'fault', fault: 'full' })
  expect([current(state)?.slot, state.fault]).toEqual([1, 'full'])
})

test('practice shows the feedback, then moves on', () => {
  let state: Session = { ...working('verify', [item(1), item(2)]), phase: 'practice' }
  state = reduce(state, { type: 'feedback', feedback: { correct: false, label: 'neutral', explanation: 'a plain question', done: false }, given: 'surprise' })
  expect(current(state)?.slot).toBe(1)
  state = reduce(state, { type: 'next' })
  expect([current(state)?.slot, state.feedback]).toEqual([2, null])
})

test('an adjudicator sees the comments only after deciding, of that decision only', () => {
  let state = working('adjudicate', [item(1, { labels: [{ label: 'joy', count: 1 }] }), item(2)])
  const decision = judgment('d', 1)
  state = reduce(state, { type: 'decided', judgment: decision, item: item(1) })
  expect(state.decided?.comments).toBeNull()
  state = reduce(state, { type: 'comments', id: 'someone else', comments: ['no'] })
  expect(state.decided?.comments).toBeNull()
  state = reduce(state, { type: 'comments', id: 'd', comments: ['ironic'] })
  expect(state.decided?.comments).toEqual(['ironic'])
  expect(current(reduce(state, { type: 'next' }))?.slot).toBe(2)
})

test('time left is left × pace, and unknown without a pace', () => {
  expect(minutesLeft(progress({ left: 120, pace_ms: 5000 }))).toBe(10)
  expect(minutesLeft(progress({ pace_ms: null }))).toBeNull()
  expect(minutesLeft(null)).toBeNull()
})

test('an empty session has nothing to answer', () => {
  expect(judge(emptySession(), { action: 'label', label: 'joy' }, stamp('a'))).toBeNull()
})
