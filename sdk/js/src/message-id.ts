// ULIDs: message ids that sort by time, from a clock and a random source that are passed in.

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

/** 26 characters: 10 of time (milliseconds since 1970), 16 random. */
export function messageId(now: number, random: () => number): string {
  let id = ''
  for (let rest = now, n = 0; n < 10; n++, rest = Math.floor(rest / 32)) id = ALPHABET[Math.floor(rest) % 32] + id
  for (let n = 0; n < 16; n++) id += ALPHABET[Math.floor(random() * 32)]
  return id
}
