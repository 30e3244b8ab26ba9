import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import { COMMANDS, canRemap, keysOf, refuseKey } from '../commands'
import type { Command, Group } from '../commands'
import type { Item } from '../contract'
import type { StringKey } from '../strings'
import type { Desk } from './desk'
import { capOf, keyName, reasonOf, titleOf } from './desk'

export function Panels({ desk }: { desk: Desk }) {
  switch (desk.state.panel) {
    case 'guidelines': return <Guidelines desk={desk} />
    case 'keys': return <Keys desk={desk} />
    case 'skip': return <Skip desk={desk} />
    case 'comment': return <Comment desk={desk} />
    case 'history': return <History desk={desk} />
    case 'problems': return <Problems desk={desk} />
    case 'settings': return <Settings desk={desk} />
    default: return null
  }
}

function Dialog({ desk, title, children, wide = false }: { desk: Desk; title: string; children: ComponentChildren; wide?: boolean }) {
  const box = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const before = document.activeElement
    box.current?.showModal()
    box.current?.querySelector<HTMLElement>('.inside')?.focus()
    return () => { if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true }) }
  }, [])
  const close = (): void => void desk.commander.run('close')
  return (
    <dialog ref={box} class={`panel${wide ? ' wide' : ''}`} aria-labelledby="panel-title" onCancel={(event) => { event.preventDefault(); close() }} onClick={(event) => { if (event.target === box.current) close() }}>
      <div class="inside" tabIndex={-1}>
        <header>
          <h2 id="panel-title">{title}</h2>
          <button type="button" class="round" aria-label={desk.t('cmd_close')} title={desk.t('cmd_close')} onClick={close}><span aria-hidden="true">×</span></button>
        </header>
        {children}
      </div>
    </dialog>
  )
}

function Guidelines({ desk }: { desk: Desk }) {
  const { t, state } = desk
  const guideline = state.briefing?.guideline
  useEffect(() => { void desk.commander.perform({ type: 'guideline_seen' }) }, [])
  if (!guideline) return null
  return (
    <aside class="guide" aria-labelledby="guide-title">
      <header>
        <h2 id="guide-title">{t('guidelines_title')}</h2>
        <span class="quiet">{t('version', { version: guideline.version })}</span>
        <button type="button" class="round" aria-label={t('cmd_close')} onClick={() => void desk.commander.run('close')}><span aria-hidden="true">×</span></button>
      </header>
      {/* Sanitised by the server. */}
      <div class="prose" tabIndex={0} role="region" aria-labelledby="guide-title" dangerouslySetInnerHTML={{ __html: guideline.html }} />
    </aside>
  )
}

const GROUPS: Group[] = ['answer', 'item', 'help']

