// Prints what an annotator downloads, and fails when it passes the budget.
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

const BUDGET = 40 * 1000
const files = ['main.js', 'main.css']
let total = 0
for (const name of files) {
  const raw = readFileSync(new URL(`dist/workbench/${name}`, import.meta.url))
  const packed = gzipSync(raw, { level: 9 }).length
  total += packed
  console.log(`${name}  ${raw.length} bytes, gzip ${packed}`)
}
console.log(`workbench bundle: ${(total / 1000).toFixed(1)} kB gzip of ${BUDGET / 1000} kB`)
if (total > BUDGET) process.exit(1)
