import { computed, effect, signal } from '@preact/signals'
import { render } from 'preact'
import { Trouble, createApi } from './api'
import { Attention } from './attention'
import type { Effect } from './commands'
import { commandFor, createCommander } from './commands'
import type { Briefing, Device, Task } from './contract'
import { Outbox } from './outbox'
import type { Happening, Phase, Session } from './session'
import { current, emptySession, reduce } from './session'
import { translator } from './strings'
import './styles.css'
import { createSync, webLocks } from './sync'
import { App } from './views/App'
import type { Desk } from './views/desk'

/** How often the page asks whether guidelines or consent have changed. */
const REFRESH_MS = 5 * 60_000

const root = document.getElementById('workbench') as HTMLElement
const place = {
  campaign: root.dataset.campaign ?? '',
  task: (root.dataset.task ?? 'verify') as Task,
  user: root.dataset.user ?? '',
  language: root.dataset.language ?? document.documentElement.lang ?? 'en',
  queues: root.dataset.queues ?? '/',
  login: root.dataset.login ?? '/account/login/',
}
const t = translator(place.language)
const scope = `${place.user}:${place.campaign}`

function csrf(): string {
  const cookie = /(?:^|;\s*)csrftoken=([^;]+)/.exec(document.cookie)?.[1]
  return cookie ? decodeURIComponent(cookie) : (document.querySelector<HTMLMetaElement>('meta[name=csrf]')?.content ?? '')
}

function device(): Device {
  if (!matchMedia('(pointer: coarse)').matches) return 'desktop'
  return Math.min(screen.width, screen.height) < 600 ? 'phone' : 'tablet'
}

const session = signal<Session>(emptySession())
const happen = (event: Happening): void => { session.value = reduce(session.peek(), event) }

const appearance = signal({ theme: document.documentElement.dataset.theme ?? 'auto', textSize: document.documentElement.dataset.textSize ?? 'medium' })
effect(() => {
  document.documentElement.dataset.theme = appearance.value.theme
  document.documentElement.dataset.textSize = appearance.value.textSize
})

/** This tab's own name. A duplicated tab inherits the storage but not the lock, and takes a new name. */
async function claimName(): Promise<string> {
  const key = `attune-client:${scope}`
  const known = sessionStorage.getItem(key) ?? crypto.randomUUID()
  const claim = (name: string): Promise<boolean> =>
    new Promise((resolve) => {
      if (!navigator.locks) return resolve(true)
      void navigator.locks.request(`attune-tab:${name}`, { ifAvailable: true }, (lock) => {
        resolve(lock !== null)
        // Held until the tab is gone: that is what tells the others that it lives.
        return lock === null ? undefined : new Promise<void>(() => undefined)
      })
    })
  const name = (await claim(known)) ? known : crypto.randomUUID()
  if (name !== known) await claim(name)
  sessionStorage.setItem(key, name)
  return name
}

async function livingTabs(): Promise<Set<string> | null> {
  if (!navigator.locks) return null
  const { held = [] } = await navigator.locks.query()
  return new Set(held.flatMap((lock) => (lock.name?.startsWith('attune-tab:') ? [lock.name.slice('attune-tab:'.length)] : [])))
}

function stop(words: string): void {
  render(
    <main class="stage"><section class="done"><h2>{t('cannot_start')}</h2><p>{words}</p><p><button type="button" class="button primary" onClick={() => location.reload()}>{t('try_again')}</button> <a class="button" href={place.queues}>{t('back_to_queues')}</a></p></section></main>,
    root,
  )
}

