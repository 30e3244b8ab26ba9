// One table of everything a key can do. It dispatches the keys, draws the key caps, fills the help, and is what a person
// remaps. A test forbids two live commands on one key.
import type { Api } from './api'
import type { Briefing, Device, Judgment, Problem } from './contract'
import type { Outbox } from './outbox'
import { StorageTrouble } from './outbox'
import type { Answer, Happening, Panel, Session } from './session'
import { current, isComplete, judge, standing, taskOf, unchanged } from './session'
import type { StringKey } from './strings'

/** What a command asks for: something that happens to the session, or work that reaches beyond it. */
export type Effect =
  | Happening
  | { type: 'answer'; answer: Answer }
  | { type: 'keep' }
  | { type: 'open_history' }
  | { type: 'more_history' }
  | { type: 'retry_now' }

export type Group = 'answer' | 'item' | 'help'

export interface Command {
  id: string
  /** Default keys, as `KeyboardEvent.key`; the first is the one a person remaps and the key cap shows. */
  keys: readonly string[]
  group: Group
  title: StringKey
  /** For commands of which there are several: which emotion, reason or number of points. */
  detail?: (state: Session) => string
  when: (state: Session) => boolean
  effect: (state: Session) => Effect
}

const FIXED_KEYS = new Set(['Escape', 'Enter', 'Tab', 'Shift', 'Control', 'Alt', 'Meta'])

const free = (state: Session): boolean => state.panel === null || state.panel === 'guidelines'
const working = (state: Session): boolean => free(state) && (state.phase === 'work' || state.phase === 'practice')
const deciding = (state: Session): boolean =>
  working(state) && current(state) !== null && state.feedback === null && state.decided === null
const labelling = (state: Session): boolean => deciding(state) && taskOf(state) !== 'rate'
const rating = (state: Session): boolean => deciding(state) && taskOf(state) === 'rate'
const judging = (state: Session): boolean => deciding(state) && state.phase === 'work'
const accepting = (state: Session): boolean => labelling(state) && state.reopened === null && current(state)?.prelabel !== undefined
const annotating = (state: Session): boolean => judging(state) && taskOf(state) !== 'adjudicate'
const answerOf = (answer: Answer): Effect => ({ type: 'answer', answer })
const toggle = (panel: Panel) => (state: Session): Effect => ({ type: 'panel', panel: state.panel === panel ? null : panel })

const LABELS: Command[] = [0, 1, 2, 3, 4, 5, 6].map((index) => ({
  id: `label_${index + 1}`,
  keys: [String(index + 1)],
  group: 'answer',
  title: 'cmd_label',
  detail: (state) => state.briefing?.emotions[index]?.title ?? '',
  when: (state) => labelling(state) && index < (state.briefing?.emotions.length ?? 0),
  effect: (state) => answerOf({ action: 'label', label: state.briefing?.emotions[index]?.name ?? '' }),
}))

const POINTS: Command[] = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((points) => ({
  id: `rate_${points}`,
  keys: [String(points)],
  group: 'answer',
  title: 'cmd_rate',
  detail: () => String(points),
  when: (state) => rating(state) && points <= (state.briefing?.scales[state.focus.scale]?.points ?? 0),
  effect: () => ({ type: 'rated', points }),
}))

const REASONS: Command[] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((index) => ({
  id: `reason_${index + 1}`,
  keys: [String(index + 1)],
  group: 'item',
  title: 'cmd_reason',
  detail: (state) => state.briefing?.skip_reasons[index]?.title ?? '',
  when: (state) => state.panel === 'skip' && index < (state.briefing?.skip_reasons.length ?? 0),
  effect: (state) => answerOf({ action: 'skip', reason: state.briefing?.skip_reasons[index]?.code ?? '' }),
}))

const move = (id: string, key: string, axis: 'scale' | 'response', by: 1 | -1, title: StringKey): Command => ({
  id, keys: [key], group: 'answer', title, when: rating, effect: () => ({ type: 'moved', axis, by }),
})

