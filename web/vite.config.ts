// Builds the page into dist/, which is committed and embedded in the gateway. The same sources give the same bytes.

import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

const client = fileURLToPath(new URL('../sdk/js/src/index.ts', import.meta.url))

export default defineConfig({
  base: './',
  resolve: { alias: { '@tidegate/client': client } },
  worker: { format: 'es' },
  build: {
    target: 'es2022',
    // Nothing inline: the gateway serves the page under a strict content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  // While working on the page: a gateway on its usual port answers at the page's own origin.
  server: { host: '127.0.0.1', proxy: { '/ws': { target: 'ws://127.0.0.1:8000', ws: true } } },
})
