// A stand-in for the server, for looking at the workbench without one: `npm run build && npm run mock`, then
// http://127.0.0.1:8123/campaigns/demo/verify/ (or rate, adjudicate). It keeps everything in memory. The texts are ours.
// ?lang=de, ?theme=dark, ?consent=1, ?practice=1, ?blind=1 and ?items=3 set the scene.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'

const PORT = Number(process.env.PORT ?? 8123)
const file = (path) => readFileSync(new URL(path, import.meta.url))
const EMOTIONS = [
  ['joy', 'Freude', '#bd8833'], ['sadness', 'Trauer', '#6d88c8'], ['anger', 'Ärger', '#de205b'], ['fear', 'Angst', '#8c56ef'],
  ['surprise', 'Überraschung', '#a44c00'], ['disgust', 'Ekel', '#177b58'], ['neutral', 'neutral', '#949494'],
]
const OPENINGS = ['Hi! What kind of films do you enjoy?', 'Hello there. Anything you are in the mood for tonight?', 'Good evening! Shall we find you a film?']
const WISHES = ['Something funny. I had a long week.', 'My sister visits and she cries at everything, so please no tragedies.', 'A slow mystery, the sort where it rains a lot.']
const OFFERS = ['Have you seen The Paper Lighthouse (2009)?', 'Then maybe Winter at the Ferry (2014). It is quiet and very kind.', 'I would try A Borrowed Umbrella (1998).']
const REPLIES = [
  'That one made me so happy! I watched it twice in a weekend.', 'Oh. I had hoped for something newer, to be honest.',
  'Ugh, no, the scene with the eels turned my stomach.', 'Wait, that is the same director? I had no idea!',
  'ok, is it on any streaming service?', 'You keep suggesting films I already said I dislike.', 'I would not dare to watch that alone at night.',
  'Thank you so much, you have been lovely. Have a great evening, and I will come back next week to tell you how it was, because my whole family is coming and we always argue about what to watch for at least an hour before anybody gives in.',
]
const ANSWERS = [
  'I am glad! If you liked the warmth of it, Winter at the Ferry has the same slow kindness, and nobody dies.',
  'Okay. You could watch A Borrowed Umbrella.',
  'Since you mentioned a long week, something under ninety minutes might be best: The Paper Lighthouse is short, silly and ends well.',
]
const SCALES = [
  { name: 'personalization', question: 'How well does the response take up what this user said about tastes, mood and situation?', low: 'ignores it', high: 'built on it', points: 5 },
  { name: 'justification', question: 'How convincing is the reason it gives for what it recommends or asks?', low: 'none', high: 'clear and fitting', points: 5 },
  { name: 'satisfaction', question: 'As this user, how satisfied would you be with this response?', low: 'not at all', high: 'completely', points: 5 },
]
const GUIDE = `<p><strong>Label what the speaker expresses in this utterance, in its context</strong>: not what a film is about, not what you would feel. One label, the dominant one.</p>
<h3>Thanks and closings</h3><p>A bare formula is neutral (“ok thanks”); marked warmth is joy.</p>
<h3>Preferences</h3><p>“I like mysteries” is neutral; love, favourite, evident enthusiasm is joy.</p>
<h3>Questions</h3><p>Neutral; surprise only for astonishment.</p><table><tr><th>case</th><th>rule</th></tr><tr><td>two emotions</td><td>the dominant one; if equal, the later</td></tr></table>`

const world = { total: 0, next: 1, done: 0, seen: new Map(), history: [], leased: new Map(), guideline: 3, mode: 'on', delay: 0, scene: {} }
const at = (list, index) => list[index % list.length]

