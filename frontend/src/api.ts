// One door to the server. Every failure leaves here as a `Trouble` whose kind says what can be done about it.
import type {
  Briefing, Dealt, Decision, DecisionReceipt, Feedback, HistoryPage, Item, Judgment, Preferences, Receipt, Slot, Task,
} from './contract'
import {
  MalformedAnswer, readBriefing, readDealt, readDecision, readFeedback, readHistory, readItem, readReceipt,
} from './contract'

/**
 * offline: no answer came; try again. busy: the server could not just now; try again. signed_out: sign in and go on.
 * forbidden: not this person's campaign. refused: the server understood and said no. malformed: page and server differ.
 */
export type TroubleKind = 'offline' | 'busy' | 'signed_out' | 'forbidden' | 'refused' | 'malformed'

export class Trouble extends Error {
  constructor(
    readonly kind: TroubleKind,
    readonly code: string,
    message: string,
    readonly retryAfterMs: number | null = null,
  ) {
    super(message)
  }
}

export interface Ask {
  task: Task
  want: number
  holding: Slot[]
  client: string
}

export interface Api {
  briefing(task: Task): Promise<Briefing>
  lease(ask: Ask): Promise<Dealt>
  submit(ask: Ask & { judgments: Judgment[] }): Promise<Receipt>
  giveBack(slots: Slot[]): Promise<void>
  history(task: Task, cursor: string | null): Promise<HistoryPage>
  practice(): Promise<Item[]>
  tryPractice(item: Slot, label: string): Promise<Feedback>
  consent(version: string): Promise<void>
  disputes(): Promise<{ items: Item[]; left: number }>
  decide(decision: Decision): Promise<DecisionReceipt>
  savePreferences(preferences: Partial<Preferences>): Promise<void>
  preferences(): Promise<Preferences>
}

const TIMEOUT_MS = 20_000

function troubleOf(status: number, body: unknown, retryAfter: string | null): Trouble {
  const said = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>
  const code = typeof said.error === 'string' ? said.error : `http_${status}`
  const detail = typeof said.detail === 'string' ? said.detail : JSON.stringify(said.detail ?? '')
  const signedOut = ['not_authenticated', 'authentication_failed', 'csrf_failed']
  if (status === 401 || signedOut.includes(code) || (status === 403 && /csrf|credentials/i.test(detail))) {
    return new Trouble('signed_out', code, detail)
  }
  if (status === 403 || status === 404) return new Trouble('forbidden', code, detail)
  if (status >= 500 || status === 429 || status === 408 || status === 423) {
    const seconds = retryAfter === null ? Number.NaN : Number(retryAfter)
    return new Trouble('busy', code, detail, Number.isFinite(seconds) ? seconds * 1000 : null)
  }
  return new Trouble('refused', code, detail)
}

export interface Place {
  campaign: string
  /** The language of the page, in which the server's own words (emotions, reasons) should come too. */
  language: string
  /** Read at each request: signing in again in another tab changes it. */
  csrf(): string
}

export function createApi(place: Place, fetcher: typeof fetch = (...given) => fetch(...given)): Api {
  const base = `/api/campaigns/${encodeURIComponent(place.campaign)}`

  async function call<T>(method: string, path: string, body: unknown, read: (value: unknown) => T, extra: RequestInit = {}): Promise<T> {
    const headers: Record<string, string> = { Accept: 'application/json', 'Accept-Language': place.language }
    if (method !== 'GET') headers['X-CSRFToken'] = place.csrf()
    if (body !== undefined) headers['Content-Type'] = 'application/json'
    let answer: Response
    let words: string
    try {
      answer = await fetcher(path, {
        method,
        headers,
        credentials: 'same-origin',
        redirect: 'manual',
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...extra,
      })
      words = await answer.text()
    } catch (error) {
      throw new Trouble('offline', 'offline', String(error))
    }
    // A login page instead of an answer: the session has ended.
    if (answer.type === 'opaqueredirect' || (answer.status >= 300 && answer.status < 400)) {
      throw new Trouble('signed_out', 'redirected', '')
    }
    let value: unknown = null
    try {
      value = words === '' ? null : JSON.parse(words)
    } catch {
      if (answer.ok) throw new Trouble('malformed', 'malformed', 'not JSON')
    }
    if (!answer.ok) throw troubleOf(answer.status, value, answer.headers.get('Retry-After'))
    try {
      return read(value)
    } catch (error) {
      if (error instanceof MalformedAnswer) throw new Trouble('malformed', 'malformed', error.message)
      throw error
    }
  }

  const nothing = (): void => undefined
  const items = (value: unknown): Item[] => ((value as { items?: unknown[] } | null)?.items ?? []).map(readItem)
  return {
    briefing: (task) => call('GET', `${base}/workbench/?task=${task}`, undefined, readBriefing),
    lease: (ask) => call('POST', `${base}/lease/`, ask, readDealt),
    submit: (ask) => call('POST', `${base}/judgments/`, ask, readReceipt),
    giveBack: (slots) => call('POST', `${base}/return/`, { slots, csrf: place.csrf() }, nothing, { keepalive: true }),
    history: (task, cursor) =>
      call('GET', `${base}/history/?task=${task}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`, undefined, readHistory),
    practice: () => call('GET', `${base}/practice/`, undefined, items),
    tryPractice: (item, label) => call('POST', `${base}/practice/`, { item, label }, readFeedback),
    consent: (version) => call('POST', `${base}/consent/`, { version }, nothing),
    disputes: () =>
      call('GET', `${base}/adjudication/`, undefined, (value) => ({
        items: items(value),
        left: Number((value as { left?: unknown } | null)?.left ?? 0),
      })),
    decide: (decision) => call('POST', `${base}/adjudication/`, decision, readDecision),
    savePreferences: (preferences) => call('PUT', '/api/me/preferences/', preferences, nothing),
    preferences: () => call('GET', '/api/me/preferences/', undefined, (value) => (value ?? {}) as Preferences),
  }
}
