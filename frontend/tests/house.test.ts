// The shape of the house: who may import whom, every word in every language, the seam to the server.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { readBriefing, readDealt, readDecision, readFeedback, readHistory, readItem, readReceipt } from '../src/contract'
import { CATALOGUES, translator } from '../src/strings'
import { item } from './samples'

// main ▶ views | sync ▶ commands ▶ session | outbox | api | attention ▶ contract | strings; views know no sync, outbox or api.
const MAY: Record<string, string[]> = {
  contract: [], strings: [], attention: [],
  session: ['contract'], outbox: ['contract'], api: ['contract'],
  commands: ['session', 'outbox', 'api', 'contract', 'strings'],
  sync: ['commands', 'session', 'outbox', 'api', 'contract'],
  views: ['commands', 'session', 'contract', 'strings'],
}

function importsOf(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(/from '(\.[^']+)'|import '(\.[^']+)'/g)].map((match) => (match[1] ?? match[2] ?? '').replace(/^\.+\//, ''))
}

test('imports run only downward', () => {
  const source = new URL('../src/', import.meta.url).pathname
  const broken: string[] = []
  for (const name of readdirSync(source).filter((one) => one.endsWith('.ts'))) {
    const module = name.replace('.ts', '')
    for (const used of importsOf(source + name)) if (!MAY[module]?.includes(used)) broken.push(`${module} → ${used}`)
  }
  const views = readdirSync(`${source}views`)
  for (const name of views) {
    for (const used of importsOf(`${source}views/${name}`)) {
      const own = views.some((view) => view.replace(/\.tsx?$/, '') === used)
      if (!own && !MAY.views?.includes(used)) broken.push(`views/${name} → ${used}`)
    }
  }
  expect(broken).toEqual([])
})

test('only guidelines and consent, which the server sanitises, are set as HTML', () => {
  const views = new URL('../src/views/', import.meta.url).pathname
  const uses = readdirSync(views).flatMap((name) => [...readFileSync(views + name, 'utf8').matchAll(/__html: ([^}]+?) \}/g)].map((match) => match[1]))
  expect(uses.sort()).toEqual(['guideline.html', "state.briefing?.consent?.html ?? ''"])
})

test('every language has every word, with the same holes', () => {
  const [english, ...others] = Object.values(CATALOGUES)
  expect(others.length).toBeGreaterThan(0)
  const holes = (words: string): string[] => [...words.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? '').sort()
  for (const other of others) {
    expect(Object.keys(other).sort()).toEqual(Object.keys(english ?? {}).sort())
    for (const [key, words] of Object.entries(english ?? {})) {
      const translated = (other as Record<string, string>)[key] ?? ''
      expect(translated.trim(), key).not.toBe('')
      expect({ key, holes: holes(translated) }).toEqual({ key, holes: holes(words) })
    }
  }
})

test('every word is used', () => {
  const source = new URL('../src/', import.meta.url).pathname
  const files = [...readdirSync(source).filter((one) => /\.tsx?$/.test(one) && one !== 'strings.ts').map((one) => source + one), ...readdirSync(`${source}views`).map((one) => `${source}views/${one}`)]
  const all = files.map((file) => readFileSync(file, 'utf8')).join('\n')
  const families = ['cmd_', 'group_', 'task_', 'role_', 'target_', 'theme_', 'size_']
  const unused = Object.keys(CATALOGUES.en ?? {}).filter((key) => !families.some((family) => key.startsWith(family)) && !all.includes(`'${key}'`))
  expect(unused).toEqual([])
})

test('holes are filled, and an unknown language is English', () => {
  expect(translator('de-AT')('progress', { done: 1, total: 2 })).toBe('1 von 2')
  expect(translator('xx')('saved')).toBe('saved')
})

test('an item without anything to judge is refused, and an absent pre-label stays absent', () => {
  expect(() => readItem({ slot: 1, kind: 'user', context: [] })).toThrow('neither')
  expect(readItem({ ...item(1), prelabel: null })).not.toHaveProperty('prelabel')
})

// Payloads written by the server's tests. Their names begin with what they are.
const READERS: [RegExp, (value: unknown) => unknown][] = [
  [/^(workbench|briefing)/, readBriefing], [/^lease/, readDealt], [/^(judgments|receipt)/, readReceipt], [/^history/, readHistory],
  [/^practice.*(feedback|answer|result)/, readFeedback], [/^(adjudication|decision).*(receipt|answer|result|decided)/, readDecision],
]
const folder = new URL('../../tests/contract/', import.meta.url)
const written = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.json')) : []

test.runIf(written.length > 0)('every payload the server writes is one this client can read', () => {
  const read: string[] = []
  for (const name of written) {
    const reader = READERS.find(([pattern]) => pattern.test(name))
    if (!reader) continue
    const payload = JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as unknown
    expect(() => reader[1](payload), name).not.toThrow()
    read.push(name)
  }
  expect(read.length).toBeGreaterThan(0)
})
