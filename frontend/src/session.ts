// The workbench as a pure function of what has happened: no fetch, no DOM, no clock.
import type {
  Answered, Briefing, Device, Draft, Fault, Feedback, Item, Judgment, PastAnswer, Problem, Progress, Ratings, Slot, Task,
} from './contract'

export type Phase = 'loading' | 'consent' | 'practice' | 'work' | 'stopped'
export type Panel = 'keys' | 'guidelines' | 'skip' | 'comment' | 'history' | 'problems' | 'settings'

/** How things stand with the server. */
export type Line = 'idle' | 'sending' | 'offline' | 'busy' | 'signed_out' | 'other_person' | 'forbidden' | 'malformed'

export interface Session {
  phase: Phase
  briefing: Briefing | null
  /** Items in this browser, in order; the first is on screen unless an earlier one is reopened. */
  ahead: Item[]
  /** Nothing more is to be had from the server for now. */
  exhausted: boolean
  reopened: Answered | null
  trail: Answered[]
  draft: Draft
  focus: { response: number; scale: number }
  panel: Panel | null
  fault: Fault | null
  /** The item on screen was taken away by the server, not finished by the person. */
  swapped: boolean
  feedback: (Feedback & { given: string }) | null
  /** Adjudication: the decision just made, and what the annotators had written, shown only now. */
  decided: { judgment: Judgment; item: Item; comments: string[] | null } | null
  line: Line
  pending: number
  problems: Problem[]
  progress: Progress | null
  past: PastAnswer[] | null
  pastNext: string | null
  guidelineSeen: boolean
}

export type Happening =
  | { type: 'briefed'; briefing: Briefing; phase: Phase; guidelineSeen: boolean }
  | { type: 'recalled'; items: Item[]; trail: Answered[]; draft: Draft | null }
  | { type: 'phase'; phase: Phase }
  | { type: 'received'; items: Item[]; lost: Slot[]; progress: Progress | null; exhausted: boolean }
  | { type: 'fault'; fault: Fault }
  | { type: 'answered'; judgment: Judgment; item: Item }
  | { type: 'decided'; judgment: Judgment; item: Item }
  | { type: 'comments'; id: string; comments: string[] }
  | { type: 'next' }
  | { type: 'rated'; points: number }
  | { type: 'rated_at'; response: number; scale: number; points: number }
  | { type: 'moved'; axis: 'scale' | 'response'; by: 1 | -1 }
  | { type: 'flagged' }
  | { type: 'commented'; comment: string }
  | { type: 'undone' }
  | { type: 'kept' }
  | { type: 'editing'; answered: Answered }
  | { type: 'panel'; panel: Panel | null }
  | { type: 'feedback'; feedback: Feedback; given: string }
  | { type: 'line'; line: Line }
  | { type: 'counted'; pending: number; problems: Problem[] }
  | { type: 'past'; results: PastAnswer[]; next: string | null; append: boolean }
  | { type: 'keymap'; keymap: Record<string, string> }
  | { type: 'guideline_seen' }

const TRAIL_LENGTH = 50
const EMPTY: Draft = { ratings: {}, comment: '', flagged: false }

export function emptySession(): Session {
  return {
    phase: 'loading',
    briefing: null,
    ahead: [],
    exhausted: false,
    reopened: null,
    trail: [],
    draft: EMPTY,
    focus: { response: 0, scale: 0 },
    panel: null,
    fault: null,
    swapped: false,
    feedback: null,
    decided: null,
    line: 'idle',
    pending: 0,
    problems: [],
    progress: null,
    past: null,
    pastNext: null,
    guidelineSeen: true,
  }
}

export function current(state: Session): Item | null {
  return state.reopened?.item ?? state.decided?.item ?? state.ahead[0] ?? null
}

export function taskOf(state: Session): Task {
  return state.phase === 'practice' ? 'verify' : (state.briefing?.task ?? 'verify')
}

/** What the person has said so far on the item on screen, when it is one she answered before. */
export function standing(state: Session): Judgment | null {
  return state.reopened?.judgment ?? null
}

export function isComplete(state: Session): boolean {
  const item = current(state)
  const scales = state.briefing?.scales ?? []
  if (!item?.responses || scales.length === 0) return false
  return item.responses.every((response) => scales.every((scale) => state.draft.ratings[response.id]?.[scale.name] !== undefined))
}

