import { useEffect, useState } from 'preact/hooks'
import { current, minutesLeft, taskOf } from '../session'
import type { Session } from '../session'
import type { StringKey, Translate } from '../strings'
import type { Desk } from './desk'
import { capOf, isLive } from './desk'
import { Adjudicate, Practice, Verify } from './Verify'
import { Rate } from './Rate'
import { Panels } from './Panels'

const ACTIONS = ['undo', 'skip', 'flag', 'comment', 'guidelines', 'history'] as const

export function App({ desk }: { desk: Desk }) {
  const { state } = desk
  const wide = state.briefing?.task === 'rate' && state.phase === 'work'
  return (
    <div class={`desk${state.panel === 'guidelines' ? ' with-guide' : ''}${wide ? ' wide' : ''}`}>
      <Header desk={desk} />
      <Banners desk={desk} />
      <main class="stage">
        <Stage desk={desk} />
      </main>
      <Actions desk={desk} />
      <Panels desk={desk} />
    </div>
  )
}

function Stage({ desk }: { desk: Desk }) {
  const { state, t } = desk
  if (state.phase === 'loading') return <p class="quiet centred">{t('loading')}</p>
  if (state.phase === 'consent') return <ConsentPage desk={desk} />
  if (!current(state)) return <Waiting desk={desk} />
  if (state.phase === 'practice') return <Practice desk={desk} />
  if (taskOf(state) === 'rate') return <Rate desk={desk} />
  if (taskOf(state) === 'adjudicate') return <Adjudicate desk={desk} />
  return <Verify desk={desk} />
}

function timeLeft(state: Session, t: Translate): string {
  const minutes = minutesLeft(state.progress)
  if (minutes === null) return ''
  return minutes < 90 ? t('time_left', { minutes }) : t('time_left_hours', { hours: Math.round(minutes / 60) })
}

function Header({ desk }: { desk: Desk }) {
  const { state, t } = desk
  const { progress, briefing } = state
  const task = state.phase === 'practice' ? 'practice' : (briefing?.task ?? 'verify')
  const pace = progress?.pace_ms ? t('pace', { seconds: Math.round(progress.pace_ms / 100) / 10 }) : ''
  return (
    <header class="bar">
      <a class="home" href={desk.addresses.queues} onClick={(event) => { event.preventDefault(); desk.leave() }} aria-label={t('back_to_queues')}>
        <span aria-hidden="true">‹</span>
      </a>
      <h1>
        <span class="task">{t(`task_${task}` as StringKey)}</span>
        <span class="title">{briefing?.title ?? ''}</span>
      </h1>
      {progress && state.phase === 'work' && (
        <p class="progress" title={[t('mine_today', { count: progress.mine_today }), pace].filter(Boolean).join(' · ')}>
          <progress max={Math.max(1, progress.total)} value={progress.done} aria-label={t('progress', { done: progress.done, total: progress.total })} />
          <span class="count">{t('progress', { done: progress.done, total: progress.total })}</span>
          <span class="left">{timeLeft(state, t)}</span>
        </p>
      )}
      <Status desk={desk} />
      <nav class="tools" aria-label={t('group_help')}>
        {(['keys', 'settings'] as const).map((id) => (
          <button key={id} type="button" class="round" onClick={() => void desk.commander.run(id)} aria-label={t(`cmd_${id}`)} aria-keyshortcuts={capOf(desk, id)} title={`${t(`cmd_${id}`)} (${capOf(desk, id)})`}>
            <span aria-hidden="true">{id === 'keys' ? '?' : '◐'}</span>
          </button>
        ))}
      </nav>
    </header>
  )
}

/** How things stand, in words. The dot only repeats them. */
export function statusWords(state: Session, t: Translate): { tone: 'good' | 'wait' | 'bad'; words: string } {
  const { pending: count, line } = state
  if (line === 'signed_out' || line === 'other_person' || line === 'forbidden') {
    return { tone: 'bad', words: count ? t('signed_out_kept', { count }) : t('signed_out') }
  }
  if (line === 'offline') return { tone: 'wait', words: count ? t('offline_kept', { count }) : t('offline') }
  if (line === 'busy' || line === 'malformed') return { tone: 'wait', words: count ? t('busy_kept', { count }) : t('busy') }
  return count ? { tone: 'wait', words: t('sending', { count }) } : { tone: 'good', words: t('saved') }
}

const SETTLE_MS = 500

function Status({ desk }: { desk: Desk }) {
  const { state, t } = desk
  const now = statusWords(state, t)
  const [shown, show] = useState(now)
  // An answer on its way for an instant is not worth a word: the line would flicker with every key.
  const passing = state.line === 'sending' || (state.line === 'idle' && state.pending > 0)
  useEffect(() => {
    if (!passing) {
      show(now)
      return
    }
    const timer = setTimeout(() => show(now), SETTLE_MS)
    return () => clearTimeout(timer)
  }, [now.words, passing])
  return (
    <div class="status">
      <p role="status" aria-live="polite" data-status={state.line} data-pending={state.pending}>
        {state.phase !== 'loading' && (
          <span class={`dot ${shown.tone}`}>
            {shown.words}
          </span>
        )}
      </p>
      {state.problems.length > 0 && (
        <button type="button" class="link warn" onClick={() => void desk.commander.run('problems')}>
          {t('refused_count', { count: state.problems.length })}
        </button>
      )}
    </div>
  )
}

