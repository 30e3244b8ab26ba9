import { useLayoutEffect, useRef } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import type { Item, Turn } from '../contract'
import { current, standing } from '../session'
import type { Desk } from './desk'
import { capOf, reasonOf, titleOf } from './desk'

/** Keeps the newest turn in sight, gives the item the focus, and says when it is on the glass. */
export function useItemOnScreen(desk: Desk, item: Item) {
  const talk = useRef<HTMLDivElement>(null)
  const target = useRef<HTMLElement>(null)
  const slot = String(item.slot)
  const reopened = desk.state.reopened !== null
  useLayoutEffect(() => {
    if (talk.current) talk.current.scrollTop = talk.current.scrollHeight
    target.current?.focus({ preventScroll: true })
    const frame = requestAnimationFrame(() => desk.painted(slot))
    return () => cancelAnimationFrame(frame)
  }, [slot, reopened])
  return { talk, target }
}

export function Turns({ turns, desk }: { turns: Turn[]; desk: Desk }) {
  const { t } = desk
  if (turns.length === 0) return <p class="quiet start">{t('no_context')}</p>
  return (
    <ol class="turns" aria-label={t('conversation')}>
      {turns.map((turn, index) => (
        <li key={index} class={`turn ${turn.role}`}>
          <span class="who">{t(`role_${turn.role}`)}</span>
          <p dir="auto">{turn.text}</p>
        </li>
      ))}
    </ol>
  )
}

function Conversation({ desk, item }: { desk: Desk; item: Item }) {
  const { t } = desk
  const { talk, target } = useItemOnScreen(desk, item)
  const role = item.target?.role ?? 'user'
  return (
    <div class="talk" ref={talk} tabIndex={0} role="region" aria-label={t('conversation')}>
      <div class="flow">
        <Turns turns={item.context} desk={desk} />
        <article class="turn target" ref={target} tabIndex={-1} data-slot={String(item.slot)} aria-label={t(`target_${role}`)}>
          <span class="who">{t(`role_${role}`)}</span>
          <p dir="auto">{item.target?.text ?? ''}</p>
        </article>
      </div>
    </div>
  )
}

interface LabelProps {
  desk: Desk
  item: Item
  /** A label to mark, and the words that say why: colour is never the only sign. */
  marks: Record<string, ComponentChildren>
  suggested?: string | undefined
  chosen?: string | undefined
  disabled?: boolean
}

/** The second click of a double click would fall on the next item, so it counts for nothing. */
function Labels({ desk, marks, suggested, chosen, disabled = false }: LabelProps) {
  const emotions = desk.state.briefing?.emotions ?? []
  return (
    <div class="labels" role="group" aria-labelledby="question">
      {emotions.map((emotion, index) => (
        <button
          key={emotion.name}
          type="button"
          class={`label${emotion.name === suggested ? ' suggested' : ''}${emotion.name === chosen ? ' chosen' : ''}`}
          data-label={emotion.name}
          style={{ '--hue': emotion.colour }}
          aria-keyshortcuts={capOf(desk, `label_${index + 1}`)}
          disabled={disabled}
          {...(chosen !== undefined ? { 'aria-pressed': emotion.name === chosen } : {})}
          onClick={(event) => { if (event.detail < 2) void desk.commander.run(`label_${index + 1}`) }}
        >
          <kbd aria-hidden="true">{capOf(desk, `label_${index + 1}`)}</kbd>
          <span class="name">{emotion.title}</span>
          <span class="hint">{marks[emotion.name] ?? ''}</span>
        </button>
      ))}
    </div>
  )
}

function Question({ children, action }: { children: ComponentChildren; action?: ComponentChildren }) {
  return (
    <div class="ask">
      <h2 id="question">{children}</h2>
      {action}
    </div>
  )
}

