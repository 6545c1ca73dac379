// Close codes: what a client does about each. The hundreds of a 4xxx code tell it.

export type CloseClass = 'resume' | 'back-off' | 're-authenticate' | 'start-afresh' | 'stop' | 'done'

const FOUR_THOUSANDS: readonly CloseClass[] = ['resume', 'back-off', 're-authenticate', 'start-afresh', 'stop']

/** What to do after a close with this code, known or not. */
export function closeClass(code: number): CloseClass {
  if (code === 1000) return 'done'
  const hundreds = Math.floor(code / 100) - 40
  if (code >= 4000) return FOUR_THOUSANDS[hundreds] ?? 'back-off'
  return [1002, 1003, 1007, 1008, 1009].includes(code) ? 'stop' : 'back-off'
}

/** Whether the server meant the close (it said one of its own codes), rather than the path failing. */
export function saidByServer(code: number): boolean {
  return code >= 4000 || code === 1001 || (code >= 1011 && code <= 1014)
}

/** `retry_ms` of a close reason such as `draining;retry_ms=3500`, or null. */
export function retryMs(reason: string): number | null {
  const match = /;retry_ms=(\d{1,9})(?:;|$)/.exec(reason)
  return match ? Number(match[1]) : null
}

/** The name that a close reason begins with. */
export function closeName(reason: string): string {
  return reason.split(';', 1)[0]!
}
