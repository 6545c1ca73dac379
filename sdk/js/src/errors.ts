// The one error type that applications see.

/**
 * Why a publish, a request or a subscription failed. `code` is one of the protocol's error codes, or one of the client's own:
 * `timeout`, `queue_full`, `connection_lost`, `stopped`, `too_large`, `overflow`, `wrong_kind`.
 */
export class TidegateError extends Error {
  override readonly name = 'TidegateError'

  constructor(
    readonly code: string,
    message: string = code,
    /** When repeating it makes sense; null: not unchanged. */
    readonly retryAfterMs: number | null = null,
    /** For a publish: the id to repeat it with, so that it is stored once. */
    readonly messageId?: string,
  ) {
    super(message)
  }
}