function makeItem(task, slot) {
  const item = { slot, kind: task === 'rate' ? 'rate' : slot % 3 === 0 ? 'response' : 'user', task, leased_until: new Date(Date.now() + 1.8e6).toISOString() }
  const talk = [
    { role: 'recommender', text: at(OPENINGS, slot) }, { role: 'user', text: at(WISHES, slot) }, { role: 'recommender', text: at(OFFERS, slot) },
  ].slice(0, slot % 5 === 4 ? 0 : slot % 4 === 1 ? 1 : 3)
  if (slot % 7 === 6) talk.unshift(...Array.from({ length: 14 }, (_, n) => ({ role: n % 2 ? 'recommender' : 'user', text: at(n % 2 ? OFFERS : WISHES, n) })))
  if (task === 'rate') {
    item.context = [...talk, { role: 'user', text: at(REPLIES, slot) }]
    item.responses = ['A', 'B', 'C'].map((key, n) => ({ key, id: `${slot}-${key}`, text: at(ANSWERS, slot + n) }))
    return item
  }
  item.context = talk
  item.target = item.kind === 'user' ? { role: 'user', text: at(REPLIES, slot) } : { role: 'recommender', text: at(ANSWERS, slot) }
  if (task === 'verify' && !world.scene.blind && slot % 3 !== 1) item.prelabel = slot % 2 ? 'neutral' : 'joy'
  return item
}

const progress = (task) => ({ done: world.done, total: world.total, mine: world.done, mine_today: world.done, pace_ms: world.done > 2 ? 4200 : null, left: Math.max(0, world.total - world.done), state: world.scene.state ?? 'open', task })

function deal(task, want, holding) {
  const held = new Set(holding.map(String))
  const items = []
  for (const [slot] of world.leased) if (items.length < want && !held.has(String(slot))) items.push(makeItem(task, slot))
  while (items.length < want && world.next <= world.total) {
    world.leased.set(world.next, true)
    items.push(makeItem(task, world.next))
    world.next += 1
  }
  return items
}

function judge(judgment) {
  const before = world.seen.get(judgment.id)
  if (before) return { id: judgment.id, status: before === JSON.stringify(judgment) ? 'duplicate' : 'refused', reason: 'conflict' }
  world.seen.set(judgment.id, JSON.stringify(judgment))
  if (judgment.comment === 'lapse') return { id: judgment.id, status: 'set_aside', reason: 'lapsed' }
  if (judgment.comment === 'refuse') return { id: judgment.id, status: 'refused', reason: 'invalid', detail: 'the label is not one of this campaign' }
  if (!judgment.supersedes) world.done += 1
  world.leased.delete(judgment.slot)
  const task = judgment.action === 'rate' ? 'rate' : 'verify'
  world.history = [{ id: judgment.id, slot: judgment.slot, item: makeItem(task, judgment.slot), action: judgment.action, label: judgment.label ?? '', ratings: judgment.ratings ?? {}, reason: judgment.reason ?? '', comment: judgment.comment ?? '', flagged: judgment.flagged ?? false, received_at: new Date().toISOString() }, ...world.history.filter((past) => past.id !== judgment.supersedes)]
  return { id: judgment.id, status: 'stored' }
}

function briefing(task) {
  return {
    campaign: 'demo', title: 'Demo campaign', task, user: { id: 1, name: 'Ada' }, mode: world.scene.blind ? 'blind' : 'assisted', scales: SCALES,
    emotions: EMOTIONS.map(([name, german, colour], n) => ({ name, key: String(n + 1), title: world.scene.lang === 'de' ? german : name, colour })),
    guideline: { version: world.guideline, html: GUIDE, change_note: 'curiosity is neutral' },
    consent: world.scene.consent ? { needed: true, version: '1', html: '<p>You will read film conversations and say which emotion is expressed. Your answers are stored under a pseudonym. You may stop at any time.</p>' } : null,
    practice: { needed: Boolean(world.scene.practice), available: true }, keymap: {}, progress: progress(task), lease_seconds: 1800, idle_after_ms: 30000, language: 'en',
    skip_reasons: [['unreadable', 'The text cannot be read'], ['not_language', 'Not in a language I know'], ['upsetting', 'I would rather not label this'], ['other', 'Something else']].map(([code, title]) => ({ code, title })),
  }
}

