// What both client scripts share: assertions that name what differs, and the contract.
import { readFileSync } from 'node:fs'

export const contract = JSON.parse(readFileSync(new URL('./contracts/Counter.json', import.meta.url)))

export function equal(what, actual, expected) {
  const show = (value) => JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? `${item}n` : item))
  if (show(actual) !== show(expected)) {
    console.error(`${what}: got ${show(actual)}, expected ${show(expected)}`)
    process.exit(1)
  }
}

export function truthy(what, value) {
  if (!value) {
    console.error(`${what}: got ${value}`)
    process.exit(1)
  }
}

export async function fails(what, promise, check) {
  try {
    await promise
  } catch (error) {
    check(error)
    return
  }
  console.error(`${what}: did not fail`)
  process.exit(1)
}

export async function within(milliseconds, what, promise) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${milliseconds} ms`)), milliseconds)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
