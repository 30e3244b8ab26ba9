// The payloads of the seam between workbench and queue. Answers of the server are checked here before anything
// trusts them; the example payloads that the server's tests write are read by tests/contract.test.ts.

export type Task = 'verify' | 'rate' | 'adjudicate'
export type Slot = number | string

export interface Turn {
  role: 'user' | 'recommender'
  text: string
}

export interface Candidate {
  key: string
  id: string
  text: string
}

export interface LabelCount {
  label: string
  count: number
}

export interface Item {
  slot: Slot
  kind: string
  context: Turn[]
  target?: Turn
  /** Present only in the arm that shows it: absent means there is nothing to accept. */
  prelabel?: string
  responses?: Candidate[]
  /** Adjudication only: what the annotators said, without names. */
  labels?: LabelCount[]
  leased_until?: string
}

export interface Progress {
  done: number
  total: number
  mine: number
  mine_today: number
  pace_ms: number | null
  left: number
  state: string
}

export interface Emotion {
  name: string
  key: string
  title: string
  colour: string
}

export interface Scale {
  name: string
  question: string
  low: string
  high: string
  points: number
}

export interface SkipReason {
  code: string
  title: string
}

export interface Guideline {
  version: number
  html: string
  change_note: string
}

export interface Consent {
  needed: boolean
  version: string
  html: string
}

export interface Briefing {
  campaign: string
  title: string
  task: Task
  user: { id: number | string; name: string }
  emotions: Emotion[]
  scales: Scale[]
  mode: string
  guideline: Guideline | null
  consent: Consent | null
  practice: { needed: boolean; available: boolean } | null
  keymap: Record<string, string>
  progress: Progress
  lease_seconds: number
  idle_after_ms: number
  skip_reasons: SkipReason[]
}

export type Action = 'label' | 'rate' | 'skip'
export type Ratings = Record<string, Record<string, number>>
export type Device = 'desktop' | 'phone' | 'tablet'

export interface Judgment {
  id: string
  slot: Slot
  action: Action
  label?: string
  ratings?: Ratings
  reason?: string
  comment?: string
  flagged?: boolean
  supersedes?: string
  answered_at: string
  active_ms: number
  device: Device
  guideline_version: number | null
}

export type Verdict = 'stored' | 'duplicate' | 'set_aside' | 'refused'

export interface Result {
  id: string
  status: Verdict
  reason?: string
  detail?: string
}

export interface Dealt {
  items: Item[]
  lost: Slot[]
  progress: Progress
}

export interface Receipt extends Dealt {
  results: Result[]
}

export interface PastAnswer {
  id: string
  slot: Slot
  item: Item
  action: Action
  label?: string
  ratings?: Ratings
  reason?: string
  comment?: string
  flagged?: boolean
  received_at: string
}

export interface HistoryPage {
  results: PastAnswer[]
  next: string | null
}

export interface Feedback {
  correct: boolean
  label: string
  explanation: string
  done: boolean
}

export interface Decision {
  id: string
  item: Slot
  label: string
  comment?: string
  supersedes?: string
}

export interface DecisionReceipt {
  status: string
  comments: string[]
  reason: string
  detail: string
}

export interface Preferences {
  keymap: Record<string, string>
  theme: 'auto' | 'light' | 'dark'
  language?: string
  text_size?: string
}

// Kept on this device: what the session shows and the outbox stores ---------------------------------------------------

/** What is being said about the item on screen, before it is an answer. */
export interface Draft {
  ratings: Ratings
  comment: string
  flagged: boolean
}

export interface Answered {
  item: Item
  judgment: Judgment
}

/** An answer the server did not take as it was. */
export interface Problem {
  id: string
  status: 'refused' | 'set_aside'
  reason: string
  detail: string
  item: Item
  judgment: Judgment
}

/** Why an answer could not be made durable on this device. */
export type Fault = 'full' | 'unavailable'

/** The server answered, but not in the form this page understands. */
export class MalformedAnswer extends Error {}

type Fields = Record<string, unknown>

function fields(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new MalformedAnswer(`${what} is not an object`)
  return value as Fields
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw new MalformedAnswer(`${what} is not a list`)
  return value
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new MalformedAnswer(`${what} is not text`)
  return value
}

function count(value: unknown, what: string): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new MalformedAnswer(`${what} is not a number`)
  return value
}

function slot(value: unknown, what: string): Slot {
  if (typeof value !== 'number' && typeof value !== 'string') throw new MalformedAnswer(`${what} names no slot`)
  return value
}

function turn(value: unknown, what: string): Turn {
  const { role, text: words } = fields(value, what)
  return { role: role === 'recommender' ? 'recommender' : 'user', text: text(words, `${what}.text`) }
}

export function readItem(value: unknown): Item {
  const raw = fields(value, 'item')
  const item: Item = {
    slot: slot(raw.slot ?? raw.item, 'item.slot'),
    kind: text(raw.kind ?? '', 'item.kind'),
    context: list(raw.context ?? [], 'item.context').map((entry) => turn(entry, 'item.context')),
  }
  if (raw.target != null) item.target = turn(raw.target, 'item.target')
  if (typeof raw.prelabel === 'string' && raw.prelabel) item.prelabel = raw.prelabel
  if (typeof raw.leased_until === 'string') item.leased_until = raw.leased_until
  if (Array.isArray(raw.responses) && raw.responses.length > 0) {
    item.responses = raw.responses.map((entry) => {
      const response = fields(entry, 'item.responses')
      return {
        key: text(response.key, 'response.key'),
        id: String(slot(response.id, 'response.id')),
        text: text(response.text, 'response.text'),
      }
    })
  }
  if (Array.isArray(raw.labels)) {
    item.labels = raw.labels.map((entry) => {
      const given = fields(entry, 'item.labels')
      return { label: text(given.label, 'labels.label'), count: count(given.count, 'labels.count') }
    })
  }
  if (!item.target && !item.responses) throw new MalformedAnswer('item has neither a target nor responses')
  return item
}