/** The first scale without a rating, from where the focus is on, wrapping round. */
function nextOpen(state: Session, ratings: Ratings): { response: number; scale: number } {
  const responses = current(state)?.responses ?? []
  const scales = state.briefing?.scales ?? []
  const size = responses.length * scales.length
  const from = state.focus.response * scales.length + state.focus.scale
  for (let step = 1; step <= size; step += 1) {
    const at = (from + step) % size
    const place = { response: Math.floor(at / scales.length), scale: at % scales.length }
    const response = responses[place.response]
    const scale = scales[place.scale]
    if (response && scale && ratings[response.id]?.[scale.name] === undefined) return place
  }
  return state.focus
}

function fresh(state: Session): Session {
  return { ...state, draft: EMPTY, focus: { response: 0, scale: 0 }, panel: state.panel === 'guidelines' ? 'guidelines' : null, fault: null, swapped: false }
}

function rate(state: Session, place: { response: number; scale: number }, points: number): Session {
  const response = current(state)?.responses?.[place.response]
  const scale = state.briefing?.scales[place.scale]
  if (!response || !scale || points < 1 || points > scale.points) return state
  const ratings = { ...state.draft.ratings, [response.id]: { ...state.draft.ratings[response.id], [scale.name]: points } }
  const focused = { ...state, focus: place }
  return { ...focused, draft: { ...state.draft, ratings }, focus: nextOpen(focused, ratings) }
}

function reopen(state: Session, answered: Answered): Session {
  const { judgment } = answered
  const draft = { ratings: judgment.ratings ?? {}, comment: judgment.comment ?? '', flagged: judgment.flagged ?? false }
  return { ...fresh(state), reopened: answered, draft, decided: null }
}

function received(state: Session, event: Extract<Happening, { type: 'received' }>): Session {
  const lost = new Set(event.lost.map(String))
  const kept = state.ahead.filter((item) => !lost.has(String(item.slot)))
  const known = new Set(kept.map((item) => String(item.slot)))
  const added = event.items.filter((item) => !known.has(String(item.slot)) && !lost.has(String(item.slot)))
  const ahead = [...kept, ...added]
  const next = { ...state, ahead, progress: event.progress ?? state.progress, exhausted: event.exhausted && ahead.length === 0 }
  const before = state.ahead[0]
  const gone = before !== undefined && lost.has(String(before.slot)) && state.reopened === null
  return gone ? { ...fresh(next), swapped: true } : next
}

