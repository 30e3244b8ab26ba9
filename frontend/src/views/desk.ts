// What every view is given: the session, the words, and one way to act.
import type { Commander } from '../commands'
import { COMMANDS, keysOf } from '../commands'
import type { Emotion } from '../contract'
import type { Session } from '../session'
import type { Translate } from '../strings'

export interface Desk {
  state: Session
  t: Translate
  commander: Commander
  addresses: { queues: string; login: string }
  leave: () => void
  /** The item is on the glass: answers to it count from now on. */
  painted: (slot: string) => void
  appearance: { theme: string; textSize: string; language: string; set: (name: 'theme' | 'text_size' | 'language', value: string) => void }
}

const SIGNS: Record<string, string> = { ArrowDown: '↓', ArrowUp: '↑', ArrowLeft: '←', ArrowRight: '→', Backspace: '⌫', Escape: 'Esc' }

export function keyName(key: string, t: Translate): string {
  if (key === 'Enter') return t('key_enter')
  if (key === ' ') return t('key_space')
  return SIGNS[key] ?? key
}

/** The key cap of a command, as this person has it. */
export function capOf(desk: Desk, id: string): string {
  const command = COMMANDS.find((one) => one.id === id)
  const key = command ? keysOf(command, desk.state.briefing?.keymap ?? {})[0] : undefined
  return key === undefined ? '' : keyName(key, desk.t)
}

export function isLive(desk: Desk, id: string): boolean {
  return COMMANDS.find((one) => one.id === id)?.when(desk.state) ?? false
}

export function titleOf(emotions: readonly Emotion[] | undefined, name: string | undefined): string {
  return emotions?.find((one) => one.name === name)?.title ?? name ?? ''
}

export function reasonOf(desk: Desk, code: string | undefined): string {
  return desk.state.briefing?.skip_reasons.find((one) => one.code === code)?.title ?? code ?? ''
}