export const COMMANDS: readonly Command[] = [
  ...LABELS,
  { id: 'accept', keys: ['Enter'], group: 'answer', title: 'cmd_accept', when: accepting, effect: (state) => answerOf({ action: 'label', label: current(state)?.prelabel ?? '' }) },
  ...POINTS,
  move('next_scale', 'ArrowDown', 'scale', 1, 'cmd_next_scale'),
  move('previous_scale', 'ArrowUp', 'scale', -1, 'cmd_previous_scale'),
  move('next_response', 'ArrowRight', 'response', 1, 'cmd_next_response'),
  move('previous_response', 'ArrowLeft', 'response', -1, 'cmd_previous_response'),
  { id: 'submit', keys: ['Enter'], group: 'answer', title: 'cmd_submit', when: (state) => rating(state) && isComplete(state), effect: () => answerOf({ action: 'rate' }) },
  { id: 'keep', keys: ['Enter'], group: 'answer', title: 'cmd_keep', when: (state) => labelling(state) && state.reopened !== null, effect: () => ({ type: 'keep' }) },
  { id: 'next', keys: ['Enter', ' '], group: 'answer', title: 'cmd_next', when: (state) => free(state) && (state.feedback !== null || state.decided !== null), effect: () => ({ type: 'next' }) },
  { id: 'undo', keys: ['u', 'Backspace'], group: 'item', title: 'cmd_undo', when: (state) => free(state) && state.phase === 'work' && (state.trail.length > 0 || state.decided !== null), effect: () => ({ type: 'undone' }) },
  { id: 'skip', keys: ['s'], group: 'item', title: 'cmd_skip', when: annotating, effect: () => ({ type: 'panel', panel: 'skip' }) },
  ...REASONS,
  { id: 'flag', keys: ['f'], group: 'item', title: 'cmd_flag', when: annotating, effect: () => ({ type: 'flagged' }) },
  { id: 'comment', keys: ['c'], group: 'item', title: 'cmd_comment', when: judging, effect: () => ({ type: 'panel', panel: 'comment' }) },
  { id: 'guidelines', keys: ['g'], group: 'help', title: 'cmd_guidelines', when: (state) => state.briefing?.guideline != null && free(state), effect: toggle('guidelines') },
  { id: 'history', keys: ['h'], group: 'help', title: 'cmd_history', when: (state) => free(state) && state.phase === 'work' && taskOf(state) !== 'adjudicate', effect: () => ({ type: 'open_history' }) },
  { id: 'problems', keys: ['p'], group: 'help', title: 'cmd_problems', when: (state) => free(state) && state.problems.length > 0, effect: () => ({ type: 'panel', panel: 'problems' }) },
  { id: 'retry', keys: ['r'], group: 'help', title: 'cmd_retry', when: (state) => free(state) && state.line !== 'idle' && state.line !== 'sending', effect: () => ({ type: 'retry_now' }) },
  { id: 'settings', keys: [','], group: 'help', title: 'cmd_settings', when: free, effect: () => ({ type: 'panel', panel: 'settings' }) },
  { id: 'keys', keys: ['?'], group: 'help', title: 'cmd_keys', when: (state) => free(state) || state.panel === 'keys', effect: toggle('keys') },
  { id: 'close', keys: ['Escape'], group: 'help', title: 'cmd_close', when: (state) => state.panel !== null || state.reopened !== null, effect: (state) => (state.panel !== null ? { type: 'panel', panel: null } : { type: 'kept' }) },
]

export type Keymap = Readonly<Record<string, string>>

export function keysOf(command: Command, keymap: Keymap): readonly string[] {
  const own = keymap[command.id]
  return own === undefined ? command.keys : [own, ...command.keys.slice(1).filter((key) => key !== own)]
}

function same(a: string, b: string): boolean {
  return a.length === 1 && b.length === 1 ? a.toLowerCase() === b.toLowerCase() : a === b
}

/** The command a key runs now, if any. */
export function commandFor(state: Session, key: string, commands: readonly Command[] = COMMANDS): Command | null {
  const keymap = state.briefing?.keymap ?? {}
  return commands.find((command) => keysOf(command, keymap).some((own) => same(own, key)) && command.when(state)) ?? null
}

/** Pairs of commands that would be live on one key in this state. */
export function collisions(state: Session, keymap: Keymap, commands: readonly Command[] = COMMANDS): [string, string][] {
  const found: [string, string][] = []
  const seen = new Map<string, string>()
  for (const command of commands.filter((one) => one.when(state))) {
    for (const key of keysOf(command, keymap)) {
      const folded = key.length === 1 ? key.toLowerCase() : key
      const other = seen.get(folded)
      if (other !== undefined) found.push([other, command.id])
      seen.set(folded, command.id)
    }
  }
  return found
}

export type KeyRefusal = { problem: 'reserved' } | { problem: 'taken'; by: Command } | null

/** Digits are answers and Enter, Escape and Tab belong to the browser; any other key may be taken if it is free. */
export function refuseKey(id: string, key: string, keymap: Keymap): KeyRefusal {
  const command = COMMANDS.find((one) => one.id === id)
  if (!command || FIXED_KEYS.has(key) || (key.length > 1 && !/^(Arrow|F\d|Backspace|Delete|Insert|Home|End|Page)/.test(key))) return { problem: 'reserved' }
  if (/^[0-9]$/.test(key) && !['label', 'rate', 'reason'].some((kind) => id.startsWith(`${kind}_`))) return { problem: 'reserved' }
  const family = id.replace(/\d+$/, '')
  const rival = COMMANDS.find((one) => {
    if (one.id === id || !keysOf(one, keymap).some((own) => same(own, key))) return false
    // Labels, points and reasons are never live together, so each of these families has the digits to itself.
    if (!/^[0-9]$/.test(key)) return true
    const other = one.id.replace(/\d+$/, '')
    const families = ['label_', 'rate_', 'reason_']
    return !(families.includes(family) && families.includes(other) && family !== other)
  })
  return rival ? { problem: 'taken', by: rival } : null
}