export function reduce(state: Session, event: Happening): Session {
  switch (event.type) {
    case 'briefed':
      return { ...state, briefing: event.briefing, phase: event.phase, progress: event.briefing.progress, guidelineSeen: event.guidelineSeen }
    case 'recalled':
      return { ...state, ahead: event.items, trail: event.trail, draft: event.draft ?? EMPTY }
    case 'phase':
      return { ...fresh(state), phase: event.phase, ahead: [], feedback: null, exhausted: false, panel: null }
    case 'received':
      return received(state, event)
    case 'fault':
      return { ...state, fault: event.fault }
    case 'answered': {
      const slot = String(event.item.slot)
      const trail = [...state.trail.filter((past) => String(past.item.slot) !== slot), { item: event.item, judgment: event.judgment }]
      const ahead = state.ahead.filter((item) => String(item.slot) !== slot)
      return { ...fresh(state), ahead, trail: trail.slice(-TRAIL_LENGTH), reopened: null, past: null, pending: state.pending + 1 }
    }
    case 'decided':
      return { ...fresh(state), pending: state.pending + 1, reopened: null, decided: { judgment: event.judgment, item: event.item, comments: null }, ahead: state.ahead.filter((item) => String(item.slot) !== String(event.item.slot)) }
    case 'comments':
      return state.decided?.judgment.id === event.id ? { ...state, decided: { ...state.decided, comments: event.comments } } : state
    case 'next': {
      if (state.feedback) return { ...fresh(state), feedback: null, ahead: state.ahead.slice(1) }
      if (!state.decided) return state
      const { item, judgment } = state.decided
      const trail = [...state.trail.filter((past) => past.item.slot !== item.slot), { item, judgment }]
      return { ...fresh(state), decided: null, trail: trail.slice(-TRAIL_LENGTH) }
    }
    case 'rated':
      return rate(state, state.focus, event.points)
    case 'rated_at':
      return rate(state, { response: event.response, scale: event.scale }, event.points)
    case 'moved': {
      const size = event.axis === 'scale' ? (state.briefing?.scales.length ?? 1) : (current(state)?.responses?.length ?? 1)
      const at = (state.focus[event.axis] + event.by + size) % size
      return { ...state, focus: { ...state.focus, [event.axis]: at } }
    }
    case 'flagged':
      return { ...state, draft: { ...state.draft, flagged: !state.draft.flagged } }
    case 'commented':
      return { ...state, draft: { ...state.draft, comment: event.comment } }
    case 'undone': {
      if (state.decided) return reopen(state, { item: state.decided.item, judgment: state.decided.judgment })
      const at = state.reopened ? state.trail.findIndex((past) => past.item.slot === state.reopened?.item.slot) : state.trail.length
      const earlier = state.trail[at - 1]
      return earlier ? reopen(state, earlier) : state
    }
    case 'kept':
      return state.reopened ? { ...fresh(state), reopened: null } : state
    case 'editing':
      return reopen({ ...state, panel: null }, event.answered)
    case 'panel':
      return { ...state, panel: event.panel, fault: null }
    case 'feedback':
      return { ...state, feedback: { ...event.feedback, given: event.given } }
    case 'line':
      return state.line === event.line ? state : { ...state, line: event.line }
    case 'counted':
      return { ...state, pending: event.pending, problems: event.problems }
    case 'past':
      return { ...state, past: event.append ? [...(state.past ?? []), ...event.results] : event.results, pastNext: event.next }
    case 'keymap':
      return state.briefing ? { ...state, briefing: { ...state.briefing, keymap: event.keymap } } : state
    case 'guideline_seen':
      return { ...state, guidelineSeen: true }
  }
}

/** The facts of the moment, which the reducer must not fetch for itself. */
export interface Stamp {
  id: string
  at: string
  activeMs: number
  device: Device
}

export type Answer = { action: 'label'; label: string } | { action: 'rate' } | { action: 'skip'; reason: string }

/** The judgment an answer makes of the item on screen, or null where it makes none. */
export function judge(state: Session, answer: Answer, stamp: Stamp): Judgment | null {
  const item = current(state)
  if (!item || (answer.action === 'rate' && !isComplete(state))) return null
  const judgment: Judgment = {
    id: stamp.id,
    slot: item.slot,
    action: answer.action,
    answered_at: stamp.at,
    active_ms: Math.max(0, Math.round(stamp.activeMs)),
    device: stamp.device,
    guideline_version: state.briefing?.guideline?.version ?? null,
  }
  if (answer.action === 'label') judgment.label = answer.label
  if (answer.action === 'rate') judgment.ratings = state.draft.ratings
  if (answer.action === 'skip') judgment.reason = answer.reason
  if (state.draft.comment.trim()) judgment.comment = state.draft.comment.trim()
  if (state.draft.flagged) judgment.flagged = true
  const before = standing(state)
  if (before) judgment.supersedes = before.id
  return judgment
}

/** Whether a judgment says the same as the one it would replace: then there is nothing to send. */
export function unchanged(judgment: Judgment, before: Judgment | null): boolean {
  if (!before) return false
  const said = (one: Judgment): string =>
    JSON.stringify([one.action, one.label ?? '', sorted(one.ratings), one.reason ?? '', one.comment ?? '', one.flagged ?? false])
  return said(judgment) === said(before)
}

function sorted(ratings: Ratings | undefined): [string, [string, number][]][] {
  return Object.entries(ratings ?? {})
    .map(([id, given]): [string, [string, number][]] => [id, Object.entries(given).sort()])
    .sort()
}

/** Minutes to go at this person's own pace; null while there is no pace yet. */
export function minutesLeft(progress: Progress | null): number | null {
  if (!progress?.pace_ms || progress.left <= 0) return null
  return Math.max(1, Math.round((progress.left * progress.pace_ms) / 60_000))
}
