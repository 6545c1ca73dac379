// What the page and the network tell: wake when there is a reason to try at once, suspend while the page is put away.

export interface LifecycleEvents {
  wake(): void
  suspend(): void
  resume(): void
}

type Target = Pick<EventTarget, 'addEventListener' | 'removeEventListener'>

/** Listens where there is something to listen to (pages and workers; not Node). Returns what stops it. */
export function watchLifecycle({ wake, suspend, resume }: LifecycleEvents): () => void {
  const { document } = globalThis as { document?: Document }
  let putAway = false
  const listeners: [Target | undefined, string, (event: Event) => void][] = [
    [globalThis, 'online', wake],
    // In the back-forward cache a page may not hold a socket; when it is shown again it goes on at its cursors.
    [globalThis, 'pagehide', (event) => (event as PageTransitionEvent).persisted && ((putAway = true), suspend())],
    [globalThis, 'pageshow', () => putAway && ((putAway = false), resume())],
    [document, 'visibilitychange', () => document?.visibilityState === 'visible' && wake()],
    [document, 'resume', wake],
  ]
  const heard = listeners.filter(([target]) => typeof target?.addEventListener === 'function')
  for (const [target, name, listener] of heard) target!.addEventListener(name, listener)
  return () => {
    for (const [target, name, listener] of heard) target!.removeEventListener(name, listener)
  }
}
