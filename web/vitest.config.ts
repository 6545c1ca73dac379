import { defineConfig } from 'vitest/config'

export default defineConfig({
  // A browser and a gateway for each test, one after the other: two cores carry no more. On a machine that others use
  // too, a test may try once more; the report says that it took two.
  test: { include: ['test/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000, fileParallelism: false, retry: 1 },
})