/** Which commands a person may give another key: the answers by digit and the fixed keys keep theirs. */
export function canRemap(command: Command): boolean {
  return !FIXED_KEYS.has(command.keys[0] ?? '') && command.id !== 'keys'
}

// Carrying commands out ----------------------------------------------------------------------------------------------

export interface Edges {
  state: () => Session
  happen: (event: Happening) => void
  outbox: Outbox
  api: Api
  stamp: () => { id: string; at: string; activeMs: number; device: Device }
  /** The answer is durable on this device: the rest of the program may send it. */
  stored: (judgment: Judgment) => void
  retry: () => void
}

export interface Commander {
  run: (id: string) => Promise<void>
  answer: (answer: Answer) => Promise<void>
  perform: (effect: Effect) => Promise<void>
  saveKeymap: (keymap: Record<string, string>) => Promise<void>
  savePreference: (name: 'theme' | 'text_size' | 'language', value: string) => Promise<void>
  resend: (problem: Problem) => Promise<void>
  dismiss: (problem: Problem) => Promise<void>
  agree: () => Promise<boolean>
}

export function createCommander(edges: Edges): Commander {
  const { state, happen, outbox, api } = edges
  // While an answer is on its way to this device nothing may change what it is about; it takes a millisecond or two.
  let writing = false

  async function tryPractice(label: string): Promise<void> {
    const item = current(state())
    if (!item) return
    writing = true
    try {
      happen({ type: 'feedback', feedback: await api.tryPractice(item.slot, label), given: label })
    } catch {
      happen({ type: 'fault', fault: 'unavailable' })
      happen({ type: 'line', line: 'offline' })
    } finally {
      writing = false
    }
  }

  async function answer(given: Answer): Promise<void> {
    const before = state()
    if (before.phase === 'practice') {
      if (given.action === 'label') await tryPractice(given.label)
      return
    }
    const item = current(before)
    const judgment = judge(before, given, edges.stamp())
    if (!item || !judgment) return
    if (unchanged(judgment, standing(before))) {
      happen({ type: 'kept' })
      return
    }
    const task = taskOf(before)
    writing = true
    try {
      await outbox.put(task, judgment, item)
    } catch (error) {
      happen({ type: 'fault', fault: error instanceof StorageTrouble ? error.fault : 'unavailable' })
      return
    } finally {
      writing = false
    }
    happen({ type: task === 'adjudicate' ? 'decided' : 'answered', judgment, item })
    edges.stored(judgment)
  }

  async function loadHistory(append: boolean): Promise<void> {
    try {
      const page = await api.history(taskOf(state()), append ? state().pastNext : null)
      happen({ type: 'past', results: page.results, next: page.next, append })
    } catch {
      happen({ type: 'line', line: 'offline' })
    }
  }

  async function perform(effect: Effect): Promise<void> {
    if (writing) return
    switch (effect.type) {
      case 'answer':
        return answer(effect.answer)
      case 'keep': {
        // A comment or a flag changed on a reopened item is a correction too.
        const before = standing(state())
        if (before?.action === 'label' && before.label) return answer({ action: 'label', label: before.label })
        if (before?.action === 'skip') return answer({ action: 'skip', reason: before.reason ?? '' })
        return happen({ type: 'kept' })
      }
      case 'open_history':
        happen({ type: 'panel', panel: 'history' })
        return loadHistory(false)
      case 'more_history':
        return loadHistory(true)
      case 'retry_now':
        return edges.retry()
      default:
        happen(effect)
    }
  }

  async function recount(): Promise<void> {
    happen({ type: 'counted', ...(await outbox.count()) })
  }

  return {
    answer,
    perform,
    run: async (id) => {
      const command = COMMANDS.find((one) => one.id === id)
      if (command?.when(state())) await perform(command.effect(state()))
    },
    saveKeymap: async (keymap) => {
      happen({ type: 'keymap', keymap })
      await api.savePreferences({ keymap })
    },
    savePreference: (name, value) => api.savePreferences({ [name]: value }),
    resend: async (problem) => {
      await outbox.retry(problem.id)
      await recount()
      edges.retry()
    },
    dismiss: async (problem) => {
      await outbox.acknowledge(problem.id)
      await recount()
    },
    agree: async () => {
      const briefing: Briefing | null = state().briefing
      if (!briefing?.consent) return true
      try {
        await api.consent(briefing.consent.version)
      } catch {
        return false
      }
      happen({ type: 'phase', phase: briefing.practice?.needed ? 'practice' : 'work' })
      return true
    },
  }
}
