// Builds the package: one file per module system, and the types beside each.

import { execFileSync } from 'node:child_process'
import { cp, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { build } from 'vite'

const here = new URL('.', import.meta.url).pathname
await rm(`${here}dist`, { recursive: true, force: true })
for (const [folder, format] of [['esm', 'es'], ['cjs', 'cjs']]) {
  await build({
    root: here,
    configFile: false,
    logLevel: 'warn',
    build: {
      lib: { entry: 'src/index.ts', formats: [format], fileName: () => 'index.js' },
      outDir: `dist/${folder}`,
      target: 'es2022',
      minify: false,
      sourcemap: true,
    },
  })
}
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const types = ['--outDir', 'dist/esm', '--rootDir', 'src', '--emitDeclarationOnly', '--stripInternal', '-p', 'tsconfig.build.json']
execFileSync(process.execPath, [tsc, ...types], { cwd: here, stdio: 'inherit' })
await cp(`${here}dist/esm`, `${here}dist/cjs`, { recursive: true, filter: (path) => !/\.(js|map)$/.test(path) })
await writeFile(`${here}dist/cjs/package.json`, '{ "type": "commonjs" }\n')
