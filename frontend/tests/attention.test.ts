import { expect, test } from 'vitest'
import { Attention } from '../src/attention'

function setUp() {
  let now = 0
  const attention = new Attention(() => now, 30_000)
  return { attention, at: (time: number) => { now = time } }
}

test('time runs while the person is there', () => {
  const { attention, at } = setUp()
  at(12_000)
  expect(attention.activeMs()).toBe(12_000)
})

test('after thirty seconds without a sign of life time stands still', () => {
  const { attention, at } = setUp()
  at(300_000)
  expect(attention.activeMs()).toBe(30_000)
  attention.stir()
  at(305_000)
  expect(attention.activeMs()).toBe(35_000)
})

test('a hidden page does not count', () => {
  const { attention, at } = setUp()
  at(4_000)
  attention.hide()
  at(60_000)
  expect(attention.activeMs()).toBe(4_000)
  attention.stir()
  at(61_000)
  expect(attention.activeMs()).toBe(5_000)
})

test('signs of life do not count twice, and a new item starts from nothing', () => {
  const { attention, at } = setUp()
  for (const time of [1_000, 2_000, 3_000]) {
    at(time)
    attention.stir()
  }
  expect(attention.activeMs()).toBe(3_000)
  attention.restart()
  at(3_500)
  expect(attention.activeMs()).toBe(500)
})
