import type { Briefing, Item, Judgment, Task } from '../src/contract'
import type { Session } from '../src/session'
import { emptySession, reduce } from '../src/session'

const NAMES = ['joy', 'sadness', 'anger', 'fear', 'surprise', 'disgust', 'neutral']

export const progress = (over = {}) => ({ done: 3, total: 10, mine: 3, mine_today: 3, pace_ms: 4000, left: 7, state: 'open', ...over })

export function briefing(task: Task = 'verify', over: Partial<Briefing> = {}): Briefing {
  return {
    campaign: 'demo', title: 'Demo', task, user: { id: 1, name: 'Ada' },
    emotions: NAMES.map((name, index) => ({ name, key: String(index + 1), title: name, colour: '#123456' })),
    scales: ['personalization', 'justification', 'satisfaction'].map((name) => ({ name, question: `${name}?`, low: 'low', high: 'high', points: 5 })),
    mode: 'blind', guideline: { version: 2, html: '<p>rules</p>', change_note: '' }, consent: null, practice: null, keymap: {},
    progress: progress(), lease_seconds: 1800, idle_after_ms: 30_000,
    skip_reasons: [{ code: 'unreadable', title: 'Unreadable' }, { code: 'other', title: 'Other' }],
    ...over,
  }
}

export function item(slot: number, over: Partial<Item> = {}): Item {
  return { slot, kind: 'user', context: [{ role: 'recommender', text: 'Hello' }], target: { role: 'user', text: `words ${slot}` }, ...over }
}

export function rateItem(slot: number): Item {
  return {
    slot, kind: 'rate', context: [{ role: 'user', text: 'Something funny' }],
    responses: ['A', 'B'].map((key) => ({ key, id: `${slot}${key}`, text: `response ${key}` })),
  }
}

export function judgment(id: string, slot: number, over: Partial<Judgment> = {}): Judgment {
  return { id, slot, action: 'label', label: 'joy', answered_at: '2026-01-01T00:00:00.000Z', active_ms: 900, device: 'desktop', guideline_version: 2, ...over }
}

export const stamp = (id: string) => ({ id, at: '2026-01-01T00:00:00.000Z', activeMs: 1234.6, device: 'desktop' as const })

export function working(task: Task, items: Item[], over: Partial<Briefing> = {}): Session {
  const begun = reduce(emptySession(), { type: 'briefed', briefing: briefing(task, over), phase: 'work', guidelineSeen: true })
  return reduce(begun, { type: 'received', items, lost: [], progress: progress(), exhausted: false })
}