export function Verify({ desk }: { desk: Desk }) {
  const { state, t } = desk
  const item = current(state) as Item
  const before = standing(state)
  const suggested = before ? undefined : item.prelabel
  const marks: Record<string, ComponentChildren> = {}
  if (suggested) marks[suggested] = <>{t('suggested')}<span class="key" aria-hidden="true"> ↵</span></>
  if (before?.label) marks[before.label] = t('your_answer')
  const question = item.target?.role === 'recommender' ? t('question_recommender') : t('question_user')
  return (
    <>
      <Conversation desk={desk} item={item} />
      <section class="answer">
        <Question action={before ? <button type="button" class="button small" onClick={() => void desk.commander.run('keep')}>{t('keep')} <kbd aria-hidden="true">{capOf(desk, 'keep')}</kbd></button> : null}>
          {before ? <>{before.action === 'skip' ? t('your_skip', { reason: reasonOf(desk, before.reason) }) : t('reopened')}</> : question}
        </Question>
        <Labels desk={desk} item={item} marks={marks} suggested={suggested} chosen={before?.label} />
      </section>
    </>
  )
}

export function Practice({ desk }: { desk: Desk }) {
  const { state, t } = desk
  const item = current(state) as Item
  const { feedback } = state
  const emotions = state.briefing?.emotions
  const marks: Record<string, string> = feedback ? { [feedback.label]: '✓' } : {}
  if (feedback && !feedback.correct) marks[feedback.given] = t('your_answer')
  return (
    <>
      <Conversation desk={desk} item={item} />
      <section class="answer" data-practice>
        <div aria-live="polite">
          {feedback ? (
            <Question action={<NextButton desk={desk} />}>
              {feedback.correct
                ? t('practice_right', { label: titleOf(emotions, feedback.label) })
                : t('practice_wrong', { given: titleOf(emotions, feedback.given), label: titleOf(emotions, feedback.label) })}
              {feedback.explanation && <small>{feedback.explanation}</small>}
              {feedback.done && <small>{t('practice_done')}</small>}
            </Question>
          ) : (
            <Question>
              {item.target?.role === 'recommender' ? t('question_recommender') : t('question_user')}
              <small>{t('practice_intro')}</small>
            </Question>
          )}
        </div>
        <Labels desk={desk} item={item} marks={marks} chosen={feedback?.label} disabled={feedback !== null} />
      </section>
    </>
  )
}

export function Adjudicate({ desk }: { desk: Desk }) {
  const { state, t } = desk
  const item = current(state) as Item
  const before = standing(state)
  const decided = state.decided?.judgment.label
  const emotions = state.briefing?.emotions
  const marks: Record<string, string> = {}
  for (const given of item.labels ?? []) marks[given.label] = t('times', { count: given.count })
  return (
    <>
      <Conversation desk={desk} item={item} />
      <section class="answer" data-adjudicate>
        {state.decided ? (
          <div aria-live="polite">
            <Question action={<NextButton desk={desk} />}>{t('decided_as', { label: titleOf(emotions, decided) })}</Question>
            <div class="remarks">
              <h3>{t('comments_after')}</h3>
              {state.decided.comments === null && <p class="quiet">{t('comments_waiting')}</p>}
              {state.decided.comments?.length === 0 && <p class="quiet">{t('comments_none')}</p>}
              <ul>{state.decided.comments?.map((comment, index) => <li key={index}>{comment}</li>)}</ul>
            </div>
          </div>
        ) : (
          <Question>{before ? t('reopened') : t('question_adjudicate')}</Question>
        )}
        <Labels desk={desk} item={item} marks={marks} chosen={decided ?? before?.label} disabled={decided !== undefined} />
      </section>
    </>
  )
}

function NextButton({ desk }: { desk: Desk }) {
  return (
    <button type="button" class="button small primary" onClick={() => void desk.commander.run('next')}>
      {desk.t('next')} <kbd aria-hidden="true">{capOf(desk, 'next')}</kbd>
    </button>
  )
}