function Keys({ desk }: { desk: Desk }) {
  const { t, state } = desk
  const [waiting, wait] = useState<Command | null>(null)
  const [said, say] = useState('')
  const keymap = state.briefing?.keymap ?? {}
  const name = (command: Command): string => t(command.title, { detail: command.detail?.(state) ?? '' })

  useLayoutEffect(() => {
    if (!waiting) return
    const listen = (event: KeyboardEvent): void => {
      event.preventDefault()
      event.stopImmediatePropagation()
      if (['Shift', 'Control', 'Alt', 'Meta'].includes(event.key)) return
      wait(null)
      if (event.key === 'Escape') return say('')
      const refusal = refuseKey(waiting.id, event.key, keymap)
      const key = keyName(event.key, t)
      if (refusal?.problem === 'reserved') return say(t('keys_reserved', { key }))
      if (refusal?.problem === 'taken') return say(t('keys_taken', { key, title: name(refusal.by) }))
      void change({ ...keymap, [waiting.id]: event.key })
    }
    window.addEventListener('keydown', listen, true)
    return () => window.removeEventListener('keydown', listen, true)
  }, [waiting, keymap])

  async function change(next: Record<string, string>): Promise<void> {
    say('')
    await desk.commander.saveKeymap(next).catch(() => say(t('keys_unsaved')))
  }

  const rating = state.briefing?.task === 'rate'
  const most = Math.max(0, ...(state.briefing?.scales.map((scale) => scale.points) ?? []))
  /** Only what this task has: no scales where labels are given, nothing to accept in a blind campaign. */
  const shown = ({ id, keys }: Command): boolean => {
    if (id.startsWith('reason_')) return false
    if (id.startsWith('rate_')) return rating && Number(keys[0]) <= most
    if (/_(scale|response)$|^submit$/.test(id)) return rating
    if (id.startsWith('label_') || id === 'keep') return !rating
    return id !== 'accept' || (!rating && state.briefing?.mode !== 'blind')
  }

  return (
    <Dialog desk={desk} title={t('keys_title')} wide>
      <p class="quiet" role="status">{waiting ? t('keys_press', { title: name(waiting) }) : said || t('keys_hint')}</p>
      <div class="keys">
        {GROUPS.map((group) => (
          <section key={group}>
            <h3>{t(`group_${group}` as StringKey)}</h3>
            <dl>
              {COMMANDS.filter((command) => command.group === group && shown(command)).map((command) => (
                <div key={command.id}>
                  <dt>
                    {canRemap(command) ? (
                      <button type="button" class={`cap${waiting === command ? ' waiting' : ''}`} aria-label={t('keys_change', { title: name(command), key: capOf(desk, command.id) })} onClick={() => wait(command)}>
                        {capOf(desk, command.id)}
                      </button>
                    ) : <kbd>{capOf(desk, command.id)}</kbd>}
                    {keysOf(command, keymap).slice(1).map((key) => <kbd key={key}>{keyName(key, t)}</kbd>)}
                  </dt>
                  <dd>{name(command)}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
      {Object.keys(keymap).length > 0 && <button type="button" class="button" onClick={() => void change({})}>{t('keys_reset')}</button>}
    </Dialog>
  )
}

function Skip({ desk }: { desk: Desk }) {
  const { t, state } = desk
  return (
    <Dialog desk={desk} title={t('skip_title')}>
      <div class="reasons">
        {state.briefing?.skip_reasons.slice(0, 9).map((reason, index) => (
          <button key={reason.code} type="button" class="action" data-reason={reason.code} onClick={() => void desk.commander.run(`reason_${index + 1}`)}>
            <kbd aria-hidden="true">{capOf(desk, `reason_${index + 1}`)}</kbd>
            <span>{reason.title}</span>
          </button>
        ))}
      </div>
    </Dialog>
  )
}

function Comment({ desk }: { desk: Desk }) {
  const { t, state } = desk
  const field = useRef<HTMLTextAreaElement>(null)
  useEffect(() => { field.current?.focus() }, [])
  return (
    <Dialog desk={desk} title={t('comment_title')}>
      <textarea
        ref={field}
        rows={4}
        maxLength={2000}
        aria-labelledby="panel-title"
        aria-describedby="comment-hint"
        value={state.draft.comment}
        onInput={(event) => void desk.commander.perform({ type: 'commented', comment: event.currentTarget.value })}
        onKeyDown={(event) => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) void desk.commander.run('close') }}
      />
      <div class="choices">
        <p class="quiet" id="comment-hint">{t('comment_hint')}</p>
        <button type="button" class="button primary" onClick={() => void desk.commander.run('close')}>{t('comment_done')}</button>
      </div>
    </Dialog>
  )
}

function excerpt(item: Item): string {
  return item.target?.text ?? item.context.at(-1)?.text ?? item.responses?.[0]?.text ?? ''
}

function History({ desk }: { desk: Desk }) {
  const { t, state } = desk
  const emotions = state.briefing?.emotions
  return (
    <Dialog desk={desk} title={t('history_title')} wide>
      {state.past === null && <p class="quiet">{t('history_loading')}</p>}
      {state.past?.length === 0 && <p class="quiet">{t('history_empty')}</p>}
      <ul class="past">
        {state.past?.map((past) => (
          <li key={past.id}>
            <p class="said" dir="auto">{excerpt(past.item)}</p>
            <p class="quiet">
              <strong>
                {past.action === 'label' && titleOf(emotions, past.label)}
                {past.action === 'rate' && t('history_rated')}
                {past.action === 'skip' && t('history_skipped', { reason: reasonOf(desk, past.reason) })}
              </strong>
              {' · '}<time dateTime={past.received_at}>{new Date(past.received_at).toLocaleString(document.documentElement.lang || undefined, { dateStyle: 'medium', timeStyle: 'short' })}</time>
              {past.flagged && ` · ${t('flagged')}`}
              {past.comment && ` · ${t('commented')}`}
            </p>
            <button
              type="button"
              class="button small"
              onClick={() => void desk.commander.perform({
                type: 'editing',
                answered: {
                  item: past.item,
                  judgment: {
                    id: past.id, slot: past.slot, action: past.action, answered_at: past.received_at, active_ms: 0, device: 'desktop', guideline_version: null,
                    ...(past.label ? { label: past.label } : {}), ...(past.ratings ? { ratings: past.ratings } : {}), ...(past.reason ? { reason: past.reason } : {}),
                    ...(past.comment ? { comment: past.comment } : {}), ...(past.flagged ? { flagged: true } : {}),
                  },
                },
              })}
            >
              {t('history_edit')}
            </button>
          </li>
        ))}
      </ul>
      {state.pastNext && <button type="button" class="button" onClick={() => void desk.commander.perform({ type: 'more_history' })}>{t('history_more')}</button>}
    </Dialog>
  )
}

function Problems({ desk }: { desk: Desk }) {
  const { t, state } = desk
  const emotions = state.briefing?.emotions
  return (
    <Dialog desk={desk} title={t('problems_title')} wide>
      <p class="quiet">{t('problems_intro')}</p>
      <ul class="past" data-problems>
        {state.problems.map((problem) => (
          <li key={problem.id}>
            <p class="said" dir="auto">{excerpt(problem.item)}</p>
            <p><strong>{problem.judgment.label ? titleOf(emotions, problem.judgment.label) : t(problem.judgment.action === 'rate' ? 'history_rated' : 'cmd_skip')}</strong></p>
            <p class="quiet">{problem.status === 'set_aside' ? t('problem_set_aside') : t('problem_refused', { reason: problem.detail || problem.reason })}</p>
            {problem.status === 'set_aside'
              ? <button type="button" class="button small" onClick={() => void desk.commander.dismiss(problem)}>{t('problem_read')}</button>
              : <button type="button" class="button small" onClick={() => void desk.commander.resend(problem)}>{t('problem_resend')}</button>}
          </li>
        ))}
      </ul>
    </Dialog>
  )
}

function Settings({ desk }: { desk: Desk }) {
  const { t, appearance } = desk
  return (
    <Dialog desk={desk} title={t('settings_title')}>
      <Choice name="theme" legend={t('settings_theme')} now={appearance.theme} options={['auto', 'light', 'dark'].map((value) => [value, t(`theme_${value}` as StringKey)])} set={(value) => appearance.set('theme', value)} />
      <Choice name="text_size" legend={t('settings_size')} now={appearance.textSize} options={['small', 'medium', 'large', 'larger'].map((value) => [value, t(`size_${value}` as StringKey)])} set={(value) => appearance.set('text_size', value)} />
      <Choice name="language" legend={t('settings_language')} now={appearance.language} options={[['en', 'English'], ['de', 'Deutsch']]} set={(value) => appearance.set('language', value)} />
    </Dialog>
  )
}

function Choice({ name, legend, now, options, set }: { name: string; legend: string; now: string; options: string[][]; set: (value: string) => void }) {
  return (
    <fieldset class="choice">
      <legend>{legend}</legend>
      {options.map(([value = '', title = '']) => (
        <label key={value} class={now === value ? 'chosen' : ''}>
          <input type="radio" name={name} value={value} checked={now === value} onChange={() => set(value)} />
          <span>{title}</span>
        </label>
      ))}
    </fieldset>
  )
}
