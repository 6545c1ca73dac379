import { defineConfig } from 'vitest/config'

export default defineConfig({
  // What a test waits for has limits of its own, of 20 s and more, which say what did not come; these here must not be sooner.
  test: { testTimeout: 60_000, hookTimeout: 60_000 },
})
