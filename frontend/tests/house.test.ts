// The shape of the house: who may import whom, every word in every language, the seam to the server.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { readBriefing, readDealt, readDecision, readFeedback, readHistory, readItem, readReceipt } from '../src/contract'
import { CATALOGUES, translator } from '../src/strings'
import { judge, reduce } from '../src/session'
import { item, stamp, working } from './samples'

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

// Payloads written by the server's tests: {request, response} per endpoint.
const items = (value: unknown): unknown => (value as { items: unknown[] }).items.map(readItem)
const READERS: Record<string, (value: unknown) => unknown> = {
  workbench: readBriefing, lease: readDealt, judgments: readReceipt, history: readHistory, practice: items, practice_answer: readFeedback,
  adjudication: items, decision: readDecision,
  // Read by templates and by the settings page as they are.
  queues: (value) => value, preferences: (value) => value,
}
const folder = new URL('../../tests/contract/', import.meta.url)
const written = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.json')) : []
const payload = (name: string): { request: Record<string, unknown> | null; response: unknown } => JSON.parse(readFileSync(new URL(name, folder), 'utf8'))

test.runIf(written.length > 0)('every payload the server writes is one this client reads', () => {
  for (const name of written) {
    const endpoint = name.replace('.json', '')
    const reader = READERS[endpoint] ?? READERS[endpoint.replace(/_.*/, '')]
    expect(reader, `${name}: no reader`).toBeDefined()
    expect(() => reader?.(payload(name).response), name).not.toThrow()
  }
})

test.runIf(written.includes('judgments.json'))('what the client sends has the names the server reads', () => {
  const { request } = payload('judgments.json')
  expect(Object.keys(request ?? {}).sort()).toEqual(['client', 'holding', 'judgments', 'task', 'want'])
  const read = new Set((request?.judgments as object[]).flatMap((one) => Object.keys(one)))
  const state = reduce(reduce(working('verify', [item(1)]), { type: 'flagged' }), { type: 'commented', comment: 'why' })
  const sent = judge(state, { action: 'label', label: 'joy' }, stamp('00000000-0000-4000-8000-000000000000'))
  expect(Object.keys(sent ?? {}).filter((name) => !read.has(name))).toEqual([])
})

test.runIf(written.includes('lease_verify.json'))('a blind item holds no key that could tell a prediction', () => {
  const text = readFileSync(new URL('lease_verify.json', folder), 'utf8')
  for (const word of ['prelabel', 'prediction', 'system', 'arm', 'stratum', 'probabilit']) expect(text).not.toContain(`"${word}`)
})