function Banners({ desk }: { desk: Desk }) {
  const { state, t, commander } = desk
  const notes: { key: string; words: string; tone: 'bad' | 'note'; action?: [string, () => void] | undefined; href?: [string, string] }[] = []
  const retry = [t('try_again'), () => void commander.perform({ type: 'retry_now' })] as [string, () => void]
  if (state.fault && state.phase !== 'practice') notes.push({ key: 'fault', tone: 'bad', words: t(state.fault === 'full' ? 'banner_full' : 'banner_unavailable') })
  if (state.fault && state.phase === 'practice') notes.push({ key: 'fault', tone: 'note', words: t('banner_practice_offline') })
  if (state.line === 'signed_out') notes.push({ key: 'out', tone: 'bad', words: t('banner_signed_out'), href: [t('sign_in'), desk.addresses.login] })
  if (state.line === 'other_person') notes.push({ key: 'other', tone: 'bad', words: t('banner_other_person', { name: state.briefing?.user.name ?? '' }), action: retry })
  if (state.line === 'forbidden') notes.push({ key: 'forbidden', tone: 'bad', words: t('banner_forbidden'), action: retry })
  if (state.line === 'malformed') notes.push({ key: 'malformed', tone: 'bad', words: t('banner_malformed'), action: [t('reload'), () => location.reload()] })
  if (state.progress?.state === 'paused') notes.push({ key: 'paused', tone: 'note', words: t('banner_paused') })
  if (state.progress?.state === 'closed') notes.push({ key: 'closed', tone: 'note', words: t('banner_closed') })
  if (state.swapped) notes.push({ key: 'swapped', tone: 'note', words: t('banner_swapped') })
  if (!state.guidelineSeen && state.phase === 'work') {
    const note = state.briefing?.guideline?.change_note
    notes.push({ key: 'guide', tone: 'note', words: note ? t('banner_guideline', { note }) : t('banner_guideline_plain'), action: [t('read_them'), () => void commander.run('guidelines')] })
  }
  return (
    <div class="banners" aria-live="polite">
      {notes.map((note) => (
        <p key={note.key} class={`banner ${note.tone}`}>
          <span>{note.words}</span>
          {note.action && <button type="button" class="link" onClick={note.action[1]}>{note.action[0]}</button>}
          {note.href && <a class="link" href={note.href[1]} target="_blank" rel="noopener">{note.href[0]}</a>}
        </p>
      ))}
    </div>
  )
}

function Actions({ desk }: { desk: Desk }) {
  const { state, t } = desk
  if (state.phase !== 'work' && state.phase !== 'practice') return null
  const shown = ACTIONS.filter((id) => {
    if (state.phase === 'practice') return id === 'guidelines'
    return state.briefing?.task !== 'adjudicate' || !['skip', 'flag', 'history'].includes(id)
  })
  return (
    <footer class="actions" aria-label={t('group_item')}>
      {shown.map((id) => {
        const on = (id === 'flag' && state.draft.flagged) || (id === 'comment' && state.draft.comment.trim() !== '')
        return (
          <button
            key={id}
            type="button"
            class={`action${on ? ' on' : ''}`}
            data-command={id}
            disabled={!isLive(desk, id)}
            aria-keyshortcuts={capOf(desk, id)}
            {...(id === 'flag' ? { 'aria-pressed': state.draft.flagged } : {})}
            onClick={() => void desk.commander.run(id)}
          >
            <kbd aria-hidden="true">{capOf(desk, id)}</kbd>
            <span>{id === 'flag' && on ? t('flagged') : t(`cmd_${id}`)}</span>
            {id === 'comment' && on && <span class="mark" aria-label={t('commented')}>•</span>}
          </button>
        )
      })}
    </footer>
  )
}

function Waiting({ desk }: { desk: Desk }) {
  const { state, t } = desk
  if (!state.exhausted) {
    const away = state.line !== 'idle' && state.line !== 'sending'
    return <p class="quiet centred" data-waiting>{t(away ? 'waiting_offline' : 'waiting_more')}</p>
  }
  return (
    <section class="done" data-done>
      <h2>{t('done_title')}</h2>
      {state.progress && state.progress.mine > 0 && <p>{t('done_mine', { count: state.progress.mine })}</p>}
      <p class="quiet">{state.pending > 0 ? t('done_pending') : t('done_next')}</p>
      <p><a class="button" href={desk.addresses.queues}>{t('back_to_queues')}</a></p>
    </section>
  )
}

function ConsentPage({ desk }: { desk: Desk }) {
  const { state, t } = desk
  const [failed, fail] = useState(false)
  return (
    <section class="page" data-consent>
      <h2>{t('consent_title')}</h2>
      {/* Sanitised by the server; the only HTML besides the guidelines. */}
      <div class="prose" dangerouslySetInnerHTML={{ __html: state.briefing?.consent?.html ?? '' }} />
      {failed && <p role="alert" class="banner bad">{t('consent_failed')}</p>}
      <p class="choices">
        <button type="button" class="button primary" onClick={() => void desk.commander.agree().then((agreed) => fail(!agreed))}>{t('consent_agree')}</button>
        <a class="button" href={desk.addresses.queues}>{t('consent_decline')}</a>
      </p>
    </section>
  )
}
