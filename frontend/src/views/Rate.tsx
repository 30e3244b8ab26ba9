import { useLayoutEffect, useRef } from 'preact/hooks'
import type { Candidate, Item, Scale } from '../contract'
import { current, isComplete, standing } from '../session'
import type { Desk } from './desk'
import { capOf, isLive } from './desk'
import { Turns, useItemOnScreen } from './Verify'

export function Rate({ desk }: { desk: Desk }) {
  const { state, t } = desk
  const item = current(state) as Item
  const { talk, target } = useItemOnScreen(desk, item)
  const scales = state.briefing?.scales ?? []
  const responses = item.responses ?? []
  const given = responses.reduce((sum, response) => sum + Object.keys(state.draft.ratings[response.id] ?? {}).length, 0)
  const missing = responses.length * scales.length - given
  const turns = item.target ? [...item.context, item.target] : item.context
  return (
    <>
      <div class="talk brief" ref={talk} tabIndex={0} role="region" aria-label={t('conversation')}>
        <div class="flow"><Turns turns={turns} desk={desk} /></div>
      </div>
      <section class="answer rating" ref={target as never} tabIndex={-1} data-slot={String(item.slot)} aria-labelledby="question">
        <div class="ask">
          <h2 id="question">{standing(state) ? t('reopened') : t('question_rate')}</h2>
          <p class="quiet" role="status">{isComplete(state) ? t('rate_ready') : t('rate_missing', { count: missing })}</p>
          <button type="button" class="button small primary" disabled={!isLive(desk, 'submit')} onClick={() => void desk.commander.run('submit')}>
            {t('submit')} <kbd aria-hidden="true">{capOf(desk, 'submit')}</kbd>
          </button>
        </div>
        <div class="cards" style={{ '--scales': scales.length }}>
          {/* For the eye only: each scale in each card carries its own name and question. */}
          <div class="legend" aria-hidden="true">
            {scales.map((scale, at) => (
              <p key={scale.name} class={state.focus.scale === at ? 'here' : ''} style={{ gridRow: at + 3 }}><strong>{scale.name}</strong>{scale.question}</p>
            ))}
          </div>
          {responses.map((response, index) => (
            <Card key={response.id} desk={desk} response={response} index={index} scales={scales} />
          ))}
        </div>
      </section>
    </>
  )
}

function Card({ desk, response, index, scales }: { desk: Desk; response: Candidate; index: number; scales: Scale[] }) {
  const { state, t } = desk
  const heading = `response-${response.key}`
  return (
    <section class={`card${state.focus.response === index ? ' here' : ''}`} aria-labelledby={heading} data-response={response.key}>
      <h3 id={heading}>{t('response', { key: response.key })}</h3>
      <p class="said" dir="auto">{response.text}</p>
      {scales.map((scale, at) => (
        <ScaleRow key={scale.name} desk={desk} response={response} index={index} scale={scale} at={at} />
      ))}
    </section>
  )
}

function ScaleRow({ desk, response, index, scale, at }: { desk: Desk; response: Candidate; index: number; scale: Scale; at: number }) {
  const { state, t } = desk
  const row = useRef<HTMLDivElement>(null)
  const here = state.focus.response === index && state.focus.scale === at
  const chosen = state.draft.ratings[response.id]?.[scale.name]
  const label = `scale-${response.key}-${at}`
  useLayoutEffect(() => {
    if (here && (index > 0 || at > 0)) row.current?.scrollIntoView({ block: 'nearest' })
  }, [here])
  return (
    <div class={`scale${here ? ' here' : ''}`} ref={row} role="group" aria-labelledby={label} data-scale={scale.name} {...(here ? { 'aria-current': 'true' } : {})}>
      <p class="what" id={label}>
        <strong>{scale.name}</strong> <span>{scale.question}</span>
      </p>
      <div class="points">
        {Array.from({ length: scale.points }, (_, step) => step + 1).map((points) => (
          <button
            key={points}
            type="button"
            class={`point${chosen === points ? ' chosen' : ''}`}
            aria-pressed={chosen === points}
            aria-label={t('scale_choice', { points, most: scale.points })}
            onClick={() => void desk.commander.perform({ type: 'rated_at', response: index, scale: at, points })}
          >
            {points}
          </button>
        ))}
      </div>
      <p class="ends"><span>{scale.low}</span><span>{scale.high}</span></p>
    </div>
  )
}