const DISPUTES = [1, 2, 3, 4].map((n) => ({ item: n, kind: 'user', context: makeItem('verify', n * 2).context, target: { role: 'user', text: at(REPLIES, n) }, labels: [{ label: 'joy', count: 1 }, { label: 'surprise', count: n % 2 + 1 }], comments_hidden: true }))

function answer(method, path, query, body) {
  const task = query.get('task') ?? body?.task ?? 'verify'
  if (path.endsWith('/workbench/')) return briefing(task)
  if (path.endsWith('/lease/')) return { items: deal(task, body.want, body.holding), lost: [], progress: progress(task) }
  if (path.endsWith('/judgments/')) {
    const results = body.judgments.map(judge)
    return { results, items: deal(task, body.want, body.holding), lost: [], progress: progress(task) }
  }
  if (path.endsWith('/history/')) return { results: world.history.slice(0, 20), next: null }
  if (path.endsWith('/practice/')) {
    if (method === 'GET') return { items: [1, 2].map((n) => ({ ...makeItem('verify', n + 1), prelabel: undefined, slot: `p${n}` })) }
    return { correct: body.label === 'joy', label: 'joy', explanation: 'Evident enthusiasm: “so happy”, watched twice.', done: body.item === 'p2' }
  }
  if (path.endsWith('/adjudication/')) {
    if (method === 'GET') return { items: DISPUTES.filter((one) => !one.done), left: DISPUTES.length }
    DISPUTES.find((one) => one.item === body.item).done = true
    return { status: 'stored', comments: ['Sounds ironic to me.', 'Second sentence is the stronger one.'] }
  }
  if (path === '/api/me/preferences/') return { keymap: {}, theme: 'auto' }
  return {}
}

function shell(task, scene) {
  return `<!doctype html><html lang="${scene.lang ?? 'en'}"${scene.theme ? ` data-theme="${scene.theme}"` : ''}><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><meta name="csrf" content="mock"><title>Attune</title>
<link rel="stylesheet" href="/static/annotation/site.css"><link rel="stylesheet" href="/static/workbench/main.css"></head>
<body><div id="workbench" data-campaign="demo" data-task="${task}" data-user="1" data-language="${scene.lang ?? 'en'}" data-queues="/queues" data-login="/login"></div><script type="module" src="/static/workbench/main.js"></script></body></html>`
}

const STATIC = { '/static/annotation/site.css': ['../../annotation/static/annotation/site.css', 'text/css'], '/static/workbench/main.css': ['../dist/workbench/main.css', 'text/css'], '/static/workbench/main.js': ['../dist/workbench/main.js', 'text/javascript'] }

createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://mock')
  const send = (status, type, body) => {
    response.writeHead(status, { 'Content-Type': type, 'Content-Security-Policy': "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'" })
    response.end(body)
  }
  const fixed = STATIC[pathname]
  if (fixed) return send(200, fixed[1], file(fixed[0]))
  const page = /^\/campaigns\/demo\/(verify|rate|adjudicate)\/$/.exec(pathname)
  if (page) {
    world.scene = Object.fromEntries(searchParams)
    if (!world.total) world.total = Number(world.scene.items ?? 150)
    return send(200, 'text/html', shell(page[1], world.scene))
  }
  if (!pathname.startsWith('/api/')) return send(200, 'text/html', `<!doctype html><title>mock</title><p>${pathname.replace(/[^\w/]/g, '')}</p>`)
  let text = ''
  request.on('data', (chunk) => { text += chunk })
  request.on('end', () => setTimeout(() => send(200, 'application/json', JSON.stringify(answer(request.method, pathname, searchParams, text ? JSON.parse(text) : null))), Number(world.scene.delay ?? 15)))
}).listen(PORT, '127.0.0.1', () => console.log(`http://127.0.0.1:${PORT}/campaigns/demo/verify/`))