async function start(): Promise<void> {
  const api = createApi({ campaign: place.campaign, language: place.language, csrf })
  let outbox: Outbox
  try {
    outbox = await Outbox.open(`attune:${scope}`)
  } catch {
    return stop(t('cannot_start_storage'))
  }
  void navigator.storage?.persist?.().catch(() => false)
  const client = await claimName()
  const channel = new BroadcastChannel(`attune:${scope}`)
  const attention = new Attention(() => performance.now(), 30_000)
  let checkedToken = csrf()
  let painted: string | null = null

  const sync = createSync({
    api,
    outbox,
    locks: webLocks(navigator.locks),
    scope,
    task: place.task,
    client,
    ahead: () => session.peek().ahead.length,
    happen,
    announce: () => channel.postMessage('changed'),
    samePerson: async () => {
      // Signing in changes the token, so an unchanged token is an unchanged person.
      const token = csrf()
      if (token === checkedToken) return true
      const briefing = await api.briefing(place.task)
      if (String(briefing.user.id) !== place.user) return false
      checkedToken = token
      return true
    },
    gated: () => void refresh(),
    later: (work, milliseconds) => {
      const timer = setTimeout(work, milliseconds)
      return () => clearTimeout(timer)
    },
    random: Math.random,
  })
  channel.onmessage = () => void sync.recount().catch(() => undefined)

  const commander = createCommander({
    state: () => session.peek(),
    happen: (event) => {
      happen(event)
      if (event.type === 'phase') void enter(event.phase)
      if (event.type === 'next' && session.peek().phase === 'practice') practised()
      if (event.type === 'next' && session.peek().ahead.length < 3) sync.wake()
      if (event.type === 'guideline_seen') void outbox.note('guideline', String(session.peek().briefing?.guideline?.version ?? ''))
    },
    outbox,
    api,
    stamp: () => ({ id: crypto.randomUUID(), at: new Date().toISOString(), activeMs: attention.activeMs(), device: device() }),
    // Sending can wait until the next item is on the glass.
    stored: () => (document.hidden ? sync.wake() : requestAnimationFrame(() => setTimeout(sync.wake))),
    retry: sync.retry,
  })

  async function enter(phase: Phase): Promise<void> {
    if (phase === 'practice') {
      try {
        happen({ type: 'received', items: await api.practice(), lost: [], progress: null, exhausted: false })
      } catch {
        happen({ type: 'line', line: 'offline' })
      }
      if (session.peek().ahead.length === 0 && session.peek().line === 'idle') {
        happen({ type: 'phase', phase: 'work' })
        return enter('work')
      }
    }
    if (phase === 'work') {
      const items = await outbox.adopt(place.task, client, await livingTabs())
      const first = items[0]
      happen({ type: 'recalled', items, trail: await outbox.trail(place.task), draft: first ? await outbox.draft(place.task, first.slot) : null })
      await sync.recount()
      sync.wake()
    }
  }

  function phaseFor(briefing: Briefing): Phase {
    return briefing.consent?.needed ? 'consent' : briefing.practice?.needed ? 'practice' : 'work'
  }

  async function take(briefing: Briefing, phase: Phase): Promise<void> {
    attention.setIdleAfter(briefing.idle_after_ms)
    const version = String(briefing.guideline?.version ?? '')
    const seen = await outbox.note('guideline').catch(() => null)
    if (seen === null && briefing.guideline) await outbox.note('guideline', version).catch(() => undefined)
    happen({ type: 'briefed', briefing, phase, guidelineSeen: seen === null || seen === version })
  }

  /** Asks again what the campaign wants: the guidelines, the key map or the consent may have changed meanwhile. */
  async function refresh(): Promise<void> {
    try {
      const briefing = await api.briefing(place.task)
      await outbox.keepBriefing(briefing).catch(() => undefined)
      const phase = session.peek().phase
      const wanted = phaseFor(briefing)
      const gated = phase === 'work' && wanted !== 'work'
      await take(briefing, gated ? wanted : phase)
      if (gated && wanted === 'practice') happen({ type: 'phase', phase: 'practice' })
      if (gated) await enter(wanted)
    } catch {
      // The next answer says what is wrong, if something is.
    }
  }

  function practised(): void {
    if (session.peek().ahead.length > 0) return
    happen({ type: 'phase', phase: 'work' })
    void enter('work')
  }

  /** Gives back what was not begun, so that nobody waits for it, and goes to the queues. */
  async function leave(): Promise<void> {
    const { ahead, draft, line, phase } = session.peek()
    const begun = draft.comment !== '' || draft.flagged || Object.keys(draft.ratings).length > 0
    const untouched = (begun ? ahead.slice(1) : ahead).map((item) => item.slot)
    if (phase === 'work' && place.task !== 'adjudicate' && line === 'idle' && untouched.length > 0) {
      await outbox.release(place.task, untouched).catch(() => undefined)
      await Promise.race([api.giveBack(untouched).catch(() => undefined), new Promise((resolve) => setTimeout(resolve, 800))])
    }
    location.assign(place.queues)
  }

  const ANSWERS = new Set(['answer', 'keep', 'next'])
  function live(made: Effect): boolean {
    // A key that arrives before the item is on the glass cannot be an answer to it.
    const item = current(session.peek())
    return !ANSWERS.has(made.type) || item === null || painted === String(item.slot)
  }

  window.addEventListener('keydown', (event) => {
    const target = event.target instanceof Element ? event.target : null
    const typing = target?.closest('input[type=text], input:not([type]), textarea, select, [contenteditable]') !== null && target !== null
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || (typing && event.key !== 'Escape')) return
    // Enter and space belong to the control that has the focus; arrows to a radio button.
    const control = target?.closest('button, a[href], summary, input')
    if (control && (event.key === 'Enter' || event.key === ' ')) return
    if (control instanceof HTMLInputElement && event.key.startsWith('Arrow')) return
    const state = session.peek()
    const command = commandFor(state, event.key)
    if (!command) return
    event.preventDefault()
    const made = command.effect(state)
    if ((event.repeat && command.group !== 'answer') || (event.repeat && made.type !== 'moved') || !live(made)) return
    void commander.perform(made)
  })

  for (const name of ['keydown', 'pointerdown', 'pointermove', 'wheel', 'touchmove']) {
    window.addEventListener(name, () => attention.stir(), { passive: true, capture: true })
  }
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) attention.hide()
    else {
      attention.stir()
      sync.retry()
    }
  })
  window.addEventListener('online', sync.retry)
  window.addEventListener('focus', sync.retry)

  const shownSlot = computed(() => {
    const item = current(session.value)
    return item ? `${item.slot}:${session.value.reopened !== null}` : ''
  })
  effect(() => {
    if (shownSlot.value !== '') attention.restart()
  })
  let keeping = 0
  effect(() => {
    const { draft, reopened, ahead, phase } = session.value
    const first = ahead[0]
    clearTimeout(keeping)
    const begun = draft.comment !== '' || draft.flagged || Object.keys(draft.ratings).length > 0
    if (phase === 'work' && !reopened && first && begun) {
      keeping = window.setTimeout(() => void outbox.keepDraft(place.task, first.slot, draft).catch(() => undefined), 150)
    }
  })

  const desk = computed<Desk>(() => ({
    state: session.value,
    t,
    commander,
    addresses: { queues: place.queues, login: place.login },
    leave: () => void leave(),
    painted: (slot) => { painted = slot },
    appearance: {
      ...appearance.value,
      language: place.language.split('-')[0] ?? 'en',
      set: (name, value) => {
        if (name === 'language') {
          // The words come with the page. Answers are on this device; nothing is lost by loading it again.
          void commander.savePreference(name, value).then(() => location.reload(), () => undefined)
          return
        }
        appearance.value = { ...appearance.value, [name === 'theme' ? 'theme' : 'textSize']: value }
        void commander.savePreference(name, value).catch(() => undefined)
      },
    },
  }))
  const Root = () => <App desk={desk.value} />
  render(<Root />, root)

  let briefing: Briefing
  try {
    briefing = await api.briefing(place.task)
    await outbox.keepBriefing(briefing).catch(() => undefined)
  } catch (error) {
    const kept = await outbox.briefing(place.task).catch(() => null)
    const trouble = error instanceof Trouble ? error.kind : 'malformed'
    if (!kept || trouble === 'forbidden' || trouble === 'malformed') {
      return stop(trouble === 'forbidden' ? t('banner_forbidden') : trouble === 'malformed' ? t('banner_malformed') : trouble === 'signed_out' ? t('banner_signed_out') : t('cannot_start_offline'))
    }
    briefing = kept
    happen({ type: 'line', line: trouble === 'signed_out' ? 'signed_out' : 'offline' })
  }
  const phase = phaseFor(briefing)
  // Until it is known what still waits on this device, the page must not say that all is saved.
  await sync.recount().catch(() => undefined)
  await take(briefing, phase)
  setInterval(() => {
    if (!document.hidden && session.peek().phase === 'work') void refresh()
  }, REFRESH_MS)
  await enter(phase)
}

void start()