export function readProgress(value: unknown): Progress {
  const raw = fields(value, 'progress')
  return {
    done: count(raw.done, 'progress.done'),
    total: count(raw.total, 'progress.total'),
    mine: count(raw.mine ?? 0, 'progress.mine'),
    mine_today: count(raw.mine_today ?? 0, 'progress.mine_today'),
    pace_ms: typeof raw.pace_ms === 'number' ? raw.pace_ms : null,
    left: count(raw.left ?? 0, 'progress.left'),
    state: text(raw.state ?? 'open', 'progress.state'),
  }
}

export function readBriefing(value: unknown): Briefing {
  const raw = fields(value, 'workbench')
  const user = fields(raw.user, 'workbench.user')
  list(raw.emotions, 'workbench.emotions').forEach((entry) => text(fields(entry, 'emotion').name, 'emotion.name'))
  return {
    campaign: text(raw.campaign, 'workbench.campaign'),
    title: text(raw.title, 'workbench.title'),
    task: text(raw.task, 'workbench.task') as Task,
    user: { id: slot(user.id, 'user.id'), name: text(user.name ?? '', 'user.name') },
    emotions: raw.emotions as Emotion[],
    scales: list(raw.scales ?? [], 'workbench.scales') as Scale[],
    mode: text(raw.mode ?? 'blind', 'workbench.mode'),
    guideline: (raw.guideline ?? null) as Guideline | null,
    consent: (raw.consent ?? null) as Consent | null,
    practice: (raw.practice ?? null) as Briefing['practice'],
    keymap: (raw.keymap ?? {}) as Record<string, string>,
    progress: readProgress(raw.progress),
    lease_seconds: count(raw.lease_seconds ?? 1800, 'workbench.lease_seconds'),
    idle_after_ms: count(raw.idle_after_ms ?? 30_000, 'workbench.idle_after_ms'),
    skip_reasons: list(raw.skip_reasons ?? [], 'workbench.skip_reasons') as SkipReason[],
  }
}

export function readDealt(value: unknown): Dealt {
  const raw = fields(value, 'lease')
  return {
    items: list(raw.items ?? [], 'lease.items').map(readItem),
    lost: list(raw.lost ?? [], 'lease.lost').map((entry) => slot(entry, 'lease.lost')),
    progress: readProgress(raw.progress),
  }
}

const VERDICTS: readonly string[] = ['stored', 'duplicate', 'set_aside', 'refused']

export function readReceipt(value: unknown): Receipt {
  const raw = fields(value, 'receipt')
  const results = list(raw.results, 'receipt.results').map((entry) => {
    const given = fields(entry, 'result')
    const status = text(given.status, 'result.status')
    if (!VERDICTS.includes(status)) throw new MalformedAnswer(`result.status is ${status}`)
    const result: Result = { id: text(given.id, 'result.id'), status: status as Verdict }
    if (typeof given.reason === 'string') result.reason = given.reason
    if (typeof given.detail === 'string') result.detail = given.detail
    return result
  })
  return { ...readDealt(value), results }
}

export function readHistory(value: unknown): HistoryPage {
  const raw = fields(value, 'history')
  return {
    results: list(raw.results, 'history.results').map((entry) => {
      const given = fields(entry, 'past answer')
      const past: PastAnswer = {
        id: text(given.id ?? given.judgment, 'past answer.id'),
        slot: slot(given.slot, 'past answer.slot'),
        item: readItem({ slot: given.slot, ...fields(given.item, 'past answer.item') }),
        action: text(given.action, 'past answer.action') as Action,
        received_at: text(given.received_at, 'past answer.received_at'),
      }
      if (typeof given.label === 'string' && given.label) past.label = given.label
      if (given.ratings && Object.keys(given.ratings).length > 0) past.ratings = given.ratings as Ratings
      if (typeof given.reason === 'string' && given.reason) past.reason = given.reason
      if (typeof given.comment === 'string' && given.comment) past.comment = given.comment
      if (given.flagged === true) past.flagged = true
      return past
    }),
    next: typeof raw.next === 'string' && raw.next ? raw.next : null,
  }
}

export function readFeedback(value: unknown): Feedback {
  const raw = fields(value, 'feedback')
  return {
    correct: raw.correct === true,
    label: text(raw.label, 'feedback.label'),
    explanation: text(raw.explanation ?? '', 'feedback.explanation'),
    done: raw.done === true,
  }
}

export function readDecision(value: unknown): DecisionReceipt {
  const raw = fields(value, 'decision')
  return {
    status: text(raw.status, 'decision.status'),
    comments: list(raw.comments ?? [], 'decision.comments').map(String),
    reason: text(raw.reason ?? '', 'decision.reason'),
    detail: text(raw.detail ?? '', 'decision.detail'),
  }
}
